//! The colour palette: 512 colours in the paper, so that a pixel is one token of 9 bits; here up to 4096, of 12.
//!
//! A colour is `x = p / 127.5 - 1` in [-1, 1]. Encoding is the argmin of the squared distance, computed in f64 as the
//! direct sum over R, G, B of `(x - c)^2`; the first index wins ties. (The official code expands the square in f32,
//! which can differ where two colours are equally near to within rounding.)

use std::path::Path;
use std::sync::OnceLock;

use image::{Rgb, RgbImage};
use sha2::{Digest, Sha256};

use crate::data::error::{DataError, Result};
use crate::data::npy::{self, Npy};
use crate::fs::Output;

/// Colours of the paper's palette: "9-bit colour".
pub const PAPER_COLOURS: usize = 512;
/// Maximum number of colours of a palette: 12-bit colour. Each takes a row of the embedding and one of the token head, and its
/// share of every softmax.
pub const MAX_COLOURS: usize = 4096;
/// Values beyond this are of another scale than [-1, 1] (0 to 255, say); k-means itself stays within 1.
const MAX_VALUE: f32 = 1.5;
const BUILT_IN: &[u8] = include_bytes!("../../../assets/palette-cifar10-512.npy");

/// Up to [`MAX_COLOURS`] colours, and the way from 8-bit pixels to tokens and back.
#[derive(Debug)]
pub struct Palette {
    /// `[k][3]`, R, G, B in [-1, 1].
    colours: Vec<[f32; 3]>,
    cells: OnceLock<Cells>,
}

impl Palette {
    /// A palette of these colours.
    ///
    /// # Errors
    /// [`DataError::Palette`], naming `name`: no or too many colours, values that are not finite or beyond 1.5.
    pub fn new(name: impl AsRef<Path>, colours: Vec<[f32; 3]>) -> Result<Self> {
        let error = |problem| Err(DataError::Palette { path: name.as_ref().to_owned(), problem });
        if colours.is_empty() || colours.len() > MAX_COLOURS {
            return error(format!("it has {} colours, and 1 to {MAX_COLOURS} are possible", colours.len()));
        }
        for (row, colour) in colours.iter().enumerate() {
            if colour.iter().any(|value| !value.is_finite() || value.abs() > MAX_VALUE) {
                return error(format!("colour {row} is {colour:?}"));
            }
        }
        Ok(Palette { colours, cells: OnceLock::new() })
    }

    /// Loads a `.npy` of floats `[k, 3]`. One that was not written here must show that its scale is [-1, 1], by a value below 0.
    ///
    /// # Errors
    /// [`DataError::Read`], [`DataError::Npy`], and as [`Palette::new`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_npy(path.as_ref(), &Npy::open(path.as_ref())?)
    }

    /// The palette of this repository: k-means with 512 colours on all pixels of CIFAR-10's training images.
    ///
    /// # Errors
    /// None, short of a damaged program.
    pub fn built_in() -> Result<Self> {
        let name = "the built-in palette";
        Self::from_npy(Path::new(name), &Npy::from_static(name, BUILT_IN)?)
    }

    fn from_npy(path: &Path, array: &Npy) -> Result<Self> {
        let fits = matches!(array.shape(), [_, 3]) && !array.dtype().is_integer();
        if !fits {
            let whole =
                if array.dtype().is_integer() { " (of the scale 0 to 255? Save x / 127.5 - 1 as float32)" } else { "" };
            let problem = format!("it holds {} of shape {:?}{whole}", array.dtype().name(), array.shape());
            return Err(DataError::Palette { path: path.to_owned(), problem });
        }
        let values = array.to_f32()?;
        if array.sha256().is_none()
            && let Some(problem) = other_scale(&values)
        {
            return Err(DataError::Palette { path: path.to_owned(), problem });
        }
        Self::new(path, values.chunks_exact(3).map(|colour| [colour[0], colour[1], colour[2]]).collect())
    }

    /// Saves as `.npy`, float32 `[k, 3]`, atomically.
    ///
    /// # Errors
    /// [`DataError::Write`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.save_to(Output::open(path.as_ref())?)
    }

    /// [`Palette::save`] into a file that is open already.
    pub(crate) fn save_to(&self, file: Output) -> Result<()> {
        npy::write_to(file, &[self.len(), 3], self.colours.as_flattened())
    }

    /// Number of colours, `k`.
    pub fn len(&self) -> usize {
        self.colours.len()
    }

    /// Never: a palette has at least one colour.
    pub fn is_empty(&self) -> bool {
        self.colours.is_empty()
    }

    /// The colours, R, G, B in [-1, 1].
    pub fn colours(&self) -> &[[f32; 3]] {
        &self.colours
    }

    /// SHA-256 of the values (little-endian float32), in hex: the palette's identity, whatever file holds it.
    pub fn id(&self) -> String {
        let mut hash = Sha256::new();
        for value in self.colours.as_flattened() {
            hash.update(value.to_le_bytes());
        }
        crate::data::files::hash::hex(&hash.finalize())
    }

    /// The cells, made at the first use.
    fn cells(&self) -> &Cells {
        if let Some(cells) = self.cells.get() {
            return cells;
        }
        // Not inside the lock's closure: cells are made on rayon's threads, and one that waits there may be handed another
        // image to encode, which would then wait for the lock that it holds itself.
        let cells = Cells::new(&self.colours);
        self.cells.get_or_init(|| cells)
    }

    /// The token of one pixel.
    pub fn nearest(&self, pixel: [u8; 3]) -> u16 {
        self.cells().nearest(pixel)
    }

    /// Tokens of an image in raster order; `out` has an element for each pixel.
    ///
    /// # Errors
    /// [`DataError::Bounds`] for an `out` of another length.
    pub fn encode(&self, image: &RgbImage, out: &mut [u16]) -> Result<()> {
        let pixels = image.width() as usize * image.height() as usize;
        if out.len() != pixels {
            let limit = format!("the image has {pixels} pixels");
            return Err(DataError::Bounds { what: "the length of the token buffer", got: out.len(), limit });
        }
        let cells = self.cells();
        for (token, pixel) in out.iter_mut().zip(image.pixels()) {
            *token = cells.nearest(pixel.0);
        }
        Ok(())
    }

    /// The 8-bit colour of a token, `rint(127.5 (c + 1))` clamped to 0..=255; `None` beyond the palette.
    pub fn decode_token(&self, token: u16) -> Option<[u8; 3]> {
        let colour = self.colours.get(usize::from(token))?;
        // In f32, as the official code; `as` clamps.
        Some(colour.map(|c| (127.5 * (c + 1.0)).round_ties_even() as u8))
    }

    /// The image of `width` x `height` tokens in raster order.
    ///
    /// # Errors
    /// [`DataError::Bounds`] for a token beyond the palette or tokens that do not fill the image.
    pub fn decode(&self, tokens: &[u16], width: u32, height: u32) -> Result<RgbImage> {
        let mut pixels = Vec::with_capacity(3 * tokens.len());
        for &token in tokens {
            pixels.extend(self.decode_token(token).ok_or_else(|| DataError::Bounds {
                what: "the token",
                got: token.into(),
                limit: format!("the palette has {} colours", self.len()),
            })?);
        }
        RgbImage::from_raw(width, height, pixels)
            .filter(|_| tokens.len() == width as usize * height as usize)
            .ok_or_else(|| DataError::Bounds {
                what: "the number of tokens",
                got: tokens.len(),
                limit: format!("the image has {width}x{height} pixels"),
            })
    }

    /// All colours as a picture of `cell` x `cell` squares, 32 per row, in the palette's order.
    pub fn swatch(&self, cell: u32) -> RgbImage {
        let columns = self.len().min(32);
        let rows = self.len().div_ceil(columns.max(1));
        RgbImage::from_fn(columns as u32 * cell, rows as u32 * cell, |x, y| {
            let token = (y / cell) as usize * columns + (x / cell) as usize;
            Rgb(u16::try_from(token).ok().and_then(|token| self.decode_token(token)).unwrap_or([255; 3]))
        })
    }
}

/// What is wrong with values none of which is below 0: others use scales of 0 to 1 and 0 to 255, and colours of such a scale,
/// taken as they are, would all be bright.
fn other_scale(values: &[f32]) -> Option<String> {
    let least = values.iter().copied().fold(f32::INFINITY, f32::min);
    let greatest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !(least >= 0.0 && greatest <= 255.0) || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    Some(if greatest <= 1.0 {
        format!(
            "all values are in [0, 1] ({least} to {greatest}), so it seems to be of the scale 0 to 1; save 2 * x - 1 (or, if it \
             really has bright colours only, make it by `data palette`)"
        )
    } else {
        format!(
            "no value is below 0 ({least} to {greatest}), so it seems to be of the scale 0 to 255; save x / 127.5 - 1"
        )
    })
}

/// Bits of a channel that pick the cell: 32 cells per side, each of 8x8x8 colours.
const CELL_BITS: u32 = 5;
const CELL_SHIFT: u32 = 8 - CELL_BITS;

/// The colour cube cut into cells, and for each the colours that are nearest to any of its points: exact, since no
/// other can win there. It is halved along each channel, again and again: of a cell only what can win in the one around it is looked at.
///
/// Measured with the built-in palette and CIFAR-10's test pixels: 48 ns per pixel, 50 us per image of 32x32. The loser, a table of all 2^24
/// colours filled from these cells: 0.2 s and 32 MiB more, 7 ns per pixel; it pays only after 5 million pixels, on a thread that training
/// does not wait for.
#[derive(Debug)]
pub(super) struct Cells {
    /// Candidates of cell `i`: `candidates[starts[i]..starts[i + 1]]`, ascending, with their colours in f64.
    starts: Vec<u32>,
    candidates: Vec<(u16, [f64; 3])>,
}

impl Cells {
    pub(super) fn new(colours: &[[f32; 3]]) -> Self {
        let colours: Vec<[f64; 3]> = colours.iter().map(|colour| colour.map(f64::from)).collect();
        let mut lists: Vec<Vec<u16>> = vec![(0..).take(colours.len()).collect()];
        for bits in 1..=CELL_BITS {
            let part_of = |cell: usize| {
                let channels = channels(cell, bits);
                let around = channels.iter().fold(0, |around, channel| around << (bits - 1) | channel >> 1);
                candidates(channels, bits, &colours, &lists[around])
            };
            lists = (0..1 << (3 * bits)).map(part_of).collect();
        }

        let mut cells = Cells { starts: vec![0], candidates: Vec::new() };
        for list in lists {
            cells.candidates.extend(list.iter().map(|&index| (index, colours[usize::from(index)])));
            cells.starts.push(cells.candidates.len() as u32);
        }
        cells
    }

    pub(super) fn nearest(&self, pixel: [u8; 3]) -> u16 {
        let cell = pixel.iter().fold(0, |cell, &p| cell << CELL_BITS | usize::from(p >> CELL_SHIFT));
        let list = &self.candidates[self.starts[cell] as usize..self.starts[cell + 1] as usize];
        nearest(list.iter().copied(), pixel.map(scale))
    }
}

/// `p / 127.5 - 1`.
fn scale(p: u8) -> f64 {
    f64::from(p) / 127.5 - 1.0
}

/// The definition of encoding: the first of the nearest.
fn nearest(colours: impl Iterator<Item = (u16, [f64; 3])>, x: [f64; 3]) -> u16 {
    let mut best = (0, f64::INFINITY);
    for (index, c) in colours {
        let d = [x[0] - c[0], x[1] - c[1], x[2] - c[2]];
        let distance = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
        if distance < best.1 {
            best = (index, distance);
        }
    }
    best.0
}

/// Where a cell lies along each channel, of `bits` bits.
fn channels(cell: usize, bits: u32) -> [usize; 3] {
    [2, 1, 0].map(|channel| cell >> (bits * channel) & ((1 << bits) - 1))
}

/// Of the colours `among` those that could be nearest to a point of a cell: whose least distance to it is not above the least of all greatest
/// distances.
fn candidates(cell: [usize; 3], bits: u32, colours: &[[f64; 3]], among: &[u16]) -> Vec<u16> {
    // The corners of the cell, on the [-1, 1] scale.
    let first = cell.map(|at| (at << (8 - bits)) as u8);
    let (low, high) = (first.map(scale), first.map(|first| scale(first | (u8::MAX >> bits))));

    // Least squared distance of each colour to the cell; the least of the greatest bounds them all.
    let mut bound = f64::INFINITY;
    let distance = |&index: &u16| {
        let c = colours[usize::from(index)];
        let (mut least, mut greatest) = (0.0, 0.0);
        for channel in 0..3 {
            let (a, b) = (low[channel] - c[channel], c[channel] - high[channel]);
            let outside = a.max(b).max(0.0);
            let far = a.abs().max(b.abs());
            least += outside * outside;
            greatest += far * far;
        }
        bound = bound.min(greatest);
        least
    };
    let nearest: Vec<f64> = among.iter().map(distance).collect();

    // The margin is far above rounding (values are below 10), so that a tie is never lost to it.
    let within = |least: f64| least <= bound + 1e-9;
    among.iter().zip(&nearest).filter(|&(_, &least)| within(least)).map(|(&index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn brute(colours: &[[f32; 3]], pixel: [u8; 3]) -> u16 {
        nearest((0..).zip(colours.iter().map(|colour| colour.map(f64::from))), pixel.map(scale))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Few distinct values per channel, so that duplicate colours and exact ties are common.
        #[test]
        fn encoding_is_the_first_argmin(
            coarse in prop::collection::vec([0_u8..6, 0_u8..6, 0_u8..6], 1..80),
            fine in prop::collection::vec([-1.2_f32..1.2, -1.2_f32..1.2, -1.2_f32..1.2], 0..80),
            pixels in prop::collection::vec(any::<[u8; 3]>(), 200),
        ) {
            let coarse = coarse.iter().map(|colour| colour.map(|level| f32::from(level) * 0.4 - 1.0));
            let palette = Palette::new("test", coarse.chain(fine).collect()).unwrap();
            for pixel in pixels {
                prop_assert_eq!(palette.nearest(pixel), brute(palette.colours(), pixel));
            }
        }
    }

    #[test]
    fn built_in_palette_encodes_as_brute_force_and_decodes_to_itself() {
        let palette = Palette::built_in().unwrap();
        assert_eq!(palette.len(), 512);
        for n in 0..20_000_u32 {
            let pixel =
                [n.wrapping_mul(2_654_435_761) >> 24, n.wrapping_mul(40_503) >> 8 & 255, n & 255].map(|p| p as u8);
            assert_eq!(palette.nearest(pixel), brute(palette.colours(), pixel), "{pixel:?}");
        }
        for token in 0..512 {
            assert_eq!(palette.nearest(palette.decode_token(token).unwrap()), token);
        }
        assert_eq!(palette.decode_token(512), None);
    }

    #[test]
    fn the_largest_palette_encodes_as_brute_force() {
        let level = |n: usize| n as f32 / 15.0 * 2.0 - 1.0;
        let colours = (0..MAX_COLOURS).map(|n| [level(n >> 8), level(n >> 4 & 15), level(n & 15)]).collect();
        let palette = Palette::new("p", colours).unwrap();
        for n in 0..2_000_u32 {
            let pixel = [n.wrapping_mul(2_654_435_761) >> 24, n.wrapping_mul(40_503) >> 8 & 255, n & 255];
            let pixel = pixel.map(|p| p as u8);
            assert_eq!(palette.nearest(pixel), brute(palette.colours(), pixel), "{pixel:?}");
        }
        assert_eq!(palette.nearest([255; 3]), 4095);
        assert_eq!(palette.decode_token(4095), Some([255; 3]));
        assert_eq!((palette.decode_token(4096), palette.swatch(1).dimensions()), (None, (32, 128)));
    }

    #[test]
    fn decoding_rounds_half_to_even_and_clamps() {
        let palette = Palette::new("test", vec![[-1.2, 1.2, 0.0], [-1.0, 1.0, 1.0 / 255.0]]).unwrap();
        assert_eq!(palette.decode_token(0), Some([0, 255, 128]));
        assert_eq!(palette.decode_token(1), Some([0, 255, 128]));
        assert!(palette.decode(&[0, 1, 2], 3, 1).is_err());
        assert!(palette.decode(&[0, 1], 3, 1).is_err());
        assert_eq!(palette.decode(&[0, 1], 1, 2).unwrap().dimensions(), (1, 2));
    }

    #[test]
    fn bad_palettes_are_refused() {
        assert!(Palette::new("p", vec![]).is_err());
        let refused = Palette::new("p", vec![[0.0; 3]; MAX_COLOURS + 1]).unwrap_err().to_string();
        assert!(refused.contains("it has 4097 colours, and 1 to 4096 are possible"), "{refused}");
        assert!(refused.contains(&format!("1 <= k <= {MAX_COLOURS}")), "{refused}");
        assert!(Palette::new("p", vec![[0.0, f32::NAN, 0.0]]).unwrap_err().to_string().contains("colour 0"));
        assert!(Palette::new("p", vec![[0.0; 3], [0.0, 128.0, 0.0]]).unwrap_err().to_string().contains("colour 1"));
    }
}
