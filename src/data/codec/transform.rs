//! From an image of any size to the model's resolution, with the paper's augmentation.
//!
//! Photos (of ImageNet and folders, those of 224 pixels and more on the short side): in training the short side is scaled to
//! a random length in 256..=384 and a random 224x224 square is cropped; otherwise the short side is scaled to 224 and the
//! central square is cropped. Small images (CIFAR, STL-10; of ImageNet and folders the central square of those below 224):
//! in training 4 pixels of reflection are added on each side, a random square of the old size is cropped and every
//! other one mirrored; otherwise the image stays as it is. Either way the square is then resized to the
//! resolution, once, and stays as it is if it has that already. (Image GPT, V2, sections 3.1 and 3.4; of small images among
//! photographs it says nothing, and enlarging them first only blurs.)

use image::RgbImage;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::resize::{Filter, Rectangle, crop, resize, short_side};
use crate::data::error::{DataError, Result};

/// Side of the square cropped from a photo.
const PHOTO_CROP: u32 = 224;
/// Short sides of a photo before the random crop.
const PHOTO_SHORT: std::ops::RangeInclusive<u32> = 256..=384;
/// Pixels of reflection around a small image.
const PAD: u32 = 4;
/// Highest resolution: the cropped square must not need enlarging.
pub const MAX_RESOLUTION: u32 = PHOTO_CROP;
/// A photo more elongated than this is refused: its longer side, scaled, would take gigabytes.
const MAX_ASPECT: u32 = 100;

/// What is done to a training image at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Augment {
    /// Nothing.
    None,
    /// Reflection of 4 pixels, random crop to the old size, mirrored with probability one half.
    PadCropFlip,
    /// Random short side in 256..=384, random 224x224 crop; images below 224 are augmented as small ones.
    ResizeCrop,
}

/// What is kept of an image that is not augmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// All of it; it should be square.
    Whole,
    /// The central square: of 224 after scaling the short side to 224, or of an image below that as it is.
    CentreCrop,
}

/// The way from a stored image to a square of the model's resolution.
#[derive(Clone, Copy, Debug)]
pub struct Transform {
    resolution: u32,
    filter: Filter,
    framing: Framing,
    augment: Augment,
    enlarge: bool,
    of_model: bool,
}

impl Transform {
    /// A transform to `resolution` x `resolution`.
    ///
    /// # Errors
    /// [`DataError::Resize`] for a resolution of 0 or above [`MAX_RESOLUTION`].
    pub fn new(resolution: u32, filter: Filter, framing: Framing, augment: Augment) -> Result<Self> {
        if resolution == 0 || resolution > MAX_RESOLUTION {
            let problem = format!("--resolution must be from 1 to {MAX_RESOLUTION}");
            return Err(DataError::Resize { resolution, problem });
        }
        Ok(Transform { resolution, filter, framing, augment, enlarge: false, of_model: false })
    }

    /// The same, taking images whose short side is below the resolution too: of ImageNet's million, some are, and the
    /// paper's scaling of the short side to 224 or more makes no exception for them.
    pub fn enlarging(self) -> Self {
        Transform { enlarge: true, ..self }
    }

    /// The same at the resolution of a model, which nobody can lower: it only changes what is advised.
    pub(in crate::data) fn of_model(self, of_model: bool) -> Self {
        Transform { of_model, ..self }
    }

    /// Kernel of every resize.
    pub fn filter(&self) -> Filter {
        self.filter
    }

    /// Side of the result.
    pub fn resolution(&self) -> u32 {
        self.resolution
    }

    /// Applies it: augmented if `random` is there, else the same every time.
    ///
    /// # Errors
    /// [`DataError::TooSmall`] where the short side is below the resolution (`name` names the image) and the transform is
    /// not [`Transform::enlarging`]: that teaches the model blur. [`DataError::Resize`] where the resizer fails or the image is a strip.
    pub fn apply(
        &self,
        image: RgbImage,
        random: Option<&mut ChaCha8Rng>,
        name: impl Fn() -> String,
        folder: bool,
    ) -> Result<RgbImage> {
        let (width, height) = image.dimensions();
        if width.min(height) < self.resolution && !self.enlarge {
            let (needed, of_model) = (self.resolution, self.of_model);
            return Err(DataError::TooSmall { name: name(), width, height, needed, folder, of_model });
        }

        let failed =
            |problem| DataError::Resize { resolution: self.resolution, problem: format!("{}: {problem}", name()) };
        if width.max(height) / width.min(height) > MAX_ASPECT {
            return Err(failed(format!("{width}x{height} is more elongated than {MAX_ASPECT} to 1; leave it out")));
        }

        // The square that is resized. A small image among photos is its central square.
        let small = self.framing == Framing::CentreCrop && width.min(height) < PHOTO_CROP;
        let image = if small { central_square(image) } else { image };
        let framed = match (self.augment, random, self.framing) {
            (Augment::PadCropFlip, Some(random), _) => pad_crop_flip(&image, random),
            (Augment::ResizeCrop, Some(random), _) if small => pad_crop_flip(&image, random),
            (Augment::ResizeCrop, Some(random), _) => {
                let (width, height) = short_side(width, height, random.random_range(PHOTO_SHORT));
                let (x, y) = (width - PHOTO_CROP, height - PHOTO_CROP);
                let (x, y) = (random.random_range(0..=x), random.random_range(0..=y));
                self.scale_and_crop(image, (width, height), (x, y)).map_err(failed)?
            }
            (_, _, Framing::Whole) => image,
            (_, _, Framing::CentreCrop) if small => image,
            (_, _, Framing::CentreCrop) => {
                let (width, height) = short_side(width, height, PHOTO_CROP);
                let corner = ((width - PHOTO_CROP) / 2, (height - PHOTO_CROP) / 2);
                self.scale_and_crop(image, (width, height), corner).map_err(failed)?
            }
        };

        resize(framed, self.resolution, self.resolution, self.filter).map_err(failed)
    }

    /// Scales to a size and crops the 224 square at a corner.
    fn scale_and_crop(
        &self,
        image: RgbImage,
        (width, height): (u32, u32),
        (x, y): (u32, u32),
    ) -> Result<RgbImage, String> {
        let scaled = resize(image, width, height, self.filter)?;
        Ok(crop(&scaled, Rectangle { x, y, width: PHOTO_CROP, height: PHOTO_CROP }))
    }
}

/// The square of the short side in the middle; a square image stays as it is.
fn central_square(image: RgbImage) -> RgbImage {
    let (width, height) = image.dimensions();
    if width == height {
        return image;
    }
    let side = width.min(height);
    crop(&image, Rectangle { x: (width - side) / 2, y: (height - side) / 2, width: side, height: side })
}

/// One of the 81 crops of the reflected image, or its mirror image. The border is not repeated: `dcb|abcd|cba`.
fn pad_crop_flip(image: &RgbImage, random: &mut ChaCha8Rng) -> RgbImage {
    let (width, height) = image.dimensions();
    let (dx, dy) = (random.random_range(0..=2 * PAD), random.random_range(0..=2 * PAD));
    let flip = random.random_bool(0.5);
    RgbImage::from_fn(width, height, |x, y| {
        let x = if flip { width - 1 - x } else { x };
        *image.get_pixel(reflect(x + dx, width), reflect(y + dy, height))
    })
}

/// Where padded coordinate `at` (from 0, [`PAD`] before the image) lies in an image of `side`.
fn reflect(at: u32, side: u32) -> u32 {
    let period = 2 * (side.max(2) - 1);
    // One period added for the coordinates left of the image.
    let at = (at + PAD.next_multiple_of(period) - PAD) % period;
    at.min(period - at).min(side - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::AugmentKey;

    #[test]
    fn reflection_does_not_repeat_the_border() {
        let row: Vec<u32> = (0..5 + 2 * PAD).map(|at| reflect(at, 5)).collect();
        assert_eq!(row, [4, 3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1, 0]);
        for side in 1..4 {
            assert!((0..side + 2 * PAD).all(|at| reflect(at, side) < side));
        }
    }

    #[test]
    fn augmentation_is_a_function_of_its_key_and_covers_all_crops() {
        let image = RgbImage::from_fn(32, 32, |x, y| image::Rgb([x as u8, y as u8, 0]));
        let transform = Transform::new(32, Filter::Bilinear, Framing::Whole, Augment::PadCropFlip).unwrap();
        let apply = |index| {
            let mut random = AugmentKey { seed: 1, epoch: 0, index }.random();
            transform.apply(image.clone(), Some(&mut random), String::new, false).unwrap()
        };
        assert_eq!(apply(3), apply(3));
        let distinct: std::collections::HashSet<Vec<u8>> = (0..2000).map(|index| apply(index).into_raw()).collect();
        assert_eq!(distinct.len(), 2 * 81);
        let plain = transform.apply(image.clone(), None, String::new, false).unwrap();
        assert_eq!(plain, image);
    }

    #[test]
    fn photos_are_cropped_centrally_without_a_key() {
        // Left third red, the rest blue: the central square of 600x200 lies at 200..400 of it.
        let image = RgbImage::from_fn(600, 200, |x, _| image::Rgb(if x < 200 { [255, 0, 0] } else { [0, 0, 255] }));
        let transform = Transform::new(32, Filter::Box, Framing::CentreCrop, Augment::ResizeCrop).unwrap();
        let plain = transform.apply(image.clone(), None, String::new, true).unwrap();
        assert!(plain.enumerate_pixels().all(|(x, _, pixel)| x == 0 || pixel.0 == [0, 0, 255]), "{plain:?}");
        let mut random = AugmentKey { seed: 1, epoch: 0, index: 0 }.random();
        let augmented = transform.apply(image, Some(&mut random), String::new, true).unwrap();
        assert_eq!(augmented.dimensions(), (32, 32));
    }

    #[test]
    fn small_pictures_among_photos_are_resized_once_or_not_at_all() {
        let noise = |width: u32, height: u32| {
            RgbImage::from_fn(width, height, |x, y| image::Rgb([x * 37 + y * 101, (x * 7) ^ y, x * y].map(|v| v as u8)))
        };
        let photos = |resolution, augment| Transform::new(resolution, Filter::Bilinear, Framing::CentreCrop, augment);

        // Of the right size, as they are; a margin on the longer side is cut off.
        for (width, height, resolution) in [(32, 32, 32), (48, 48, 48), (223, 223, 223), (224, 224, 224), (50, 32, 32)]
        {
            let picture = noise(width, height);
            let plain =
                photos(resolution, Augment::None).unwrap().apply(picture.clone(), None, String::new, true).unwrap();
            let middle = Rectangle { x: (width - resolution) / 2, y: 0, width: resolution, height: resolution };
            assert!(plain == crop(&picture, middle), "{width}x{height} at {resolution}");
        }

        // Of another size, the central square resized once; enlarged once where that is allowed.
        let picture = noise(100, 64);
        let square = crop(&picture, Rectangle { x: 18, y: 0, width: 64, height: 64 });
        for resolution in [32, 96] {
            let once = resize(square.clone(), resolution, resolution, Filter::Bilinear).unwrap();
            let transform = photos(resolution, Augment::None).unwrap().enlarging();
            assert!(transform.apply(picture.clone(), None, String::new, true).unwrap() == once, "{resolution}");
        }
    }

    #[test]
    fn small_pictures_among_photos_are_augmented_as_small_images() {
        let picture = RgbImage::from_fn(32, 32, |x, y| image::Rgb([x as u8, y as u8, 0]));
        let apply = |framing, augment, index| {
            let mut random = AugmentKey { seed: 1, epoch: 0, index }.random();
            let transform = Transform::new(32, Filter::Bilinear, framing, augment).unwrap();
            transform.apply(picture.clone(), Some(&mut random), String::new, true).unwrap()
        };
        for index in 0..20 {
            let (photo, small) = (
                apply(Framing::CentreCrop, Augment::ResizeCrop, index),
                apply(Framing::Whole, Augment::PadCropFlip, index),
            );
            assert!(photo == small, "{index}");
        }
    }

    #[test]
    fn small_images_and_strips_are_refused_by_name() {
        let transform = Transform::new(32, Filter::Box, Framing::CentreCrop, Augment::None).unwrap();
        let small = transform.apply(RgbImage::new(31, 90), None, || "a.png".into(), true).unwrap_err().to_string();
        assert!(small.contains("a.png") && small.contains("31x90") && small.contains("--skip-bad"), "{small}");
        let strip = transform.apply(RgbImage::new(32, 4000), None, || "b.png".into(), true).unwrap_err().to_string();
        assert!(strip.contains("b.png") && strip.contains("elongated"), "{strip}");
        assert!(Transform::new(0, Filter::Box, Framing::Whole, Augment::None).is_err());
    }
}
