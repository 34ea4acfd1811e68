//! Samples as pictures: completions of half-seen images, images from nothing, and the grid they are shown in.

use std::path::Path;

use image::codecs::png::PngEncoder;
use image::{Rgb, RgbImage, imageops};

use crate::data::Palette;
use crate::device::{self, Device};
use crate::fs::atomic_file;
use crate::model::Transformer;
use crate::sample::decode::generate;
use crate::sample::generation::Generation;
use crate::tape::{Parameters, Recompute};

/// Images in a grid of samples of a training run.
pub const GRID_ROWS: usize = 6;
/// Completions of each.
pub const GRID_COMPLETIONS: usize = 4;

/// Images of a training run's grid that are drawn at once beside micro-batches of `images` images: those whose keys and values, the
/// width of every token and block each, find room in buffers that the step has anyway. Of a block these are the MLP's hidden layer, four
/// times the width, and queries, keys and values, three times, as far as they are kept. How many they are changes no picture.
pub fn drawn_at_once(images: usize, recompute: Recompute) -> usize {
    let room = match recompute {
        Recompute::None | Recompute::Norms => 3 * images,
        Recompute::NormsMlp => images,
        Recompute::Block => images / 2,
    };
    // Whole rows, or a half or a quarter of one.
    match room {
        0 | 1 => 1,
        2 | 3 => 2,
        _ => (room / GRID_COMPLETIONS * GRID_COMPLETIONS).min(GRID_ROWS * GRID_COMPLETIONS),
    }
}

/// Empty pixels around every cell of a grid.
const GUTTER: u32 = 4;
/// What the unseen part of a prompt, and the gutter, look like.
const UNSEEN: Rgb<u8> = Rgb([64, 64, 72]);
const BACKGROUND: Rgb<u8> = Rgb([24, 24, 28]);

/// Rows of images of one size.
pub struct Grid {
    side: u32,
    rows: Vec<Vec<RgbImage>>,
}

impl Grid {
    /// An empty grid of square cells `side` pixels wide.
    pub fn new(side: usize) -> Self {
        Self { side: side as u32, rows: Vec::new() }
    }

    /// Adds a row of images; each should be `side` × `side`.
    pub fn push(&mut self, row: Vec<RgbImage>) {
        self.rows.push(row);
    }

    /// Width and height of the picture of a grid of `columns` × `rows` cells `side` × `scale` pixels wide; `None` where that
    /// is more than a picture can have.
    pub fn extent(side: usize, scale: u32, columns: usize, rows: usize) -> Option<(u32, u32)> {
        let cell = u32::try_from(side).ok()?.checked_mul(scale)?.checked_add(GUTTER)?;
        let along = |cells: usize| u32::try_from(cells).ok()?.checked_mul(cell)?.checked_add(GUTTER);
        Some((along(columns)?, along(rows)?))
    }

    /// Draws the grid, every pixel `scale` pixels wide.
    pub fn draw(&self, scale: u32) -> RgbImage {
        let cell = self.side * scale;
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0) as u32;
        let extent = |cells: u32| cells * (cell + GUTTER) + GUTTER;
        let mut canvas = RgbImage::from_pixel(extent(columns), extent(self.rows.len() as u32), BACKGROUND);
        for (y, row) in (0..).zip(&self.rows) {
            for (x, picture) in (0..).zip(row) {
                let enlarged = imageops::resize(picture, cell, cell, imageops::FilterType::Nearest);
                let offset = |cells: i64| cells * i64::from(cell + GUTTER) + i64::from(GUTTER);
                imageops::replace(&mut canvas, &enlarged, offset(x), offset(y));
            }
        }
        canvas
    }
}

/// Enlargement that makes a cell of `side` pixels comfortable to look at.
pub fn comfortable_scale(side: usize) -> u32 {
    (128 / side.max(1)).clamp(1, 8) as u32
}

/// `tokens` (a prefix of an image in raster order) as a picture `side` pixels wide; what is missing stays grey.
pub fn picture(palette: &Palette, tokens: &[u16], side: usize) -> RgbImage {
    let mut picture = RgbImage::from_pixel(side as u32, side as u32, UNSEEN);
    for (pixel, token) in picture.pixels_mut().zip(tokens) {
        *pixel = Rgb(palette.decode_token(*token).unwrap_or(UNSEEN.0));
    }
    picture
}

/// The pixels `shown` of an image (`tokens`, raster order) as a picture `side` pixels wide; the others stay grey.
fn partial_picture(palette: &Palette, tokens: &[u16], shown: &[u16], side: usize) -> RgbImage {
    let mut picture = picture(palette, &[], side);
    for pixel in shown {
        let (pixel, side) = (u32::from(*pixel), side as u32);
        let colour = tokens.get(pixel as usize).and_then(|token| palette.decode_token(*token));
        picture.put_pixel(pixel % side, pixel / side, Rgb(colour.unwrap_or(UNSEEN.0)));
    }
    picture
}

/// A grid with a row for each of `originals` (images of `side`² tokens): the original, the part of it that the model sees
/// ([`Order::prompt`](crate::model::Order::prompt) of the model's order: the upper half in raster order), and `completions`
/// completions of the rest, drawn `at_once` at a time. Their tokens come with it, in raster order.
#[allow(clippy::too_many_arguments)]
pub fn completion_grid<D: Device>(
    device: &D,
    model: &Transformer,
    parameters: &Parameters<D>,
    palette: &Palette,
    originals: &[u16],
    side: usize,
    completions: usize,
    at_once: usize,
    generation: Generation,
    mut progress: impl FnMut(usize),
) -> device::Result<(Grid, Vec<u16>)> {
    let length = side * side;

    // What the model sees of each image, in its own order.
    let seen = model.config().order.prompt(side);
    let arranged = model.arrange(originals, length)?;
    let raster: Vec<u16> = (0..length).map(|pixel| pixel as u16).collect();
    let shown = &model.arrange(&raster, length)?[..seen];
    let prompts: Vec<u16> = arranged
        .chunks_exact(length)
        .flat_map(|image| std::iter::repeat_n(&image[..seen], completions))
        .flatten()
        .copied()
        .collect();

    // Complete.
    let generated = originals.len() / length * completions;
    let mut tokens = Vec::with_capacity(generated * length);
    for first in (0..generated).step_by(at_once.max(1)) {
        let images = at_once.min(generated - first);
        let prompts = &prompts[first * seen..(first + images) * seen];
        let generation = Generation { first: generation.first + first as u64, ..generation };
        tokens.extend(generate(device, model, parameters, images, prompts, generation, &mut progress)?);
    }

    // A row per original: it, what the model saw, completions.
    let mut grid = Grid::new(side);
    for (image, completed) in originals.chunks_exact(length).zip(tokens.chunks_exact(length * completions)) {
        let mut row = vec![picture(palette, image, side), partial_picture(palette, image, shown, side)];
        row.extend(completed.chunks_exact(length).map(|tokens| picture(palette, tokens, side)));
        grid.push(row);
    }
    Ok((grid, tokens))
}

/// A grid of `images` generated from nothing, `columns` per row.
#[allow(clippy::too_many_arguments)]
pub fn free_grid<D: Device>(
    device: &D,
    model: &Transformer,
    parameters: &Parameters<D>,
    palette: &Palette,
    images: usize,
    side: usize,
    columns: usize,
    generation: Generation,
    progress: impl FnMut(usize),
) -> device::Result<(Grid, Vec<u16>)> {
    let tokens = generate(device, model, parameters, images, &[], generation, progress)?;
    let mut grid = Grid::new(side);
    for row in tokens.chunks(side * side * columns.max(1)) {
        grid.push(row.chunks(side * side).map(|tokens| picture(palette, tokens, side)).collect());
    }
    Ok((grid, tokens))
}

/// Writes a picture as PNG, whole or not at all; returns what the file holds.
///
/// # Errors
/// Those of the file system.
pub fn write_png(path: &Path, picture: &RgbImage) -> std::io::Result<Vec<u8>> {
    let png = encode_png(picture)?;
    atomic_file::write_file(path, |file| file.write_all(&png))?;
    Ok(png)
}

/// A picture as the bytes of a PNG file.
///
/// # Errors
/// A picture that PNG cannot hold: one without pixels.
pub fn encode_png(picture: &RgbImage) -> std::io::Result<Vec<u8>> {
    // Not `write_to`, which has code for every format that can be written.
    let mut png = Vec::new();
    picture.write_with_encoder(PngEncoder::new(&mut png)).map_err(std::io::Error::other)?;
    Ok(png)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{CpuDevice, SampleOptions};
    use crate::model::{ModelConfig, Preset, parameter_specs};

    #[test]
    fn how_many_are_drawn_at_once_changes_no_picture() {
        let device = CpuDevice::new(Some(1)).unwrap();
        let config = ModelConfig { layers: 1, width: 16, heads: 2, ..ModelConfig::preset(Preset::Tiny, 4) };
        let parameters = Parameters::init(&device, parameter_specs(&config), 3).unwrap();
        let model = Transformer::new(config).unwrap();
        let originals: Vec<u16> = (0..48).map(|pixel| pixel * 7 % 512).collect();
        let palette = Palette::built_in().unwrap();
        let generation = Generation { length: 16, options: SampleOptions::PLAIN, seed: 5, first: 2, guidance: None };
        let drawn = |at_once| {
            let (grid, tokens) =
                completion_grid(&device, &model, &parameters, &palette, &originals, 4, 4, at_once, generation, |_| {})
                    .unwrap();
            (grid.draw(1).into_raw(), tokens)
        };
        let all = drawn(usize::MAX);
        assert_eq!(all.1.len(), 12 * 16);
        for at_once in [1, 2, 4, 5, 8] {
            assert!(drawn(at_once) == all, "{at_once} at a time");
        }
    }

    #[test]
    fn as_many_are_drawn_as_find_room() {
        let of = |recompute| [1, 2, 8, 64].map(|images| drawn_at_once(images, recompute));
        assert_eq!(of(Recompute::None), [2, 4, 24, 24]);
        assert_eq!(of(Recompute::NormsMlp), [1, 2, 8, 24]);
        assert_eq!(of(Recompute::Block), [1, 1, 4, 24]);
    }
}
