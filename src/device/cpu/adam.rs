//! Adam, the whole update in one pass.

use multiversion::{multiversion, target::target_cfg_f};

use super::CpuDevice;
use super::math::mul_add;
use super::parallel::blocked;
use super::tensor::CpuTensor;
use crate::device::Result;
use crate::device::ops::adam::{AdamOps, AdamStep, Clip, check, check_counts};

/// Elements of a task.
const BLOCK: usize = 16 * 1024;

/// The numbers of one step, as the inner loop wants them.
#[derive(Clone, Copy)]
struct Factors {
    beta1: f32,
    beta2: f32,
    /// Learning rate over the first moment's bias correction.
    rate: f32,
    /// `1/√` of the second moment's bias correction.
    root: f32,
    epsilon: f32,
    /// What the gradient is scaled by to stay within the clip threshold; 1 if it is not clipped.
    clip: f32,
}

impl AdamOps for CpuDevice {
    fn set_adam_step(&self, _step: AdamStep) -> Result<()> {
        Ok(())
    }

    fn adam(
        &self,
        parameters: &mut [CpuTensor],
        gradients: &[CpuTensor],
        first_moments: &mut [CpuTensor],
        second_moments: &mut [CpuTensor],
        step: AdamStep,
        clip: Option<Clip<'_, CpuTensor>>,
    ) -> Result<()> {
        check_counts(parameters.len(), gradients.len(), first_moments.len(), second_moments.len())?;
        let norm_shape = clip.as_ref().map(|clip| clip.norm.dimensions());
        for (((parameter, gradient), first), second) in
            parameters.iter().zip(gradients).zip(&*first_moments).zip(&*second_moments)
        {
            let shapes = [parameter, gradient, first, second].map(CpuTensor::dimensions);
            check(shapes[0], shapes[1], shapes[2], shapes[3], norm_shape, step.step)?;
        }

        let elements: usize = parameters.iter().map(|parameter| parameter.values.len()).sum();
        let _timed = self.time("adam", 0.0, 7 * elements);

        // A gradient that is not finite must not reach the weights.
        let norm = clip.as_ref().map(|clip| clip.norm.values[0]);
        if norm.is_some_and(|norm| !norm.is_finite()) {
            return Ok(());
        }

        // 1 − βᵗ in f64: in f32 it would be off by 1e-5 of itself at the first steps of β₂ = 0.999.
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(step.step as f64);
        let factors = Factors {
            beta1: step.beta1,
            beta2: step.beta2,
            rate: (f64::from(step.learning_rate) / correction(step.beta1)) as f32,
            root: (1.0 / correction(step.beta2).sqrt()) as f32,
            epsilon: step.epsilon,
            clip: clip.map_or(1.0, |clip| (clip.max_norm / clip.norm.values[0]).min(1.0)),
        };

        let moments = first_moments.iter_mut().zip(second_moments);
        for ((parameter, gradient), (first, second)) in parameters.iter_mut().zip(gradients).zip(moments) {
            let gradient = gradient.values();
            let outputs = [&mut parameter.values, &mut first.values, &mut second.values];
            let outputs = outputs.map(|values| blocked(values, BLOCK));
            let blocks = gradient.len().div_ceil(BLOCK);
            self.for_each_block(blocks, gradient.len(), outputs, |index, [parameter, first, second]| {
                update(parameter, &gradient[index * BLOCK..][..first.len()], first, second, factors);
            });
        }
        Ok(())
    }
}

#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma"))]
fn update(parameter: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32], factors: Factors) {
    const FMA: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    let Factors { beta1, beta2, rate, root, epsilon, clip } = factors;
    for (((p, g), m), v) in parameter.iter_mut().zip(gradient).zip(first).zip(second) {
        let g = g * clip;
        *m = mul_add::<FMA>(beta1, *m, (1.0 - beta1) * g);
        *v = mul_add::<FMA>(beta2, *v, (1.0 - beta2) * g * g);
        *p -= rate * *m / mul_add::<FMA>(v.sqrt(), root, epsilon);
    }
}
