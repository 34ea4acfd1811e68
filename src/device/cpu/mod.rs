//! The CPU device: f32, all cores, vectors of whatever width the machine has.
//!
//! Results are bit for bit the same on any number of threads: work is cut into blocks of fixed size, and sums over
//! blocks are combined in order.

mod adam;
mod attention;
mod attention_decode;
mod attention_prefill;
mod beside;
mod capture;
mod cross_entropy;
mod elementwise;
mod ema;
mod embedding;
mod few_rows;
mod gemm;
mod global_norm;
mod lap;
mod layernorm;
mod linear;
mod math;
mod mean_pool;
mod mlp;
mod packed_cache;
mod parallel;
mod prefetch;
mod residual;
mod sample;
mod spike;
mod tensor;
mod tensors;
mod timing;

use std::sync::{Arc, Mutex};

#[cfg(test)]
pub(crate) use gemm::scratch as gemm_scratch;
pub use tensor::{CpuTensor, CpuTokens};
pub use timing::{OpTime, OpTimes};

use self::gemm::Kernel;
use self::tensor::{Buffer, Pool};
use super::shape::Shape;
use super::{Error, MemoryUse, Precision, Result};

/// The processor's cores and their memory.
pub struct CpuDevice {
    threads: usize,
    pool: rayon::ThreadPool,
    memory: Arc<Pool>,
    /// What GEMMs are multiplied by.
    kernel: &'static dyn Kernel,
    /// How keys, values and weights are stored while images are drawn.
    drawing: Precision,
    /// Times of ops, if they are kept.
    times: Option<Mutex<OpTimes>>,
}

impl CpuDevice {
    /// A device of `threads` threads; `None` for one per core.
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
            Some(0) => return Err(Error::unavailable("0 threads compute nothing", "ask for at least 1")),
            Some(threads) => threads,
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("cpu-device-{index}"))
            .build()
            .map_err(|error| Error::unavailable(format!("cannot start {threads} threads: {error}"), "ask for fewer"))?;
        Ok(Self {
            threads,
            pool,
            memory: Pool::new(poison),
            kernel: gemm::fastest(),
            drawing: Precision::F32,
            times: None,
        })
    }

    /// The same with what a step of drawing reads in this precision: bf16 is half the memory to read, and rounds keys and values in caches,
    /// and the weights by which one position of each image, `[B, 1, d]`, is multiplied; all else stays f32.
    pub fn drawing_in(self, drawing: Precision) -> Self {
        Self { drawing, ..self }
    }

    /// Threads that compute.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Bytes in tensors and scratch now and at the peak, and bytes taken from the system.
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
