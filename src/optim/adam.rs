//! Adam (Kingma & Ba 2015) with the paper's settings: β 0.9 / 0.95, ε 1e-8, no weight decay.
//!
//! A step whose gradient is not finite is skipped: parameters and moments keep their bits. The device decides, from the
//! gradient's norm and within the recorded step. A skipped step counts as a step all the same, for the learning rate and
//! for the corrections of the moments' bias: both are set before anybody knows whether it will be skipped, and they stay
//! functions of the step's number alone, so that a resumed run has the same. The correction is then a little too weak,
//! which makes the next updates smaller, and fades as β₁ᵗ and β₂ᵗ do.

use serde::{Deserialize, Serialize};

use crate::device::{AdamStep, Clip, Device, Result, VERDICT};
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

/// Steps that were skipped because their gradient was not finite, or because they were spikes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skipped {
    /// In all.
    pub total: u64,
    /// One after the other, up to now; 0 after a step that was made.
    pub in_a_row: u64,
}

impl Skipped {
    /// Whether none was.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// The optimiser's state: two moments per parameter, how many steps were taken, and how many of them were skipped.
pub struct Adam<D: Device> {
    config: AdamConfig,
    first_moments: Vec<D::Tensor>,
    second_moments: Vec<D::Tensor>,
    step: u64,
    /// `[3]`, on the device: the last gradient's norm, steps skipped in all and in a row.
    verdict: D::Tensor,
}

impl<D: Device> Adam<D> {
    /// Zero moments.
    pub fn new(device: &D, parameters: &Parameters<D>, config: AdamConfig) -> Result<Self> {
        let (first, second) = (parameters.zeros_like(device)?, parameters.zeros_like(device)?);
        Self::resume(device, config, first, second, 0, Skipped::default())
    }

    /// The state after `step` steps, `skipped` ones included, as a checkpoint held it; moments in the order of the
    /// parameters.
    pub fn resume(
        device: &D,
        config: AdamConfig,
        first_moments: Vec<D::Tensor>,
        second_moments: Vec<D::Tensor>,
        step: u64,
        skipped: Skipped,
    ) -> Result<Self> {
        let Skipped { total, in_a_row } = skipped;
        let verdict = device.upload(&[VERDICT], &[0.0, total as f32, in_a_row as f32])?;
        Ok(Self { config, first_moments, second_moments, step, verdict })
    }

    /// First moments, in the order of the parameters.
    pub fn first_moments(&self) -> &[D::Tensor] {
        &self.first_moments
    }

    /// Second moments, in the order of the parameters.
    pub fn second_moments(&self) -> &[D::Tensor] {
        &self.second_moments
    }

    /// First and second moments, to be sent.
    pub fn moments_mut(&mut self) -> (&mut [D::Tensor], &mut [D::Tensor]) {
        (&mut self.first_moments, &mut self.second_moments)
    }

    /// Steps taken so far, skipped ones included.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Of the last step, `[3]` on the device: the gradients' global norm before clipping, then the steps that were
    /// skipped, in all and in a row. [`Verdict::of`] reads it on the host.
    pub fn verdict(&self) -> &D::Tensor {
        &self.verdict
    }

    /// Updates all parameters, unless a gradient is not finite.
    pub fn update(
        &mut self,
        device: &D,
        parameters: &mut Parameters<D>,
        gradients: &[D::Tensor],
        learning_rate: f32,
    ) -> Result<()> {
        let step = self.begin(device, learning_rate)?;
        self.apply(device, parameters, gradients, step)
    }

    /// Counts one more step and sets it on the device, for [`Adam::apply`] or a recording of it.
    pub fn begin(&mut self, device: &D, learning_rate: f32) -> Result<AdamStep> {
        self.step += 1;
        let AdamConfig { beta1, beta2, epsilon, .. } = self.config;
        let step = AdamStep { learning_rate, beta1, beta2, epsilon, step: self.step };
        device.set_adam_step(step)?;
        Ok(step)
    }

    /// Makes the update that has begun, unless a gradient is not finite: [`Adam::verdict`] tells.
    pub fn apply(
        &mut self,
        device: &D,
        parameters: &mut Parameters<D>,
        gradients: &[D::Tensor],
        step: AdamStep,
    ) -> Result<()> {
        self.judge(device, gradients)?;
        self.apply_judged(device, parameters, gradients, step)
    }

    /// The verdict on these gradients.
    pub fn judge(&mut self, device: &D, gradients: &[D::Tensor]) -> Result<()> {
        device.judge_gradients(gradients, &mut self.verdict)
    }

    /// The verdict, for whoever judges gradients of which this rank has a part.
    pub fn verdict_mut(&mut self) -> &mut D::Tensor {
        &mut self.verdict
    }

    /// [`Adam::apply`] of gradients that were judged already: of parts of parameters, say, whose norm is that of all.
    pub fn apply_judged(
        &mut self,
        device: &D,
        parameters: &mut Parameters<D>,
        gradients: &[D::Tensor],
        step: AdamStep,
    ) -> Result<()> {
        let clip = Clip { norm: &self.verdict, max_norm: self.config.clip.unwrap_or(f32::INFINITY) };
        let moments = (&mut self.first_moments, &mut self.second_moments);
        device.adam(parameters.values_mut(), gradients, moments.0, moments.1, step, Some(clip))
    }
}

/// [`Adam::verdict`] on the host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Global norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Steps that were skipped.
    pub skipped: Skipped,
}

impl Verdict {
    /// From its values as the device holds them.
    pub fn of([norm, total, in_a_row]: [f32; VERDICT]) -> Self {
        let skipped = Skipped { total: total as u64, in_a_row: in_a_row as u64 };
        Self { gradient_norm: f64::from(norm), skipped }
    }
}
