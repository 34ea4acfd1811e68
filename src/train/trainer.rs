//! One optimiser step, and everything whose bits a resumed run must have again.

use crate::data::Batch;
use crate::device::{self, Device};
use crate::model::{ClassBatch, Criterion, Loss, Objective, Parameters, Transformer};
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
    criterion: Criterion,
}

/// Images that go through the model at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MicroBatch {
    /// `[B, n]`, row-major, pixels in raster order.
    pub tokens: Vec<u16>,
    /// The class of each image, `[B]`; empty where none is learned.
    pub labels: Vec<u16>,
    /// Number of the first image, counted over the whole run: what masks are drawn by.
    pub first_sample: u64,
}

impl From<Batch> for MicroBatch {
    fn from(Batch { tokens, labels, first_sample, .. }: Batch) -> Self {
        Self { tokens, labels, first_sample }
    }
}

impl From<Vec<u16>> for MicroBatch {
    /// Images without classes, as if they were a run's first.
    fn from(tokens: Vec<u16>) -> Self {
        Self { tokens, ..Self::default() }
    }
}

/// What one step reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// Which step, from 1.
    pub step: u64,
    /// Mean loss of the step's batch before the update: what was minimised, nats per token in pre-training.
    pub loss: f64,
    /// Its generative part without its weight, nats per token; none if it was left out.
    pub generative_loss: Option<f64>,
    /// Its classifying part without its weight, nats per image; none in pre-training.
    pub class_loss: Option<f64>,
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
        criterion: impl Into<Criterion>,
    ) -> device::Result<Self> {
        let (gradients, criterion) = (parameters.zeros_like(device)?, criterion.into());
        Ok(Self { device, model, parameters, gradients, adam, schedule, criterion })
    }

    /// What is made smaller.
    pub fn criterion(&self) -> &Criterion {
        &self.criterion
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

    /// Takes one step on `micro_batches`, each of as many images of `length` tokens. Micro-batches of one size give the
    /// gradient of the batch that they make together.
    pub fn step(&mut self, micro_batches: &[MicroBatch], length: usize) -> device::Result<StepOutcome> {
        for gradient in &mut self.gradients {
            self.device.zero(gradient)?;
        }
        let share = 1.0 / micro_batches.len() as f32;
        let mut weighted = Losses::default();
        for batch in micro_batches {
            let losses = self.accumulate(batch, length, share)?;
            weighted.generative += losses.generative;
            weighted.class += losses.class;
        }
        let learning_rate = self.schedule.learning_rate(self.adam.step());
        let norm = self.adam.update(self.device, &mut self.parameters, &self.gradients, learning_rate as f32)?;
        let gradient_norm = scalar(self.device, &norm)?;
        let part = |loss: f64, weight: f32| (weight != 0.0).then(|| loss / f64::from(weight));
        Ok(StepOutcome {
            step: self.adam.step(),
            loss: weighted.generative + weighted.class,
            generative_loss: part(weighted.generative, self.criterion.generative_weight),
            class_loss: part(weighted.class, self.criterion.classification_weight),
            gradient_norm,
            learning_rate,
        })
    }

    /// Adds `share` of a micro-batch's gradient; returns its share of the losses.
    fn accumulate(&mut self, batch: &MicroBatch, length: usize, share: f32) -> device::Result<Losses> {
        let Self { device, model, criterion, .. } = self;
        let Criterion { objective, masking, generative_weight, classification_weight } = *criterion;
        let images = batch.tokens.len() / length;
        let generative_share = share * generative_weight;
        let inputs = match objective {
            Objective::Ar => model.autoregressive_batch(*device, &batch.tokens, length, generative_share)?,
            Objective::Bert => {
                let masked = masking.training(batch.first_sample, images, length);
                model.bert_batch(*device, &batch.tokens, length, &masked, generative_share)?
            }
        };
        let learns_classes = classification_weight != 0.0;
        let classes =
            learns_classes.then(|| ClassBatch::new(*device, &batch.labels, images, share * classification_weight));
        let classes = classes.transpose()?;
        let mut tape = Tape::default();
        let generative = generative_weight != 0.0;
        let losses = model.joint_loss(*device, &self.parameters, &mut tape, &inputs, generative, classes.as_ref())?;
        tape.backward(*device, &self.parameters, &mut self.gradients)?;
        let value = |loss: Option<Loss<D>>| loss.map_or(Ok(0.0), |loss| scalar(*device, &loss.loss));
        Ok(Losses { generative: value(losses.generative)?, class: value(losses.class)? })
    }
}

/// Losses with their weights in them.
#[derive(Clone, Copy, Default)]
struct Losses {
    generative: f64,
    class: f64,
}

/// The single element of a tensor.
fn scalar<D: Device>(device: &D, tensor: &D::Tensor) -> device::Result<f64> {
    Ok(device.download(tensor)?.first().copied().map_or(f64::NAN, f64::from))
}
