//! The shapes that every op takes: checked here, once, for all devices.
//!
//! One function an op. It takes the shapes of the arguments and returns the dimensions that the op works with, or a
//! [`ShapeError`] that names the op, the argument, what would have fitted, and what came. No tensor has an empty dimension
//! ([`tensor`] refuses to make one), so no op ever meets a zero.

use std::fmt::Debug;

use super::{SampleOptions, WeightLayout};

/// Most dimensions that a tensor has.
pub const MAX_RANK: usize = 4;

/// An argument that does not fit an op's other arguments.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{op}: {argument} must be {expected}, not {got}")]
pub struct ShapeError {
    /// The op, a method of [`Device`](super::Device).
    pub op: &'static str,
    /// Its argument.
    pub argument: &'static str,
    /// What fits.
    pub expected: String,
    /// What came.
    pub got: String,
}

/// Result of a check.
pub type Result<T> = std::result::Result<T, ShapeError>;

fn error<T>(op: &'static str, argument: &'static str, expected: impl Into<String>, got: impl Debug) -> Result<T> {
    Err(ShapeError { op, argument, expected: expected.into(), got: format!("{got:?}") })
}

fn exactly(op: &'static str, argument: &'static str, got: &[usize], expected: &[usize]) -> Result<()> {
    if got == expected { Ok(()) } else { error(op, argument, format!("{expected:?}"), got) }
}

fn maybe(op: &'static str, argument: &'static str, got: Option<&[usize]>, expected: &[usize]) -> Result<()> {
    got.map_or(Ok(()), |got| exactly(op, argument, got, expected))
}

/// Splits off the last dimension: `[.., d]` is `(rows, d)`.
fn rows(op: &'static str, argument: &'static str, shape: &[usize]) -> Result<(usize, usize)> {
    match shape.split_last() {
        Some((&last, front)) => Ok((front.iter().product(), last)),
        None => error(op, argument, "of at least one dimension", shape),
    }
}

fn matrix(op: &'static str, argument: &'static str, shape: &[usize]) -> Result<[usize; 2]> {
    shape.try_into().or_else(|_| error(op, argument, "a matrix", shape))
}

fn cube(op: &'static str, argument: &'static str, shape: &[usize]) -> Result<[usize; 3]> {
    shape.try_into().or_else(|_| error(op, argument, "of three dimensions", shape))
}

/// The number of elements of a tensor of `shape`: one to [`MAX_RANK`] dimensions, none of them zero.
pub fn tensor(op: &'static str, shape: &[usize]) -> Result<usize> {
    let volume = shape.iter().try_fold(1usize, |volume, &dimension| volume.checked_mul(dimension));
    match volume {
        // A slice of floats cannot be longer than isize::MAX bytes.
        Some(volume) if (1..=MAX_RANK).contains(&shape.len()) && volume > 0 && volume <= isize::MAX as usize / 8 => {
            Ok(volume)
        }
        _ => error(op, "shape", format!("one to {MAX_RANK} dimensions, none zero, that memory can hold"), shape),
    }
}

/// The number of elements of a tensor of `shape`, which `values` must be.
pub fn upload(shape: &[usize], values: usize) -> Result<usize> {
    let volume = tensor("upload", shape)?;
    if volume == values { Ok(volume) } else { error("upload", "values", format!("{volume} for {shape:?}"), values) }
}

/// Checks that as many `values` came as the tensor holds.
pub fn overwrite(shape: &[usize], values: usize) -> Result<()> {
    let volume: usize = shape.iter().product();
    if volume == values { Ok(()) } else { error("overwrite", "values", format!("{volume} for {shape:?}"), values) }
}

/// Checks that `ids` token ids fill `[B, T]`.
pub fn upload_tokens(shape: [usize; 2], ids: usize) -> Result<()> {
    let volume = tensor("upload_tokens", &shape)?;
    if volume == ids { Ok(()) } else { error("upload_tokens", "ids", format!("{volume} for {shape:?}"), ids) }
}

/// Checks that two shapes are the same.
pub fn add_assign(into: &[usize], other: &[usize]) -> Result<()> {
    exactly("add_assign", "other", other, into)
}

/// Dimensions of an embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddingDims {
    /// Images.
    pub batch: usize,
    /// Tokens an image.
    pub tokens: usize,
    /// Width.
    pub width: usize,
    /// Rows of the table.
    pub rows: usize,
}

/// Dimensions of [`Device::embedding`](super::Device::embedding).
pub fn embedding(table: &[usize], positions: &[usize], ids: [usize; 2], first: usize) -> Result<EmbeddingDims> {
    const OP: &str = "embedding";
    let [rows, width] = matrix(OP, "table", table)?;
    let [last, _] = matrix(OP, "positions", positions)?;
    exactly(OP, "positions", positions, &[last, width])?;
    let [batch, tokens] = ids;
    if first.checked_add(tokens).is_none_or(|end| end > last) {
        return error(OP, "first", format!("at most {last} positions less {tokens} tokens"), first);
    }
    Ok(EmbeddingDims { batch, tokens, width, rows })
}

/// Dimensions of [`Device::embedding_backward`](super::Device::embedding_backward).
pub fn embedding_backward(
    dy: &[usize],
    ids: [usize; 2],
    d_table: &[usize],
    d_positions: &[usize],
) -> Result<EmbeddingDims> {
    const OP: &str = "embedding_backward";
    let [rows, width] = matrix(OP, "d_table", d_table)?;
    let [batch, tokens] = ids;
    exactly(OP, "dy", dy, &[batch, tokens, width])?;
    let [positions, _] = matrix(OP, "d_positions", d_positions)?;
    exactly(OP, "d_positions", d_positions, &[positions.max(tokens), width])?;
    Ok(EmbeddingDims { batch, tokens, width, rows })
}

/// Dimensions of a normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormDims {
    /// Rows.
    pub rows: usize,
    /// Width of each.
    pub width: usize,
}

/// Dimensions of [`Device::layernorm`](super::Device::layernorm).
pub fn layernorm(x: &[usize], gain: &[usize], bias: Option<&[usize]>) -> Result<NormDims> {
    norm("layernorm", x, gain, bias)
}

/// Dimensions of [`Device::residual_layernorm`](super::Device::residual_layernorm).
pub fn residual_layernorm(x: &[usize], delta: &[usize], gain: &[usize], bias: Option<&[usize]>) -> Result<NormDims> {
    exactly("residual_layernorm", "delta", delta, x)?;
    norm("residual_layernorm", x, gain, bias)
}

fn norm(op: &'static str, x: &[usize], gain: &[usize], bias: Option<&[usize]>) -> Result<NormDims> {
    let (rows, width) = rows(op, "x", x)?;
    exactly(op, "gain", gain, &[width])?;
    maybe(op, "bias", bias, &[width])?;
    Ok(NormDims { rows, width })
}

/// Dimensions of [`Device::layernorm_backward`](super::Device::layernorm_backward).
pub fn layernorm_backward(
    dy: &[usize],
    x: &[usize],
    gain: &[usize],
    stats: &[usize],
    d_stream: Option<&[usize]>,
    d_gain: &[usize],
    d_bias: Option<&[usize]>,
) -> Result<NormDims> {
    const OP: &str = "layernorm_backward";
    let dims = norm(OP, x, gain, None)?;
    exactly(OP, "dy", dy, x)?;
    exactly(OP, "stats", stats, &[dims.rows, 2])?;
    maybe(OP, "d_stream", d_stream, x)?;
    exactly(OP, "d_gain", d_gain, gain)?;
    maybe(OP, "d_bias", d_bias, gain)?;
    Ok(dims)
}

/// Dimensions of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearDims {
    /// Rows.
    pub rows: usize,
    /// Width of the input.
    pub inputs: usize,
    /// Width of the output.
    pub outputs: usize,
}

/// Dimensions of [`Device::linear`](super::Device::linear).
pub fn linear(x: &[usize], weight: &[usize], layout: WeightLayout, bias: Option<&[usize]>) -> Result<LinearDims> {
    affine("linear", x, weight, layout, bias)
}

fn affine(
    op: &'static str,
    x: &[usize],
    weight: &[usize],
    layout: WeightLayout,
    bias: Option<&[usize]>,
) -> Result<LinearDims> {
    let (rows, inputs) = rows(op, "x", x)?;
    let [first, second] = matrix(op, "weight", weight)?;
    let (outputs, expected) = match layout {
        WeightLayout::InOut => (second, [inputs, second]),
        WeightLayout::OutIn => (first, [first, inputs]),
    };
    exactly(op, "weight", weight, &expected)?;
    maybe(op, "bias", bias, &[outputs])?;
    Ok(LinearDims { rows, inputs, outputs })
}

/// Dimensions of [`Device::linear_backward`](super::Device::linear_backward).
pub fn linear_backward(
    dy: &[usize],
    x: &[usize],
    weight: &[usize],
    layout: WeightLayout,
    d_weight: &[usize],
    d_bias: Option<&[usize]>,
) -> Result<LinearDims> {
    const OP: &str = "linear_backward";
    let dims = affine(OP, x, weight, layout, d_bias)?;
    like_with_last(OP, "dy", dy, x, dims.outputs)?;
    exactly(OP, "d_weight", d_weight, weight)?;
    Ok(dims)
}

/// `got` must be `like` but for a last dimension of `last`.
fn like_with_last(op: &'static str, argument: &'static str, got: &[usize], like: &[usize], last: usize) -> Result<()> {
    match (got.split_last(), like.split_last()) {
        (Some((&end, front)), Some((_, like))) if end == last && front == like => Ok(()),
        (_, Some((_, like))) => error(op, argument, format!("{like:?} and then {last}"), got),
        _ => error(op, argument, "of at least one dimension", got),
    }
}

/// The shapes of an MLP's weights, or of their gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MlpShapes<'a> {
    /// `[d, h]`.
    pub up: &'a [usize],
    /// `[h]`.
    pub up_bias: Option<&'a [usize]>,
    /// `[h, d]`.
    pub down: &'a [usize],
    /// `[d]`.
    pub down_bias: Option<&'a [usize]>,
}

/// Dimensions of an MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MlpDims {
    /// Rows.
    pub rows: usize,
    /// Width.
    pub width: usize,
    /// Width of the hidden layer.
    pub hidden: usize,
}

/// Dimensions of [`Device::mlp`](super::Device::mlp).
pub fn mlp(x: &[usize], weights: MlpShapes<'_>) -> Result<MlpDims> {
    mlp_weights("mlp", x, weights)
}

fn mlp_weights(op: &'static str, x: &[usize], weights: MlpShapes<'_>) -> Result<MlpDims> {
    let (rows, width) = rows(op, "x", x)?;
    let [_, hidden] = matrix(op, "up", weights.up)?;
    exactly(op, "up", weights.up, &[width, hidden])?;
    maybe(op, "up_bias", weights.up_bias, &[hidden])?;
    exactly(op, "down", weights.down, &[hidden, width])?;
    maybe(op, "down_bias", weights.down_bias, &[width])?;
    Ok(MlpDims { rows, width, hidden })
}

/// Dimensions of [`Device::mlp_backward`](super::Device::mlp_backward).
pub fn mlp_backward(
    dy: &[usize],
    x: &[usize],
    hidden: &[usize],
    weights: MlpShapes<'_>,
    gradients: MlpShapes<'_>,
) -> Result<MlpDims> {
    const OP: &str = "mlp_backward";
    let dims = mlp_weights(OP, x, weights)?;
    exactly(OP, "dy", dy, x)?;
    like_with_last(OP, "hidden", hidden, x, dims.hidden)?;
    exactly(OP, "the gradient of up", gradients.up, weights.up)?;
    exactly(OP, "the gradient of down", gradients.down, weights.down)?;
    maybe(OP, "the gradient of up_bias", gradients.up_bias, &[dims.hidden])?;
    maybe(OP, "the gradient of down_bias", gradients.down_bias, &[dims.width])?;
    Ok(dims)
}

/// Dimensions of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionDims {
    /// Images.
    pub batch: usize,
    /// Tokens an image.
    pub tokens: usize,
    /// Heads.
    pub heads: usize,
    /// Width of one head.
    pub head_dim: usize,
}

impl AttentionDims {
    /// Width of the residual stream.
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }
}

/// Dimensions of [`Device::attention`](super::Device::attention).
pub fn attention(qkv: &[usize], heads: usize) -> Result<AttentionDims> {
    heads_of("attention", qkv, heads)
}

fn heads_of(op: &'static str, qkv: &[usize], heads: usize) -> Result<AttentionDims> {
    let [batch, tokens, columns] = cube(op, "qkv", qkv)?;
    let width = columns / 3;
    if heads == 0 || !columns.is_multiple_of(3) || !width.is_multiple_of(heads) {
        return error(op, "qkv", format!("[B, T, 3d] with d a multiple of {heads} heads"), qkv);
    }
    Ok(AttentionDims { batch, tokens, heads, head_dim: width / heads })
}

/// Dimensions of [`Device::attention_backward`](super::Device::attention_backward).
pub fn attention_backward(
    dy: &[usize],
    qkv: &[usize],
    output: &[usize],
    logsumexp: &[usize],
    heads: usize,
) -> Result<AttentionDims> {
    const OP: &str = "attention_backward";
    let dims = heads_of(OP, qkv, heads)?;
    let expected = [dims.batch, dims.tokens, dims.width()];
    exactly(OP, "dy", dy, &expected)?;
    exactly(OP, "output", output, &expected)?;
    exactly(OP, "logsumexp", logsumexp, &[dims.batch, heads, dims.tokens])?;
    Ok(dims)
}

/// Dimensions of one step of cached attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeDims {
    /// Images.
    pub batch: usize,
    /// Positions that the cache holds.
    pub positions: usize,
    /// Heads.
    pub heads: usize,
    /// Width of one head.
    pub head_dim: usize,
}

/// Dimensions of [`Device::attention_decode`](super::Device::attention_decode).
pub fn attention_decode(
    qkv: &[usize],
    keys: &[usize],
    values: &[usize],
    position: usize,
    heads: usize,
) -> Result<DecodeDims> {
    const OP: &str = "attention_decode";
    let AttentionDims { batch, tokens, head_dim, .. } = heads_of(OP, qkv, heads)?;
    if tokens != 1 {
        return error(OP, "qkv", "[B, 1, 3d]", qkv);
    }
    let [_, positions, _] = cube(OP, "keys", keys)?;
    exactly(OP, "keys", keys, &[batch, positions, heads * head_dim])?;
    exactly(OP, "values", values, keys)?;
    if position >= positions {
        return error(OP, "position", format!("below the cache's {positions}"), position);
    }
    Ok(DecodeDims { batch, positions, heads, head_dim })
}

/// Dimensions of logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogitsDims {
    /// Rows.
    pub rows: usize,
    /// Colours, or classes.
    pub vocabulary: usize,
}

/// Dimensions of [`Device::cross_entropy`](super::Device::cross_entropy); `targets` in any shape of as many tokens as rows.
pub fn cross_entropy(logits: &[usize], targets: [usize; 2], weights: &[usize]) -> Result<LogitsDims> {
    const OP: &str = "cross_entropy";
    let (rows, vocabulary) = rows(OP, "logits", logits)?;
    if targets.iter().product::<usize>() != rows {
        return error(OP, "targets", format!("{rows} tokens, one for each row of the logits"), targets);
    }
    exactly(OP, "weights", weights, &[rows])?;
    Ok(LogitsDims { rows, vocabulary })
}

/// Dimensions of mean pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolDims {
    /// Images.
    pub batch: usize,
    /// Tokens an image.
    pub tokens: usize,
    /// Width.
    pub width: usize,
}

/// Dimensions of [`Device::mean_pool`](super::Device::mean_pool).
pub fn mean_pool(x: &[usize]) -> Result<PoolDims> {
    let [batch, tokens, width] = cube("mean_pool", "x", x)?;
    Ok(PoolDims { batch, tokens, width })
}

/// Dimensions of [`Device::mean_pool_backward`](super::Device::mean_pool_backward).
pub fn mean_pool_backward(dy: &[usize], tokens: usize) -> Result<PoolDims> {
    const OP: &str = "mean_pool_backward";
    let [batch, width] = matrix(OP, "dy", dy)?;
    if tokens == 0 {
        return error(OP, "tokens", "at least 1", tokens);
    }
    Ok(PoolDims { batch, tokens, width })
}

/// Checks that the tensors of [`Device::adam`](super::Device::adam) are of one shape, that `norm` holds one element
/// ([`Device::global_norm`](super::Device::global_norm)'s result), and that steps are counted from 1.
pub fn adam(
    parameter: &[usize],
    gradient: &[usize],
    first_moment: &[usize],
    second_moment: &[usize],
    norm: Option<&[usize]>,
    step: u64,
) -> Result<()> {
    const OP: &str = "adam";
    if step == 0 {
        return error(OP, "step", "at least 1", step);
    }
    exactly(OP, "gradient", gradient, parameter)?;
    exactly(OP, "first_moment", first_moment, parameter)?;
    exactly(OP, "second_moment", second_moment, parameter)?;
    maybe(OP, "the norm to clip by", norm, &[1])
}

/// Dimensions of [`Device::sample`](super::Device::sample), whose options and uniforms are checked as well.
pub fn sample(logits: &[usize], options: SampleOptions, uniforms: &[f32]) -> Result<LogitsDims> {
    const OP: &str = "sample";
    let (rows, vocabulary) = match *logits {
        [rows, vocabulary] | [rows, 1, vocabulary] => (rows, vocabulary),
        _ => return error(OP, "logits", "[B, V] or [B, 1, V]", logits),
    };
    if vocabulary > usize::from(u16::MAX) {
        return error(OP, "logits", "of fewer classes than a token can name", logits);
    }
    if !(options.temperature.is_finite() && options.temperature >= 0.0) {
        return error(OP, "temperature", "finite and not negative", options.temperature);
    }
    if options.top_k == Some(0) {
        return error(OP, "top_k", "at least 1", 0);
    }
    if uniforms.len() != rows {
        return error(OP, "uniforms", format!("{rows}, one a row"), uniforms.len());
    }
    if let Some(outside) = uniforms.iter().find(|uniform| !(0.0..1.0).contains(*uniform)) {
        return error(OP, "uniforms", "in [0, 1)", outside);
    }
    Ok(LogitsDims { rows, vocabulary })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_op_the_argument_and_both_shapes() {
        let error = layernorm(&[2, 3, 8], &[4], None).unwrap_err();
        assert_eq!(error.to_string(), "layernorm: gain must be [8], not [4]");
    }

    #[test]
    fn no_tensor_is_empty_or_larger_than_memory() {
        assert_eq!(tensor("zeros", &[2, 3]), Ok(6));
        for shape in [&[][..], &[3, 0], &[1, 1, 1, 1, 1], &[usize::MAX, 2], &[1 << 40, 1 << 30]] {
            assert!(tensor("zeros", shape).is_err(), "{shape:?}");
        }
    }

    #[test]
    fn positions_end_with_their_table() {
        assert!(embedding(&[9, 4], &[6, 4], [2, 5], 1).is_ok());
        assert!(embedding(&[9, 4], &[6, 4], [2, 5], 2).is_err());
        assert!(embedding(&[9, 4], &[6, 4], [2, 5], usize::MAX).is_err());
    }

    #[test]
    fn heads_divide_the_width() {
        assert_eq!(attention(&[1, 5, 24], 2), Ok(AttentionDims { batch: 1, tokens: 5, heads: 2, head_dim: 4 }));
        for (columns, heads) in [(24, 0), (24, 3), (25, 1)] {
            assert!(attention(&[1, 5, columns], heads).is_err(), "{columns} {heads}");
        }
    }
}
