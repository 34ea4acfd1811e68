//! Samples as pictures: completions of half-seen images, images from nothing, and the grid they are shown in.

use std::io::Cursor;
use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage, imageops};

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

/// Rows of a training run's grid that are drawn at once beside micro-batches of `images` images: those whose keys and values, twice the
/// width of every token and block, find room in what the step keeps of its images. Which they are changes no picture.
pub fn rows_at_once(images: usize, recompute: Recompute) -> usize {
    (images.saturating_mul(recompute.kept()) / 2 / GRID_COMPLETIONS).clamp(1, GRID_ROWS)
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

    /// Adds the rows of another grid of cells of the same size.
    pub fn append(&mut self, mut other: Self) {
        self.rows.append(&mut other.rows);
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
/// completions of the rest. Their tokens come with it, in raster order.
#[allow(clippy::too_many_arguments)]
pub fn completion_grid<D: Device>(
    device: &D,
    model: &Transformer,
    parameters: &Parameters<D>,
    palette: &Palette,
    originals: &[u16],
    side: usize,
    completions: usize,
    generation: Generation,
    progress: impl FnMut(usize),
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
    let tokens = generate(device, model, parameters, generated, &prompts, generation, progress)?;

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
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png).map_err(std::io::Error::other)?;
    Ok(png.into_inner())
}
