//! The CUDA device: the kernels of `kernels/`, launched through NVIDIA's driver on one stream.
//!
//! In f32 everything is f32. In bf16 activations and the weights of products are bf16, and sums, statistics, gradients of
//! parameters, moments and master weights f32 ([`Precision`]). Results are deterministic: no kernel adds floats atomically,
//! and sums over blocks are combined in order. Nothing is allocated once a step's buffers have been taken for the first time.

mod adam;
mod attention;
mod attention_decode;
mod cross_entropy;
mod driver;
mod elementwise;
mod embedding;
mod global_norm;
mod host;
pub mod kernel;
mod layernorm;
mod linear;
mod mean_pool;
mod memory;
mod mlp;
mod partials;
mod recording;
mod sample;
mod survey;
mod tensor;
mod timing;

use std::cell::RefCell;
use std::rc::Rc;

pub use host::Reading;
pub use memory::Pointer;
pub use recording::Recording;
pub use survey::{Found, Survey, survey};
pub use tensor::{CudaTensor, CudaTokens};

use self::driver::Driver;
use self::memory::Pool;
use self::tensor::Known;
use super::{
    Activation, AdamStep, Attended, Clip, CrossEntropy, Device, LayerNormed, Mask, MemoryUse, MlpGradients, MlpOutput,
    MlpWeights, Norm, Precision, ResidualLayerNormed, Result, SampleOptions, WeightLayout, contract, tokens,
};

/// An NVIDIA GPU.
pub struct CudaDevice {
    // Before the driver: buffers are freed while its stream is there.
    factors: RefCell<Option<adam::Factors>>,
    readings: host::Readings,
    memory: Rc<Pool>,
    driver: Driver,
    precision: Precision,
}

impl CudaDevice {
    /// Device `ordinal` as the driver counts them, from 0.
    ///
    /// # Errors
    /// [`Error::Unavailable`](super::Error::Unavailable) if this build has no kernels, or the machine no driver, no such device, or one
    /// that is too old; each says what to do. [`Error::Driver`](super::Error::Driver) if the driver refuses.
    pub fn new(ordinal: usize, precision: Precision) -> Result<Self> {
        Self::build(ordinal, precision, false)
    }

    /// The same, for tests: every new tensor and all scratch memory is full of NaN, so that what an op forgets to write
    /// shows.
    pub fn poisoned(ordinal: usize, precision: Precision) -> Result<Self> {
        Self::build(ordinal, precision, true)
    }

    fn build(ordinal: usize, precision: Precision, poison: bool) -> Result<Self> {
        let driver = Driver::open(ordinal)?;
        let memory = Pool::new(driver.stream.clone(), poison);
        let readings = host::Readings::new(&driver.stream);
        Ok(Self { factors: RefCell::default(), readings, memory, driver, precision })
    }

    /// How numbers are stored.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// What tensors and scratch hold, held at most, and took from the driver.
    pub fn memory_use(&self) -> MemoryUse {
        self.memory.memory()
    }

    /// Waits until everything that was asked of the device is done.
    ///
    /// # Errors
    /// [`Error::Driver`](super::Error::Driver) with what went wrong since the last time.
    pub fn synchronize(&self) -> Result<()> {
        self.driver.synchronize()
    }
}

impl CudaTokens {
    /// Checks that every token is a row of a table of `rows`, or blank.
    fn check_rows(&self, rows: usize) -> Result<()> {
        match &self.known {
            Known::Ids(ids) => tokens::check_rows(ids, rows),
            Known::Below(below) if *below <= rows => Ok(()),
            Known::Below(_) => tokens::check_rows(&self.download()?, rows),
        }
    }

    /// Checks that every row that counts has a target below `vocabulary`; asks for the weights only if some token is not.
    fn check_targets(&self, vocabulary: usize, weights: impl FnOnce() -> Result<Vec<f32>>) -> Result<()> {
        let inside = match &self.known {
            Known::Ids(ids) => ids.iter().all(|&id| usize::from(id) < vocabulary),
            Known::Below(below) => *below <= vocabulary,
        };
        if inside { Ok(()) } else { tokens::check_targets(&self.download()?, &weights()?, vocabulary) }
    }

    fn download(&self) -> Result<Vec<u16>> {
        match &self.known {
            Known::Ids(ids) => Ok(ids.clone()),
            Known::Below(_) => {
                let mut ids = vec![0; self.shape.iter().product()];
                self.ids.download(&mut ids)?;
                Ok(ids)
            }
        }
    }
}

impl Device for CudaDevice {
    type Tensor = CudaTensor;
    type Tokens = CudaTokens;
    type Reading = Reading;
    type Recording = Recording;

    const ASYNCHRONOUS: bool = true;

    fn describe(&self) -> String {
        let precision = match self.precision {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        };
        let (major, minor) = self.driver.capability;
        format!("cuda ({}, compute capability {major}.{minor}, {precision})", self.driver.name)
    }
    fn own_memory(&self) -> Option<u64> {
        Some(self.driver.total_memory)
    }

    fn upload(&self, shape: &[usize], values: &[f32]) -> Result<CudaTensor> {
        contract::upload(shape, values.len())?;
        let mut tensor = self.floats_of("upload", shape)?;
        tensor.buffer_mut().upload(values)?;
        Ok(tensor)
    }

    fn zeros(&self, shape: &[usize]) -> Result<CudaTensor> {
        let mut tensor = self.floats_of("zeros", shape)?;
        elementwise::zero(&mut tensor)?;
        Ok(tensor)
    }

    fn download(&self, tensor: &CudaTensor) -> Result<Vec<f32>> {
        self.values(tensor)
    }

    fn overwrite(&self, tensor: &mut CudaTensor, values: &[f32]) -> Result<()> {
        contract::overwrite(tensor.dimensions(), values.len())?;
        match tensor.precision {
            Precision::F32 => tensor.buffer_mut().overwrite(values),
            Precision::Bf16 => {
                let values: Vec<half::bf16> = values.iter().copied().map(half::bf16::from_f32).collect();
                tensor.buffer_mut().overwrite(&values)
            }
        }
    }

    fn shape<'t>(&self, tensor: &'t CudaTensor) -> &'t [usize] {
        tensor.dimensions()
    }

    fn upload_tokens(&self, shape: [usize; 2], ids: &[u16]) -> Result<CudaTokens> {
        contract::upload_tokens(shape, ids.len())?;
        let mut buffer = self.memory.take(size_of_val(ids))?;
        buffer.upload(ids)?;
        Ok(CudaTokens { shape, ids: buffer, known: Known::Ids(ids.to_vec()) })
    }

    fn overwrite_tokens(&self, tokens: &mut CudaTokens, ids: &[u16]) -> Result<()> {
        contract::upload_tokens(tokens.shape, ids.len())?;
        tokens.ids.overwrite(ids)?;
        tokens.known = Known::Ids(ids.to_vec());
        Ok(())
    }

    fn download_tokens(&self, tokens: &CudaTokens) -> Result<Vec<u16>> {
        tokens.download()
    }

    fn read(&self, tensors: &[&CudaTensor]) -> Result<Reading> {
        let values = tensors.iter().map(|tensor| self.floats(tensor)).collect::<Result<Vec<_>>>()?;
        let parts = values.iter().zip(tensors).map(|(values, tensor)| (values.pointer(), tensor.shape.volume()));
        self.readings.start(parts)
    }

    fn wait(&self, reading: Reading) -> Result<Vec<f32>> {
        self.readings.finish(reading)
    }

    fn record<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, Option<Recording>)> {
        recording::record(self, work).map(|(value, recording)| (value, Some(recording)))
    }

    fn replay(&self, recording: &Recording) -> Result<()> {
        recording.replay()
    }

    fn announce(&self, step: AdamStep) -> Result<()> {
        adam::announce(self, step)
    }

    fn zero(&self, tensor: &mut CudaTensor) -> Result<()> {
        elementwise::zero(tensor)
    }

    fn add_assign(&self, into: &mut CudaTensor, other: &CudaTensor) -> Result<()> {
        elementwise::add_assign(self, into, other)
    }

    fn embedding(
        &self,
        table: &CudaTensor,
        positions: &CudaTensor,
        ids: &CudaTokens,
        first: usize,
    ) -> Result<CudaTensor> {
        embedding::embedding(self, table, positions, ids, first)
    }

    fn embedding_backward(
        &self,
        dy: &CudaTensor,
        ids: &CudaTokens,
        d_table: &mut CudaTensor,
        d_positions: &mut CudaTensor,
    ) -> Result<()> {
        embedding::embedding_backward(self, dy, ids, d_table, d_positions)
    }

    fn layernorm(
        &self,
        norm: Norm,
        x: &CudaTensor,
        gain: &CudaTensor,
        bias: Option<&CudaTensor>,
    ) -> Result<LayerNormed<CudaTensor>> {
        layernorm::layernorm(self, norm, x, gain, bias)
    }

    fn residual_layernorm(
        &self,
        norm: Norm,
        x: &CudaTensor,
        delta: &CudaTensor,
        gain: &CudaTensor,
        bias: Option<&CudaTensor>,
    ) -> Result<ResidualLayerNormed<CudaTensor>> {
        layernorm::residual_layernorm(self, norm, x, delta, gain, bias)
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
        layernorm::layernorm_backward(self, norm, dy, x, gain, stats, d_stream, d_gain, d_bias)
    }

    fn linear(
        &self,
        x: &CudaTensor,
        weight: &CudaTensor,
        layout: WeightLayout,
        bias: Option<&CudaTensor>,
    ) -> Result<CudaTensor> {
        linear::linear(self, x, weight, layout, bias)
    }

    fn linear_backward(
        &self,
        dy: &CudaTensor,
        x: &CudaTensor,
        weight: &CudaTensor,
        layout: WeightLayout,
        d_weight: &mut CudaTensor,
        d_bias: Option<&mut CudaTensor>,
    ) -> Result<CudaTensor> {
        linear::linear_backward(self, dy, x, weight, layout, d_weight, d_bias)
    }

    fn mlp(
        &self,
        x: &CudaTensor,
        weights: MlpWeights<'_, CudaTensor>,
        activation: Activation,
    ) -> Result<MlpOutput<CudaTensor>> {
        mlp::mlp(self, x, weights, activation)
    }

    fn mlp_backward(
        &self,
        dy: &CudaTensor,
        x: &CudaTensor,
        hidden: &CudaTensor,
        weights: MlpWeights<'_, CudaTensor>,
        activation: Activation,
        gradients: MlpGradients<'_, CudaTensor>,
    ) -> Result<CudaTensor> {
        mlp::mlp_backward(self, dy, x, hidden, weights, activation, gradients)
    }

    fn attention(&self, qkv: &CudaTensor, heads: usize, mask: Mask) -> Result<Attended<CudaTensor>> {
        attention::attention(self, qkv, heads, mask)
    }

    fn attention_backward(
        &self,
        dy: &CudaTensor,
        qkv: &CudaTensor,
        output: &CudaTensor,
        logsumexp: &CudaTensor,
        heads: usize,
        mask: Mask,
    ) -> Result<CudaTensor> {
        attention::attention_backward(self, dy, qkv, output, logsumexp, heads, mask)
    }

    fn attention_decode(
        &self,
        qkv: &CudaTensor,
        keys: &mut CudaTensor,
        values: &mut CudaTensor,
        position: usize,
        heads: usize,
    ) -> Result<CudaTensor> {
        attention_decode::attention_decode(self, qkv, keys, values, position, heads)
    }

    fn cross_entropy(
        &self,
        logits: CudaTensor,
        targets: &CudaTokens,
        weights: &CudaTensor,
    ) -> Result<CrossEntropy<CudaTensor>> {
        cross_entropy::cross_entropy(self, logits, targets, weights)
    }

    fn mean_pool(&self, x: &CudaTensor) -> Result<CudaTensor> {
        mean_pool::mean_pool(self, x)
    }

    fn mean_pool_backward(&self, dy: &CudaTensor, tokens: usize) -> Result<CudaTensor> {
        mean_pool::mean_pool_backward(self, dy, tokens)
    }

    fn global_norm(&self, tensors: &[CudaTensor]) -> Result<CudaTensor> {
        global_norm::global_norm(self, tensors)
    }

    fn adam(
        &self,
        parameter: &mut CudaTensor,
        gradient: &CudaTensor,
        first_moment: &mut CudaTensor,
        second_moment: &mut CudaTensor,
        step: AdamStep,
        clip: Option<Clip<'_, CudaTensor>>,
    ) -> Result<()> {
        adam::adam(self, parameter, gradient, first_moment, second_moment, step, clip)
    }

    fn sample(&self, logits: &CudaTensor, options: SampleOptions, uniforms: &[f32]) -> Result<CudaTokens> {
        sample::sample(self, logits, options, uniforms)
    }
}
