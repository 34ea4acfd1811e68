//! Tensors made, filled and read in the machine's memory.

use super::tensor::{CpuTensor, CpuTokens};
use super::{CpuDevice, few_rows};
use crate::device::{ElementwiseOps, GemmRate, GpuMemory, Precision, Result, Tensors, shape_check};

impl Tensors for CpuDevice {
    type Tensor = CpuTensor;
    type Tokens = CpuTokens;
    type PendingRead = Vec<f32>;
    type Staging = Vec<f32>;

    const ASYNCHRONOUS: bool = false;

    fn describe(&self) -> String {
        format!("cpu ({} thread{})", self.threads, if self.threads == 1 { "" } else { "s" })
    }

    fn arithmetic(&self) -> String {
        let drawing = if self.drawing == Precision::Bf16 { ", caches and weights in bf16" } else { "" };
        format!("vectors of {} floats{drawing}", few_rows::vector_floats())
    }

    fn precision(&self) -> Precision {
        Precision::F32
    }

    fn own_memory(&self) -> Option<u64> {
        None
    }

    fn pci_bus_id(&self) -> Option<String> {
        None
    }

    fn gemm_rate(&self) -> Result<Option<GemmRate>> {
        Ok(None)
    }

    fn upload(&self, shape: &[usize], values: &[f32]) -> Result<CpuTensor> {
        shape_check::upload(shape, values.len())?;
        let mut tensor = self.shaped("upload", shape)?;
        tensor.values.copy_from_slice(values);
        Ok(tensor)
    }

    fn zeros(&self, shape: &[usize]) -> Result<CpuTensor> {
        let mut tensor = self.shaped("zeros", shape)?;
        self.zero(&mut tensor)?;
        Ok(tensor)
    }

    fn zeros_narrow(&self, shape: &[usize]) -> Result<CpuTensor> {
        self.zeros(shape)
    }

    fn zeros_on_host(&self, shape: &[usize]) -> Result<CpuTensor> {
        self.zeros(shape)
    }

    fn upload_to_host(&self, shape: &[usize], values: &[f32]) -> Result<CpuTensor> {
        self.upload(shape, values)
    }

    fn round(&self, from: &CpuTensor, to: &mut CpuTensor) -> Result<()> {
        shape_check::round(from.dimensions(), to.dimensions())?;
        to.values.copy_from_slice(from.values());
        Ok(())
    }

    fn download(&self, tensor: &CpuTensor) -> Result<Vec<f32>> {
        Ok(tensor.values.to_vec())
    }

    fn staging(&self, count: usize) -> Result<Vec<f32>> {
        Ok(vec![0.0; count])
    }

    fn fetch(
        &self,
        tensor: &CpuTensor,
        first: usize,
        count: usize,
        staging: &mut Vec<f32>,
        start: usize,
    ) -> Result<()> {
        shape_check::copy(tensor.dimensions(), first, &[staging.len()], start, count)?;
        staging[start..start + count].copy_from_slice(&tensor.values[first..first + count]);
        Ok(())
    }

    fn overwrite(&self, tensor: &mut CpuTensor, values: &[f32]) -> Result<()> {
        shape_check::overwrite(tensor.dimensions(), values.len())?;
        tensor.values.copy_from_slice(values);
        Ok(())
    }

    fn gather(&self, tensor: &CpuTensor, rows: &[usize]) -> Result<CpuTensor> {
        let (shape, slice) = shape_check::gather(tensor.dimensions(), rows)?;
        let mut gathered = self.shaped("gather", &shape)?;
        for (to, row) in gathered.values.chunks_exact_mut(slice).zip(rows) {
            to.copy_from_slice(&tensor.values()[row * slice..][..slice]);
        }
        Ok(gathered)
    }

    fn copy(&self, from: &CpuTensor, first: usize, to: &mut CpuTensor, start: usize, count: usize) -> Result<()> {
        shape_check::copy(from.dimensions(), first, to.dimensions(), start, count)?;
        to.values[start..start + count].copy_from_slice(&from.values[first..first + count]);
        Ok(())
    }

    fn gpu_memory(&self, _tensor: &mut CpuTensor) -> Result<Option<GpuMemory>> {
        Ok(None)
    }

    fn host_memory<'t>(&self, tensor: &'t mut CpuTensor) -> Option<&'t mut [f32]> {
        Some(&mut tensor.values)
    }

    fn shape<'t>(&self, tensor: &'t CpuTensor) -> &'t [usize] {
        tensor.dimensions()
    }

    fn upload_tokens(&self, shape: [usize; 2], ids: &[u16]) -> Result<CpuTokens> {
        shape_check::upload_tokens(shape, ids.len())?;
        Ok(CpuTokens { shape, ids: ids.to_vec() })
    }

    fn overwrite_tokens(&self, tokens: &mut CpuTokens, ids: &[u16]) -> Result<()> {
        shape_check::upload_tokens(tokens.shape, ids.len())?;
        tokens.ids.copy_from_slice(ids);
        Ok(())
    }

    fn download_tokens(&self, tokens: &CpuTokens) -> Result<Vec<u16>> {
        Ok(tokens.ids.clone())
    }

    fn read(&self, tensors: &[&CpuTensor]) -> Result<Vec<f32>> {
        Ok(tensors.iter().flat_map(|tensor| tensor.values.iter().copied()).collect())
    }

    fn wait(&self, pending: Vec<f32>) -> Result<Vec<f32>> {
        Ok(pending)
    }
}
