//! Normalisation of rows, alone or of a residual sum.

use serde::{Deserialize, Serialize};

use crate::device::shape_check::{self, exactly, maybe, rows};
use crate::device::{Result, Tensors};
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
    /// the input is a residual stream, `d_stream` is the gradient that reached it by the skip connection, and is added
    /// to in place. `d_gain`, `d_bias`: `+=`.
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
    ) -> Result<Self::Tensor>;
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

/// Checks the shapes of `layernorm_backward`.
pub fn check_backward(
    dy: &[usize],
    x: &[usize],
    gain: &[usize],
    stats: &[usize],
    d_stream: Option<&[usize]>,
    d_gain: &[usize],
    d_bias: Option<&[usize]>,
) -> shape_check::Result<NormDims> {
    const OP: &str = "layernorm_backward";
    let dims = norm(OP, x, gain, None)?;
    exactly(OP, "dy", dy, x)?;
    exactly(OP, "stats", stats, &[dims.rows, 2])?;
    maybe(OP, "d_stream", d_stream, x)?;
    exactly(OP, "d_gain", d_gain, gain)?;
    maybe(OP, "d_bias", d_bias, gain)?;
    Ok(dims)
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
