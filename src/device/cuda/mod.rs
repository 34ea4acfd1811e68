//! The CUDA device: the kernels of `kernels/`, launched through NVIDIA's driver on one stream, and beside it on a second.
//!
//! In f32 everything is f32. In bf16, activations and matmul weights are bf16; accumulators, statistics, gradients of
//! parameters, moments and master weights are f32 ([`Precision`]). Results are deterministic: no kernel adds floats
//! atomically, and sums over blocks are combined in order. Nothing is allocated once a step's buffers have been taken
//! for the first time.

mod adam;
mod arrivals;
mod attention;
mod attention_backward_sm90;
mod attention_decode;
mod attention_prefill;
mod attention_sm90;
mod attention_variants;
mod beside;
mod capture;
mod context;
mod cross_entropy;
mod devices;
mod driver;
mod elementwise;
mod ema;
mod embedding;
mod epilogue;
mod error;
mod free_list;
mod functions;
mod gemm;
mod gemm_group;
mod gemm_rate;
mod global_norm;
mod host_memory;
pub mod kernel;
mod lap;
mod layernorm;
mod limits;
mod linear;
mod linear_layernorm_sm90;
mod linear_sm90;
mod mean_pool;
mod memory;
mod mlp;
mod pinned;
mod pointer;
mod reduce_partials;
mod release;
mod residual;
mod sample;
mod spike;
mod splits;
mod streams;
mod tensor;
mod tensor_list;
mod tensor_map;
mod tensors;
mod timing;
mod tokens;
mod trace;
mod weight_gradients;

use std::cell::RefCell;
use std::rc::Rc;

pub use capture::Recording;
pub use devices::{DeviceInfo, Devices, enumerate_devices};
pub use functions::FUNCTIONS;
pub use limits::SHARED_LIMITS;
pub use pinned::{PendingRead, Staging};
pub use pointer::Pointer;
pub use streams::Mark;
#[doc(hidden)]
pub use streams::{Wait, plant_missing};
pub use tensor::CudaTensor;
pub use tokens::CudaTokens;
pub use trace::{Trace, Traced, TracedCard, TracedLaunch, TracedMap};

use self::driver::Driver;
use self::memory::Pool;
use super::{MemoryUse, Precision, Result};

/// An NVIDIA GPU.
pub struct CudaDevice {
    // Before the driver: buffers are freed while its stream is there.
    factors: RefCell<Option<adam::Factors>>,
    arrivals: RefCell<Option<memory::Buffer>>,
    readbacks: pinned::Readbacks,
    memory: Rc<Pool>,
    driver: Driver,
    precision: Precision,
}

impl CudaDevice {
    /// Device `ordinal` as the driver counts them, from 0.
    ///
    /// # Errors
    /// [`Error::Unavailable`](super::Error::Unavailable) if this build has no kernels, or the machine no driver, no
    /// such device, or one that is too old; each says what to do. [`Error::Driver`](super::Error::Driver) if the driver
    /// refuses.
    pub fn new(ordinal: usize, precision: Precision) -> Result<Self> {
        Self::build(ordinal, precision, false)
    }

    /// The same, for tests: every new tensor and all scratch memory is full of NaN, so that what an op forgets to write
    /// shows.
    pub fn poisoned(ordinal: usize, precision: Precision) -> Result<Self> {
        Self::build(ordinal, precision, true)
    }

    fn build(ordinal: usize, precision: Precision, poison: bool) -> Result<Self> {
        Ok(Self::on(Driver::open(ordinal)?, precision, poison))
    }

    /// A device that computes nothing and has no memory, but counts what the same work would take of a GPU's, to the byte:
    /// it runs the same code up to the driver's calls. Whatever is read from it is zeros.
    pub fn counting(precision: Precision) -> Self {
        Self::on(Driver::counting(), precision, false)
    }

    /// The same, which besides writes down what would be launched on a card ([`CudaDevice::take_trace`]).
    pub fn tracing(precision: Precision, card: TracedCard) -> Self {
        Self::on(Driver::tracing(card), precision, false)
    }

    /// What a device that writes down was asked for since the last call; every buffer and upload so far.
    pub fn take_trace(&self) -> Trace {
        self.driver.tracer.as_ref().map_or_else(Trace::default, |tracer| tracer.take())
    }

    fn on(driver: Driver, precision: Precision, poison: bool) -> Self {
        let memory = Pool::new(Rc::clone(&driver.streams), driver.tracer.clone(), poison);
        let readbacks = pinned::Readbacks::new(driver.stream.clone());
        Self { factors: RefCell::default(), arrivals: RefCell::default(), readbacks, memory, driver, precision }
    }

    /// How numbers are stored.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Bytes in tensors and scratch now and at the peak, and bytes taken from the driver.
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
