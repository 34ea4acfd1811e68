//! Normalisation over the last dimension (`layernorm.cu`).

use super::CudaDevice;
use super::kernel::{Grid, Kernel, kernel};
use super::memory::Buffer;
use super::pointer::{NULL, Pointer};
use super::reduce_partials::sum_partials;
use super::tensor::{CudaTensor, Operand, int};
use crate::device::ops::layernorm::{LayerNormOps, NormDims, check, check_backward, check_residual};
use crate::device::{Error, LayerNormed, NORM_EPSILON, Norm, Precision, ResidualLayerNormed, Result};

type Forward = Kernel<(Pointer, Pointer, Pointer, Pointer, Pointer, Pointer, Pointer, i32, i32, f32, i32)>;
type Backward = Kernel<(Pointer, Pointer, Pointer, Pointer, Pointer, Pointer, Pointer, i32, i32, i32, i32)>;

/// A kernel and its backward, and how many warps hold a row.
struct Variant {
    warps: usize,
    forward: Forward,
    backward: Backward,
}

macro_rules! variant {
    ($warps:literal, $forward:ident, $backward:ident) => {
        Variant { warps: $warps, forward: kernel!($forward), backward: kernel!($backward) }
    };
}
const F32: [Variant; 4] = [
    variant!(1, LAYERNORM_F32_1, LAYERNORM_BACKWARD_F32_1),
    variant!(2, LAYERNORM_F32_2, LAYERNORM_BACKWARD_F32_2),
    variant!(4, LAYERNORM_F32_4, LAYERNORM_BACKWARD_F32_4),
    variant!(8, LAYERNORM_F32_8, LAYERNORM_BACKWARD_F32_8),
];
const F32_ODD: [Variant; 2] = [
    variant!(1, LAYERNORM_F32_1_ODD, LAYERNORM_BACKWARD_F32_1_ODD),
    variant!(8, LAYERNORM_F32_8_ODD, LAYERNORM_BACKWARD_F32_8_ODD),
];
const BF16: [Variant; 4] = [
    variant!(1, LAYERNORM_BF16_1, LAYERNORM_BACKWARD_BF16_1),
    variant!(2, LAYERNORM_BF16_2, LAYERNORM_BACKWARD_BF16_2),
    variant!(4, LAYERNORM_BF16_4, LAYERNORM_BACKWARD_BF16_4),
    variant!(8, LAYERNORM_BF16_8, LAYERNORM_BACKWARD_BF16_8),
];
const BF16_ODD: [Variant; 2] = [
    variant!(1, LAYERNORM_BF16_1_ODD, LAYERNORM_BACKWARD_BF16_1_ODD),
    variant!(8, LAYERNORM_BF16_8_ODD, LAYERNORM_BACKWARD_BF16_8_ODD),
];

/// Columns that a warp holds.
const WARP_COLUMNS: usize = 512;
/// Warps of a block.
const BLOCK_WARPS: usize = 8;
/// Largest number of blocks of a backward, and so of partial sums of its gains: about two per multiprocessor.
const MAX_BACKWARD_BLOCKS: usize = 256;

fn variant(device: &CudaDevice, width: usize) -> Result<&'static Variant> {
    let variants: &[Variant] = match (device.precision, width.is_multiple_of(8)) {
        (Precision::F32, true) => &F32,
        (Precision::F32, false) => &F32_ODD,
        (Precision::Bf16, true) => &BF16,
        (Precision::Bf16, false) => &BF16_ODD,
    };
    variants.iter().find(|variant| width <= variant.warps * WARP_COLUMNS).ok_or_else(|| {
        let max_width = BLOCK_WARPS * WARP_COLUMNS;
        Error::unavailable(
            format!("layernorm: a width of {width} is more than the {max_width} of the CUDA kernels"),
            "use a narrower model, or --device cpu",
        )
    })
}

fn centre(norm: Norm) -> i32 {
    i32::from(norm == Norm::Layer)
}

fn pointer_of(operand: Option<&Operand>) -> Pointer {
    operand.map_or(NULL, Operand::pointer)
}

/// Launches the forward of `x + delta`; returns the normalised rows and their statistics.
#[allow(clippy::too_many_arguments)]
fn forward(
    device: &CudaDevice,
    op: &'static str,
    dims: NormDims,
    norm: Norm,
    x: &CudaTensor,
    delta: Option<Pointer>,
    gain: &CudaTensor,
    bias: Option<&CudaTensor>,
    sum: Pointer,
) -> Result<LayerNormed<CudaTensor>> {
    let NormDims { rows, width } = dims;
    let variant = variant(device, width)?;
    let (normed, stats) = (device.tensor(x.shape)?, device.floats_of(op, &[rows, 2])?);

    let (gain, bias) = (device.floats(gain)?, device.maybe_floats(bias)?);
    let arguments = (
        device.operand(x)?,
        delta.unwrap_or(NULL),
        gain.pointer(),
        pointer_of(bias.as_ref()),
        sum,
        normed.pointer(),
        stats.pointer(),
        int(rows)?,
        int(width)?,
        NORM_EPSILON,
        centre(norm),
    );

    // `variant.warps` warps hold a row, so a block takes several rows of a narrow model.
    let grid = Grid::line(rows.div_ceil(BLOCK_WARPS / variant.warps), 32 * BLOCK_WARPS as u32);
    // SAFETY: the caller has checked the shapes; the variant fits the width, whose divisibility by 8 aligns all rows.
    unsafe { device.driver.launch(&variant.forward, grid, arguments)? };
    Ok(LayerNormed { normed, stats })
}

impl LayerNormOps for CudaDevice {
    fn layernorm(
        &self,
        norm: Norm,
        x: &CudaTensor,
        gain: &CudaTensor,
        bias: Option<&CudaTensor>,
    ) -> Result<LayerNormed<CudaTensor>> {
        let dims = check(x.dimensions(), gain.dimensions(), bias.map(CudaTensor::dimensions))?;
        forward(self, "layernorm", dims, norm, x, None, gain, bias, NULL)
    }

    fn residual_layernorm(
        &self,
        norm: Norm,
        x: &CudaTensor,
        delta: &CudaTensor,
        gain: &CudaTensor,
        bias: Option<&CudaTensor>,
    ) -> Result<ResidualLayerNormed<CudaTensor>> {
        const OP: &str = "residual_layernorm";
        let (x_shape, bias_shape) = (x.dimensions(), bias.map(CudaTensor::dimensions));
        let dims = check_residual(x_shape, delta.dimensions(), gain.dimensions(), bias_shape)?;
        let sum = self.tensor(x.shape)?;
        let delta = self.operand(delta)?;
        let LayerNormed { normed, stats } = forward(self, OP, dims, norm, x, Some(delta), gain, bias, sum.pointer())?;
        Ok(ResidualLayerNormed { sum, normed, stats })
    }

    fn layernorm_backward(
        &self,
        norm: Norm,
        dy: &CudaTensor,
        x: &CudaTensor,
        gain: &CudaTensor,
        stats: &CudaTensor,
        d_stream: Option<CudaTensor>,
        d_gain: &mut CudaTensor,
        d_bias: Option<&mut CudaTensor>,
    ) -> Result<CudaTensor> {
        const OP: &str = "layernorm_backward";
        let NormDims { rows, width } = check_backward(
            dy.dimensions(),
            x.dimensions(),
            gain.dimensions(),
            stats.dimensions(),
            d_stream.as_ref().map(CudaTensor::dimensions),
            d_gain.dimensions(),
            d_bias.as_deref().map(CudaTensor::dimensions),
        )?;
        let variant = variant(self, width)?;

        // dx takes the place of the stream's gradient, where there is one.
        let d_gain = d_gain.floats_mut(OP, "d_gain")?;
        let d_bias = d_bias.map(|d_bias| d_bias.floats_mut(OP, "d_bias")).transpose()?;
        let add = i32::from(d_stream.is_some());
        let dx = match d_stream {
            Some(stream) => self.in_precision(stream)?,
            None => self.tensor(x.shape)?,
        };

        // Each block's partial sums of the gradients of gain and bias: [blocks, width] each.
        let (gain, stats) = (self.floats(gain)?, self.floats(stats)?);
        let blocks = rows.div_ceil(BLOCK_WARPS / variant.warps).min(MAX_BACKWARD_BLOCKS);
        let gains = self.scratch(blocks * width)?;
        let biases = d_bias.map(|_| self.scratch(blocks * width)).transpose()?;
        let arguments = (
            self.operand(dy)?,
            self.operand(x)?,
            gain.pointer(),
            stats.pointer(),
            dx.pointer(),
            gains.pointer(),
            biases.as_ref().map_or(NULL, Buffer::pointer),
            int(rows)?,
            int(width)?,
            centre(norm),
            add,
        );
        // SAFETY: as in `forward`; the partial sums have a row for each block.
        unsafe {
            self.driver.launch(&variant.backward, Grid::line(blocks, 32 * BLOCK_WARPS as u32), arguments)?;
            sum_partials(self, gains.pointer(), blocks, width, d_gain)?;
            if let (Some(biases), Some(d_bias)) = (&biases, d_bias) {
                sum_partials(self, biases.pointer(), blocks, width, d_bias)?;
            }
        }
        Ok(dx)
    }
}
