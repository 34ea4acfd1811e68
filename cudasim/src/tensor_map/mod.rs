//! Tensor maps (`CUtensorMap`): what a tensor in global memory looks like to the tensor copies of PTX.
//!
//! The hardware's 128 bytes are opaque; only the driver writes them and only copies and `tensormap.replace` read them. Here
//! they are, little-endian:
//!
//! ```text
//! bytes   0..8   "cudasTMA"
//!         8..16  address in global memory
//!        16..36  size of each dimension less one, 5 x u32, the innermost first
//!        36..68  strides of dimensions 1 to 4 in bytes, 4 x u64
//!        68..78  box of each dimension, 5 x u16 (im2col: channels per pixel, pixels per column)
//!        78..83  element stride of each dimension, 5 x u8
//!        83..95  im2col: lower corner, upper corner, 2 x 3 x i16, the innermost of the pixel's dimensions first
//!        95..102 rank, element type, interleave, swizzle, fill, L2 promotion, kind (0 tiled, 1 im2col): the numbers that
//!                the driver's enums have
//!       102..128 zero
//! ```

mod element;
mod replace;

pub use element::{Element, Interleave};
pub use replace::{Field, replace};

use crate::swizzle::Swizzle;

/// Bytes of a tensor map.
pub const BYTES: usize = 128;

const MAGIC: &[u8; 8] = b"cudasTMA";

/// Dimensions at most.
pub const MAX_RANK: usize = 5;

/// What one copy takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A box.
    Tiled {
        /// Its size in each dimension, in elements of the tensor (before element strides thin them out).
        extent: [u32; MAX_RANK],
    },
    /// A column of pixels for a convolution.
    Im2col {
        /// Corner of the bounding box of pixels, relative to the tensor's first, for the dimensions between channels and
        /// images, the innermost first.
        lower: [i32; 3],
        /// The opposite corner, relative to the tensor's last.
        upper: [i32; 3],
        /// Channels of each pixel that a copy takes.
        channels: u32,
        /// Pixels that a copy takes.
        pixels: u32,
    },
}

/// A tensor map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorMap {
    /// Type of the elements.
    pub element: Element,
    /// Number of dimensions, 1 to 5.
    pub rank: u32,
    /// Where the tensor starts in global memory.
    pub address: u64,
    /// Size of each dimension in elements, the innermost first; 1 behind the rank.
    pub dims: [u64; MAX_RANK],
    /// Bytes between elements of dimensions 1 to 4.
    pub strides: [u64; MAX_RANK - 1],
    /// What a copy takes.
    pub kind: Kind,
    /// Only each nth element of a dimension is taken.
    pub element_strides: [u32; MAX_RANK],
    /// How channels are grouped.
    pub interleave: Interleave,
    /// How the copy is laid out in shared memory.
    pub swizzle: Swizzle,
    /// What is outside the tensor reads as NaN, not as zero.
    pub nan_fill: bool,
    /// `CUtensorMapL2promotion`: without effect.
    pub l2_promotion: u8,
}

/// What the driver's functions are given, as numbers.
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a> {
    /// `CUtensorMapDataType`
    pub element: u32,
    /// Rank.
    pub rank: u32,
    /// Address in global memory.
    pub address: u64,
    /// Sizes in elements, `rank` of them, the innermost first.
    pub dims: &'a [u64],
    /// Strides in bytes, `rank - 1` of them.
    pub strides: &'a [u64],
    /// Element strides, `rank` of them.
    pub element_strides: &'a [u32],
    /// `CUtensorMapInterleave`
    pub interleave: u32,
    /// `CUtensorMapSwizzle`
    pub swizzle: u32,
    /// `CUtensorMapL2promotion`
    pub l2_promotion: u32,
    /// `CUtensorMapFloatOOBfill`
    pub fill: u32,
}

/// What `cuTensorMapEncodeIm2col` takes besides.
#[derive(Clone, Copy, Debug)]
pub struct Im2colArguments<'a> {
    /// `pixelBoxLowerCorner`, `rank - 2` of them.
    pub lower: &'a [i32],
    /// `pixelBoxUpperCorner`, `rank - 2` of them.
    pub upper: &'a [i32],
    /// `channelsPerPixel`
    pub channels: u32,
    /// `pixelsPerColumn`
    pub pixels: u32,
}

macro_rules! demand {
    ($condition:expr, $($message:tt)*) => { if !$condition { return Err(format!($($message)*)); } };
}

use demand;

impl TensorMap {
    /// As `cuTensorMapEncodeTiled`; `extent` is `boxDim`, `rank` numbers.
    ///
    /// # Errors
    /// The rule of the driver API that the arguments break, in words: `CUDA_ERROR_INVALID_VALUE`.
    pub fn tiled(arguments: &Arguments<'_>, extent: &[u32]) -> Result<Self, String> {
        demand!((1..=MAX_RANK as u32).contains(&arguments.rank), "rank {}; it is 1 to 5", arguments.rank);
        demand!(extent.len() == arguments.rank as usize, "{} sizes of a box of rank {}", extent.len(), arguments.rank);
        let mut whole = [1; MAX_RANK];
        whole[..extent.len()].copy_from_slice(extent);
        let map = Self::new(arguments, Kind::Tiled { extent: whole })?;
        map.check()?;
        Ok(map)
    }

    /// As `cuTensorMapEncodeIm2col`.
    ///
    /// # Errors
    /// As [`TensorMap::tiled`].
    pub fn im2col(arguments: &Arguments<'_>, im2col: &Im2colArguments<'_>) -> Result<Self, String> {
        demand!((3..=MAX_RANK as u32).contains(&arguments.rank), "rank {}; of im2col it is 3 to 5", arguments.rank);
        let pixel = arguments.rank as usize - 2;
        demand!(im2col.lower.len() == pixel && im2col.upper.len() == pixel, "corners of {pixel} numbers are wanted");
        let (mut lower, mut upper) = ([0; 3], [0; 3]);
        lower[..pixel].copy_from_slice(im2col.lower);
        upper[..pixel].copy_from_slice(im2col.upper);
        let Im2colArguments { channels, pixels, .. } = *im2col;
        let map = Self::new(arguments, Kind::Im2col { lower, upper, channels, pixels })?;
        map.check()?;
        Ok(map)
    }

    fn new(arguments: &Arguments<'_>, kind: Kind) -> Result<Self, String> {
        let Arguments { rank, address, dims, strides, element_strides, .. } = *arguments;
        let count = rank as usize;
        demand!(
            dims.len() == count && strides.len() + 1 == count && element_strides.len() == count,
            "rank {rank} with {} sizes, {} strides and {} element strides",
            dims.len(),
            strides.len(),
            element_strides.len()
        );

        let element = *Element::ALL
            .get(arguments.element as usize)
            .ok_or_else(|| format!("data type {}; compute capability 9.0 has 0 to 12", arguments.element))?;
        let mut map = Self {
            element,
            rank,
            address,
            dims: [1; MAX_RANK],
            strides: [0; MAX_RANK - 1],
            kind,
            element_strides: [1; MAX_RANK],
            interleave: interleave(arguments.interleave)?,
            swizzle: swizzle(arguments.swizzle)?,
            nan_fill: fill(arguments.fill)?,
            l2_promotion: u8::try_from(arguments.l2_promotion)
                .ok()
                .filter(|&kind| kind <= 3)
                .ok_or_else(|| format!("L2 promotion {}; it is 0 to 3", arguments.l2_promotion))?,
        };

        map.dims[..count].copy_from_slice(dims);
        map.strides[..count - 1].copy_from_slice(strides);
        map.element_strides[..count].copy_from_slice(element_strides);
        Ok(map)
    }

    /// The rules of the driver API for what the map says.
    ///
    /// # Errors
    /// The rule that it breaks, in words.
    pub fn check(&self) -> Result<(), String> {
        demand!((1..=MAX_RANK as u32).contains(&self.rank), "rank {}; it is 1 to 5", self.rank);
        demand!(!self.is_interleaved() || self.rank >= 3, "rank {}; with an interleave it is 3 to 5", self.rank);

        self.check_memory()?;
        let channels = match self.kind {
            Kind::Tiled { extent } => self.check_box(&extent)?,
            Kind::Im2col { lower, upper, channels, pixels } => self.check_pixels(&lower, &upper, channels, pixels)?,
        };
        self.check_rows(u64::from(channels) * self.element.bytes())?;

        demand!(!self.nan_fill || self.element.is_float(), "NaN as the fill of a type that has none");
        Ok(())
    }

    fn is_interleaved(&self) -> bool {
        self.interleave != Interleave::None
    }

    /// Where the tensor lies: address, sizes and strides.
    fn check_memory(&self) -> Result<(), String> {
        let rank = self.rank as usize;
        let unit = if self.interleave == Interleave::B32 { 32 } else { 16 };
        demand!(self.address.is_multiple_of(unit), "the address {:#x} is not a multiple of {unit}", self.address);

        for (axis, &size) in self.dims[..rank].iter().enumerate() {
            demand!((1..=1 << 32).contains(&size), "dimension {axis} has {size} elements; it can have 1 to 2^32");
        }
        for (axis, &stride) in (1..).zip(&self.strides[..rank - 1]) {
            demand!(
                stride.is_multiple_of(unit),
                "the stride {stride} of dimension {axis} is not a multiple of {unit} bytes"
            );
            demand!(stride < 1 << 40, "the stride {stride} of dimension {axis} is not below 2^40 bytes");
        }
        for (axis, &stride) in self.element_strides[..rank].iter().enumerate() {
            // Without an interleave the first is ignored, but it must be a stride all the same.
            demand!((1..=8).contains(&stride), "the element stride {stride} of dimension {axis}; it is 1 to 8");
        }
        Ok(())
    }

    /// The box of a tiled copy; gives its elements in the innermost dimension.
    fn check_box(&self, extent: &[u32; MAX_RANK]) -> Result<u32, String> {
        for (axis, &size) in extent[..self.rank as usize].iter().enumerate() {
            demand!((1..=256).contains(&size), "the box has {size} elements in dimension {axis}; 1 to 256 fit");
        }
        Ok(extent[0])
    }

    /// Corners, channels and pixels of an im2col copy; gives the channels.
    fn check_pixels(&self, lower: &[i32; 3], upper: &[i32; 3], channels: u32, pixels: u32) -> Result<u32, String> {
        let rank = self.rank;
        let bound = match rank {
            3 => 1 << 15,
            4 => 1 << 7,
            _ => 1 << 4,
        };
        for corner in lower.iter().chain(upper) {
            demand!(
                (-bound..bound).contains(corner),
                "a corner of {corner}; at rank {rank} it is -{bound} to {}",
                bound - 1
            );
        }

        demand!((1..=256).contains(&channels), "{channels} channels of a pixel; 1 to 256 fit");
        demand!((1..=1024).contains(&pixels), "{pixels} pixels of a column; 1 to 1024 fit");
        Ok(channels)
    }

    /// What a copy takes of the innermost dimension, in bytes, beside interleave and swizzle.
    fn check_rows(&self, inner: u64) -> Result<(), String> {
        if self.is_interleaved() {
            let right = self.interleave != Interleave::B32 || self.swizzle == Swizzle::B32;
            demand!(right, "an interleave of 32 bytes needs a swizzle of 32 bytes");
            return Ok(());
        }

        demand!(
            inner.is_multiple_of(16),
            "the innermost dimension of the box has {inner} bytes, which is not a multiple of 16"
        );
        let span = self.swizzle.span();
        demand!(inner <= span, "the innermost dimension of the box has {inner} bytes, more than the swizzle's {span}");
        Ok(())
    }

    /// The 128 bytes.
    pub fn encode(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.address.to_le_bytes());

        let put16 = |bytes: &mut [u8; BYTES], at: usize, value: u32| {
            bytes[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes());
        };
        for axis in 0..MAX_RANK {
            let size = self.dims[axis].wrapping_sub(1) as u32;
            bytes[16 + 4 * axis..][..4].copy_from_slice(&size.to_le_bytes());
            bytes[78 + axis] = self.element_strides[axis] as u8;
        }
        for (axis, stride) in self.strides.iter().enumerate() {
            bytes[36 + 8 * axis..][..8].copy_from_slice(&stride.to_le_bytes());
        }

        match self.kind {
            Kind::Tiled { extent } => {
                (0..MAX_RANK).for_each(|axis| put16(&mut bytes, 68 + 2 * axis, extent[axis]));
            }
            Kind::Im2col { lower, upper, channels, pixels } => {
                put16(&mut bytes, 68, channels);
                put16(&mut bytes, 70, pixels);
                for axis in 0..3 {
                    put16(&mut bytes, 83 + 2 * axis, lower[axis] as u32);
                    put16(&mut bytes, 89 + 2 * axis, upper[axis] as u32);
                }
                bytes[101] = 1;
            }
        }

        bytes[95] = self.rank as u8;
        bytes[96] = self.element as u8;
        bytes[97] = self.interleave as u8;
        bytes[98] = self.swizzle as u8;
        bytes[99] = self.nan_fill.into();
        bytes[100] = self.l2_promotion;
        bytes
    }

    /// The map in 128 bytes.
    ///
    /// # Errors
    /// In words: the driver did not make them, or `tensormap.replace` has left something that cannot be.
    pub fn decode(bytes: &[u8; BYTES]) -> Result<Self, String> {
        demand!(bytes.starts_with(MAGIC), "these 128 bytes are not a tensor map");
        let read = |at: usize, count: usize| {
            bytes[at..at + count].iter().rev().fold(0_u64, |value, &byte| value << 8 | u64::from(byte))
        };
        let signed = |at: usize| i32::from(read(at, 2) as u16 as i16);
        // A map that a kernel has made of zeros says nothing of dimensions that there are not.
        let one_behind = |axis: usize, value: u64| if axis < usize::from(bytes[95]) { value as u32 } else { 1 };

        let kind = match bytes[101] {
            0 => Kind::Tiled { extent: std::array::from_fn(|axis| one_behind(axis, read(68 + 2 * axis, 2))) },
            _ => Kind::Im2col {
                lower: std::array::from_fn(|axis| signed(83 + 2 * axis)),
                upper: std::array::from_fn(|axis| signed(89 + 2 * axis)),
                channels: read(68, 2) as u32,
                pixels: read(70, 2) as u32,
            },
        };

        let element = *Element::ALL.get(usize::from(bytes[96])).ok_or("an unknown type of elements")?;
        let map = Self {
            element,
            rank: bytes[95].into(),
            address: read(8, 8),
            dims: std::array::from_fn(|axis| read(16 + 4 * axis, 4) + 1),
            strides: std::array::from_fn(|axis| read(36 + 8 * axis, 8)),
            kind,
            element_strides: std::array::from_fn(|axis| one_behind(axis, bytes[78 + axis].into())),
            interleave: interleave(bytes[97].into())?,
            swizzle: swizzle(bytes[98].into())?,
            nan_fill: fill(bytes[99].into())?,
            l2_promotion: bytes[100],
        };
        map.check()?;
        Ok(map)
    }
}

fn interleave(number: u32) -> Result<Interleave, String> {
    let all = [Interleave::None, Interleave::B16, Interleave::B32];
    all.get(number as usize).copied().ok_or_else(|| format!("interleave {number}; it is 0 to 2"))
}

fn swizzle(number: u32) -> Result<Swizzle, String> {
    let all = [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128];
    // The swizzles of larger atoms came with compute capability 10.0.
    all.get(number as usize).copied().ok_or_else(|| format!("swizzle {number}; compute capability 9.0 has 0 to 3"))
}

fn fill(number: u32) -> Result<bool, String> {
    match number {
        0 | 1 => Ok(number == 1),
        _ => Err(format!("fill {number}; it is 0 or 1")),
    }
}

#[cfg(test)]
mod tests;
