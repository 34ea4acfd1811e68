//! What a data set of images is, before any transform: the trait and the splits.

use image::RgbImage;

use super::error::Result;

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

    /// Whether images are files of a folder (so that `--skip-bad` is a fix to suggest).
    fn is_folder(&self) -> bool {
        false
    }

    /// One line for people: what this is and how much of it.
    fn describe(&self) -> String;
}
