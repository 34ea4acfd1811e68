//! Adam (Kingma & Ba 2015) with the paper's settings: β 0.9 / 0.95, ε 1e-8, no weight decay.

use crate::device::{AdamStep, Clip, Device, Result};
use crate::tape::Parameters;

/// Settings that stay fixed over a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamConfig {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment; 0.999 gave the paper's authors loss spikes.
    pub beta2: f32,
    /// Added to the root of the second moment; the paper does not say, this is the usual one.
    pub epsilon: f32,
    /// Clip threshold of the gradients' global norm; `None` for no clipping, as in the paper.
    pub clip: Option<f32>,
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, clip: None }
    }
}

/// The optimiser's state: two moments per parameter, and how many updates were made.
pub struct Adam<D: Device> {
    config: AdamConfig,
    first_moments: Vec<D::Tensor>,
    second_moments: Vec<D::Tensor>,
    step: u64,
}

impl<D: Device> Adam<D> {
    /// Zero moments.
    pub fn new(device: &D, parameters: &Parameters<D>, config: AdamConfig) -> Result<Self> {
        let (first, second) = (parameters.zeros_like(device)?, parameters.zeros_like(device)?);
        Ok(Self::resume(config, first, second, 0))
    }

    /// The state after `step` updates, as a checkpoint held it; moments in the order of the parameters.
    pub fn resume(
        config: AdamConfig,
        first_moments: Vec<D::Tensor>,
        second_moments: Vec<D::Tensor>,
        step: u64,
    ) -> Self {
        Self { config, first_moments, second_moments, step }
    }

    /// First moments, in the order of the parameters.
    pub fn first_moments(&self) -> &[D::Tensor] {
        &self.first_moments
    }

    /// Second moments, in the order of the parameters.
    pub fn second_moments(&self) -> &[D::Tensor] {
        &self.second_moments
    }

    /// Updates made so far.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Updates all parameters; returns the gradients' global norm before clipping, one element on the device.
    pub fn update(
        &mut self,
        device: &D,
        parameters: &mut Parameters<D>,
        gradients: &[D::Tensor],
        learning_rate: f32,
    ) -> Result<D::Tensor> {
        let step = self.begin(device, learning_rate)?;
        self.apply(device, parameters, gradients, step)
    }

    /// Counts one more update and sets it on the device, for [`Adam::apply`] or a recording of it.
    pub fn begin(&mut self, device: &D, learning_rate: f32) -> Result<AdamStep> {
        self.step += 1;
        let AdamConfig { beta1, beta2, epsilon, .. } = self.config;
        let step = AdamStep { learning_rate, beta1, beta2, epsilon, step: self.step };
        device.set_adam_step(step)?;
        Ok(step)
    }

    /// Makes the update that has begun; returns the gradients' global norm before clipping, one element on the device.
    pub fn apply(
        &mut self,
        device: &D,
        parameters: &mut Parameters<D>,
        gradients: &[D::Tensor],
        step: AdamStep,
    ) -> Result<D::Tensor> {
        let norm = device.global_norm(gradients)?;
        let moments = self.first_moments.iter_mut().zip(&mut self.second_moments);
        for ((parameter, gradient), (first, second)) in parameters.values_mut().iter_mut().zip(gradients).zip(moments) {
            let clip = self.config.clip.map(|max_norm| Clip { norm: &norm, max_norm });
            device.adam(parameter, gradient, first, second, step, clip)?;
        }
        Ok(norm)
    }
}
