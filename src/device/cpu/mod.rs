//! The CPU device: f32, all cores, vectors of whatever width the machine has.
//!
//! Results are bit for bit the same on any number of threads: work is cut into blocks of fixed size, and sums over blocks
//! are combined in order.

mod adam;
mod attention;
mod attention_decode;
mod cross_entropy;
mod embedding;
mod gemm;
mod global_norm;
mod layernorm;
mod linear;
mod math;
mod mean_pool;
mod mlp;
mod parallel;
mod sample;
mod tensor;

use std::convert::Infallible;
use std::sync::Arc;

pub use tensor::{CpuTensor, CpuTokens};

use self::tensor::{Buffer, Pool};
use super::contract::{self, MlpShapes};
use super::shape::Shape;
use super::{
    Activation, AdamStep, Attended, Clip, CrossEntropy, Device, Error, LayerNormed, Mask, MemoryUse, MlpGradients,
    MlpOutput, MlpWeights, Norm, ResidualLayerNormed, Result, SampleOptions, WeightLayout, tokens,
};

/// The processor's cores and their memory.
pub struct CpuDevice {
    threads: usize,
    pool: rayon::ThreadPool,
    memory: Arc<Pool>,
}

impl CpuDevice {
    /// A device of so many threads; of as many as the machine has if `None`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if `threads` is zero or the system will not start them.
    pub fn new(threads: Option<usize>) -> Result<Self> {
        Self::build(threads, false)
    }

    /// The same, for tests: every new tensor and all scratch memory is full of NaN, so that what an op forgets to write
    /// shows.
    pub fn poisoned(threads: Option<usize>) -> Result<Self> {
        Self::build(threads, true)
    }

    fn build(threads: Option<usize>, poison: bool) -> Result<Self> {
        let threads = match threads {
            Some(0) => return Err(Error::Unavailable("0 threads compute nothing; ask for at least 1".to_owned())),
            Some(threads) => threads,
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("cpu-device-{index}"))
            .build()
            .map_err(|error| Error::Unavailable(format!("cannot start {threads} threads: {error}; ask for fewer")))?;
        Ok(Self { threads, pool, memory: Pool::new(poison) })
    }

    /// Threads that compute.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// What tensors and scratch hold, held at most, and took from the system.
    pub fn memory_use(&self) -> MemoryUse {
        self.memory.memory()
    }

    /// Memory of `len` floats for the time of an op; its contents are whatever they were.
    fn scratch(&self, len: usize) -> Buffer {
        self.memory.take(len)
    }

    /// A tensor for an op to write; its contents are whatever they were.
    fn tensor(&self, shape: Shape) -> CpuTensor {
        CpuTensor { shape, values: self.scratch(shape.volume()) }
    }

    /// [`CpuDevice::tensor`] of a new shape.
    fn shaped(&self, op: &'static str, shape: &[usize]) -> Result<CpuTensor> {
        Ok(self.tensor(Shape::new(op, shape)?))
    }
}

fn dimensions(tensor: Option<&CpuTensor>) -> Option<&[usize]> {
    tensor.map(CpuTensor::dimensions)
}

fn values(tensor: Option<&CpuTensor>) -> Option<&[f32]> {
    tensor.map(CpuTensor::values)
}

fn values_mut(tensor: Option<&mut CpuTensor>) -> Option<&mut [f32]> {
    tensor.map(|tensor| &mut *tensor.values)
}

impl<'a> MlpWeights<'a, CpuTensor> {
    fn shapes(&self) -> MlpShapes<'a> {
        MlpShapes {
            up: self.up.dimensions(),
            up_bias: dimensions(self.up_bias),
            down: self.down.dimensions(),
            down_bias: dimensions(self.down_bias),
        }
    }

    fn values(&self) -> mlp::Weights<'a> {
        mlp::Weights {
            up: self.up.values(),
            up_bias: values(self.up_bias),
            down: self.down.values(),
            down_bias: values(self.down_bias),
        }
    }
}

impl<'a> MlpGradients<'a, CpuTensor> {
    fn shapes(&self) -> MlpShapes<'_> {
        MlpShapes {
            up: self.up.dimensions(),
            up_bias: dimensions(self.up_bias.as_deref()),
            down: self.down.dimensions(),
            down_bias: dimensions(self.down_bias.as_deref()),
        }
    }

    fn values(self) -> mlp::Gradients<'a> {
        mlp::Gradients {
            up: &mut self.up.values,
            up_bias: values_mut(self.up_bias),
            down: &mut self.down.values,
            down_bias: values_mut(self.down_bias),
        }
    }
}

impl Device for CpuDevice {
    type Tensor = CpuTensor;
    type Tokens = CpuTokens;
    type Reading = Vec<f32>;
    type Recording = Infallible;

    const ASYNCHRONOUS: bool = false;

    fn describe(&self) -> String {
        format!("cpu ({} thread{})", self.threads, if self.threads == 1 { "" } else { "s" })
    }
    fn own_memory(&self) -> Option<u64> {
        None
    }

    fn upload(&self, shape: &[usize], values: &[f32]) -> Result<CpuTensor> {
        contract::upload(shape, values.len())?;
        let mut tensor = self.shaped("upload", shape)?;
        tensor.values.copy_from_slice(values);
        Ok(tensor)
    }

    fn zeros(&self, shape: &[usize]) -> Result<CpuTensor> {
        let mut tensor = self.shaped("zeros", shape)?;
        self.zero(&mut tensor)?;
        Ok(tensor)
    }

    fn download(&self, tensor: &CpuTensor) -> Result<Vec<f32>> {
        Ok(tensor.values.to_vec())
    }

    fn overwrite(&self, tensor: &mut CpuTensor, values: &[f32]) -> Result<()> {
        contract::overwrite(tensor.dimensions(), values.len())?;
        tensor.values.copy_from_slice(values);
        Ok(())
    }

    fn shape<'t>(&self, tensor: &'t CpuTensor) -> &'t [usize] {
        tensor.dimensions()
    }

    fn upload_tokens(&self, shape: [usize; 2], ids: &[u16]) -> Result<CpuTokens> {
        contract::upload_tokens(shape, ids.len())?;
        Ok(CpuTokens { shape, ids: ids.to_vec() })
    }

    fn overwrite_tokens(&self, tokens: &mut CpuTokens, ids: &[u16]) -> Result<()> {
        contract::upload_tokens(tokens.shape, ids.len())?;
        tokens.ids.copy_from_slice(ids);
        Ok(())
    }

    fn download_tokens(&self, tokens: &CpuTokens) -> Result<Vec<u16>> {
        Ok(tokens.ids.clone())
    }

    fn read(&self, tensors: &[&CpuTensor]) -> Result<Vec<f32>> {
        Ok(tensors.iter().flat_map(|tensor| tensor.values.iter().copied()).collect())
    }

    fn wait(&self, reading: Vec<f32>) -> Result<Vec<f32>> {
        Ok(reading)
    }

    fn record<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, Option<Infallible>)> {
        Ok((work()?, None))
    }

    fn replay(&self, recording: &Infallible) -> Result<()> {
        match *recording {}
    }

    fn announce(&self, _step: AdamStep) -> Result<()> {
        Ok(())
    }

    fn zero(&self, tensor: &mut CpuTensor) -> Result<()> {
        parallel::zero(self, &mut tensor.values);
        Ok(())
    }

    fn add_assign(&self, into: &mut CpuTensor, other: &CpuTensor) -> Result<()> {
        contract::add_assign(into.dimensions(), other.dimensions())?;
        parallel::add_assign(self, &mut into.values, &other.values);
        Ok(())
    }

    fn embedding(&self, table: &CpuTensor, positions: &CpuTensor, ids: &CpuTokens, first: usize) -> Result<CpuTensor> {
        let dims = contract::embedding(table.dimensions(), positions.dimensions(), ids.shape, first)?;
        tokens::check_rows(&ids.ids, dims.rows)?;
        let mut y = self.shaped("embedding", &[dims.batch, dims.tokens, dims.width])?;
        let positions = &positions.values[first * dims.width..];
        embedding::embedding(self, dims, &table.values, positions, &ids.ids, &mut y.values);
        Ok(y)
    }

    fn embedding_backward(
        &self,
        dy: &CpuTensor,
        ids: &CpuTokens,
        d_table: &mut CpuTensor,
        d_positions: &mut CpuTensor,
    ) -> Result<()> {
        let (table, positions) = (d_table.dimensions(), d_positions.dimensions());
        let dims = contract::embedding_backward(dy.dimensions(), ids.shape, table, positions)?;
        tokens::check_rows(&ids.ids, dims.rows)?;
        let (d_table, d_positions) = (&mut d_table.values, &mut d_positions.values);
        embedding::embedding_backward(self, dims, &dy.values, &ids.ids, d_table, d_positions);
        Ok(())
    }

    fn layernorm(
        &self,
        norm: Norm,
        x: &CpuTensor,
        gain: &CpuTensor,
        bias: Option<&CpuTensor>,
    ) -> Result<LayerNormed<CpuTensor>> {
        let dims = contract::layernorm(x.dimensions(), gain.dimensions(), dimensions(bias))?;
        let (mut normed, mut stats) = (self.tensor(x.shape), self.shaped("layernorm", &[dims.rows, 2])?);
        let (y, stats_out) = (&mut normed.values, &mut stats.values);
        layernorm::layernorm(self, dims, norm, &x.values, &gain.values, values(bias), y, stats_out);
        Ok(LayerNormed { normed, stats })
    }

    fn residual_layernorm(
        &self,
        norm: Norm,
        x: &CpuTensor,
        delta: &CpuTensor,
        gain: &CpuTensor,
        bias: Option<&CpuTensor>,
    ) -> Result<ResidualLayerNormed<CpuTensor>> {
        let (x_shape, delta_shape) = (x.dimensions(), delta.dimensions());
        let dims = contract::residual_layernorm(x_shape, delta_shape, gain.dimensions(), dimensions(bias))?;
        let mut out = ResidualLayerNormed {
            sum: self.tensor(x.shape),
            normed: self.tensor(x.shape),
            stats: self.shaped("residual_layernorm", &[dims.rows, 2])?,
        };
        layernorm::residual_layernorm(
            self,
            dims,
            norm,
            &x.values,
            &delta.values,
            &gain.values,
            values(bias),
            &mut out.sum.values,
            &mut out.normed.values,
            &mut out.stats.values,
        );
        Ok(out)
    }

    fn layernorm_backward(
        &self,
        norm: Norm,
        dy: &CpuTensor,
        x: &CpuTensor,
        gain: &CpuTensor,
        stats: &CpuTensor,
        d_stream: Option<CpuTensor>,
        d_gain: &mut CpuTensor,
        d_bias: Option<&mut CpuTensor>,
    ) -> Result<CpuTensor> {
        let dims = contract::layernorm_backward(
            dy.dimensions(),
            x.dimensions(),
            gain.dimensions(),
            stats.dimensions(),
            dimensions(d_stream.as_ref()),
            d_gain.dimensions(),
            dimensions(d_bias.as_deref()),
        )?;
        let saved = layernorm::Saved { dy: dy.values(), x: x.values(), gain: gain.values(), stats: stats.values() };
        let add = d_stream.is_some();
        let mut dx = d_stream.unwrap_or_else(|| self.tensor(x.shape));
        let (d_gain, d_bias) = (&mut d_gain.values, values_mut(d_bias));
        layernorm::layernorm_backward(self, dims, norm, saved, add, &mut dx.values, d_gain, d_bias);
        Ok(dx)
    }

    fn linear(
        &self,
        x: &CpuTensor,
        weight: &CpuTensor,
        layout: WeightLayout,
        bias: Option<&CpuTensor>,
    ) -> Result<CpuTensor> {
        let dims = contract::linear(x.dimensions(), weight.dimensions(), layout, dimensions(bias))?;
        let mut y = self.tensor(x.shape.with_last(dims.outputs));
        linear::linear(self, dims, &x.values, &weight.values, layout, values(bias), &mut y.values);
        Ok(y)
    }

    fn linear_backward(
        &self,
        dy: &CpuTensor,
        x: &CpuTensor,
        weight: &CpuTensor,
        layout: WeightLayout,
        d_weight: &mut CpuTensor,
        d_bias: Option<&mut CpuTensor>,
    ) -> Result<CpuTensor> {
        let dims = contract::linear_backward(
            dy.dimensions(),
            x.dimensions(),
            weight.dimensions(),
            layout,
            d_weight.dimensions(),
            dimensions(d_bias.as_deref()),
        )?;
        let mut dx = self.tensor(x.shape);
        linear::linear_backward(
            self,
            dims,
            &dy.values,
            &x.values,
            &weight.values,
            layout,
            &mut dx.values,
            &mut d_weight.values,
            values_mut(d_bias),
        );
        Ok(dx)
    }

    fn mlp(
        &self,
        x: &CpuTensor,
        weights: MlpWeights<'_, CpuTensor>,
        activation: Activation,
    ) -> Result<MlpOutput<CpuTensor>> {
        let dims = contract::mlp(x.dimensions(), weights.shapes())?;
        let (mut hidden, mut output) = (self.tensor(x.shape.with_last(dims.hidden)), self.tensor(x.shape));
        mlp::mlp(self, dims, &x.values, weights.values(), activation, &mut hidden.values, &mut output.values);
        Ok(MlpOutput { output, hidden })
    }

    fn mlp_backward(
        &self,
        dy: &CpuTensor,
        x: &CpuTensor,
        hidden: &CpuTensor,
        weights: MlpWeights<'_, CpuTensor>,
        activation: Activation,
        gradients: MlpGradients<'_, CpuTensor>,
    ) -> Result<CpuTensor> {
        let (dy_shape, x_shape, hidden_shape) = (dy.dimensions(), x.dimensions(), hidden.dimensions());
        let dims = contract::mlp_backward(dy_shape, x_shape, hidden_shape, weights.shapes(), gradients.shapes())?;
        let mut dx = self.tensor(x.shape);
        mlp::mlp_backward(
            self,
            dims,
            &dy.values,
            &x.values,
            &hidden.values,
            weights.values(),
            activation,
            gradients.values(),
            &mut dx.values,
        );
        Ok(dx)
    }

    fn attention(&self, qkv: &CpuTensor, heads: usize, mask: Mask) -> Result<Attended<CpuTensor>> {
        let dims = contract::attention(qkv.dimensions(), heads)?;
        let mut output = self.tensor(qkv.shape.with_last(dims.width()));
        let mut logsumexp = self.shaped("attention", &[dims.batch, heads, dims.tokens])?;
        attention::attention(self, dims, mask, &qkv.values, &mut output.values, &mut logsumexp.values);
        Ok(Attended { output, logsumexp })
    }

    fn attention_backward(
        &self,
        dy: &CpuTensor,
        qkv: &CpuTensor,
        output: &CpuTensor,
        logsumexp: &CpuTensor,
        heads: usize,
        mask: Mask,
    ) -> Result<CpuTensor> {
        let (saved, lse) = (output.dimensions(), logsumexp.dimensions());
        let dims = contract::attention_backward(dy.dimensions(), qkv.dimensions(), saved, lse, heads)?;
        let mut d_qkv = self.tensor(qkv.shape);
        let (dy, qkv, output, lse) = (dy.values(), qkv.values(), output.values(), logsumexp.values());
        attention::attention_backward(self, dims, mask, dy, qkv, output, lse, &mut d_qkv.values);
        Ok(d_qkv)
    }

    fn attention_decode(
        &self,
        qkv: &CpuTensor,
        keys: &mut CpuTensor,
        values: &mut CpuTensor,
        position: usize,
        heads: usize,
    ) -> Result<CpuTensor> {
        let (key_shape, value_shape) = (keys.dimensions(), values.dimensions());
        let dims = contract::attention_decode(qkv.dimensions(), key_shape, value_shape, position, heads)?;
        let mut output = self.tensor(qkv.shape.with_last(heads * dims.head_dim));
        let (keys, values) = (&mut keys.values, &mut values.values);
        attention_decode::attention_decode(self, dims, &qkv.values, keys, values, position, &mut output.values);
        Ok(output)
    }

    fn cross_entropy(
        &self,
        mut logits: CpuTensor,
        targets: &CpuTokens,
        weights: &CpuTensor,
    ) -> Result<CrossEntropy<CpuTensor>> {
        let dims = contract::cross_entropy(logits.dimensions(), targets.shape, weights.dimensions())?;
        tokens::check_targets(&targets.ids, &weights.values, dims.vocabulary)?;
        let (mut loss, mut nll) = (self.shaped("cross_entropy", &[1])?, self.shaped("cross_entropy", &[dims.rows])?);
        let gradient = &mut logits.values;
        loss.values[0] =
            cross_entropy::cross_entropy(self, dims, gradient, &targets.ids, &weights.values, &mut nll.values);
        Ok(CrossEntropy { loss, nll, d_logits: logits })
    }

    fn mean_pool(&self, x: &CpuTensor) -> Result<CpuTensor> {
        let dims = contract::mean_pool(x.dimensions())?;
        let mut y = self.shaped("mean_pool", &[dims.batch, dims.width])?;
        mean_pool::mean_pool(self, dims, &x.values, &mut y.values);
        Ok(y)
    }

    fn mean_pool_backward(&self, dy: &CpuTensor, tokens: usize) -> Result<CpuTensor> {
        let dims = contract::mean_pool_backward(dy.dimensions(), tokens)?;
        let mut dx = self.shaped("mean_pool_backward", &[dims.batch, tokens, dims.width])?;
        mean_pool::mean_pool_backward(self, dims, &dy.values, &mut dx.values);
        Ok(dx)
    }

    fn global_norm(&self, tensors: &[CpuTensor]) -> Result<CpuTensor> {
        let squares: f64 = tensors.iter().map(|tensor| global_norm::sum_of_squares(self, &tensor.values)).sum();
        self.upload(&[1], &[squares.sqrt() as f32])
    }

    fn adam(
        &self,
        parameter: &mut CpuTensor,
        gradient: &CpuTensor,
        first_moment: &mut CpuTensor,
        second_moment: &mut CpuTensor,
        step: AdamStep,
        clip: Option<Clip<'_, CpuTensor>>,
    ) -> Result<()> {
        contract::adam(
            parameter.dimensions(),
            gradient.dimensions(),
            first_moment.dimensions(),
            second_moment.dimensions(),
            clip.as_ref().map(|clip| clip.norm.dimensions()),
            step.step,
        )?;
        let clip = clip.map_or(1.0, |clip| (clip.max_norm / clip.norm.values[0]).min(1.0));
        let (first, second) = (&mut first_moment.values, &mut second_moment.values);
        adam::adam(self, &mut parameter.values, &gradient.values, first, second, step, clip);
        Ok(())
    }

    fn sample(&self, logits: &CpuTensor, options: SampleOptions, uniforms: &[f32]) -> Result<CpuTokens> {
        let dims = contract::sample(logits.dimensions(), options, uniforms)?;
        let rows = logits.values.chunks_exact(dims.vocabulary).zip(uniforms);
        let ids = rows.map(|(logits, &uniform)| sample::sample(logits, options, uniform)).collect();
        Ok(CpuTokens { shape: [dims.rows, 1], ids })
    }
}
