//! Adam (`adam.cu`).

use super::CudaDevice;
use super::kernel::{Grid, Kernel, kernel};
use super::memory::Buffer;
use super::pointer::{NULL, Pointer};
use super::tensor::{CudaTensor, Operand, int};
use super::tensor_list::{self, Entry, TensorList};
use crate::device::ops::adam::{AdamOps, check, check_counts};
use crate::device::{AdamStep, Clip, Result};

/// A parameter with its gradient, moments and copy: `Updated` of `adam.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Updated {
    parameter: Pointer,
    gradient: Pointer,
    first: Pointer,
    second: Pointer,
    copy: Pointer,
    count: u32,
    end: u32,
}

impl Entry for Updated {
    const NONE: Self =
        Self { parameter: NULL, gradient: NULL, first: NULL, second: NULL, copy: NULL, count: 0, end: u32::MAX };

    fn count(&self) -> u32 {
        self.count
    }

    fn ending(self, end: u32) -> Self {
        Self { end, ..self }
    }
}

/// Parameters of a launch: the models of the paper take two to four.
type Parameters = TensorList<Updated, 80>;

const ADAM: Kernel<(Parameters, Pointer, Pointer, f32)> = kernel!(ADAM);

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
        parameters: &mut [CudaTensor],
        gradients: &[CudaTensor],
        first_moments: &mut [CudaTensor],
        second_moments: &mut [CudaTensor],
        step: AdamStep,
        clip: Option<Clip<'_, CudaTensor>>,
    ) -> Result<()> {
        const OP: &str = "adam";
        check_counts(parameters.len(), gradients.len(), first_moments.len(), second_moments.len())?;
        let norm_shape = clip.as_ref().map(|clip| clip.norm.dimensions());
        let operands = gradients.iter().map(|gradient| self.floats(gradient)).collect::<Result<Vec<_>>>()?;
        let norm = clip.as_ref().map(|clip| self.floats(clip.norm)).transpose()?;

        // Each parameter with its bf16 copy, where there is one.
        let mut tensors = Vec::with_capacity(parameters.len());
        let moments = first_moments.iter_mut().zip(second_moments);
        for (((parameter, gradient), operand), (first, second)) in
            parameters.iter_mut().zip(gradients).zip(&operands).zip(moments)
        {
            let shapes = [gradient, first, second].map(|tensor| tensor.dimensions());
            check(parameter.dimensions(), shapes[0], shapes[1], shapes[2], norm_shape, step.step)?;
            let count = int(parameter.shape.volume())? as u32;
            let (values, copy) = parameter.both_mut(OP)?;
            tensors.push(Updated {
                parameter: values,
                gradient: operand.pointer(),
                first: first.floats_mut(OP, "first_moment")?,
                second: second.floats_mut(OP, "second_moment")?,
                copy: copy.unwrap_or(NULL),
                count,
                end: 0,
            });
        }

        // The update of all.
        let factors = Factors::pointer(self, step)?;
        let max_norm = clip.as_ref().map_or(0.0, |clip| clip.max_norm);
        tensor_list::launches(&tensors, |list, blocks| {
            let arguments = (list, factors, norm.as_ref().map_or(NULL, Operand::pointer), max_norm);
            // SAFETY: `check` has checked the shapes; a copy is as long as its parameter.
            unsafe { self.driver.launch(&ADAM, Grid::line(blocks, 256), arguments) }
        })
    }
}
