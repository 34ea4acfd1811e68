//! What is in a data set: its files, splits and classes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::codec::palette::Palette;
use super::dataset::Examples;
use super::error::{DataError, Result};
use super::fetch::CIFAR10_FILES;
use super::files::hash::PublishedHash;
use super::manifests::official_files;
use super::open::{OpenOptions, open_images};
use super::part::Split;
use super::progress;
use super::skip_bad::SkipBad;
use super::sources::cifar::CifarKind;
use super::sources::imagenet;
use super::sources::shard::Shard;
use super::sources::stl::STL_FOLDER;
use super::sources::tokens::TokenArray;
use super::spec::DataSpec;
use super::split::hold_out;

/// What is in a data set.
#[derive(Debug, Serialize)]
pub struct Contents {
    /// The data set, as `--data` names it.
    pub data: String,
    /// What kind it is of, for people.
    pub kind: &'static str,
    /// Its files, where it consists of a few large ones.
    pub files: Vec<FileSummary>,
    /// Names of the classes; empty without labels.
    pub class_names: Vec<String>,
    /// Its splits.
    pub splits: Vec<SplitSummary>,
}

/// A file of a data set beside the published one.
#[derive(Debug, Serialize)]
pub struct FileSummary {
    /// The file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Whether it has the official file's length, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub official_size: Option<bool>,
    /// Whether it has the official file's hash, where that was checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub official: Option<bool>,
    /// Which hash that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<&'static str>,
}

/// A split of a data set.
#[derive(Debug, Serialize)]
pub struct SplitSummary {
    /// Which one.
    pub split: Split,
    /// Its examples.
    pub examples: usize,
    /// Of these, how many training and encoding hold out for validation unless told otherwise.
    pub held_out: usize,
    /// Examples of each class; empty without labels.
    pub class_counts: Vec<u64>,
    /// Why the split is not there, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// One line for people.
    pub about: String,
}

/// How a data set is inspected.
#[derive(Clone, Copy, Debug, Default)]
pub struct InspectOptions {
    /// Compare the files' hashes with the published ones; takes minutes for ImageNet.
    pub verify: bool,
    /// How many bad files are left out.
    pub skip_bad: SkipBad,
    /// Draw progress bars on stderr.
    pub progress: bool,
}

/// Looks at all splits and files of a data set.
///
/// # Errors
/// Those of opening it; a split that is not there is one only where no split is.
pub fn inspect(spec: &DataSpec, options: InspectOptions) -> Result<Contents> {
    let (data, kind, files) = (spec.to_string(), kind(spec), files(spec, options)?);
    let mut contents = Contents { data, kind, files, class_names: Vec::new(), splits: Vec::new() };
    match spec {
        DataSpec::Tokens { tokens, labels } => {
            // Any palette: what matters here is that the tokens are tokens of some palette.
            let array = TokenArray::open(tokens, labels.as_deref(), Palette::built_in()?.len())?;
            contents.splits.push(token_split(&array, Split::Train));
        }
        DataSpec::Shard(path) => {
            let shard = Shard::open(path)?;
            contents.class_names = shard.class_names().to_vec();
            contents.splits.push(token_split(&shard, shard.header().split));
        }
        _ => image_splits(spec, options, &mut contents)?,
    }
    Ok(contents)
}

/// The only split of a token array or shard.
fn token_split(tokens: &dyn Examples, split: Split) -> SplitSummary {
    let mut class_counts = vec![0; tokens.classes()];
    count(&mut class_counts, (0..tokens.len()).filter_map(|index| tokens.label(index)));
    let (examples, about) = (tokens.len(), tokens.describe());
    SplitSummary { split, examples, held_out: 0, class_counts, missing: None, about }
}

/// The training and test images.
fn image_splits(spec: &DataSpec, options: InspectOptions, contents: &mut Contents) -> Result<()> {
    let InspectOptions { skip_bad, progress, .. } = options;
    let palette = Arc::new(Palette::built_in()?);
    let options = OpenOptions { skip_bad, progress, resolution: 1, holdout: Some(0.0), ..OpenOptions::new(palette) };
    let mut missing = Vec::new();

    for split in [Split::Train, Split::Test] {
        match open_images(spec, split, &options) {
            Ok((source, indices)) => {
                let mut class_counts = vec![0; source.class_names().len()];
                count(&mut class_counts, (0..source.len()).filter_map(|index| source.label(index)));
                contents.class_names = source.class_names().to_vec();
                let fraction = if split == Split::Train { spec.default_holdout() } else { 0.0 };
                let held_out = hold_out(indices.len(), fraction, 0)?.1.len();
                let (examples, about) = (indices.len(), source.describe());
                contents.splits.push(SplitSummary { split, examples, held_out, class_counts, missing: None, about });
            }
            // A split that is not there is worth a line; one that is damaged is an error.
            Err(error @ (DataError::NotThere { .. } | DataError::NoSplit { .. })) => {
                let (class_counts, about) = (Vec::new(), String::new());
                let why = Some(error.to_string());
                contents.splits.push(SplitSummary {
                    split,
                    examples: 0,
                    held_out: 0,
                    class_counts,
                    missing: why,
                    about,
                });
                missing.push(error);
            }
            Err(error) => return Err(error),
        }
    }

    if missing.len() == 2 { Err(missing.swap_remove(0)) } else { Ok(()) }
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

/// The data set that a user means by a path, whose kind is guessed, or by `KIND:PATH`.
///
/// # Errors
/// [`DataError::Nowhere`] for a path where nothing is, [`DataError::UnknownFile`] for a file of no known kind,
/// [`DataError::Spec`] for a `KIND:PATH` that is not understood.
pub fn data_named(text: &str) -> Result<DataSpec> {
    let path = Path::new(text);
    match text.parse() {
        _ if path.exists() => guess(path),
        Err(_) if !text.contains(':') => Err(DataError::Nowhere { path: path.to_owned() }),
        parsed => parsed,
    }
}

/// The data set that a path looks like.
fn guess(path: &Path) -> Result<DataSpec> {
    let path_buf = path.to_owned();
    if path.is_file() {
        return match path.extension().and_then(|extension| extension.to_str()) {
            Some("npy") => Ok(DataSpec::Tokens { tokens: path_buf, labels: None }),
            Some("shard") => Ok(DataSpec::Shard(path_buf)),
            Some("tar") => Ok(DataSpec::ImageNetTar(path_buf)),
            _ => Err(DataError::UnknownFile { path: path_buf }),
        };
    }

    let holds = |names: &[&str]| names.iter().any(|name| path.join(name).exists());
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

/// The files of a data set that consists of a few large ones, compared with the published ones.
fn files(spec: &DataSpec, options: InspectOptions) -> Result<Vec<FileSummary>> {
    let official = official_files(spec);
    let named = |path: &Path| official.iter().find(|file| path.file_name().is_some_and(|name| name == file.name));
    let paths = paths(spec, |path| named(path).is_some());

    let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    let to_hash = paths.iter().filter(|path| named(path).is_some_and(|file| file.hash.is_some()));
    let total = to_hash.map(|path| size(path)).sum();
    let bar = progress::bytes("hashing", total, options.verify && options.progress);

    let mut files = Vec::new();
    for path in paths {
        let (bytes, expected) = (size(&path), named(&path));
        let official_size = expected.and_then(|file| file.bytes).map(|expected| expected == bytes);
        let hash = expected.and_then(|file| file.hash).filter(|_| options.verify);
        let official = hash.map(|hash| hash.is_of(&path, |read| bar.inc(read))).transpose()?;
        files.push(FileSummary { path, bytes, official_size, official, hash: hash.map(PublishedHash::name) });
    }
    bar.finish_and_clear();
    Ok(files)
}

/// Paths of the files that a data set consists of, sorted; none for the built-in sample and folders of images.
fn paths(spec: &DataSpec, is_official: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let folder =
        |folder: &Path, inner: &str| Some(folder.join(inner)).filter(|f| f.is_dir()).unwrap_or(folder.to_owned());
    let officials = |folder: &Path| list(folder).into_iter().filter(|path| is_official(path)).collect::<Vec<_>>();

    let mut paths: Vec<PathBuf> = match spec {
        DataSpec::Sample | DataSpec::Images(_) => Vec::new(),
        DataSpec::Tokens { tokens, labels } => std::iter::once(tokens).chain(labels).cloned().collect(),
        DataSpec::Shard(path) => vec![path.clone()],
        DataSpec::Cifar10(path) => list(&folder(path, CifarKind::Cifar10.folder())),
        DataSpec::Cifar100(path) => list(&folder(path, CifarKind::Cifar100.folder())),
        DataSpec::Stl10(path) => list(&folder(path, STL_FOLDER)),
        DataSpec::ImageNetTar(path) if path.is_file() => vec![path.clone()],
        DataSpec::ImageNet(path) | DataSpec::ImageNetTar(path) => officials(path),
    };
    // The archive that a data set was unpacked from lies beside the unpacked folder.
    if let DataSpec::Cifar10(path) | DataSpec::Cifar100(path) | DataSpec::Stl10(path) = spec {
        paths.extend(officials(path));
    }

    paths.sort();
    paths.dedup();
    paths
}

/// The regular files in a folder; what cannot be read shows itself when the data set is opened.
fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect()
}
