//! `igpt-engine data info`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;

use crate::cli::common::output::print_json;
use crate::data::{
    CIFAR10_FILES, CifarKind, DataSpec, Examples, OpenOptions, Palette, PublishedHash, STL_FOLDER, Shard, SkipBad,
    Split, TokenArray, imagenet, official_files, open_images, progress,
};

/// Flags of `data info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// A folder or file, whose kind is guessed, or KIND:PATH as for --data; without it, the built-in sample
    #[arg(value_name = "DIR|KIND:PATH", default_value = "sample")]
    what: String,
    /// Compare the files' hashes with the published ones (CIFAR, STL-10, ImageNet's tars); takes minutes for ImageNet. Sizes
    /// are always compared
    #[arg(long)]
    verify: bool,
    /// Leave out files that are no image or damaged, instead of stopping at the first
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "N")]
    skip_bad: Option<SkipBad>,
    /// Print one JSON line on stdout and nothing else
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Serialize)]
struct Info {
    data: String,
    kind: &'static str,
    files: Vec<FileInfo>,
    class_names: Vec<String>,
    splits: Vec<SplitInfo>,
}

#[derive(Serialize)]
struct FileInfo {
    path: PathBuf,
    bytes: u64,
    /// Whether it has the official file's length, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    official_size: Option<bool>,
    /// Whether it has the official file's hash, where that was checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    official: Option<bool>,
    /// Which hash that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<&'static str>,
}

#[derive(Serialize)]
struct SplitInfo {
    split: Split,
    examples: usize,
    /// Of these, how many `train` and `encode` hold out for validation unless told otherwise.
    held_out: usize,
    /// Examples of each class; empty without labels.
    class_counts: Vec<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<String>,
    about: String,
}

pub(super) fn run(args: &InfoArgs) -> Result<()> {
    let path = Path::new(&args.what);
    let spec = match args.what.parse() {
        _ if path.exists() => guess(path)?,
        Err(_) if !args.what.contains(':') => {
            bail!(
                "there is no file or folder {}; give its path, or KIND:PATH as for --data, e.g. cifar10:DIR",
                path.display()
            )
        }
        parsed => parsed?,
    };
    let kind = kind(&spec);
    let mut info =
        Info { data: spec.to_string(), kind, files: files(&spec, args)?, class_names: Vec::new(), splits: Vec::new() };
    match &spec {
        DataSpec::Tokens { tokens, labels } => {
            // Any palette: what matters for a look is that the tokens are tokens of some palette.
            let array = TokenArray::open(tokens, labels.as_deref(), Palette::built_in()?.len())?;
            info.splits.push(token_split(&array, Split::Train));
        }
        DataSpec::Shard(path) => {
            let shard = Shard::open(path)?;
            info.class_names = shard.class_names().to_vec();
            info.splits.push(token_split(&shard, shard.header().split));
        }
        _ => image_splits(&spec, args, &mut info)?,
    }
    if args.json { print_json(&info) } else { print(&info).context("cannot write to standard output") }
}

fn token_split(tokens: &dyn Examples, split: Split) -> SplitInfo {
    let mut class_counts = vec![0; tokens.classes()];
    count(&mut class_counts, (0..tokens.len()).filter_map(|index| tokens.label(index)));
    let (examples, about) = (tokens.len(), tokens.describe());
    SplitInfo { split, examples, held_out: 0, class_counts, missing: None, about }
}

fn image_splits(spec: &DataSpec, args: &InfoArgs, info: &mut Info) -> Result<()> {
    let mut options = OpenOptions::new(Arc::new(Palette::built_in()?));
    (options.skip_bad, options.resolution, options.progress) = (args.skip_bad.unwrap_or_default(), 1, !args.json);
    options.holdout = Some(0.0);
    let mut errors = Vec::new();
    for split in [Split::Train, Split::Test] {
        match open_images(spec, split, &options) {
            Ok((source, indices)) => {
                let mut class_counts = vec![0; source.class_names().len()];
                count(&mut class_counts, (0..source.len()).filter_map(|index| source.label(index)));
                info.class_names = source.class_names().to_vec();
                let fraction = if split == Split::Train { spec.default_holdout() } else { 0.0 };
                let held_out = crate::data::hold_out(indices.len(), fraction, 0)?.1.len();
                let (examples, about) = (indices.len(), source.describe());
                info.splits.push(SplitInfo { split, examples, held_out, class_counts, missing: None, about });
            }
            // A part that is not there is worth a line; a part that is damaged is an error.
            Err(error @ (crate::data::DataError::NotThere { .. } | crate::data::DataError::NoSplit { .. })) => {
                let (missing, class_counts) = (Some(error.to_string()), Vec::new());
                info.splits.push(SplitInfo {
                    split,
                    examples: 0,
                    held_out: 0,
                    class_counts,
                    missing,
                    about: String::new(),
                });
                errors.push(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    if errors.len() == 2 { Err(errors.swap_remove(0).into()) } else { Ok(()) }
}

fn count(counts: &mut [u64], labels: impl Iterator<Item = u16>) {
    for label in labels {
        if let Some(count) = counts.get_mut(usize::from(label)) {
            *count += 1;
        }
    }
}

fn kind(spec: &DataSpec) -> &'static str {
    match spec {
        DataSpec::Sample => "built-in sample",
        DataSpec::Cifar10(_) => "CIFAR-10, binary version",
        DataSpec::Cifar100(_) => "CIFAR-100, binary version",
        DataSpec::Stl10(_) => "STL-10, binary version",
        DataSpec::Images(_) => "folder of images",
        DataSpec::ImageNet(_) => "ImageNet, class folders",
        DataSpec::ImageNetTar(_) => "ImageNet, official tars",
        DataSpec::Tokens { .. } => "token array",
        DataSpec::Shard(_) => "shard of tokens",
    }
}

/// The data set that a path looks like.
fn guess(path: &Path) -> Result<DataSpec> {
    if path.is_file() {
        if path.extension().is_some_and(|extension| extension == "npy") {
            return Ok(DataSpec::Tokens { tokens: path.to_owned(), labels: None });
        }
        if path.extension().is_some_and(|extension| extension == "shard") {
            return Ok(DataSpec::Shard(path.to_owned()));
        }
        if path.extension().is_some_and(|extension| extension == "tar") {
            return Ok(DataSpec::ImageNetTar(path.to_owned()));
        }
        bail!("{} is a file, but no .npy or .shard of tokens and no tar. Pass a folder, or KIND:PATH", path.display());
    }
    let holds = |names: &[&str]| names.iter().any(|name| path.join(name).exists());
    let path_buf = path.to_owned();
    Ok(if holds(&[CifarKind::Cifar10.folder(), "test_batch.bin"]) || holds(&CIFAR10_FILES.map(|(name, _)| name)) {
        DataSpec::Cifar10(path_buf)
    } else if holds(&[CifarKind::Cifar100.folder(), "train.bin", "test.bin"]) {
        DataSpec::Cifar100(path_buf)
    } else if holds(&[STL_FOLDER, "train_X.bin", "test_X.bin"]) {
        DataSpec::Stl10(path_buf)
    } else if holds(&[imagenet::TRAIN_TAR, imagenet::VAL_TAR]) {
        DataSpec::ImageNetTar(path_buf)
    } else if holds_wnids(&path.join("train")) {
        DataSpec::ImageNet(path_buf)
    } else {
        DataSpec::Images(path_buf)
    })
}

/// Whether a folder holds one that is named like ImageNet's classes: n01440764.
fn holds_wnids(folder: &Path) -> bool {
    let is_wnid =
        |name: &str| name.len() == 9 && name.strip_prefix('n').is_some_and(|rest| rest.parse::<u32>().is_ok());
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.take(16).any(|entry| entry.file_name().to_str().is_some_and(is_wnid))
}

/// The files of a data set that consists of a few big ones.
fn files(spec: &DataSpec, args: &InfoArgs) -> Result<Vec<FileInfo>> {
    let folder =
        |folder: &Path, inner: &str| Some(folder.join(inner)).filter(|f| f.is_dir()).unwrap_or(folder.to_owned());
    let official = official_files(spec);
    let named = |path: &Path| official.iter().find(|file| path.file_name().is_some_and(|name| name == file.name));
    let mut paths: Vec<PathBuf> = match spec {
        DataSpec::Sample | DataSpec::Images(_) => return Ok(Vec::new()),
        DataSpec::Tokens { tokens, labels } => std::iter::once(tokens).chain(labels).cloned().collect(),
        DataSpec::Shard(path) => vec![path.clone()],
        DataSpec::Cifar10(path) => list(&folder(path, CifarKind::Cifar10.folder())),
        DataSpec::Cifar100(path) => list(&folder(path, CifarKind::Cifar100.folder())),
        DataSpec::Stl10(path) => list(&folder(path, STL_FOLDER)),
        DataSpec::ImageNetTar(path) if path.is_file() => vec![path.clone()],
        DataSpec::ImageNet(path) | DataSpec::ImageNetTar(path) => {
            list(path).into_iter().filter(|path| named(path).is_some()).collect()
        }
    };
    // The archive that a data set was unpacked from lies beside the unpacked folder.
    if let DataSpec::Cifar10(path) | DataSpec::Cifar100(path) | DataSpec::Stl10(path) = spec {
        paths.extend(list(path).into_iter().filter(|path| named(path).is_some()));
    }
    paths.sort();
    paths.dedup();
    let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    let to_hash = paths.iter().filter(|path| named(path).is_some_and(|file| file.hash.is_some()));
    let bar = progress::bytes("hashing", to_hash.map(|path| size(path)).sum(), args.verify && !args.json);
    let mut files = Vec::new();
    for path in paths {
        let (bytes, expected) = (size(&path), named(&path));
        let official_size = expected.and_then(|file| file.bytes).map(|expected| expected == bytes);
        let hash = expected.and_then(|file| file.hash).filter(|_| args.verify);
        let official = hash.map(|hash| hash.is_of(&path, |read| bar.inc(read))).transpose()?;
        files.push(FileInfo { path, bytes, official_size, official, hash: hash.map(PublishedHash::name) });
    }
    bar.finish_and_clear();
    Ok(files)
}

/// The regular files in a folder; what cannot be read shows itself when the data set is opened.
fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect()
}

fn print(info: &Info) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}: {}", info.data, info.kind)?;
    for file in &info.files {
        let size = match file.official_size {
            Some(true) => ", the official size",
            Some(false) => ", NOT the official size",
            None => "",
        };
        let hash = match (file.official, file.hash) {
            (Some(true), Some(hash)) => format!(", official {hash}"),
            (Some(false), Some(hash)) => format!(", NOT the official {hash}: fetch it again"),
            _ => String::new(),
        };
        writeln!(out, "  {} ({} bytes{size}{hash})", file.path.display(), file.bytes)?;
    }
    for split in &info.splits {
        if let Some(missing) = &split.missing {
            writeln!(out, "{}: none ({missing})", split.split)?;
            continue;
        }
        let held_out = match split.held_out {
            0 => String::new(),
            held_out => format!(", of which {held_out} are held out for validation by default"),
        };
        writeln!(out, "{}: {} examples{held_out}\n  {}", split.split, split.examples, split.about)?;
        let named = split.class_counts.iter().enumerate().map(|(class, count)| match info.class_names.get(class) {
            Some(name) => format!("{name} {count}"),
            None => format!("{class}: {count}"),
        });
        let counts: Vec<String> = named.take(SHOWN_CLASSES).collect();
        let more = split.class_counts.len().saturating_sub(SHOWN_CLASSES);
        let more = if more > 0 { format!(", and {more} more classes") } else { String::new() };
        if !counts.is_empty() {
            writeln!(out, "  {}{more}", counts.join(", "))?;
        }
    }
    Ok(())
}

/// Classes listed for people; `--json` lists all.
const SHOWN_CLASSES: usize = 20;
