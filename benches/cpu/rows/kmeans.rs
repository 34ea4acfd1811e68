//! A palette of 512 colours of a quarter of a million made-up pixels: 10 iterations of Lloyd's from k-means++.

use std::hint::black_box;

use anyhow::Result;
use igpt_engine::data::{FitOptions, Histogram, fit};
use image::{Rgb, RgbImage};

use super::{Bound, Row, Work};

/// Images of 32 × 32.
const IMAGES: usize = 256;
const SIDE: u32 = 32;
const ITERATIONS: usize = 10;

pub fn row() -> Row {
    Row {
        name: "kmeans",
        what: "palette of 512 colours, 262,144 pixels, 10 iterations",
        peer: Some("scikit-learn's KMeans"),
        uses_mkl: false,
        bound: Bound::None,
        prepare,
    }
}

/// Smooth in each image, with some noise: neighbours are alike, as in photographs. `peers.py` makes the same.
fn pixel(image: usize, x: u32, y: u32) -> Rgb<u8> {
    let hash = (image as u32).wrapping_mul(2_654_435_761).wrapping_add(y * 40_503 + x * 9_973);
    Rgb([0, 1, 2].map(|channel: u32| {
        let base = (image as u32).wrapping_mul(97 + 61 * channel) % 160;
        let slope = (x * (channel + 1) + y * (3 - channel)) % 64;
        (base + slope + (hash >> (8 * channel)) % 32) as u8
    }))
}

fn prepare() -> Result<Work> {
    let images: Vec<RgbImage> =
        (0..IMAGES).map(|image| RgbImage::from_fn(SIDE, SIDE, |x, y| pixel(image, x, y))).collect();
    let options = FitOptions { iterations: ITERATIONS, tolerance: 0.0, ..FitOptions::default() };
    Ok(Box::new(move || {
        let histogram = Histogram::of_images(IMAGES, || (), |index| Ok(images[index].clone())).expect("pixels");
        black_box(fit(&histogram, &options, |_, _| ()).expect("a palette"));
    }))
}
