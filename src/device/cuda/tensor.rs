//! Tensors: f32 from outside, the device's precision from its ops.
//!
//! In bf16, what the host makes (parameters, gradients, moments, caches) is f32: master weights, and accumulators that
//! lose no digits. What ops return is bf16. Where a GEMM wants a parameter in bf16, a rounded copy is made once and
//! kept beside it; Adam writes both, and anything else that changes the tensor drops the copy.

use std::cell::OnceCell;

use half::bf16;

use super::CudaDevice;
use super::kernel::{Grid, Kernel, kernel};
use super::memory::Buffer;
use super::pointer::Pointer;
use crate::device::shape::Shape;
use crate::device::{Error, Precision, Result};

const TO_BF16: Kernel<(Pointer, Pointer, u64)> = kernel!(TO_BF16);
const TO_F32: Kernel<(Pointer, Pointer, u64)> = kernel!(TO_F32);

/// A dense row-major array of floats on a [`CudaDevice`].
pub struct CudaTensor {
    pub(super) shape: Shape,
    pub(super) precision: Precision,
    values: Buffer,
    /// The same in bf16, if the values are f32 and something asked for it.
    copy: OnceCell<Buffer>,
}

impl CudaTensor {
    /// The dimensions.
    pub(super) fn dimensions(&self) -> &[usize] {
        self.shape.as_slice()
    }

    /// The values, to be read.
    pub(super) fn pointer(&self) -> Pointer {
        self.values.pointer()
    }

    /// The values, to be changed.
    pub(super) fn pointer_mut(&mut self) -> Pointer {
        self.copy.take();
        self.values.pointer()
    }

    /// The values of a parameter and its copy, if there is one, to be changed together.
    pub(super) fn both_mut(&mut self, op: &str) -> Result<(Pointer, Option<Pointer>)> {
        match self.precision {
            Precision::F32 => Ok((self.values.pointer(), self.copy.get().map(Buffer::pointer))),
            Precision::Bf16 => Err(Self::not_floats(op, "parameter")),
        }
    }

    pub(super) fn buffer(&self) -> &Buffer {
        &self.values
    }

    pub(super) fn buffer_mut(&mut self) -> &mut Buffer {
        self.copy.take();
        &mut self.values
    }

    /// The values of a gradient, moment or cache, which are f32 on every device.
    pub(super) fn floats_mut(&mut self, op: &str, argument: &str) -> Result<Pointer> {
        if self.precision == Precision::F32 {
            return Ok(self.pointer_mut());
        }
        Err(Self::not_floats(op, argument))
    }

    /// Refuses what an op of a bf16 device has returned.
    pub(super) fn check_floats(&self, op: &str, argument: &str) -> Result<()> {
        if self.precision == Precision::F32 { Ok(()) } else { Err(Self::not_floats(op, argument)) }
    }

    fn not_floats(op: &str, argument: &str) -> Error {
        Error::unavailable(format!("{op}: {argument} is bf16, the result of an op"), "make it with zeros or upload")
    }
}

/// Values to be read, perhaps converted for the time of an op.
pub(super) struct Operand {
    pointer: Pointer,
    /// Keeps a conversion alive.
    _converted: Option<Buffer>,
}

impl Operand {
    pub(super) fn pointer(&self) -> Pointer {
        self.pointer
    }
}

impl CudaDevice {
    /// Memory of `count` floats for the time of an op.
    pub(super) fn scratch(&self, count: usize) -> Result<Buffer> {
        self.memory.take(count * size_of::<f32>())
    }

    /// A tensor for an op to write.
    pub(super) fn tensor_of(&self, shape: Shape, precision: Precision) -> Result<CudaTensor> {
        let values = self.memory.take(shape.volume() * precision.bytes())?;
        Ok(CudaTensor { shape, precision, values, copy: OnceCell::new() })
    }

    /// A tensor for an op to write, of the device's precision.
    pub(super) fn tensor(&self, shape: Shape) -> Result<CudaTensor> {
        self.tensor_of(shape, self.precision)
    }

    /// A tensor of f32 for an op to write.
    pub(super) fn floats_of(&self, op: &'static str, shape: &[usize]) -> Result<CudaTensor> {
        self.tensor_of(Shape::new(op, shape)?, Precision::F32)
    }

    /// A tensor of f32 in the host's memory: `values`, and zeros behind them.
    pub(super) fn floats_of_host(&self, shape: Shape, values: &[f32]) -> Result<CudaTensor> {
        let values = self.memory.take_of_host(shape.volume() * size_of::<f32>(), values)?;
        Ok(CudaTensor { shape, precision: Precision::F32, values, copy: OnceCell::new() })
    }

    /// The values in the device's precision.
    pub(super) fn operand(&self, tensor: &CudaTensor) -> Result<Pointer> {
        if tensor.precision == self.precision {
            return Ok(tensor.pointer());
        }
        // A bf16 device's tensors are bf16 or, here, f32; an f32 device makes no others than f32.
        if let Some(copy) = tensor.copy.get() {
            return Ok(copy.pointer());
        }
        let count = tensor.shape.volume();
        // It lives as long as the tensor.
        let copy = self.memory.take_lasting(count * self.precision.bytes())?;
        self.convert(&TO_BF16, copy.pointer(), tensor.pointer(), count)?;
        Ok(tensor.copy.get_or_init(|| copy).pointer())
    }

    /// The values in f32.
    pub(super) fn floats(&self, tensor: &CudaTensor) -> Result<Operand> {
        if tensor.precision == Precision::F32 {
            return Ok(Operand { pointer: tensor.pointer(), _converted: None });
        }
        let count = tensor.shape.volume();
        let converted = self.scratch(count)?;
        self.convert(&TO_F32, converted.pointer(), tensor.pointer(), count)?;
        Ok(Operand { pointer: converted.pointer(), _converted: Some(converted) })
    }

    /// The values in f32, if there are any.
    pub(super) fn maybe_floats(&self, tensor: Option<&CudaTensor>) -> Result<Option<Operand>> {
        tensor.map(|tensor| self.floats(tensor)).transpose()
    }

    /// The tensor itself in the device's precision.
    pub(super) fn in_precision(&self, tensor: CudaTensor) -> Result<CudaTensor> {
        if tensor.precision == self.precision {
            return Ok(tensor);
        }
        let converted = self.tensor(tensor.shape)?;
        self.convert(&TO_BF16, converted.pointer(), tensor.pointer(), tensor.shape.volume())?;
        Ok(converted)
    }

    /// The values of a tensor of f32 over those of another, of as many elements, in the precision of that.
    pub(super) fn round_floats(&self, from: &CudaTensor, to: &mut CudaTensor) -> Result<()> {
        let count = from.shape.volume();
        match to.precision {
            Precision::F32 => to.buffer_mut().copy_within_device(0, from.buffer(), 0, count * size_of::<f32>()),
            Precision::Bf16 => self.convert(&TO_BF16, to.pointer_mut(), from.pointer(), count),
        }
    }

    fn convert(
        &self,
        kernel: &Kernel<(Pointer, Pointer, u64)>,
        to: Pointer,
        from: Pointer,
        count: usize,
    ) -> Result<()> {
        // SAFETY: both are whole buffers of `count` elements of the kernel's types.
        unsafe { self.driver.launch(kernel, self.strided(count, 4), (to, from, count as u64)) }
    }

    /// The grid of a kernel whose threads stride over `count` elements, `vector` at a time, and add nothing up: enough to
    /// fill the device, no more. A sum would hang on the device's multiprocessors.
    pub(super) fn strided(&self, count: usize, vector: usize) -> Grid {
        let blocks = count.div_ceil(256 * vector).clamp(1, self.driver.multiprocessors * 8);
        Grid::line(blocks, 256)
    }

    /// A tensor's values on the host.
    pub(super) fn values(&self, tensor: &CudaTensor) -> Result<Vec<f32>> {
        let count = tensor.shape.volume();
        match tensor.precision {
            Precision::F32 => {
                let mut values = vec![0.0f32; count];
                tensor.values.download(0, &mut values)?;
                Ok(values)
            }
            Precision::Bf16 => {
                let mut values = vec![bf16::ZERO; count];
                tensor.values.download(0, &mut values)?;
                Ok(values.into_iter().map(bf16::to_f32).collect())
            }
        }
    }
}

/// A dimension as kernels take it.
pub(super) fn int(value: usize) -> Result<i32> {
    i32::try_from(value).map_err(|_| {
        Error::unavailable(format!("a dimension of {value} is beyond what kernels count to"), "use a smaller batch")
    })
}
