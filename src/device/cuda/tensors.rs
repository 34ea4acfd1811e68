//! Tensors made, filled and read on a CUDA device.

use half::bf16;

use super::pinned::{PendingRead, Staging};
use super::tensor::CudaTensor;
use super::tokens::{CudaTokens, Known};
use super::{CudaDevice, gemm_rate};
use crate::device::shape::Shape;
use crate::device::{ElementwiseOps, Error, GemmRate, GpuMemory, Precision, Result, Tensors, shape_check};

impl Tensors for CudaDevice {
    type Tensor = CudaTensor;
    type Tokens = CudaTokens;
    type PendingRead = PendingRead;
    type Staging = Staging;

    const ASYNCHRONOUS: bool = true;

    fn describe(&self) -> String {
        let precision = match self.precision {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        };
        let (major, minor) = self.driver.capability;
        format!("cuda ({}, compute capability {major}.{minor}, {precision})", self.driver.name)
    }

    fn arithmetic(&self) -> String {
        let (major, minor) = self.driver.capability;
        format!("compute capability {major}.{minor}")
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn own_memory(&self) -> Option<u64> {
        Some(self.driver.total_memory)
    }

    fn pci_bus_id(&self) -> Option<String> {
        self.driver.pci_bus_id.clone()
    }

    fn gemm_rate(&self) -> Result<Option<GemmRate>> {
        gemm_rate::measure(self)
    }

    fn upload(&self, shape: &[usize], values: &[f32]) -> Result<CudaTensor> {
        shape_check::upload(shape, values.len())?;
        let mut tensor = self.floats_of("upload", shape)?;
        tensor.buffer_mut().upload(values)?;
        Ok(tensor)
    }

    fn zeros(&self, shape: &[usize]) -> Result<CudaTensor> {
        let mut tensor = self.floats_of("zeros", shape)?;
        self.zero(&mut tensor)?;
        Ok(tensor)
    }

    fn zeros_narrow(&self, shape: &[usize]) -> Result<CudaTensor> {
        let mut tensor = self.tensor(Shape::new("zeros_narrow", shape)?)?;
        self.zero(&mut tensor)?;
        Ok(tensor)
    }

    fn zeros_on_host(&self, shape: &[usize]) -> Result<CudaTensor> {
        self.floats_of_host(Shape::new("zeros_on_host", shape)?, &[])
    }

    fn upload_to_host(&self, shape: &[usize], values: &[f32]) -> Result<CudaTensor> {
        shape_check::upload(shape, values.len())?;
        self.floats_of_host(Shape::new("upload_to_host", shape)?, values)
    }

    fn round(&self, from: &CudaTensor, to: &mut CudaTensor) -> Result<()> {
        shape_check::round(from.dimensions(), to.dimensions())?;
        from.check_floats("round", "from")?;
        self.round_floats(from, to)
    }

    fn download(&self, tensor: &CudaTensor) -> Result<Vec<f32>> {
        self.values(tensor)
    }

    fn staging(&self, count: usize) -> Result<Staging> {
        Staging::new(self.driver.stream.as_ref(), count)
    }

    fn fetch(
        &self,
        tensor: &CudaTensor,
        first: usize,
        count: usize,
        staging: &mut Staging,
        start: usize,
    ) -> Result<()> {
        let floats = staging.floats_mut();
        shape_check::copy(tensor.dimensions(), first, &[floats.len()], start, count)?;
        let to = &mut floats[start..start + count];
        match tensor.precision {
            Precision::F32 => tensor.buffer().download(first, to),
            Precision::Bf16 => {
                to.copy_from_slice(&self.values(tensor)?[first..first + count]);
                Ok(())
            }
        }
    }

    fn overwrite(&self, tensor: &mut CudaTensor, values: &[f32]) -> Result<()> {
        shape_check::overwrite(tensor.dimensions(), values.len())?;
        match tensor.precision {
            Precision::F32 => tensor.buffer_mut().overwrite(values),
            Precision::Bf16 => {
                let values: Vec<bf16> = values.iter().copied().map(bf16::from_f32).collect();
                tensor.buffer_mut().overwrite(&values)
            }
        }
    }

    fn gather(&self, tensor: &CudaTensor, rows: &[usize]) -> Result<CudaTensor> {
        let (shape, slice) = shape_check::gather(tensor.dimensions(), rows)?;
        let mut gathered = self.tensor_of(Shape::new("gather", &shape)?, tensor.precision)?;
        let (bytes, from) = (slice * tensor.precision.bytes(), tensor.buffer());
        // Neighbours that stay neighbours are one copy.
        let mut to = 0;
        for run in rows.chunk_by(|row, next| row + 1 == *next) {
            gathered.buffer_mut().copy_within_device(to * bytes, from, run[0] * bytes, run.len() * bytes)?;
            to += run.len();
        }
        Ok(gathered)
    }

    fn copy(&self, from: &CudaTensor, first: usize, to: &mut CudaTensor, start: usize, count: usize) -> Result<()> {
        shape_check::copy(from.dimensions(), first, to.dimensions(), start, count)?;
        if from.precision != to.precision {
            let cause = "copy: one tensor is bf16, the result of an op, and the other is not";
            return Err(Error::unavailable(cause, "round what is f32"));
        }
        let bytes = |elements: usize| elements * from.precision.bytes();
        to.buffer_mut().copy_within_device(bytes(start), from.buffer(), bytes(first), bytes(count))
    }

    fn gpu_memory(&self, tensor: &mut CudaTensor) -> Result<Option<GpuMemory>> {
        let bytes = tensor.shape.volume() * tensor.precision.bytes();
        if !bytes.is_multiple_of(size_of::<f32>()) {
            return Err(Error::unavailable("gpu_memory: an odd number of bf16 values", "add one"));
        }
        let (count, address) = (bytes / size_of::<f32>(), tensor.pointer_mut().0);
        self.driver.streams.check()?;
        let stream = self.driver.streams.current().map_or(std::ptr::null_mut(), |stream| stream.cu_stream().cast());
        Ok(Some(GpuMemory { address, count, stream }))
    }

    fn host_memory<'t>(&self, _tensor: &'t mut CudaTensor) -> Option<&'t mut [f32]> {
        None
    }

    fn shape<'t>(&self, tensor: &'t CudaTensor) -> &'t [usize] {
        tensor.dimensions()
    }

    fn upload_tokens(&self, shape: [usize; 2], ids: &[u16]) -> Result<CudaTokens> {
        shape_check::upload_tokens(shape, ids.len())?;
        let mut buffer = self.memory.take(size_of_val(ids))?;
        buffer.upload(ids)?;
        Ok(CudaTokens { shape, ids: buffer, known: Known::Ids(ids.to_vec()) })
    }

    fn overwrite_tokens(&self, tokens: &mut CudaTokens, ids: &[u16]) -> Result<()> {
        shape_check::upload_tokens(tokens.shape, ids.len())?;
        tokens.ids.overwrite(ids)?;
        tokens.known = Known::Ids(ids.to_vec());
        Ok(())
    }

    fn download_tokens(&self, tokens: &CudaTokens) -> Result<Vec<u16>> {
        tokens.download()
    }

    fn read(&self, tensors: &[&CudaTensor]) -> Result<PendingRead> {
        let values = tensors.iter().map(|tensor| self.floats(tensor)).collect::<Result<Vec<_>>>()?;
        self.driver.streams.check_main()?;
        let parts = values.iter().zip(tensors).map(|(values, tensor)| (values.pointer(), tensor.shape.volume()));
        self.readbacks.start(parts)
    }

    fn wait(&self, pending: PendingRead) -> Result<Vec<f32>> {
        self.readbacks.finish(pending)
    }
}
