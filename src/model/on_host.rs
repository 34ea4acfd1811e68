//! What of a run lies in the host's memory instead of the device's: what only the update touches.
//!
//! Adam's kernel reads and writes it there, in both directions at once while it computes; nothing is copied, and no bit depends on it.
//!
//! | | moments | master weights |
//! |---|---|---|
//! | bf16, each rank with all of the optimiser | all | of what only GEMMs read, since those read the copies in bf16 |
//! | f32, likewise | all | none: they are the weights that the model computes with |
//! | ranks that share the optimiser out (ZeRO) | this rank's parts | this rank's parts |
//!
//! The average stays on the device: it would travel in both directions too, for half of what a moment of both takes.

use super::layout::is_matrix;
use crate::device::{Device, Precision, Result};
use crate::tape::ParameterSpec;

/// Which tensors of something that every parameter has one of lie in the host's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnHost {
    /// None.
    Nothing,
    /// Of matrices that only GEMMs read.
    Matrices,
    /// All.
    All,
}

impl OnHost {
    /// Of moments, in a run that is offloaded or not.
    pub fn moments(offload: bool) -> Self {
        if offload { Self::All } else { Self::Nothing }
    }

    /// Of weights, of which a rank has all or its parts.
    pub fn weights<D: Device>(device: &D, offload: bool, of_parts: bool) -> Self {
        match device.precision() {
            _ if !offload => Self::Nothing,
            _ if of_parts => Self::All,
            Precision::Bf16 => Self::Matrices,
            Precision::F32 => Self::Nothing,
        }
    }

    /// Whether this parameter's is one of them.
    pub fn has(self, spec: &ParameterSpec) -> bool {
        match self {
            Self::Nothing => false,
            Self::Matrices => is_matrix(spec),
            Self::All => true,
        }
    }

    /// A tensor of zeros for it.
    ///
    /// # Errors
    /// Those of the device.
    pub fn zeros<D: Device>(self, device: &D, spec: &ParameterSpec) -> Result<D::Tensor> {
        if self.has(spec) { device.zeros_on_host(&spec.shape) } else { device.zeros(&spec.shape) }
    }

    /// One of these values.
    ///
    /// # Errors
    /// Those of the device.
    pub fn upload<D: Device>(self, device: &D, spec: &ParameterSpec, values: &[f32]) -> Result<D::Tensor> {
        match self.has(spec) {
            true => device.upload_to_host(&spec.shape, values),
            false => device.upload(&spec.shape, values),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::CudaDevice;
    use crate::model::{ModelConfig, Preset, parameter_specs};

    #[test]
    fn what_only_the_update_touches_lies_on_the_host() {
        let specs = parameter_specs(&ModelConfig::preset(Preset::Tiny, 4));
        let names = |on_host: OnHost| -> Vec<String> {
            specs.iter().filter(|spec| on_host.has(spec)).map(|spec| spec.name.clone()).collect()
        };
        let [f32, bf16] = [Precision::F32, Precision::Bf16].map(CudaDevice::counting);
        assert_eq!(OnHost::weights(&bf16, false, false), OnHost::Nothing);
        assert_eq!(OnHost::weights(&f32, true, false), OnHost::Nothing);
        assert_eq!(names(OnHost::weights(&f32, true, true)).len(), specs.len());
        assert_eq!(names(OnHost::moments(true)).len(), specs.len());
        assert!(names(OnHost::moments(false)).is_empty());

        // Four matrices of each of four blocks, and the head; embeddings and norms are read by other ops.
        let matrices = names(OnHost::weights(&bf16, true, false));
        assert_eq!(matrices.len(), 17, "{matrices:?}");
        assert!(matrices.iter().all(|name| !name.contains("wte") && !name.contains("wpe") && !name.contains("ln_")));

        // Tensors are where that says, and counted there.
        let spec = specs.iter().find(|spec| is_matrix(spec)).unwrap();
        let held = [OnHost::All.zeros(&bf16, spec).unwrap(), OnHost::Nothing.zeros(&bf16, spec).unwrap()];
        let memory = bf16.memory_use();
        assert_eq!((memory.host, memory.in_use), (4 * spec.elements(), 4 * spec.elements()));
        drop(held);
        assert_eq!(bf16.memory_use().host, 0);
    }
}
