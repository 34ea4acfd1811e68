//! One optimiser step, and everything whose bits a resumed run must have again.

use crate::device::{self, Device};
use crate::model::{Objective, ObjectiveBatch, Parameters, Transformer};
use crate::optim::{Adam, Schedule};
use crate::tape::Tape;

/// Model, optimiser and gradients between two steps.
pub struct Trainer<'a, D: Device> {
    device: &'a D,
    model: Transformer,
    parameters: Parameters<D>,
    /// Accumulated over the micro-batches of a step; one tensor a parameter.
    gradients: Vec<D::Tensor>,
    adam: Adam<D>,
    schedule: Schedule,
    objective: Objective,
}

/// What one step reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// Which step, from 1.
    pub step: u64,
    /// Mean loss of the step's batch before the update, nats per token.
    pub loss: f64,
    /// Global norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Learning rate of the update.
    pub learning_rate: f64,
}

impl<'a, D: Device> Trainer<'a, D> {
    /// A trainer that goes on from `adam.step()` updates.
    pub fn new(
        device: &'a D,
        model: Transformer,
        parameters: Parameters<D>,
        adam: Adam<D>,
        schedule: Schedule,
        objective: Objective,
    ) -> device::Result<Self> {
        let gradients = parameters.zeros_like(device)?;
        Ok(Self { device, model, parameters, gradients, adam, schedule, objective })
    }

    /// The device.
    pub fn device(&self) -> &'a D {
        self.device
    }

    /// The model.
    pub fn model(&self) -> &Transformer {
        &self.model
    }

    /// The current parameters.
    pub fn parameters(&self) -> &Parameters<D> {
        &self.parameters
    }

    /// The gradients of the last step, one tensor a parameter.
    pub fn gradients(&self) -> &[D::Tensor] {
        &self.gradients
    }

    /// The optimiser.
    pub fn adam(&self) -> &Adam<D> {
        &self.adam
    }

    /// Steps taken so far.
    pub fn step_count(&self) -> u64 {
        self.adam.step()
    }

    /// Takes one step on `micro_batches`, each the tokens of as many images of `length` tokens. Micro-batches of one size
    /// give the gradient of the batch that they make together.
    pub fn step(&mut self, micro_batches: &[Vec<u16>], length: usize) -> device::Result<StepOutcome> {
        for gradient in &mut self.gradients {
            self.device.zero(gradient)?;
        }
        let share = 1.0 / micro_batches.len() as f32;
        let mut loss = 0.0;
        for tokens in micro_batches {
            loss += self.accumulate(tokens, length, share)?;
        }
        let learning_rate = self.schedule.learning_rate(self.adam.step());
        let norm = self.adam.update(self.device, &mut self.parameters, &self.gradients, learning_rate as f32)?;
        let gradient_norm = scalar(self.device, &norm)?;
        Ok(StepOutcome { step: self.adam.step(), loss, gradient_norm, learning_rate })
    }

    /// Adds `share` of a micro-batch's gradient; returns its share of the loss.
    fn accumulate(&mut self, tokens: &[u16], length: usize, share: f32) -> device::Result<f64> {
        let batch = match self.objective {
            Objective::Ar => ObjectiveBatch::autoregressive(self.device, tokens, length, self.model.sos(), share)?,
        };
        let mut tape = Tape::default();
        let loss = self.model.loss(self.device, &self.parameters, &mut tape, &batch)?;
        tape.backward(self.device, &self.parameters, &mut self.gradients)?;
        scalar(self.device, &loss.loss)
    }
}

/// The single element of a tensor.
fn scalar<D: Device>(device: &D, tensor: &D::Tensor) -> device::Result<f64> {
    Ok(device.download(tensor)?.first().copied().map_or(f64::NAN, f64::from))
}
