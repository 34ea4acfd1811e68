//! Fitting a palette to the training images of a data set.

use super::codec::kmeans::{FitOptions, Histogram, Quality, fit};
use super::codec::palette::Palette;
use super::error::Result;
use super::open::{OpenOptions, evaluation_transform, open_images};
use super::part::Split;
use super::progress;
use super::spec::DataSpec;

/// A fitted palette, and what encoding with it loses.
#[derive(Debug)]
pub struct FittedPalette {
    /// The palette.
    pub palette: Palette,
    /// Iterations of k-means.
    pub iterations: usize,
    /// Pixels that it was fitted to.
    pub pixels: u64,
    /// Distinct colours among them.
    pub distinct: usize,
    /// What people should know of the training images: what was passed over, which classes have none.
    pub notes: Vec<String>,
    /// On the training images.
    pub train: Quality,
    /// On the test images, where there are any.
    pub test: Option<Quality>,
}

/// Fits a palette to all training images of a data set, none held out, at the options' resolution.
///
/// # Errors
/// Those of opening and decoding the images, and of [`fit`].
pub fn fit_palette(spec: &DataSpec, options: &OpenOptions, fit_options: &FitOptions) -> Result<FittedPalette> {
    let (train, notes) = histogram(spec, Split::Train, options)?;

    let bar = progress::spinner("k-means", options.progress);
    let mut iterations = 0;
    let palette = fit(&train, fit_options, |iteration, mse| {
        iterations = iteration;
        bar.set_message(format!("k-means: iteration {iteration}, squared error {mse:.7}"));
    })?;
    bar.finish_and_clear();

    // A data set without test images is no reason to fail: the palette is fitted.
    let test = histogram(spec, Split::Test, options).ok().map(|(test, _)| test.quality(&palette));
    let (pixels, distinct, train) = (train.pixels(), train.distinct(), train.quality(&palette));
    Ok(FittedPalette { palette, iterations, pixels, distinct, notes, train, test })
}

/// Counts the colours of a split at the model's resolution. Of the training images, none is held out. With it, what people
/// should know of them.
fn histogram(spec: &DataSpec, split: Split, options: &OpenOptions) -> Result<(Histogram, Vec<String>)> {
    let options = OpenOptions { holdout: Some(0.0), ..options.clone() };
    let (source, indices) = open_images(spec, split, &options)?;
    let transform = evaluation_transform(spec, &options)?;

    let bar = progress::count("counting colours", indices.len() as u64, options.progress);
    let histogram = Histogram::of_images(
        indices.len(),
        || bar.inc(1),
        |index| {
            let index = indices[index] as usize;
            transform.apply(source.image(index)?, None, || source.name(index), source.is_folder())
        },
    );
    bar.finish_and_clear();
    Ok((histogram?, source.notes()))
}
