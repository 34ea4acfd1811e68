//! One optimiser step, and the state that a resumed run must restore bit for bit.

use crate::data::Batch;
use crate::device::{self, AdamStep, Device, tokens};
use crate::model::{ClassBatch, Criterion, Objective, ObjectiveBatch, Transformer};
use crate::optim::{Adam, Schedule};
use crate::tape::{Forward, Parameters, Tape};

/// Model, optimiser and gradients between two steps.
pub struct Trainer<'a, D: Device> {
    device: &'a D,
    model: Transformer,
    parameters: Parameters<D>,
    /// Accumulated over the micro-batches of a step; one tensor per parameter.
    gradients: Vec<D::Tensor>,
    adam: Adam<D>,
    schedule: Schedule,
    criterion: Criterion,
    graphs: bool,
    /// The batch on the device, in the same tensors at every step.
    inputs: Option<Inputs<D>>,
    /// A step on those inputs, captured as a CUDA graph.
    recorded: Option<Recorded<D>>,
}

/// What a step reads, on the device.
struct Inputs<D: Device> {
    /// Images of each micro-batch, and tokens of an image.
    shape: (Vec<usize>, usize),
    micro_batches: Vec<(ObjectiveBatch<D>, Option<ClassBatch<D>>)>,
    /// Whether a step was taken on inputs of this shape, so that all its memory is there.
    used: bool,
}

/// What a step leaves on the device.
struct Outputs<D: Device> {
    /// Of each micro-batch the generative loss and the class loss, those that there are; then the gradient's norm.
    scalars: Vec<D::Tensor>,
}

/// A captured step to be replayed. The recording is dropped first, since it uses the outputs.
struct Recorded<D: Device> {
    recording: D::Recording,
    outputs: Outputs<D>,
}

/// A step that was asked of the device; [`Trainer::finish`] waits for what it reports.
pub struct PendingStep<D: Device> {
    step: u64,
    learning_rate: f64,
    pending: D::PendingRead,
}

/// What one step reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// Which step, from 1.
    pub step: u64,
    /// Mean loss of the step's batch before the update: what is minimised, nats per token in pre-training.
    pub loss: f64,
    /// The generative loss, unweighted, nats per token; `None` if it was left out.
    pub generative_loss: Option<f64>,
    /// The class loss, unweighted, nats per image; `None` in pre-training.
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
        let (graphs, inputs, recorded) = (true, None, None);
        Ok(Self { device, model, parameters, gradients, adam, schedule, criterion, graphs, inputs, recorded })
    }

    /// Whether a step is captured once and then replayed, where the device can: the default. The numbers are the same
    /// either way.
    pub fn with_graphs(mut self, graphs: bool) -> Self {
        self.graphs = graphs;
        self
    }

    /// Whether the last step was captured or replayed.
    pub fn replays(&self) -> bool {
        self.recorded.is_some()
    }

    /// The training loss.
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

    /// The gradients of the last step, one tensor per parameter.
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

    /// Takes one step on `micro_batches` of images of `length` tokens. Micro-batches of one size give the
    /// gradient of the batch that they make together.
    pub fn step(&mut self, micro_batches: &[Batch], length: usize) -> device::Result<StepOutcome> {
        let pending = self.start(micro_batches, length)?;
        self.finish(pending)
    }

    /// Asks the device for a step, as [`Trainer::step`]; the next may be started before this one is finished.
    pub fn start(&mut self, micro_batches: &[Batch], length: usize) -> device::Result<PendingStep<D>> {
        self.stage(micro_batches, length)?;
        let learning_rate = self.schedule.learning_rate(self.adam.step());
        let update = self.adam.begin(self.device, learning_rate as f32)?;

        // Replay the captured step, capture it at the second step of a shape, or compute.
        let pending = match &self.recorded {
            Some(Recorded { recording, outputs }) => {
                self.device.replay(recording)?;
                read(self.device, outputs)?
            }
            None if self.graphs && self.inputs.as_ref().is_some_and(|inputs| inputs.used) => {
                let device = self.device;
                let (outputs, recording) = device.record(|| self.compute(update))?;
                let pending = read(device, &outputs)?;
                self.recorded = recording.map(|recording| Recorded { recording, outputs });
                pending
            }
            None => {
                let outputs = self.compute(update)?;
                read(self.device, &outputs)?
            }
        };

        if let Some(inputs) = &mut self.inputs {
            inputs.used = true;
        }
        Ok(PendingStep { step: update.step, learning_rate, pending })
    }

    /// Waits for a step's end.
    pub fn finish(&self, pending: PendingStep<D>) -> device::Result<StepOutcome> {
        let PendingStep { step, learning_rate, pending } = pending;
        let values: Vec<f64> = self.device.wait(pending)?.into_iter().map(f64::from).collect();
        let Losses { generative, class, gradient_norm } = self.losses(&values);

        // Unweighted, where they were computed at all.
        let Criterion { generative_weight, classification_weight, .. } = self.criterion;
        let unweighted = |loss: f64, weight: f32| (weight != 0.0).then(|| loss / f64::from(weight));
        Ok(StepOutcome {
            step,
            loss: generative + class,
            generative_loss: unweighted(generative, generative_weight),
            class_loss: unweighted(class, classification_weight),
            gradient_norm,
            learning_rate,
        })
    }

    /// Sums what [`Outputs::scalars`] holds over the micro-batches.
    fn losses(&self, scalars: &[f64]) -> Losses {
        let Criterion { generative_weight, classification_weight, .. } = self.criterion;
        let Some((&gradient_norm, micro_batches)) = scalars.split_last() else {
            return Losses { generative: 0.0, class: 0.0, gradient_norm: f64::NAN };
        };

        let mut losses = Losses { generative: 0.0, class: 0.0, gradient_norm };
        match (generative_weight != 0.0, classification_weight != 0.0) {
            (true, true) => {
                for pair in micro_batches.chunks_exact(2) {
                    losses.generative += pair[0];
                    losses.class += pair[1];
                }
            }
            (true, false) => micro_batches.iter().for_each(|loss| losses.generative += loss),
            (false, _) => micro_batches.iter().for_each(|loss| losses.class += loss),
        }
        losses
    }

    /// Copies the micro-batches to the device: over those of the last step if they are of the same shape.
    fn stage(&mut self, micro_batches: &[Batch], length: usize) -> device::Result<()> {
        // A step's loss is the mean over its micro-batches.
        let fraction = 1.0 / micro_batches.len() as f32;
        let shape = (micro_batches.iter().map(|batch| batch.tokens.len() / length).collect(), length);
        let Self { device, model, criterion, inputs, recorded, .. } = self;
        let device: &D = device;
        let Criterion { objective, masking, generative_weight, classification_weight } = *criterion;

        // A replayed step calls no op that would check the tokens.
        for batch in micro_batches {
            tokens::check_all(&batch.tokens, model.config().vocabulary)?;
            if classification_weight != 0.0 {
                tokens::check_all(&batch.labels, model.config().classes.len())?;
            }
        }

        // Inputs of another shape end the recording.
        if inputs.as_ref().is_none_or(|inputs| inputs.shape != shape) {
            *recorded = None;
            *inputs = None;
        }

        // Overwrite the tensors of the last step, or make new ones.
        let mut fresh = Vec::new();
        for (index, batch) in micro_batches.iter().enumerate() {
            let images = batch.tokens.len() / length;
            let on_host = match objective {
                Objective::Ar => model.autoregressive_on_host(&batch.tokens, length, fraction * generative_weight)?,
                Objective::Bert => {
                    let masked = masking.training(batch.first_sample, images, length);
                    model.bert_on_host(&batch.tokens, length, &masked, fraction * generative_weight)?
                }
            };
            if let Some((there, classes)) = inputs.as_mut().and_then(|inputs| inputs.micro_batches.get_mut(index)) {
                on_host.overwrite(device, there)?;
                classes.as_mut().map_or(Ok(()), |classes| classes.overwrite(device, &batch.labels, images))?;
                continue;
            }
            let classes = (classification_weight != 0.0)
                .then(|| ClassBatch::new(device, &batch.labels, images, fraction * classification_weight))
                .transpose()?;
            fresh.push((on_host.upload(device)?, classes));
        }
        if inputs.is_none() {
            *inputs = Some(Inputs { shape, micro_batches: fresh, used: false });
        }
        Ok(())
    }

    /// The step on the staged inputs: nothing here moves numbers between host and device, so it can be recorded.
    fn compute(&mut self, update: AdamStep) -> device::Result<Outputs<D>> {
        let Self { device, model, parameters, gradients, adam, criterion, inputs, .. } = self;
        let device: &D = device;
        for gradient in gradients.iter_mut() {
            device.zero(gradient)?;
        }

        // Forward and backward, micro-batch by micro-batch.
        let mut scalars = Vec::new();
        for (batch, classes) in inputs.iter().flat_map(|inputs| &inputs.micro_batches) {
            let mut tape = Tape::default();
            let generative = criterion.generative_weight != 0.0;
            let losses = model.joint_loss(
                &mut Forward::new(device, parameters, &mut tape),
                batch,
                generative,
                classes.as_ref(),
            )?;
            tape.backward(device, parameters, gradients)?;
            scalars.extend([losses.generative, losses.class].into_iter().flatten().map(|loss| loss.loss));
        }

        // The update.
        scalars.push(adam.apply(device, parameters, gradients, update)?);
        Ok(Outputs { scalars })
    }
}

/// A step's weighted losses, summed over its micro-batches, and its gradient's norm.
struct Losses {
    generative: f64,
    class: f64,
    gradient_norm: f64,
}

fn read<D: Device>(device: &D, outputs: &Outputs<D>) -> device::Result<D::PendingRead> {
    device.read(&outputs.scalars.iter().collect::<Vec<_>>())
}
