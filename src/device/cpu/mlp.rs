//! The MLP of a block: `act(x · up + up_bias) · down + down_bias`.
//!
//! Forward keeps the hidden values before the activation; backward applies the same function again and gets the same
//! bits.

use multiversion::{multiversion, target::target_cfg_f};

use super::CpuDevice;
use super::few_rows::{Weight, is_one_position};
use super::gemm::matrix;
use super::linear::add_bias;
use super::math::{exp, mul_add, normal_cdf, sigmoid};
use super::parallel::Scattered;
use super::tensor::CpuTensor;
use crate::device::ops::linear::LinearDims;
use crate::device::ops::mlp::{
    Activation, HiddenGradients, MlpDims, MlpOps, MlpOutput, MlpShapes, MlpWeights, check, check_hidden_backward,
};
use crate::device::{Result, WeightLayout};

/// Slope of quick-GELU's sigmoid.
const QUICK: f32 = 1.702;

impl MlpOps for CpuDevice {
    fn mlp(
        &self,
        x: &CpuTensor,
        weights: MlpWeights<'_, CpuTensor>,
        activation: Activation,
    ) -> Result<MlpOutput<CpuTensor>> {
        let MlpDims { rows, width, hidden: hidden_width } = check(x.dimensions(), weight_shapes(&weights))?;
        let _timed = self.time(
            "mlp",
            4.0 * (rows * width * hidden_width) as f64,
            2 * rows * (width + 2 * hidden_width) + self.floats_of_weights(x.dimensions(), 2 * width * hidden_width),
        );
        let (mut hidden, mut output) = (self.tensor(x.shape.with_last(hidden_width)), self.tensor(x.shape));

        if is_one_position(x.dimensions()) {
            let mut activated = self.scratch(hidden.values.len());
            let up = Weight { tensor: weights.up, layout: WeightLayout::InOut, inputs: width, outputs: hidden_width };
            let dims = LinearDims { rows, inputs: width, outputs: hidden_width };
            let bias = weights.up_bias.map(CpuTensor::values);
            self.activated_linear_of_few_rows(dims, x, up, bias, activation, [&mut hidden.values, &mut activated]);

            let down = Weight { tensor: weights.down, inputs: hidden_width, outputs: width, ..up };
            let dims = LinearDims { rows, inputs: hidden_width, outputs: width };
            let bias = weights.down_bias.map(CpuTensor::values);
            self.linear_of_few_rows(dims, &activated, down, bias, &mut output.values);
            return Ok(MlpOutput { output, hidden });
        }

        // hidden = x · up + up_bias and activated = act(hidden), [rows, hidden], a piece at a time.
        let up = matrix(weights.up.values(), width, hidden_width);
        let mut activated = self.scratch(rows * hidden_width);
        let (pieces, up_bias) = (Scattered::new(&mut activated), weights.up_bias.map(CpuTensor::values));
        self.matmul_then(&mut hidden.values, false, matrix(x.values(), rows, width), up, |row, first, hidden| {
            if let Some(bias) = up_bias {
                hidden.iter_mut().zip(&bias[first..]).for_each(|(hidden, bias)| *hidden += bias);
            }
            // SAFETY: each element of the product is finished once.
            let activated = unsafe { pieces.part(row * hidden_width + first, hidden.len()) };
            activate(activation, hidden, activated);
        });

        // output = activated · down + down_bias
        let down = matrix(weights.down.values(), hidden_width, width);
        self.matmul(&mut output.values, false, matrix(&activated, rows, hidden_width), down);
        if let Some(bias) = weights.down_bias {
            add_bias(self, &mut output.values, bias.values());
        }
        Ok(MlpOutput { output, hidden })
    }

    fn mlp_hidden_backward(
        &self,
        dy: &CpuTensor,
        hidden: &CpuTensor,
        down: &CpuTensor,
        activation: Activation,
    ) -> Result<HiddenGradients<CpuTensor>> {
        let MlpDims { rows, width, hidden: hidden_width } =
            check_hidden_backward(dy.dimensions(), hidden.dimensions(), down.dimensions())?;
        let _timed = self.time(
            "mlp_hidden_backward",
            2.0 * (rows * width * hidden_width) as f64,
            rows * (width + 3 * hidden_width) + width * hidden_width,
        );
        let (mut d_hidden, mut activated) = (self.tensor(hidden.shape), self.tensor(hidden.shape));

        // dy · downᵀ becomes the gradient before the activation, a piece at a time, and the activation is made once more: both
        // [rows, hidden].
        let (dy, down) = (matrix(dy.values(), rows, width), matrix(down.values(), hidden_width, width));
        let (pieces, hidden) = (Scattered::new(&mut activated.values), hidden.values());
        self.matmul_then(&mut d_hidden.values, false, dy, down.transpose(), |row, first, d_hidden| {
            let start = row * hidden_width + first;
            let hidden = &hidden[start..][..d_hidden.len()];
            // SAFETY: each element of the product is finished once.
            let activated = unsafe { pieces.part(start, hidden.len()) };
            match activation {
                Activation::QuickGelu => quick_gelu_backward(hidden, activated, d_hidden),
                Activation::Gelu => gelu_backward(hidden, activated, d_hidden),
            }
        });
        Ok(HiddenGradients { d_hidden, activated })
    }
}

impl CpuDevice {
    /// Sets the first output to `x · weight (+ bias)` of a few rows, and the second to the activation of that.
    fn activated_linear_of_few_rows(
        &self,
        dims: LinearDims,
        x: &CpuTensor,
        weight: Weight<'_>,
        bias: Option<&[f32]>,
        activation: Activation,
        outputs: [&mut [f32]; 2],
    ) {
        let [hidden, activated] = outputs.map(Scattered::new);
        self.multiply_few_rows(dims, x.values(), weight, |row, column, product| {
            if let Some(bias) = bias {
                product.iter_mut().zip(&bias[column..]).for_each(|(y, bias)| *y += bias);
            }
            let first = row * dims.outputs + column;
            // SAFETY: these columns of this row are this task's alone.
            let (hidden, activated) =
                unsafe { (hidden.part(first, product.len()), activated.part(first, product.len())) };
            hidden.copy_from_slice(product);
            activate(activation, product, activated);
        });
    }
}

fn activate(activation: Activation, x: &[f32], y: &mut [f32]) {
    match activation {
        Activation::QuickGelu => quick_gelu(x, y),
        Activation::Gelu => gelu(x, y),
    }
}

fn weight_shapes<'a>(weights: &MlpWeights<'a, CpuTensor>) -> MlpShapes<'a> {
    MlpShapes {
        up: weights.up.dimensions(),
        up_bias: weights.up_bias.map(CpuTensor::dimensions),
        down: weights.down.dimensions(),
        down_bias: weights.down_bias.map(CpuTensor::dimensions),
    }
}

/// `y = x · σ(1.702 x)`.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma"))]
fn quick_gelu(x: &[f32], y: &mut [f32]) {
    const FMA: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * sigmoid::<FMA>(QUICK * x));
}

/// Sets `y` to [`quick_gelu`] of `x`, and multiplies `dy` by its derivative `σ + 1.702 x σ (1 − σ)`.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma"))]
fn quick_gelu_backward(x: &[f32], y: &mut [f32], dy: &mut [f32]) {
    const FMA: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    for ((y, dy), &x) in y.iter_mut().zip(dy).zip(x) {
        let s = sigmoid::<FMA>(QUICK * x);
        *y = x * s;
        *dy *= mul_add::<FMA>(QUICK * *y, 1.0 - s, s);
    }
}

/// `y = x · Φ(x)`.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma"))]
fn gelu(x: &[f32], y: &mut [f32]) {
    const FMA: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * normal_cdf::<FMA>(x));
}

/// Sets `y` to [`gelu`] of `x`, and multiplies `dy` by its derivative `Φ + x φ`.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma"))]
fn gelu_backward(x: &[f32], y: &mut [f32], dy: &mut [f32]) {
    const FMA: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    /// 1 / √(2π).
    const DENSITY: f32 = 0.398_942_3;
    for ((y, dy), &x) in y.iter_mut().zip(dy).zip(x) {
        let cdf = normal_cdf::<FMA>(x);
        *y = x * cdf;
        *dy *= mul_add::<FMA>(DENSITY * x, exp::<FMA>(-0.5 * x * x), cdf);
    }
}
