//! Looking at all of a data set: which images cannot be decoded, and which are there more than once.
//!
//! Images are decoded in parallel and go by one at a time. What is kept of each is a hash of its pixels, so the same picture
//! in another file (a PNG packed anew, a link, a copy under another name) is found, and memory grows by 24 bytes an image. Order
//! and contents of what is found do not depend on the number of threads.

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::dataset::Examples;
use super::error::{DataError, Result};
use super::part::Split;
use super::progress;
use super::skip_bad::SkipBad;
use super::source::ImageSource;
use super::spec::DataSpec;
use super::split::hold_out;

/// Images that are decoded between two looks at what was found.
const CHUNK: usize = 1 << 12;

/// What is kept of a SHA-256: among 2^32 images, two different ones are equal in it with a probability of 2^-65.
type Hash = [u8; 16];

/// What looking at all of a data set found.
#[derive(Debug, Serialize)]
pub struct Verification {
    /// Images (or rows of tokens) that could be decoded.
    pub decoded: usize,
    /// What is damaged, in the order of the data set.
    pub damaged: Vec<Damaged>,
    /// What is there more than once.
    pub duplicates: Duplicates,
}

/// A file or image that cannot be used.
#[derive(Debug, Serialize)]
pub struct Damaged {
    /// Its split; images that would be held out for validation count as training images.
    pub split: Split,
    /// The file, or the data set and the number of the image in it.
    pub name: String,
    /// What is wrong with it.
    pub problem: String,
    /// Whether it is one of many files, which `--skip-bad` leaves out.
    #[serde(skip)]
    pub is_one_of_many: bool,
}

/// Images of the same pixels.
#[derive(Debug, Serialize)]
pub struct Duplicates {
    /// Images that another one is equal to.
    pub images: usize,
    /// How many of each split are equal to one that is used for something else, or to an earlier one of the same split. Pairs of
    /// splits without any are not listed.
    pub shared: Vec<Shared>,
    /// Groups of images of more than one class.
    pub of_several_classes: usize,
    /// The images: those of a group are equal. Groups are in the order of their first image.
    pub groups: Vec<Vec<Twin>>,
}

/// How many images of a split are also in another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Shared {
    /// The split.
    pub split: Split,
    /// Where their equals are; in the split itself, the first of equal images is not counted.
    pub also_in: Split,
    /// How many they are.
    pub images: usize,
}

/// An image that another one is equal to.
#[derive(Debug, Serialize)]
pub struct Twin {
    /// Its split; validation is what is held out unless training is told otherwise.
    pub split: Split,
    /// Its number among the images of the training or test part.
    pub index: usize,
    /// The file, or the data set and the number of the image in it.
    pub name: String,
    /// Its class; none without labels.
    pub class: Option<u16>,
}

/// A part of a data set that is looked at.
pub(super) struct Part {
    pub(super) split: Split,
    /// Part of it that is held out for validation.
    pub(super) holdout: f64,
    pub(super) subject: Subject,
}

/// What it consists of.
pub(super) enum Subject {
    Images(Arc<dyn ImageSource>),
    Tokens(Box<dyn Examples>),
}

impl Subject {
    fn len(&self) -> usize {
        match self {
            Subject::Images(source) => source.len(),
            Subject::Tokens(tokens) => tokens.len(),
        }
    }

    /// Decodes an image.
    fn hash(&self, index: usize) -> Result<Hash> {
        let mut hash = Sha256::new();
        match self {
            Subject::Images(source) => {
                let image = source.exactly(index)?;
                hash.update(image.width().to_le_bytes());
                hash.update(image.height().to_le_bytes());
                hash.update(image.as_raw());
            }
            Subject::Tokens(rows) => {
                let mut tokens = vec![0; rows.sequence_length()];
                rows.tokens(index, None, &mut tokens)?;
                tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
            }
        }
        let mut kept = Hash::default();
        kept.copy_from_slice(&hash.finalize()[..size_of::<Hash>()]);
        Ok(kept)
    }

    fn label(&self, index: usize) -> Option<u16> {
        match self {
            Subject::Images(source) => source.label(index),
            Subject::Tokens(tokens) => tokens.label(index),
        }
    }

    fn name(&self, index: usize, spec: &DataSpec) -> String {
        match self {
            Subject::Images(source) => source.name(index),
            Subject::Tokens(_) => format!("row {index} of {spec}"),
        }
    }

    fn left_out(&self) -> &[DataError] {
        match self {
            Subject::Images(source) => source.left_out(),
            Subject::Tokens(_) => &[],
        }
    }
}

/// Whether a data set that cannot be opened is damaged or of another kind, rather than missing or unreadable.
pub(super) fn is_damage(fault: &DataError) -> bool {
    use DataError::{Changed, NoSplit, NotThere, Read};
    !matches!(fault, Read { .. } | Changed { .. } | NotThere { .. } | NoSplit { .. })
}

/// The file that is damaged.
fn path_of(fault: &DataError) -> Option<&Path> {
    use DataError::{
        Archive, Cache, Count, Devkit, Image, Label, Npy, Oversized, PartialRecord, Pickle, Shard, Tar, Token,
    };
    match fault {
        PartialRecord { path, .. } | Oversized { path, .. } | Label { path, .. } | Count { path, .. } => Some(path),
        Npy { path, .. } | Token { path, .. } | Shard { path, .. } | Cache { path, .. } => Some(path),
        Image { path, .. } | Tar { path, .. } | Pickle { path, .. } | Archive { path, .. } => Some(path),
        Devkit { path, .. } => Some(path),
        _ => None,
    }
}

impl Damaged {
    /// Something of a split that cannot be opened: all of it, or a file of many images.
    pub(super) fn whole(split: Split, fault: &DataError, spec: &DataSpec) -> Self {
        Damaged::new(split, fault, || spec.to_string())
    }

    fn new(split: Split, fault: &DataError, name: impl FnOnce() -> String) -> Self {
        let name = path_of(fault).map_or_else(name, |path| path.display().to_string());
        let (problem, is_one_of_many) = match fault {
            DataError::Image { problem, .. } => (problem.clone(), true),
            other => (other.to_string(), false),
        };
        Damaged { split, name, problem, is_one_of_many }
    }
}

impl Verification {
    /// Whether a run with this `--skip-bad` would meet more damage than it leaves out.
    pub fn is_beyond(&self, skip_bad: SkipBad) -> bool {
        let too_many =
            |split| self.damaged.iter().filter(|damaged| damaged.split == split).count() as u64 > skip_bad.limit();
        self.damaged.iter().any(|damaged| !damaged.is_one_of_many || too_many(damaged.split))
    }
}

/// An image: its part, and its number in it. In the order of the data set.
type Place = (u8, u32);

/// Decodes every image of the parts. `damaged` is known already.
///
/// # Errors
/// [`DataError::Changed`] for a file that is written to meanwhile.
pub(super) fn verify(spec: &DataSpec, parts: &[Part], mut damaged: Vec<Damaged>, show: bool) -> Result<Verification> {
    let images = parts.iter().map(|part| part.subject.len()).sum();
    let bar = progress::count("decoding", images as u64, show);
    let mut hashes: Vec<(Hash, Place)> = Vec::with_capacity(images);
    let mut validation: Vec<Vec<u32>> = Vec::new();

    for (number, Part { split, holdout, subject }) in (0..).zip(parts) {
        damaged.extend(subject.left_out().iter().map(|fault| Damaged::whole(*split, fault, spec)));
        let first_of_part = hashes.len();
        for first in (0..subject.len()).step_by(CHUNK) {
            let chunk = first..subject.len().min(first + CHUNK);
            let look = |index| {
                bar.inc(1);
                subject.hash(index)
            };
            // One image per task: their costs differ by a factor of a hundred.
            let found: Vec<Result<Hash>> = chunk.clone().into_par_iter().with_max_len(1).map(look).collect();

            for (index, found) in chunk.zip(found) {
                match found {
                    Ok(hash) => hashes.push((hash, (number, index as u32))),
                    Err(fault @ DataError::Changed { .. }) => return Err(fault),
                    Err(fault) => damaged.push(Damaged::new(*split, &fault, || subject.name(index, spec))),
                }
            }
        }

        // What is held out once the damaged files are gone.
        let sound = &hashes[first_of_part..];
        let held_out = hold_out(sound.len(), *holdout, 0)?.1;
        validation.push(held_out.into_iter().map(|at| sound[at as usize].1.1).collect());
    }
    bar.finish_and_clear();
    // Parts that could not be opened were known first.
    damaged.sort_by_key(|damaged| damaged.split as usize);

    let split_of = |(part, index): Place| {
        let (part, held_out) = (&parts[usize::from(part)], &validation[usize::from(part)]);
        if held_out.binary_search(&index).is_ok() { Split::Validation } else { part.split }
    };
    let twin = |place: Place| {
        let (subject, index) = (&parts[usize::from(place.0)].subject, place.1 as usize);
        Twin { split: split_of(place), index, name: subject.name(index, spec), class: subject.label(index) }
    };
    let decoded = hashes.len();
    let groups = equals(hashes).into_iter().map(|group| group.into_iter().map(twin).collect()).collect();
    Ok(Verification { decoded, damaged, duplicates: Duplicates::new(groups) })
}

/// The places of equal hashes, in order, where there are several.
fn equals(mut hashes: Vec<(Hash, Place)>) -> Vec<Vec<Place>> {
    hashes.par_sort_unstable();
    let groups = hashes.chunk_by(|a, b| a.0 == b.0).filter(|group| group.len() > 1);
    let mut groups: Vec<Vec<Place>> = groups.map(|group| group.iter().map(|(_, place)| *place).collect()).collect();
    groups.sort_unstable();
    groups
}

impl Duplicates {
    fn new(groups: Vec<Vec<Twin>>) -> Self {
        const PAIRS: [(Split, Split); 6] = [
            (Split::Train, Split::Train),
            (Split::Validation, Split::Validation),
            (Split::Test, Split::Test),
            (Split::Validation, Split::Train),
            (Split::Test, Split::Train),
            (Split::Test, Split::Validation),
        ];
        let of = |group: &[Twin], split| group.iter().filter(|twin| twin.split == split).count();
        let shared = PAIRS.map(|(split, also_in)| {
            let images = groups.iter().map(|group| match (of(group, split), of(group, also_in)) {
                (here, _) if split == also_in => here.saturating_sub(1),
                (_, 0) => 0,
                (here, _) => here,
            });
            Shared { split, also_in, images: images.sum() }
        });

        let several = |group: &&Vec<Twin>| {
            let mut classes = group.iter().filter_map(|twin| twin.class);
            classes.next().is_some_and(|first| classes.any(|class| class != first))
        };
        Duplicates {
            images: groups.iter().map(Vec::len).sum(),
            shared: shared.into_iter().filter(|shared| shared.images > 0).collect(),
            of_several_classes: groups.iter().filter(several).count(),
            groups,
        }
    }
}
