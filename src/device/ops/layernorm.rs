//! Normalisation of rows, alone or of a residual sum.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::device::shape_check::{self, exactly, matrix, maybe, rows};
use crate::device::{Beta, Result, Tensors};
use crate::named::named;

named! {
    /// How a row is normalised: `y = normalised · gain`, plus a bias where there is one.
    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Norm {
        /// `x · rsqrt(mean(x²) + ε)`: the official code; its docstring says LayerNorm, its arithmetic does not.
        #[default]
        Rms = "rms",
        /// `(x − mean) · rsqrt(var + ε)`: the paper's text.
        Layer = "layer",
    }
}

/// ε of both norms, inside the square root.
pub const NORM_EPSILON: f32 = 1e-5;

/// Output of [`LayerNormOps::layernorm`].
pub struct LayerNormed<T> {
    /// Normalised rows, shape of the input.
    pub normed: T,
    /// What backward needs of each row: `[R, 2]`, mean (zero for the RMS norm) and rstd, the reciprocal standard
    /// deviation.
    pub stats: T,
}

/// Output of [`LayerNormOps::residual_layernorm`].
pub struct ResidualLayerNormed<T> {
    /// `x + delta`, the new residual stream.
    pub sum: T,
    /// Its normalised rows.
    pub normed: T,
    /// As in [`LayerNormed::stats`], of `sum`.
    pub stats: T,
}

/// Output of [`LayerNormOps::layernorm_gradients`].
pub struct NormGradients<T> {
    /// Of the norm's input, `[.., d]`.
    pub dx: T,
    /// Of the gain, `[blocks, d]`: partial sums, for [`LayerNormOps::sum_partials`].
    pub d_gain: T,
    /// The same of the bias, where one is asked for.
    pub d_bias: Option<T>,
}

/// A sum that [`LayerNormOps::sum_partials`] makes.
pub struct PartialSum<'a, T> {
    /// `[blocks, d]`.
    pub partials: &'a T,
    /// `[d]`.
    pub total: &'a mut T,
    /// Whether the total is stored or added to.
    pub beta: Beta,
}

/// Normalisation of rows, alone or fused with a residual sum, forward and backward.
pub trait LayerNormOps: Tensors {
    /// Normalises the last dimension of `x`: `y = (x − mean) · rsqrt(var + ε) · gain + bias`, without the mean for
    /// [`Norm::Rms`]. `gain`, `bias`: `[d]`.
    fn layernorm(
        &self,
        norm: Norm,
        x: &Self::Tensor,
        gain: &Self::Tensor,
        bias: Option<&Self::Tensor>,
    ) -> Result<LayerNormed<Self::Tensor>>;

    /// [`LayerNormOps::layernorm`] of `x + delta`, in one pass; the sum is kept for the next block.
    fn residual_layernorm(
        &self,
        norm: Norm,
        x: &Self::Tensor,
        delta: &Self::Tensor,
        gain: &Self::Tensor,
        bias: Option<&Self::Tensor>,
    ) -> Result<ResidualLayerNormed<Self::Tensor>>;

    /// Gradient with respect to the norm's input `x` (the `sum` of the residual form), given `dy` of its output; where
    /// the input is a residual stream, `d_stream` is the gradient that reached it by the skip connection, and is added: in place
    /// if nobody else holds it. The gradients of gain and, if `biased`, bias come as partial sums, so that those of many norms
    /// can be added up at once.
    #[allow(clippy::too_many_arguments)]
    fn layernorm_gradients(
        &self,
        norm: Norm,
        dy: &Self::Tensor,
        x: &Self::Tensor,
        gain: &Self::Tensor,
        stats: &Self::Tensor,
        d_stream: Option<Rc<Self::Tensor>>,
        biased: bool,
    ) -> Result<NormGradients<Self::Tensor>>;

    /// `total = or += Σ_blocks partials` of each.
    fn sum_partials(&self, sums: Vec<PartialSum<'_, Self::Tensor>>) -> Result<()>;

    /// [`LayerNormOps::layernorm_gradients`] of one norm and its sums: returns `dx`; `d_gain`, `d_bias` as `beta` says.
    #[allow(clippy::too_many_arguments)]
    fn layernorm_backward(
        &self,
        norm: Norm,
        dy: &Self::Tensor,
        x: &Self::Tensor,
        gain: &Self::Tensor,
        stats: &Self::Tensor,
        d_stream: Option<Self::Tensor>,
        d_gain: &mut Self::Tensor,
        d_bias: Option<&mut Self::Tensor>,
        beta: Beta,
    ) -> Result<Self::Tensor> {
        let bias_shape = d_bias.as_deref().map(|d_bias| self.shape(d_bias));
        check_sums(self.shape(d_gain), bias_shape, self.shape(gain))?;
        let gradients = self.layernorm_gradients(norm, dy, x, gain, stats, d_stream.map(Rc::new), d_bias.is_some())?;
        let mut sums = vec![PartialSum { partials: &gradients.d_gain, total: d_gain, beta }];
        if let (Some(partials), Some(total)) = (&gradients.d_bias, d_bias) {
            sums.push(PartialSum { partials, total, beta });
        }
        self.sum_partials(sums)?;
        Ok(gradients.dx)
    }
}

/// Dimensions of a normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormDims {
    /// Rows.
    pub rows: usize,
    /// Width of each.
    pub width: usize,
}

/// Checks the shapes of `layernorm`.
pub fn check(x: &[usize], gain: &[usize], bias: Option<&[usize]>) -> shape_check::Result<NormDims> {
    norm("layernorm", x, gain, bias)
}

/// Checks the shapes of `residual_layernorm`.
pub fn check_residual(
    x: &[usize],
    delta: &[usize],
    gain: &[usize],
    bias: Option<&[usize]>,
) -> shape_check::Result<NormDims> {
    exactly("residual_layernorm", "delta", delta, x)?;
    norm("residual_layernorm", x, gain, bias)
}

/// Checks the shapes of `layernorm_gradients`.
pub fn check_gradients(
    dy: &[usize],
    x: &[usize],
    gain: &[usize],
    stats: &[usize],
    d_stream: Option<&[usize]>,
) -> shape_check::Result<NormDims> {
    const OP: &str = "layernorm_backward";
    let dims = norm(OP, x, gain, None)?;
    exactly(OP, "dy", dy, x)?;
    exactly(OP, "stats", stats, &[dims.rows, 2])?;
    maybe(OP, "d_stream", d_stream, x)?;
    Ok(dims)
}

fn check_sums(d_gain: &[usize], d_bias: Option<&[usize]>, gain: &[usize]) -> shape_check::Result<()> {
    const OP: &str = "layernorm_backward";
    exactly(OP, "d_gain", d_gain, gain)?;
    maybe(OP, "d_bias", d_bias, gain)
}

/// Checks the shapes of a sum of `sum_partials`: blocks and width.
pub fn check_partials(partials: &[usize], total: &[usize]) -> shape_check::Result<[usize; 2]> {
    const OP: &str = "sum_partials";
    let [blocks, width] = matrix(OP, "partials", partials)?;
    exactly(OP, "total", total, &[width])?;
    Ok([blocks, width])
}

fn norm(op: &'static str, x: &[usize], gain: &[usize], bias: Option<&[usize]>) -> shape_check::Result<NormDims> {
    let (rows, width) = rows(op, "x", x)?;
    exactly(op, "gain", gain, &[width])?;
    maybe(op, "bias", bias, &[width])?;
    Ok(NormDims { rows, width })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_op_the_argument_and_both_shapes() {
        let error = check(&[2, 3, 8], &[4], None).unwrap_err();
        assert_eq!(error.to_string(), "layernorm: gain must be [8], not [4]");
    }
}
