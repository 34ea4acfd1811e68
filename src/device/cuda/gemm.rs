//! The GEMMs of linear layers (`linear.cu`): their variants, and which of them a shape and a card take.

use super::CudaDevice;
pub(super) use super::epilogue::Outputs;
use super::kernel::{Grid, Kernel, kernel};
use super::limits::{MEDIUM, SMALLEST, blocks_of, shared_of};
use super::linear_sm90::{self, Sm90};
use super::pointer::Pointer;
pub(super) use super::splits::Sizes;
use super::splits::{TILE_K, tile};
use super::tensor::int;
use crate::device::{Precision, Result};

type Bf16 = Kernel<(Pointer, Pointer, i32, i32, i32, Pointer, Pointer, Pointer, Pointer, Pointer, i32, i32)>;
type F32 = Kernel<(Pointer, Pointer, i32, i32, i32, Pointer, Pointer, Pointer, Pointer, Pointer, i32, i32, i32)>;

/// One GEMM in its variants, and which of its dimensions lie along rows.
pub(super) struct Gemm {
    large: Bf16,
    /// The large tile for cards on which two blocks of `large` do not fit a multiprocessor.
    short: Bf16,
    small: Bf16,
    odd: Bf16,
    f32: F32,
    /// For few rows, if drawing needs it.
    few: Option<Bf16>,
    /// The large tiles on compute capability 9.0.
    sm90: Sm90,
    rows_of: RowsOf,
}

impl Gemm {
    /// Whether rows of a shape are multiples of 8 elements, 16 bytes, which all kernels but the odd one copy at a time.
    fn is_aligned(&self, sizes: Sizes) -> bool {
        let depth = match self.rows_of {
            RowsOf::KAndN => sizes.k,
            RowsOf::MAndN => sizes.m,
        };
        sizes.n.is_multiple_of(8) && depth.is_multiple_of(8)
    }

    /// The bf16 kernel for a shape, the side of its tile and its shared memory, on a card with `shared_limit` bytes of it.
    fn variant(&self, sizes: Sizes, splits: usize, shared_limit: usize) -> (&Bf16, usize, usize) {
        match (self.is_aligned(sizes), tile(sizes, splits)) {
            (true, 128) if takes_short(shared_limit) => (&self.short, 128, SHARED_128_SHORT),
            (true, 128) => (&self.large, 128, SHARED_128),
            (true, _) => (&self.small, 64, SHARED_64),
            (false, _) => (&self.odd, 64, SHARED_64),
        }
    }
}

/// The dimensions that rows of the operands and of the result run along.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RowsOf {
    /// a: k, b and c: n.
    KAndN,
    /// a: m, b and c: n.
    MAndN,
}

macro_rules! gemm {
    ($rows_of:ident, $large:ident, $short:ident, $small:ident, $odd:ident, $f32:ident, $sm90:ident, $few:expr) => {
        Gemm {
            large: kernel!($large),
            short: kernel!($short),
            small: kernel!($small),
            odd: kernel!($odd),
            f32: kernel!($f32),
            few: $few,
            sm90: linear_sm90::$sm90,
            rows_of: RowsOf::$rows_of,
        }
    };
}
/// `a` `[m, k] · b` `[k, n]`.
pub(super) const FORWARD: Gemm = gemm!(
    KAndN,
    LINEAR_FORWARD_BF16_128,
    LINEAR_FORWARD_BF16_128_SHORT,
    LINEAR_FORWARD_BF16_64,
    LINEAR_FORWARD_BF16_ODD,
    LINEAR_FORWARD_F32,
    FORWARD,
    Some(kernel!(LINEAR_FORWARD_BF16_FEW))
);
/// [`FORWARD`] and then the activation.
pub(super) const ACTIVATE: Gemm = gemm!(
    KAndN,
    LINEAR_ACTIVATE_BF16_128,
    LINEAR_ACTIVATE_BF16_128_SHORT,
    LINEAR_ACTIVATE_BF16_64,
    LINEAR_ACTIVATE_BF16_ODD,
    LINEAR_ACTIVATE_F32,
    ACTIVATE,
    Some(kernel!(LINEAR_ACTIVATE_BF16_FEW))
);
/// `a` `[m, k] · bᵀ`, b `[n, k]`.
pub(super) const TRANSPOSED: Gemm = gemm!(
    KAndN,
    LINEAR_TRANSPOSED_BF16_128,
    LINEAR_TRANSPOSED_BF16_128_SHORT,
    LINEAR_TRANSPOSED_BF16_64,
    LINEAR_TRANSPOSED_BF16_ODD,
    LINEAR_TRANSPOSED_F32,
    TRANSPOSED,
    Some(kernel!(LINEAR_TRANSPOSED_BF16_FEW))
);
/// [`TRANSPOSED`] times the activation's derivative.
pub(super) const ACTIVATE_BACKWARD: Gemm = gemm!(
    KAndN,
    LINEAR_ACTIVATE_BACKWARD_BF16_128,
    LINEAR_ACTIVATE_BACKWARD_BF16_128_SHORT,
    LINEAR_ACTIVATE_BACKWARD_BF16_64,
    LINEAR_ACTIVATE_BACKWARD_BF16_ODD,
    LINEAR_ACTIVATE_BACKWARD_F32,
    ACTIVATE_BACKWARD,
    None
);
/// `aᵀ · b`, a `[k, m]`, b `[k, n]`, into f32.
pub(super) const WEIGHT: Gemm = gemm!(
    MAndN,
    LINEAR_WEIGHT_BF16_128,
    LINEAR_WEIGHT_BF16_128_SHORT,
    LINEAR_WEIGHT_BF16_64,
    LINEAR_WEIGHT_BF16_ODD,
    LINEAR_WEIGHT_F32,
    WEIGHT,
    None
);

/// Dynamic shared memory of the bf16 kernels: `SHARED_BYTES` of `gemm/bf16.cuh`. A tile of 128 has 4 stages and then the whole
/// tile in f32, the short one 3 stages and then half the tile.
///
/// With more shared memory more stages would fit, 5 on an A100 and 7 on an H100 with two blocks; they would not help. Two blocks
/// of 4 have 96 KB under way, and an H100's multiprocessor gets about 24 bytes a clock from L2: what arrives was asked for 4,000
/// clocks before, several times the way to memory. Two blocks of the short one have 64 KB, at half of that speed or less.
pub(super) const SHARED_128: usize = 128 * (128 + 8) * 4;
pub(super) const SHARED_128_SHORT: usize = 3 * (128 + 128) * TILE_K * 2;
const SHARED_64: usize = 4 * (64 + 64) * TILE_K * 2;

/// The same of those for few rows: `SHARED_BYTES` of `gemm/few_rows.cuh`; and the rows up to which they are taken. Every 16 rows read
/// the weight once more, from L2; the small tile reads it once, by so few blocks that a card waits for them longer.
const SHARED_FEW: usize = 8 * 4 * (FEW + FEW) * TILE_K * 2;
const FEW: usize = 16;
const FEW_ROWS: usize = 64;

/// Whether a card has its large tiles from the short kernels; both give the same bits. Which tile it is hangs on the shape alone.
pub(super) fn takes_short(shared_limit: usize) -> bool {
    shared_limit < MEDIUM
}

/// That every tile fits its cards, the large ones twice on a multiprocessor.
const fn all_fit(gemms: &[Gemm]) -> bool {
    let mut index = 0;
    while index < gemms.len() {
        let Gemm { large, short, small, odd, f32, few, .. } = &gemms[index];
        let of_64 = [shared_of(small, SHARED_64), shared_of(odd, SHARED_64), shared_of(f32, 0)];
        if let Some(few) = few
            && shared_of(few, SHARED_FEW) > SMALLEST
        {
            return false;
        }
        let (large, short) = (shared_of(large, SHARED_128), shared_of(short, SHARED_128_SHORT));
        if blocks_of(MEDIUM, large) < 2
            || blocks_of(SMALLEST, short) < 2
            || of_64[0] > SMALLEST
            || of_64[1] > SMALLEST
            || of_64[2] > SMALLEST
        {
            return false;
        }
        index += 1;
    }
    true
}
const _: () = assert!(
    all_fit(&[FORWARD, ACTIVATE, TRANSPOSED, ACTIVATE_BACKWARD, WEIGHT]),
    "a tile of a linear layer needs more shared memory than its cards have"
);

/// Launches a GEMM, with k divided into `splits` parts (split-K).
///
/// # Safety
/// The operands must be of these sizes in the device's precision, and the outputs those that the GEMM writes.
pub(super) unsafe fn launch(
    device: &CudaDevice,
    gemm: &Gemm,
    [a, b]: [Pointer; 2],
    sizes: Sizes,
    outputs: Outputs,
    splits: usize,
) -> Result<()> {
    let Sizes { m, n, k } = sizes;
    let Outputs { out, bias, hidden, activated, total, activation, add } = outputs;
    let add = i32::from(add);
    let driver = &device.driver;
    // One block per tile of the output and split of k.
    let tiles = |tile: usize| [m.div_ceil(tile) * n.div_ceil(tile), 1, splits];
    let (rows, columns, depth) = (int(m)?, int(n)?, int(k)?);

    match device.precision {
        Precision::F32 => {
            let arguments = (
                a,
                b,
                rows,
                columns,
                depth,
                out,
                bias,
                hidden,
                activated,
                total,
                activation,
                add,
                i32::from(n.is_multiple_of(4)),
            );

            let grid = Grid { blocks: tiles(64), ..Grid::line(1, 128) };
            // SAFETY: as the caller says; this kernel takes all shapes.
            unsafe { driver.launch(&gemm.f32, grid, arguments) }
        }
        Precision::Bf16 => {
            // Large tiles on compute capability 9.0: the same sums by wgmma.
            if driver.is_hopper() && gemm.is_aligned(sizes) && tile(sizes, splits) == 128 {
                // SAFETY: as the caller says.
                return unsafe { linear_sm90::launch(driver, &gemm.sm90, [a, b], sizes, outputs, splits) };
            }
            let arguments = (a, b, rows, columns, depth, out, bias, hidden, activated, total, activation, add);
            if let Some(few) = gemm.few.as_ref().filter(|_| m <= FEW_ROWS && splits == 1 && gemm.is_aligned(sizes)) {
                let grid = Grid { blocks: [n.div_ceil(FEW), m.div_ceil(FEW), 1], ..Grid::line(1, 256) };
                // SAFETY: as the caller says; rows are multiples of 8 elements, and buffers start aligned.
                return unsafe { driver.launch(few, grid.with_shared(SHARED_FEW), arguments) };
            }
            let (kernel, tile, shared) = gemm.variant(sizes, splits, driver.shared_limit);
            let grid = Grid { blocks: tiles(tile), ..Grid::line(1, 128).with_shared(shared) };
            // SAFETY: as the caller says; rows of aligned variants are multiples of 8 elements, and buffers start
            // aligned.
            unsafe { driver.launch(kernel, grid, arguments) }
        }
    }
}
