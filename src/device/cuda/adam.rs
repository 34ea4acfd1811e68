//! Adam (`adam.cu`).

use super::CudaDevice;
use super::kernel::{Kernel, kernel};
use super::memory::Buffer;
use super::pointer::{NULL, Pointer};
use super::tensor::CudaTensor;
use crate::device::ops::adam::{AdamOps, check};
use crate::device::{AdamStep, Clip, Result};

type Adam = Kernel<(Pointer, Pointer, Pointer, Pointer, Pointer, Pointer, Pointer, f32, u64)>;
const ADAM: Adam = kernel!(ADAM);

/// A step's numbers as they lie on the device: `Factors` of `adam.cu`. All parameters of a step share them.
pub(super) struct Factors {
    step: AdamStep,
    buffer: Buffer,
}

impl Factors {
    fn numbers(step: AdamStep) -> [f32; 5] {
        // 1 − βᵗ in f64: in f32 it would be off by 1e-5 of itself at the first steps of β₂ = 0.999.
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(step.step as f64);
        [
            step.beta1,
            step.beta2,
            (f64::from(step.learning_rate) / correction(step.beta1)) as f32,
            (1.0 / correction(step.beta2).sqrt()) as f32,
            step.epsilon,
        ]
    }

    /// The numbers of `step` on the device, written only when the step has changed.
    fn pointer(device: &CudaDevice, step: AdamStep) -> Result<Pointer> {
        let mut slot = device.factors.borrow_mut();
        if let Some(factors) = slot.as_ref().filter(|factors| factors.step == step) {
            return Ok(factors.buffer.pointer());
        }
        let mut buffer = match slot.take() {
            Some(factors) => factors.buffer,
            None => device.memory.take_lasting(5 * size_of::<f32>())?,
        };
        buffer.overwrite(&Self::numbers(step))?;
        Ok(slot.insert(Self { step, buffer }).buffer.pointer())
    }
}

impl AdamOps for CudaDevice {
    fn set_adam_step(&self, step: AdamStep) -> Result<()> {
        Factors::pointer(self, step).map(drop)
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
        const OP: &str = "adam";
        check(
            parameter.dimensions(),
            gradient.dimensions(),
            first_moment.dimensions(),
            second_moment.dimensions(),
            clip.as_ref().map(|clip| clip.norm.dimensions()),
            step.step,
        )?;

        let count = parameter.shape.volume();
        let gradient = self.floats(gradient)?;
        let norm = clip.as_ref().map(|clip| self.floats(clip.norm)).transpose()?;

        // The update, and the bf16 copy of the parameter where there is one.
        let (values, copy) = parameter.both_mut(OP)?;
        let arguments = (
            values,
            gradient.pointer(),
            first_moment.floats_mut(OP, "first_moment")?,
            second_moment.floats_mut(OP, "second_moment")?,
            copy.unwrap_or(NULL),
            Factors::pointer(self, step)?,
            norm.as_ref().map_or(NULL, |norm| norm.pointer()),
            clip.as_ref().map_or(0.0, |clip| clip.max_norm),
            count as u64,
        );
        // SAFETY: `check` has checked the shapes; the copy is as long as the parameter.
        unsafe { self.driver.launch(&ADAM, self.strided(count, 4), arguments) }
    }
}
