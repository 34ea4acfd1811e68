//! What is in a data set: its files, splits and classes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::codec::palette::{MAX_COLOURS, Palette};
use super::dataset::Examples;
use super::error::{DataError, Result};
use super::files::hash::PublishedHash;
use super::manifests::official_files;
use super::npy::file_of;
use super::open::{OpenOptions, open_source};
use super::part::Split;
use super::progress;
use super::skip_bad::SkipBad;
use super::source::ImageSource;
use super::sources::cifar::{CifarKind, CifarPlace};
use super::sources::shard::Shard;
use super::sources::stl::STL_FOLDER;
use super::sources::tokens::TokenArray;
use super::spec::DataSpec;
use super::split::hold_out;
use super::verify::{Damaged, Part, Subject, Verification, is_damage, verify};
use crate::fs::serialize_path;

/// What is in a data set.
#[derive(Debug, Serialize)]
pub struct Contents {
    /// The data set, as `--data` names it.
    pub data: String,
    /// What kind it is of, for people.
    pub kind: String,
    /// What is to be said about the form that it has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Its files, where it consists of a few large ones.
    pub files: Vec<FileSummary>,
    /// Names of the classes; empty without labels.
    pub class_names: Vec<String>,
    /// Its splits.
    pub splits: Vec<SplitSummary>,
    /// What decoding all of it found, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
}

/// A file of a data set beside the published one.
#[derive(Debug, Serialize)]
pub struct FileSummary {
    /// The file.
    #[serde(serialize_with = "serialize_path")]
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
    /// What people should know of it: what was passed over, which classes have no images.
    pub notes: Vec<String>,
}

/// How a data set is inspected.
#[derive(Clone, Copy, Debug, Default)]
pub struct InspectOptions {
    /// Decode every image, look for images that are there twice, and compare the files' hashes with the published ones. What is
    /// damaged is then no error but part of [`Contents::verification`].
    pub verify: bool,
    /// How many bad files are left out; of no account where they are looked for.
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
    let (notes, class_names, splits) = (notes(spec), Vec::new(), Vec::new());
    let mut contents = Contents { data, kind, notes, files, class_names, splits, verification: None };
    let mut parts = Vec::new();
    let mut damaged = Vec::new();

    if spec.is_tokens() {
        match open_tokens(spec) {
            Ok((split, tokens)) => {
                contents.class_names = tokens.class_names().to_vec();
                contents.splits.push(token_split(&*tokens, split));
                parts.push(Part { split, holdout: 0.0, subject: Subject::Tokens(tokens) });
            }
            Err(fault) if options.verify && is_damage(&fault) => {
                damaged.push(Damaged::whole(Split::Train, &fault, spec))
            }
            Err(error) => return Err(error),
        }
    } else {
        image_splits(spec, options, &mut contents, &mut parts, &mut damaged)?;
    }

    if options.verify {
        contents.verification = Some(verify(spec, &parts, damaged, options.progress)?);
    }
    Ok(contents)
}

/// A token array or a shard, and its only split.
fn open_tokens(spec: &DataSpec) -> Result<(Split, Box<dyn Examples>)> {
    Ok(match spec {
        DataSpec::Tokens { tokens, labels } => {
            // What matters here is that the tokens are tokens of some palette.
            (Split::Train, Box::new(TokenArray::open(tokens, labels.as_deref(), MAX_COLOURS)?))
        }
        DataSpec::Shard(path) => {
            let shard = Shard::open(path)?;
            (shard.header().split, Box::new(shard))
        }
        _ => {
            let hint = "it holds images, not tokens".into();
            return Err(DataError::NoSplit { data: spec.to_string(), split: Split::Train, hint });
        }
    })
}

fn token_split(tokens: &dyn Examples, split: Split) -> SplitSummary {
    let mut class_counts = vec![0; tokens.classes()];
    count(&mut class_counts, (0..tokens.len()).filter_map(|index| tokens.label(index)));
    let (examples, about, notes) = (tokens.len(), tokens.describe(), tokens.notes());
    SplitSummary { split, examples, held_out: 0, class_counts, missing: None, about, notes }
}

/// The training and test images: their summaries, themselves, and the damage of splits that cannot be opened.
fn image_splits(
    spec: &DataSpec,
    options: InspectOptions,
    contents: &mut Contents,
    parts: &mut Vec<Part>,
    damaged: &mut Vec<Damaged>,
) -> Result<()> {
    let mut missing = Vec::new();
    for split in [Split::Train, Split::Test] {
        match open_split(spec, split, options) {
            Ok(source) => {
                let fraction = if split == Split::Train { spec.default_holdout() } else { 0.0 };
                contents.class_names = source.class_names().to_vec();
                contents.splits.push(image_split(&*source, split, fraction)?);
                parts.push(Part { split, holdout: fraction, subject: Subject::Images(source) });
            }
            // A split that is not there is worth a line; one that is damaged is an error.
            Err(error @ (DataError::NotThere { .. } | DataError::NoSplit { .. })) => {
                contents.splits.push(SplitSummary::none(split, error.to_string()));
                missing.push(error);
            }
            Err(fault) if options.verify && is_damage(&fault) => {
                contents.splits.push(SplitSummary::none(split, "it is damaged".into()));
                damaged.push(Damaged::whole(split, &fault, spec));
            }
            Err(error) => return Err(error),
        }
    }

    if missing.len() == 2 { Err(missing.swap_remove(0)) } else { Ok(()) }
}

/// Opens all images of a split; where they are to be verified, with whatever is wrong with them.
fn open_split(spec: &DataSpec, split: Split, options: InspectOptions) -> Result<Arc<dyn ImageSource>> {
    let InspectOptions { verify, skip_bad, progress } = options;
    let palette = Arc::new(Palette::built_in()?);
    let options = OpenOptions { skip_bad, progress, resolution: 1, ..OpenOptions::new(palette) };
    if !verify {
        return open_source(spec, split, &options, Some(1));
    }

    match open_source(spec, split, &OpenOptions { skip_bad: SkipBad::ALL, ..options.clone() }, None) {
        // What is wrong with its files says more than that none is left.
        Err(DataError::NotThere { .. }) => {
            open_source(spec, split, &OpenOptions { skip_bad: SkipBad::NONE, ..options }, None)
        }
        opened => opened,
    }
}

fn image_split(source: &dyn ImageSource, split: Split, holdout: f64) -> Result<SplitSummary> {
    let mut class_counts = vec![0; source.class_names().len()];
    count(&mut class_counts, (0..source.len()).filter_map(|index| source.label(index)));
    let held_out = hold_out(source.len(), holdout, 0)?.1.len();
    let (examples, about, notes) = (source.len(), source.describe(), source.notes());
    Ok(SplitSummary { split, examples, held_out, class_counts, missing: None, about, notes })
}

impl SplitSummary {
    /// Of a split that is not there.
    fn none(split: Split, why: String) -> Self {
        let (class_counts, about, notes) = (Vec::new(), String::new(), Vec::new());
        SplitSummary { split, examples: 0, held_out: 0, class_counts, missing: Some(why), about, notes }
    }
}

fn count(counts: &mut [u64], labels: impl Iterator<Item = u16>) {
    for label in labels {
        if let Some(count) = counts.get_mut(usize::from(label)) {
            *count += 1;
        }
    }
}

fn kind(spec: &DataSpec) -> String {
    let cifar = |kind: CifarKind, path: &Path| {
        let version = CifarPlace::find(kind, path).map_or("binary version", |place| place.version());
        format!("{}, {version}", kind.name())
    };
    match spec {
        DataSpec::Sample => "built-in sample".into(),
        DataSpec::Cifar10(path) => cifar(CifarKind::Cifar10, path),
        DataSpec::Cifar100(path) => cifar(CifarKind::Cifar100, path),
        DataSpec::Stl10(_) => "STL-10, binary version".into(),
        DataSpec::Images(_) => "folder of images".into(),
        DataSpec::ImageNet(_) => "ImageNet, class folders".into(),
        DataSpec::ImageNetTar(_) => "ImageNet, official tars".into(),
        DataSpec::Tokens { .. } => "token array".into(),
        DataSpec::Shard(_) => "shard of tokens".into(),
    }
}

/// What is to be said about the form that a data set has.
fn notes(spec: &DataSpec) -> Vec<String> {
    let place = match spec {
        DataSpec::Cifar10(path) => CifarPlace::find(CifarKind::Cifar10, path),
        DataSpec::Cifar100(path) => CifarPlace::find(CifarKind::Cifar100, path),
        _ => None,
    };
    match place {
        Some(CifarPlace::Python(folder)) => {
            let folder = folder.display();
            vec![format!("{folder} is the Python version; its pickles are read, and no code in them is run")]
        }
        Some(CifarPlace::Archive(path)) => {
            let path = path.display();
            vec![format!("{path} is read into memory each time; unpack it with `tar xf` to open it at once")]
        }
        _ => Vec::new(),
    }
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
    let cifar = |kind: CifarKind, path: &Path| match CifarPlace::find(kind, path) {
        Some(CifarPlace::Binary(folder) | CifarPlace::Python(folder)) => list(&folder),
        Some(CifarPlace::Archive(archive)) => vec![archive],
        None => list(path),
    };
    let officials = |folder: &Path| list(folder).into_iter().filter(|path| is_official(path)).collect::<Vec<_>>();

    let mut paths: Vec<PathBuf> = match spec {
        DataSpec::Sample | DataSpec::Images(_) => Vec::new(),
        DataSpec::Tokens { tokens, labels } => {
            std::iter::once(tokens).chain(labels).map(|path| file_of(path)).collect()
        }
        DataSpec::Shard(path) => vec![path.clone()],
        DataSpec::Cifar10(path) | DataSpec::Cifar100(path) | DataSpec::Stl10(path) if path.is_file() => {
            vec![path.clone()]
        }
        DataSpec::Cifar10(path) => cifar(CifarKind::Cifar10, path),
        DataSpec::Cifar100(path) => cifar(CifarKind::Cifar100, path),
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
