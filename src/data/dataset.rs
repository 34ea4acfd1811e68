//! A data set as a model reads it: token sequences with labels, by index.

use std::sync::Arc;

use super::augment_key::AugmentKey;
use super::codec::palette::Palette;
use super::codec::transform::Transform;
use super::error::{DataError, Result};
use super::fingerprint::{Fingerprint, Stamp};
use super::source::ImageSource;

/// Token sequences of one length, by index, in a fixed order.
pub trait Examples: Send + Sync {
    /// How many examples there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens of an example, `n`.
    fn sequence_length(&self) -> usize;

    /// Number of different tokens: all tokens are below it.
    fn vocabulary(&self) -> usize;

    /// Writes the tokens of an example, `out: [n]`. With a key, augmented by it (where the data set is augmented at all);
    /// without, the same every time.
    ///
    /// # Errors
    /// [`DataError::Bounds`] for an index beyond the end or an `out` of another length; whatever decoding the image says.
    fn tokens(&self, index: usize, augment: Option<AugmentKey>, out: &mut [u16]) -> Result<()>;

    /// The class, from 0 and below [`Examples::classes`]; `None` without labels.
    fn label(&self, index: usize) -> Option<u16>;

    /// Number of classes; 0 without labels.
    fn classes(&self) -> usize;

    /// Names of the classes; empty without names.
    fn class_names(&self) -> &[String] {
        &[]
    }

    /// What the data set holds. Of images it is the whole data set's: the training part's and the held-out part's alike.
    ///
    /// # Errors
    /// As [`Examples::tokens`].
    fn fingerprint(&self) -> Result<Fingerprint> {
        let stamp = |index: usize| {
            let mut tokens = vec![0; self.sequence_length()];
            self.tokens(index, None, &mut tokens)?;
            let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
            Ok((Stamp::of(&bytes), self.label(index)))
        };
        Fingerprint::of(self.len(), stamp)
    }

    /// One line for people.
    fn describe(&self) -> String;

    /// What people should know before they use it, a line each: what was passed over, what seems to be missing.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Images through a transform and a palette.
pub struct ImageExamples {
    source: Arc<dyn ImageSource>,
    /// Which of the source's images, in order.
    indices: Vec<u32>,
    transform: Transform,
    palette: Arc<Palette>,
}

impl ImageExamples {
    /// The images `indices` of a source.
    pub fn new(source: Arc<dyn ImageSource>, indices: Vec<u32>, transform: Transform, palette: Arc<Palette>) -> Self {
        ImageExamples { source, indices, transform, palette }
    }

    fn source_index(&self, index: usize) -> Result<usize> {
        self.indices.get(index).map(|&index| index as usize).ok_or_else(|| DataError::index(index, self.indices.len()))
    }

    /// The image that [`Examples::tokens`] encodes.
    ///
    /// # Errors
    /// As [`Examples::tokens`].
    pub fn image(&self, index: usize, augment: Option<AugmentKey>) -> Result<image::RgbImage> {
        let index = self.source_index(index)?;
        let mut random = augment.map(AugmentKey::random);
        let name = || self.source.name(index);
        self.transform.apply(self.source.image(index)?, random.as_mut(), name, self.source.is_folder())
    }
}

impl Examples for ImageExamples {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn sequence_length(&self) -> usize {
        (self.transform.resolution() as usize).pow(2)
    }

    fn vocabulary(&self) -> usize {
        self.palette.len()
    }

    fn tokens(&self, index: usize, augment: Option<AugmentKey>, out: &mut [u16]) -> Result<()> {
        self.palette.encode(&self.image(index, augment)?, out)
    }

    fn label(&self, index: usize) -> Option<u16> {
        self.source.label(self.source_index(index).ok()?)
    }

    fn classes(&self) -> usize {
        self.source.class_names().len()
    }

    fn class_names(&self) -> &[String] {
        self.source.class_names()
    }

    fn fingerprint(&self) -> Result<Fingerprint> {
        self.source.fingerprint()
    }

    fn describe(&self) -> String {
        let side = self.transform.resolution();
        format!("{} of {} at {side}x{side}, {} colours", self.len(), self.source.describe(), self.palette.len())
    }

    fn notes(&self) -> Vec<String> {
        self.source.notes()
    }
}

/// The un-augmented tokens of images `first..first + count`, `[count, length]`.
///
/// # Errors
/// Those of [`Examples::tokens`].
pub fn tokens_of(examples: &dyn Examples, first: usize, count: usize) -> Result<Vec<u16>, DataError> {
    let length = examples.sequence_length();
    let mut tokens = vec![0; count * length];
    for (offset, row) in tokens.chunks_mut(length).enumerate() {
        examples.tokens(first + offset, None, row)?;
    }
    Ok(tokens)
}
