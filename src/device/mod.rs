//! What a device must do: one trait, one method per fused op and its backward.
//!
//! Everything above (tape, model, training, sampling) is generic over [`Device`]; nothing below knows a model. Each op has
//! one name: `layernorm` is `device/cpu/layernorm.rs` here, a kernel of that name on a GPU, and a row of the op table in
//! `tests/ops`. Every method checks its shapes through [`contract`], so both devices refuse the same mistakes in the same
//! words.
//!
//! Shape letters: `B` images, `T` tokens an image, `R = B·T` rows, `d` width, `H` heads, `V` colours.

pub mod contract;
pub mod cpu;
pub mod cuda;
mod memory_use;
mod ops;
mod precision;
mod shape;
pub(crate) mod tokens;

pub use contract::ShapeError;
pub use cpu::CpuDevice;
pub use cuda::CudaDevice;
pub use memory_use::MemoryUse;
pub use ops::layernorm::{NORM_EPSILON, Norm};
pub use ops::mlp::Activation;
pub use precision::Precision;

/// The token that is not there: its content embedding is the zero vector (BERT's masked positions).
pub const BLANK: u16 = u16::MAX;

/// Why an op could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments do not fit together.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A token that no table row answers to.
    #[error("token {token} at position {position} is outside the table of {rows} rows")]
    Token {
        /// The token.
        token: u16,
        /// Where it stands, counted over the whole batch.
        position: usize,
        /// Rows of the table.
        rows: usize,
    },
    /// The device cannot be used at all, or not for this.
    #[error("{0}")]
    Unavailable(String),
    /// A call of the device's driver failed.
    #[error("{call}: {message}")]
    Driver {
        /// The call, with the kernel if it launched one.
        call: String,
        /// What the driver said, and what to do where that is known.
        message: String,
    },
}

/// Result of a device's methods.
pub type Result<T> = std::result::Result<T, Error>;

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Keys up to and including the query's own position.
    Causal,
    /// All keys.
    Full,
}

/// How a linear layer's weight lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightLayout {
    /// `[in, out]`: Hugging Face's Conv1D, all layers of a block.
    InOut,
    /// `[out, in]`: the token head and the class head.
    OutIn,
}

/// Output of [`Device::layernorm`].
pub struct LayerNormed<T> {
    /// Normalised rows, shape of the input.
    pub normed: T,
    /// What backward needs of each row: `[R, 2]`, mean (zero for the RMS norm) and reciprocal deviation.
    pub stats: T,
}

/// Output of [`Device::residual_layernorm`].
pub struct ResidualLayerNormed<T> {
    /// `x + delta`, the new residual stream.
    pub sum: T,
    /// Its normalised rows.
    pub normed: T,
    /// As in [`LayerNormed::stats`], of `sum`.
    pub stats: T,
}

/// Output of [`Device::mlp`].
pub struct MlpOutput<T> {
    /// The MLP's output `[R, d]`.
    pub output: T,
    /// Hidden values before the activation, `[R, 4d]`: all that backward needs.
    pub hidden: T,
}

/// Output of [`Device::attention`].
pub struct Attended<T> {
    /// Mixed values, `[B, T, d]`.
    pub output: T,
    /// Logarithm of each query's softmax denominator, `[B, H, T]`, max included.
    pub logsumexp: T,
}

/// Output of [`Device::cross_entropy`].
pub struct CrossEntropy<T> {
    /// `Σ_r weight_r · nll_r`, one element.
    pub loss: T,
    /// `−ln softmax(logits)[target]` of each row in nats, `[R]`.
    pub nll: T,
    /// Gradient of `loss` with respect to the logits, `[R, V]`; takes the logits' place in memory.
    pub d_logits: T,
}

/// The weights of an MLP, `[d, h]` up and `[h, d]` down, with optional biases.
pub struct MlpWeights<'a, T> {
    /// `[d, h]`.
    pub up: &'a T,
    /// `[h]`.
    pub up_bias: Option<&'a T>,
    /// `[h, d]`.
    pub down: &'a T,
    /// `[d]`.
    pub down_bias: Option<&'a T>,
}

/// The gradients of an MLP's weights; every one is `+=`.
pub struct MlpGradients<'a, T> {
    /// `[d, h]`.
    pub up: &'a mut T,
    /// `[h]`.
    pub up_bias: Option<&'a mut T>,
    /// `[h, d]`.
    pub down: &'a mut T,
    /// `[d]`.
    pub down_bias: Option<&'a mut T>,
}

/// One update of Adam (Kingma & Ba 2015, algorithm 1), bias corrections included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Learning rate of this step.
    pub learning_rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment, after its bias correction.
    pub epsilon: f32,
    /// Which update this is, from 1.
    pub step: u64,
}

/// Gradients longer than `max_norm` are shortened to it.
pub struct Clip<'a, T> {
    /// The global norm, as [`Device::global_norm`] left it on the device.
    pub norm: &'a T,
    /// The longest that a gradient stays.
    pub max_norm: f32,
}

/// How the next token is chosen from its logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleOptions {
    /// Logits are divided by this; 0 takes the most likely token (the first of equals).
    pub temperature: f32,
    /// Only this many of the most likely tokens may be drawn; all if `None`.
    pub top_k: Option<usize>,
}

/// A place that holds tensors and computes the ops of an Image GPT on them.
///
/// Tensors that a method returns are new; `&mut` gradients are accumulated into (`+=`); nothing else changes. All ops are
/// deterministic: the same inputs on the same device with the same thread count give the same bits.
pub trait Device: Sized + 'static {
    /// A dense row-major array of floats.
    type Tensor;
    /// A dense row-major array of token ids.
    type Tokens;
    /// Values on their way to the host.
    type Reading;
    /// Work that can be repeated.
    type Recording;

    /// Whether ops return before their work is done, so that the host can prepare the next step meanwhile.
    const ASYNCHRONOUS: bool;

    /// What the device is, for people: `cpu (2 threads)`.
    fn describe(&self) -> String;
    /// Bytes of memory that is the device's own; `None` if its tensors lie in the machine's.
    fn own_memory(&self) -> Option<u64>;

    /// Copies `values` (row-major, as many as `shape` holds) to the device.
    fn upload(&self, shape: &[usize], values: &[f32]) -> Result<Self::Tensor>;
    /// A tensor of zeros.
    fn zeros(&self, shape: &[usize]) -> Result<Self::Tensor>;
    /// Copies a tensor's values to the host.
    fn download(&self, tensor: &Self::Tensor) -> Result<Vec<f32>>;
    /// Overwrites a tensor with values from the host.
    fn overwrite(&self, tensor: &mut Self::Tensor, values: &[f32]) -> Result<()>;
    /// A tensor's dimensions.
    fn shape<'t>(&self, tensor: &'t Self::Tensor) -> &'t [usize];
    /// Copies token ids to the device as `[B, T]`.
    fn upload_tokens(&self, shape: [usize; 2], ids: &[u16]) -> Result<Self::Tokens>;
    /// Overwrites tokens with as many from the host.
    fn overwrite_tokens(&self, tokens: &mut Self::Tokens, ids: &[u16]) -> Result<()>;
    /// Copies token ids to the host.
    fn download_tokens(&self, tokens: &Self::Tokens) -> Result<Vec<u16>>;
    /// Sets every element to zero.
    fn zero(&self, tensor: &mut Self::Tensor) -> Result<()>;
    /// Starts to copy the values of all `tensors`, one after the other, to the host; the tensors may change at once.
    fn read(&self, tensors: &[&Self::Tensor]) -> Result<Self::Reading>;
    /// Waits for the values that [`Device::read`] copies, and for nothing that was asked of the device later.
    ///
    /// # Errors
    /// Whatever went wrong until then.
    fn wait(&self, reading: Self::Reading) -> Result<Vec<f32>>;

    /// Does `work` once, and where the device can, remembers it to be repeated.
    ///
    /// The work may call ops, and nothing that moves numbers between host and device; it was done at least once before, with
    /// tensors of the same shapes, so that memory and kernels are there as a rule. It must leave the tensors that it reads where they
    /// are, change them in place if at all, and so must everybody as long as the recording is used. Tensors that it returns
    /// are the same ones in every repetition.
    fn record<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, Option<Self::Recording>)>;
    /// Does recorded work once more, with the values that its tensors have now, and the last announced
    /// [`AdamStep`].
    fn replay(&self, recording: &Self::Recording) -> Result<()>;

    /// `into += other`, same shapes.
    fn add_assign(&self, into: &mut Self::Tensor, other: &Self::Tensor) -> Result<()>;

    /// `y[b, t] = table[ids[b, t]] + positions[first + t]`, `[B, T, d]`; [`BLANK`] has no row and adds nothing.
    ///
    /// `table` is `[rows, d]`, `positions` `[positions, d]` with `first + T ≤ positions`.
    fn embedding(
        &self,
        table: &Self::Tensor,
        positions: &Self::Tensor,
        ids: &Self::Tokens,
        first: usize,
    ) -> Result<Self::Tensor>;
    /// `d_table[ids[b, t]] += dy[b, t]`, `d_positions[t] += Σ_b dy[b, t]`.
    fn embedding_backward(
        &self,
        dy: &Self::Tensor,
        ids: &Self::Tokens,
        d_table: &mut Self::Tensor,
        d_positions: &mut Self::Tensor,
    ) -> Result<()>;

    /// Normalises the last dimension of `x`: `y = (x − mean) · rsqrt(var + ε) · gain + bias`, without the mean for
    /// [`Norm::Rms`]. `gain`, `bias`: `[d]`.
    fn layernorm(
        &self,
        norm: Norm,
        x: &Self::Tensor,
        gain: &Self::Tensor,
        bias: Option<&Self::Tensor>,
    ) -> Result<LayerNormed<Self::Tensor>>;
    /// [`Device::layernorm`] of `x + delta`, in one pass; the sum is kept for the next block.
    fn residual_layernorm(
        &self,
        norm: Norm,
        x: &Self::Tensor,
        delta: &Self::Tensor,
        gain: &Self::Tensor,
        bias: Option<&Self::Tensor>,
    ) -> Result<ResidualLayerNormed<Self::Tensor>>;
    /// Gradient with respect to the norm's input `x` (the `sum` of the residual form), given `dy` of its output; where the
    /// input is a residual stream, `d_stream` is the gradient that reached it past the norm, and is added in place.
    /// `d_gain`, `d_bias`: `+=`.
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

    /// `y = x · W (+ bias)`: `[.., in] → [.., out]`.
    fn linear(
        &self,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        layout: WeightLayout,
        bias: Option<&Self::Tensor>,
    ) -> Result<Self::Tensor>;
    /// Returns `dx = dy · Wᵀ`; `d_weight += xᵀ · dy` (in the weight's layout), `d_bias += Σ_rows dy`.
    fn linear_backward(
        &self,
        dy: &Self::Tensor,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        layout: WeightLayout,
        d_weight: &mut Self::Tensor,
        d_bias: Option<&mut Self::Tensor>,
    ) -> Result<Self::Tensor>;

    /// `act(x · up + up_bias) · down + down_bias`: `[.., d] → [.., d]`.
    fn mlp(
        &self,
        x: &Self::Tensor,
        weights: MlpWeights<'_, Self::Tensor>,
        activation: Activation,
    ) -> Result<MlpOutput<Self::Tensor>>;
    /// Returns `dx`; the weights' gradients are `+=`. `hidden` is [`MlpOutput::hidden`].
    fn mlp_backward(
        &self,
        dy: &Self::Tensor,
        x: &Self::Tensor,
        hidden: &Self::Tensor,
        weights: MlpWeights<'_, Self::Tensor>,
        activation: Activation,
        gradients: MlpGradients<'_, Self::Tensor>,
    ) -> Result<Self::Tensor>;

    /// Multi-head attention over `qkv` `[B, T, 3d]` (columns `q ‖ k ‖ v`, each `H` heads of `d/H`), scores scaled by
    /// `1/√(d/H)`. No more than one tile of scores is ever held.
    fn attention(&self, qkv: &Self::Tensor, heads: usize, mask: Mask) -> Result<Attended<Self::Tensor>>;
    /// Gradient with respect to `qkv`, `[B, T, 3d]`; `output` and `logsumexp` are the forward's.
    fn attention_backward(
        &self,
        dy: &Self::Tensor,
        qkv: &Self::Tensor,
        output: &Self::Tensor,
        logsumexp: &Self::Tensor,
        heads: usize,
        mask: Mask,
    ) -> Result<Self::Tensor>;
    /// One step of causal attention with a cache: stores this position's keys and values in `keys` and `values`
    /// (`[B, positions, d]`) at `position`, and attends from `qkv` `[B, 1, 3d]` to positions `0..=position`; `[B, 1, d]`.
    fn attention_decode(
        &self,
        qkv: &Self::Tensor,
        keys: &mut Self::Tensor,
        values: &mut Self::Tensor,
        position: usize,
        heads: usize,
    ) -> Result<Self::Tensor>;

    /// Softmax cross-entropy of `logits` `[.., V]` against `targets`, a row each, with its gradient in the same pass.
    /// `weights` `[R]` are the rows' shares of the loss; a row of weight zero has no gradient.
    fn cross_entropy(
        &self,
        logits: Self::Tensor,
        targets: &Self::Tokens,
        weights: &Self::Tensor,
    ) -> Result<CrossEntropy<Self::Tensor>>;

    /// Mean over tokens: `[B, T, d] → [B, d]`.
    fn mean_pool(&self, x: &Self::Tensor) -> Result<Self::Tensor>;
    /// Gradient of [`Device::mean_pool`] for `tokens` tokens: `[B, d] → [B, T, d]`.
    fn mean_pool_backward(&self, dy: &Self::Tensor, tokens: usize) -> Result<Self::Tensor>;

    /// Euclidean norm of all the tensors' elements together, one element, left on the device.
    fn global_norm(&self, tensors: &[Self::Tensor]) -> Result<Self::Tensor>;
    /// Says which update the next calls of [`Device::adam`] make, in recorded work too. Only recordings need it.
    fn announce(&self, step: AdamStep) -> Result<()>;
    /// One Adam update of `parameter` and its moments; `gradient` is shortened on the way if `clip` says so.
    fn adam(
        &self,
        parameter: &mut Self::Tensor,
        gradient: &Self::Tensor,
        first_moment: &mut Self::Tensor,
        second_moment: &mut Self::Tensor,
        step: AdamStep,
        clip: Option<Clip<'_, Self::Tensor>>,
    ) -> Result<()>;

    /// Draws a token for each row of `logits` (`[B, V]` or `[B, 1, V]`) by inverting the cumulative distribution at
    /// `uniforms` (one in `[0, 1)` a row); `[B, 1]`.
    fn sample(&self, logits: &Self::Tensor, options: SampleOptions, uniforms: &[f32]) -> Result<Self::Tokens>;
}
