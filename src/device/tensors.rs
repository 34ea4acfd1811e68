//! Tensors: making them, filling them, reading them.

use super::{GemmRate, Precision, Result};

/// A tensor's memory on a GPU, as floats; values of 16 bits are then two to a float.
#[derive(Clone, Copy, Debug)]
pub struct GpuMemory {
    /// Address of the first.
    pub address: u64,
    /// How many there are.
    pub count: usize,
    /// The `CUstream` of the order that work is asked of now: the main one, or the one beside it. Null on a device that only counts.
    pub stream: *mut std::ffi::c_void,
}

/// What holds tensors.
///
/// Tensors that a method returns are new. No tensor is empty, and none has more than
/// [`MAX_RANK`](super::shape_check::MAX_RANK) dimensions.
pub trait Tensors: Sized + 'static {
    /// A dense row-major array of floats.
    type Tensor;
    /// A dense row-major array of token ids.
    type Tokens;
    /// Values whose copy to the host is in flight (a readback).
    type PendingRead;
    /// Floats of the host that the device copies to at its fastest, and that another thread may read.
    type Staging: AsRef<[f32]> + Send + 'static;

    /// Whether ops return before their work is done, so that the host can prepare the next step meanwhile.
    const ASYNCHRONOUS: bool;

    /// What the device is, for people: `cpu (2 threads)`.
    fn describe(&self) -> String;
    /// What decides the last bits of results beside the work itself: a processor's vectors, a card's generation.
    fn arithmetic(&self) -> String;
    /// How it stores what ops return, and weights that only GEMMs read.
    fn precision(&self) -> Precision;
    /// Bytes of memory that is the device's own; `None` if its tensors lie in the machine's.
    fn own_memory(&self) -> Option<u64>;
    /// Where it is on the PCI bus, as NVML spells it (`00000000:01:00.0`); `None` if it is no card.
    fn pci_bus_id(&self) -> Option<String>;
    /// Measures what its own GEMM reaches in its precision, which takes a moment and leaves no memory taken; `None` if it is
    /// no card.
    ///
    /// # Errors
    /// Those of the device.
    fn gemm_rate(&self) -> Result<Option<GemmRate>>;

    /// Copies `values` (row-major, as many as `shape` holds) to the device.
    fn upload(&self, shape: &[usize], values: &[f32]) -> Result<Self::Tensor>;
    /// A tensor of zeros.
    fn zeros(&self, shape: &[usize]) -> Result<Self::Tensor>;
    /// The same in the device's own precision: of weights that only GEMMs read, whose master copy is elsewhere.
    fn zeros_narrow(&self, shape: &[usize]) -> Result<Self::Tensor>;
    /// The same in the host's memory, where the device's ops read and write them over the bus; as [`Tensors::zeros`] where the
    /// device's memory is the machine's. For what is large and rarely touched, by ops that stream through it.
    ///
    /// # Errors
    /// [`Error::Unavailable`](super::Error::Unavailable) where the host gives no more.
    fn zeros_on_host(&self, shape: &[usize]) -> Result<Self::Tensor>;
    /// [`Tensors::upload`] to the host's memory, as [`Tensors::zeros_on_host`].
    fn upload_to_host(&self, shape: &[usize], values: &[f32]) -> Result<Self::Tensor>;
    /// Rounds the values of `from`, f32, to the precision of `to`, of as many elements.
    fn round(&self, from: &Self::Tensor, to: &mut Self::Tensor) -> Result<()>;
    /// Copies a tensor's values to the host.
    fn download(&self, tensor: &Self::Tensor) -> Result<Vec<f32>>;
    /// `count` floats of the host, zero: page-locked on a GPU, where the system has so many pages to lock.
    fn staging(&self, count: usize) -> Result<Self::Staging>;
    /// Copies `count` values of a tensor, from element `first` on, over those of `staging` from element `start` on.
    fn fetch(
        &self,
        tensor: &Self::Tensor,
        first: usize,
        count: usize,
        staging: &mut Self::Staging,
        start: usize,
    ) -> Result<()>;
    /// Overwrites a tensor with values from the host.
    fn overwrite(&self, tensor: &mut Self::Tensor, values: &[f32]) -> Result<()>;
    /// The slices `rows` along a tensor's first axis, in this order and as often as named: `[B, ..] → [rows, ..]`.
    fn gather(&self, tensor: &Self::Tensor, rows: &[usize]) -> Result<Self::Tensor>;
    /// Copies `count` elements of `from`, from element `first` on, over those of `to` from element `start` on. Both are of
    /// one precision: f32, as all that the host makes, or that of [`Tensors::zeros_narrow`].
    fn copy(&self, from: &Self::Tensor, first: usize, to: &mut Self::Tensor, start: usize, count: usize) -> Result<()>;
    /// Where a tensor lies on a GPU, for libraries that work there in the order of that stream; `None` on a device whose
    /// tensors lie in the machine's memory.
    ///
    /// # Errors
    /// An odd number of values of 16 bits.
    fn gpu_memory(&self, tensor: &mut Self::Tensor) -> Result<Option<GpuMemory>>;
    /// A tensor's values where they lie, for libraries that work in the machine's memory; `None` on a device whose tensors lie in
    /// its own.
    fn host_memory<'t>(&self, tensor: &'t mut Self::Tensor) -> Option<&'t mut [f32]>;
    /// A tensor's dimensions.
    fn shape<'t>(&self, tensor: &'t Self::Tensor) -> &'t [usize];

    /// Copies token ids to the device as `[B, T]`.
    fn upload_tokens(&self, shape: [usize; 2], ids: &[u16]) -> Result<Self::Tokens>;
    /// Overwrites tokens with the same number of them from the host.
    fn overwrite_tokens(&self, tokens: &mut Self::Tokens, ids: &[u16]) -> Result<()>;
    /// Copies token ids to the host.
    fn download_tokens(&self, tokens: &Self::Tokens) -> Result<Vec<u16>>;

    /// Starts to copy the values of all `tensors`, one after the other, to the host; the tensors may change at once.
    fn read(&self, tensors: &[&Self::Tensor]) -> Result<Self::PendingRead>;
    /// Waits for the values that [`Tensors::read`] copies, and for nothing that was asked of the device later.
    ///
    /// # Errors
    /// Whatever went wrong until then.
    fn wait(&self, pending: Self::PendingRead) -> Result<Vec<f32>>;
}
