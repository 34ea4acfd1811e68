//! The exponential moving average of the weights (Polyak & Juditsky 1992, with forgetting), which often scores better than the
//! weights themselves.

use crate::device::{Device, Result};
use crate::tape::Parameters;

/// Averages of all parameters over the updates, in f32, beside the weights that are trained.
pub struct Average<D: Device> {
    parameters: Parameters<D>,
    /// How far an update moves the average towards the weights: 1 − decay.
    rate: f32,
}

impl<D: Device> Average<D> {
    /// An average that starts at `parameters` themselves, as DiT's does.
    ///
    /// # Errors
    /// Those of the device.
    pub fn new(device: &D, parameters: &Parameters<D>, decay: f64) -> Result<Self> {
        Ok(Self::resume(parameters.copied(device)?, decay))
    }

    /// The average as a checkpoint held it.
    pub fn resume(parameters: Parameters<D>, decay: f64) -> Self {
        Self { parameters, rate: (1.0 - decay) as f32 }
    }

    /// The averaged weights.
    pub fn parameters(&self) -> &Parameters<D> {
        &self.parameters
    }

    /// The averaged weights, to be sent.
    pub fn parameters_mut(&mut self) -> &mut Parameters<D> {
        &mut self.parameters
    }

    /// Takes the weights after an update in, unless `verdict` says that it was skipped; nothing here moves numbers between host
    /// and device, so it can be recorded.
    ///
    /// # Errors
    /// Those of the device.
    pub fn update(&mut self, device: &D, parameters: &Parameters<D>, verdict: &D::Tensor) -> Result<()> {
        for (average, parameter) in self.parameters.values_mut().iter_mut().zip(parameters.values()) {
            device.ema(average, parameter, self.rate, verdict)?;
        }
        Ok(())
    }
}
