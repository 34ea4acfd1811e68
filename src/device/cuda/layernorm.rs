//! Normalisation over the last dimension (`layernorm.cu`).

use std::rc::Rc;

use super::CudaDevice;
use super::kernel::{Grid, Kernel, kernel};
use super::pointer::{NULL, Pointer};
use super::reduce_partials::sum_partials;
use super::tensor::{CudaTensor, Operand, int};
use crate::device::ops::layernorm::{
    LayerNormOps, NormDims, NormGradients, PartialSum, check, check_gradients, check_partials, check_residual,
};
use crate::device::{Error, LayerNormed, NORM_EPSILON, Norm, Precision, ResidualLayerNormed, Result};

type Forward = Kernel<(Pointer, Pointer, Pointer, Pointer, Pointer, Pointer, Pointer, i32, i32, f32, i32)>;
type Backward = Kernel<(Pointer, Pointer, Pointer, Pointer, Pointer, Pointer, Pointer, Pointer, i32, i32, i32)>;

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

/// As kernels take it.
pub(super) fn centre(norm: Norm) -> i32 {
    i32::from(norm == Norm::Layer)
}

pub(super) fn pointer_of(operand: Option<&Operand>) -> Pointer {
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

    fn layernorm_gradients(
        &self,
        norm: Norm,
        dy: &CudaTensor,
        x: &CudaTensor,
        gain: &CudaTensor,
        stats: &CudaTensor,
        d_stream: Option<Rc<CudaTensor>>,
        biased: bool,
    ) -> Result<NormGradients<CudaTensor>> {
        const OP: &str = "layernorm_backward";
        let NormDims { rows, width } = check_gradients(
            dy.dimensions(),
            x.dimensions(),
            gain.dimensions(),
            stats.dimensions(),
            d_stream.as_deref().map(CudaTensor::dimensions),
        )?;
        let variant = variant(self, width)?;

        // dx takes the place of the stream's gradient, where there is one and nobody else holds it.
        let (dx, stream, _shared) = match d_stream.map(Rc::try_unwrap) {
            Some(Ok(sole)) => {
                let dx = self.in_precision(sole)?;
                let stream = dx.pointer();
                (dx, stream, None)
            }
            Some(Err(shared)) => (self.tensor(x.shape)?, self.operand(&shared)?, Some(shared)),
            None => (self.tensor(x.shape)?, NULL, None),
        };

        // Each block's partial sums of the gradients of gain and bias.
        let (gain, stats) = (self.floats(gain)?, self.floats(stats)?);
        let blocks = rows.div_ceil(BLOCK_WARPS / variant.warps).min(MAX_BACKWARD_BLOCKS);
        let d_gain = self.floats_of(OP, &[blocks, width])?;
        let d_bias = biased.then(|| self.floats_of(OP, &[blocks, width])).transpose()?;
        let arguments = (
            self.operand(dy)?,
            self.operand(x)?,
            gain.pointer(),
            stats.pointer(),
            stream,
            dx.pointer(),
            d_gain.pointer(),
            d_bias.as_ref().map_or(NULL, CudaTensor::pointer),
            int(rows)?,
            int(width)?,
            centre(norm),
        );
        // SAFETY: as in `forward`; the partial sums have a row for each block.
        unsafe { self.driver.launch(&variant.backward, Grid::line(blocks, 32 * BLOCK_WARPS as u32), arguments)? };
        Ok(NormGradients { dx, d_gain, d_bias })
    }

    fn sum_partials(&self, sums: Vec<PartialSum<'_, CudaTensor>>) -> Result<()> {
        const OP: &str = "sum_partials";
        let mut checked = Vec::with_capacity(sums.len());
        for PartialSum { partials, total, beta } in sums {
            let shape = check_partials(partials.dimensions(), total.dimensions())?;
            checked.push((shape, beta, [partials.pointer(), total.floats_mut(OP, "total")?]));
        }

        // All of one shape at once.
        for alike in checked.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
            let ([blocks, width], beta, _) = alike[0];
            let sums: Vec<_> = alike.iter().map(|(_, _, sum)| *sum).collect();
            // SAFETY: `check_partials` has checked the shapes; totals are borrowed mutably, so they are different ones.
            unsafe { sum_partials(self, &sums, blocks, width, beta)? };
        }
        Ok(())
    }
}
