//! What a data set of images is, before any transform: the trait and the splits.

use image::RgbImage;

use super::error::{DataError, Result};
use super::fingerprint::{Fingerprint, Stamp};

/// Images by index, in a fixed order.
pub trait ImageSource: Send + Sync {
    /// How many images there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The image as RGB8, at its stored size.
    ///
    /// # Errors
    /// A file that cannot be read or decoded, or an index that is not below [`ImageSource::len`].
    fn image(&self, index: usize) -> Result<RgbImage>;

    /// The class, counted from 0; `None` where the data set has no labels.
    fn label(&self, index: usize) -> Option<u16>;

    /// Names of the classes in the order of the labels; empty without labels.
    fn class_names(&self) -> &[String];

    /// What to call the image in a message: its file, or the data set and the index.
    fn name(&self, index: usize) -> String;

    /// What tells the image apart from another one in its place: its pixels, or its file's name, size and time where files
    /// are many.
    ///
    /// # Errors
    /// As [`ImageSource::image`].
    fn stamp(&self, index: usize) -> Result<Stamp> {
        Ok(Stamp::of(self.image(index)?.as_raw()))
    }

    /// What the data set holds.
    ///
    /// # Errors
    /// As [`ImageSource::stamp`].
    fn fingerprint(&self) -> Result<Fingerprint> {
        Fingerprint::of(self.len(), |index| Ok((self.stamp(index)?, self.label(index))))
    }

    /// Whether images are files of a folder (so that `--skip-bad` is a fix to suggest).
    fn is_folder(&self) -> bool {
        false
    }

    /// One line for people: what this is and how much of it.
    fn describe(&self) -> String;

    /// What people should know before they use it, a line each: what was passed over, what seems to be missing.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// What is wrong with files of the data set that were left out when it was opened.
    fn left_out(&self) -> &[DataError] {
        &[]
    }

    /// The image of exactly this file: none stands in for one that is bad.
    ///
    /// # Errors
    /// As [`ImageSource::image`].
    fn exactly(&self, index: usize) -> Result<RgbImage> {
        self.image(index)
    }
}
