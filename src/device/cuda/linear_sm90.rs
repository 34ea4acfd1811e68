//! Linear layers on compute capability 9.0 (`linear_sm90.cu`).

use super::CudaDevice;
use super::driver::Driver;
use super::epilogue::Outputs;
use super::gemm_group::{Gemms, WeightGemm};
use super::kernel::{Grid, Kernel, kernel};
use super::limits::{LARGE, shared_of};
use super::pointer::Pointer;
use super::splits::{CUT_TILE, Cut, Sizes};
use super::tensor::int;
use super::tensor_map::TensorMap;
use crate::device::{Beta, Result};

type Form =
    Kernel<(TensorMap, TensorMap, TensorMap, TensorMap, TensorMap, i32, i32, i32, i32, Pointer, Pointer, i32, i32)>;

/// One GEMM in its two forms, and how its operands lie.
pub(super) struct Sm90 {
    /// Two warpgroups on a tile of 128 x 256.
    cooperative: Form,
    /// A tile of 128 x 128 for each of two warpgroups, which multiply in turns.
    ping_pong: Option<Form>,
    /// Terms of a sum from which a tile takes long beside its epilogue, and the form is cooperative.
    long_k: usize,
    a: Major,
    b: Major,
}

/// The dimension that rows of an operand run along: k, or the other one, its span.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Major {
    K,
    Span,
}

/// Terms from which sums are long where a tile is only stored, and where it is activated and two are stored. By `igpt-engine profile` on an
/// H100 the forms are level at a width of 512 where tiles are stored (S's projection at 32 images: 33 µs in either), and where they are
/// activated between 1,024 (M's up-projection at 16 images: 266 µs cooperative, 257 in turns) and 1,536 (L's: 525 and 535).
pub(super) const STORED: usize = 512;
const ACTIVATED: usize = 1536;

macro_rules! sm90 {
    ($a:ident, $b:ident, $cooperative:ident, $ping_pong:expr, $long_k:expr) => {
        Sm90 { cooperative: kernel!($cooperative), ping_pong: $ping_pong, long_k: $long_k, a: Major::$a, b: Major::$b }
    };
}
pub(super) const FORWARD: Sm90 =
    sm90!(K, Span, LINEAR_FORWARD_SM90_COOPERATIVE, Some(kernel!(LINEAR_FORWARD_SM90_PING_PONG)), STORED);
pub(super) const ACTIVATE: Sm90 =
    sm90!(K, Span, LINEAR_ACTIVATE_SM90_COOPERATIVE, Some(kernel!(LINEAR_ACTIVATE_SM90_PING_PONG)), ACTIVATED);
pub(super) const TRANSPOSED: Sm90 =
    sm90!(K, K, LINEAR_TRANSPOSED_SM90_COOPERATIVE, Some(kernel!(LINEAR_TRANSPOSED_SM90_PING_PONG)), STORED);
pub(super) const ACTIVATE_BACKWARD: Sm90 = sm90!(
    K,
    K,
    LINEAR_ACTIVATE_BACKWARD_SM90_COOPERATIVE,
    Some(kernel!(LINEAR_ACTIVATE_BACKWARD_SM90_PING_PONG)),
    ACTIVATED
);
pub(super) const WEIGHT: Sm90 = sm90!(Span, Span, LINEAR_WEIGHT_SM90_COOPERATIVE, None, 0);

type Weights = Kernel<(Gemms<TensorMap>, i32, i32, i32, i32, Pointer, Pointer)>;
/// Several of [`WEIGHT`] at once.
const WEIGHTS: Weights = kernel!(LINEAR_WEIGHTS_SM90);

/// Blocks of a cluster: their tiles lie below one another, and each brings half of the right operand's tile to both.
pub(super) const CLUSTER: usize = 2;
/// Rows of a block's tile, and threads of a block.
pub(super) const TILE_M: usize = 128;
pub(super) const THREADS: u32 = 384;

/// Dynamic shared memory, `SHARED_BYTES` of `gemm/sm90.cuh`: stages of tiles of 64 k's, four slabs of 64 x 64 for the epilogues, 8
/// bytes a barrier, and room to begin at a multiple of 1024.
const fn shared(tile_n: usize, stages: usize) -> usize {
    stages * (TILE_M + tile_n) * 128 + 4 * 64 * 128 + (2 * stages + 2) * 8 + 1024
}
pub(super) const COOPERATIVE: usize = shared(256, 4);
const PING_PONG: usize = shared(128, 5);

const _: () = {
    let gemms = [FORWARD, ACTIVATE, TRANSPOSED, ACTIVATE_BACKWARD, WEIGHT];
    let mut index = 0;
    while index < gemms.len() {
        let Sm90 { cooperative, ping_pong, .. } = &gemms[index];
        assert!(shared_of(cooperative, COOPERATIVE) <= LARGE);
        if let Some(ping_pong) = ping_pong {
            assert!(shared_of(ping_pong, PING_PONG) <= LARGE);
        }
        index += 1;
    }
};

/// Launches a GEMM, with k divided into `splits` parts.
///
/// # Safety
/// The operands must be of these sizes in bf16 with rows of multiples of 16 bytes, and the outputs those that the GEMM writes.
pub(super) unsafe fn launch(
    driver: &Driver,
    gemm: &Sm90,
    [a, b]: [Pointer; 2],
    sizes: Sizes,
    outputs: Outputs,
    splits: usize,
) -> Result<()> {
    let Sizes { m, n, k } = sizes;
    // Both give the same bits. The wide tile reads less for each product, the two narrow ones hide their epilogues.
    let (form, tile_n, shared) = match &gemm.ping_pong {
        Some(form) if k < gemm.long_k => (form, 128, PING_PONG),
        _ => (&gemm.cooperative, 256, COOPERATIVE),
    };

    // A tile of an operand is copied whole where its rows run along k, and else in tiles of 64 of its span.
    let operand = |at, span: usize, tile: usize, major: Major| match major {
        Major::K => TensorMap::matrix(at, [span, k], tile as u32),
        Major::Span => TensorMap::matrix(at, [k, span], 64),
    };
    let result = |at: Pointer| if at.0 == 0 { Ok(TensorMap::NONE) } else { TensorMap::matrix(at, [m, n], 64) };
    let arguments = (
        operand(a, m, TILE_M, gemm.a)?,
        operand(b, n, tile_n / CLUSTER, gemm.b)?,
        result(outputs.out)?,
        result(outputs.hidden)?,
        result(outputs.activated)?,
        int(m)?,
        int(n)?,
        int(k)?,
        int(splits)?,
        outputs.bias,
        outputs.total,
        outputs.activation,
        i32::from(outputs.add),
    );

    // One block a multiprocessor; clusters share the tiles.
    let tiles = m.div_ceil(CLUSTER * TILE_M) * n.div_ceil(tile_n) * splits;
    let grid = Grid::line(blocks(tiles, driver), THREADS).with_shared(shared);
    // SAFETY: as the caller says; the maps describe these tensors, and nothing is copied outside of them.
    unsafe { driver.launch(form, grid, arguments) }
}

/// Blocks of a launch of so many tiles of a cluster.
pub(super) fn blocks(tiles: usize, driver: &Driver) -> usize {
    CLUSTER * tiles.min((driver.multiprocessors / CLUSTER).max(1))
}

/// Warps of a cluster that add up a tile, and the most tiles that are cut: fewer than an H100 has clusters.
const WARPS: usize = 16;
const MOST_CUT: usize = 65;
/// The most sums of warps that come in two parts, which meet at an integer each (`arrivals.rs`).
pub(super) const MOST_PARTS: usize = MOST_CUT * WARPS;

/// Launches the gradients of several weights, all of as many rows, with tiles that are cut as `cut` says.
///
/// # Safety
/// The operands must be of these sizes in bf16 with rows of multiples of 16 bytes, and the totals in f32.
pub(super) unsafe fn launch_weights(device: &CudaDevice, gemms: &[WeightGemm], cut: Cut, beta: Beta) -> Result<()> {
    let k = gemms.first().map_or(0, |gemm| gemm.sizes.k);
    let group = Gemms::of(gemms, TensorMap::NONE, |WeightGemm { operands: [a, b], sizes, .. }| {
        Ok([TensorMap::matrix(*a, [k, sizes.m], 64)?, TensorMap::matrix(*b, [k, sizes.n], 64)?])
    })?;
    let Cut { whole, parts, count } = cut;
    assert!(count <= MOST_CUT, "a last wave has fewer tiles than an H100 has clusters");
    let sums = device.scratch((2 * count * CUT_TILE * CUT_TILE).max(1))?;
    let (add, arrivals) = (i32::from(beta.adds()), device.arrivals()?);
    let arguments = (group, int(k)?, add, int(whole)?, int(parts)?, sums.pointer(), arrivals);

    // One block a multiprocessor; clusters share the tiles of all.
    let driver = &device.driver;
    let grid = Grid::line(blocks(whole + 2 * count, driver), THREADS).with_shared(COOPERATIVE);
    // SAFETY: as the caller says; the maps describe these tensors, and nothing is copied outside of them; there is room for the sums of all
    // tiles that are cut, and for the arrivals, which are zeros when it begins and when it ends.
    unsafe { driver.launch(&WEIGHTS, grid, arguments) }
}
