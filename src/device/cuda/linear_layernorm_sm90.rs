//! A linear layer and the norm of the residual sum behind it, in one launch on compute capability 9.0 (`linear_layernorm_sm90.cu`).

use super::CudaDevice;
use super::kernel::{Argument, Grid, Kernel, Kind, kernel};
use super::layernorm::{centre, pointer_of};
use super::limits::{LARGE, shared_of};
use super::linear_sm90::{CLUSTER, COOPERATIVE, STORED, THREADS, TILE_M, blocks};
use super::pointer::Pointer;
use super::splits::{Sizes, tile};
use super::tensor::{CudaTensor, int};
use super::tensor_map::TensorMap;
use crate::device::ops::residual::ResidualNorm;
use crate::device::{NORM_EPSILON, Precision, ResidualLayerNormed, Result};

type Fused = Kernel<(TensorMap, TensorMap, TensorMap, i32, i32, i32, Pointer, NormArguments)>;
const LINEAR_LAYERNORM: Fused = kernel!(LINEAR_LAYERNORM_SM90);

const _: () = assert!(shared_of(&LINEAR_LAYERNORM, COOPERATIVE) <= LARGE);

/// `NormArguments` of `gemm/norm_sm90.cuh`.
#[repr(C)]
#[derive(Clone, Copy)]
struct NormArguments {
    x: Pointer,
    delta: Pointer,
    gain: Pointer,
    bias: Pointer,
    sum: Pointer,
    normed: Pointer,
    stats: Pointer,
    arrivals: Pointer,
    needed: u32,
    epsilon: f32,
    centre: i32,
}
impl Argument for NormArguments {
    const KIND: Kind = Kind::structure::<Self>();
}

/// Columns of a tile; the widest row that normalisers hold; and the most panels of [`TILE_M`] rows, which have an arrival each.
const TILE_N: usize = 256;
const WIDEST: usize = 1536;
pub(super) const MOST_PANELS: usize = 8192;
/// Consumers of a block, each of which arrives at its tile's panel.
const CONSUMERS: u32 = 2;

/// Whether a linear layer of these sizes and its norm are one launch: where the layer has large tiles in the cooperative form.
pub(super) fn suits(device: &CudaDevice, sizes: Sizes) -> bool {
    let Sizes { m, n, k } = sizes;
    let computes = device.driver.is_hopper() && device.precision == Precision::Bf16;
    let aligned = n.is_multiple_of(8) && k.is_multiple_of(8);
    computes && aligned && tile(sizes, 1) == 128 && k >= STORED && n <= WIDEST && panels(m) <= MOST_PANELS
}

/// Blocks of a cluster have one each.
fn panels(m: usize) -> usize {
    m.div_ceil(CLUSTER * TILE_M) * CLUSTER
}

/// Launches it: the norm of `to.x + (a · b + bias)`.
///
/// # Safety
/// `a` must be `[m, k]`, `b` `[k, n]` in bf16, `bias` `[n]` in f32 or null, `to.x` `[m, n]`, its gain and bias `[n]`; the sizes must
/// [suit](suits).
pub(super) unsafe fn launch(
    device: &CudaDevice,
    [a, b]: [Pointer; 2],
    sizes: Sizes,
    bias: Pointer,
    to: ResidualNorm<'_, CudaTensor>,
) -> Result<ResidualLayerNormed<CudaTensor>> {
    const OP: &str = "linear_residual_layernorm";
    let Sizes { m, n, k } = sizes;
    let ResidualNorm { norm, x, gain, bias: norm_bias } = to;
    let (delta, sum, normed) = (device.tensor(x.shape)?, device.tensor(x.shape)?, device.tensor(x.shape)?);
    let stats = device.floats_of(OP, &[m, 2])?;
    let (gain, norm_bias) = (device.floats(gain)?, device.maybe_floats(norm_bias)?);

    // A trace is counted by a sample of its blocks: nobody waits for the others.
    let columns = int(n.div_ceil(TILE_N))? as u32;
    let needed = if device.driver.tracer.is_some() { 0 } else { CONSUMERS * columns };
    let arguments = (
        TensorMap::matrix(a, [m, k], TILE_M as u32)?,
        TensorMap::matrix(b, [k, n], 64)?,
        TensorMap::matrix(delta.pointer(), [m, n], 64)?,
        int(m)?,
        int(n)?,
        int(k)?,
        bias,
        NormArguments {
            x: device.operand(x)?,
            delta: delta.pointer(),
            gain: gain.pointer(),
            bias: pointer_of(norm_bias.as_ref()),
            sum: sum.pointer(),
            normed: normed.pointer(),
            stats: stats.pointer(),
            arrivals: device.arrivals()?,
            needed,
            epsilon: NORM_EPSILON,
            centre: centre(norm),
        },
    );

    // One block a multiprocessor, all at once: they wait for one another.
    let grid = Grid::line(blocks(panels(m) / CLUSTER * columns as usize, &device.driver), THREADS);
    let grid = grid.with_shared(COOPERATIVE).cooperative();
    // SAFETY: as the caller says; the maps describe these tensors, and nothing is copied outside of them; there is an arrival for each
    // panel, which are zeros when it begins and when it ends.
    unsafe { device.driver.launch(&LINEAR_LAYERNORM, grid, arguments)? };
    Ok(ResidualLayerNormed { sum, normed, stats })
}
