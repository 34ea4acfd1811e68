//! One optimiser step, and the state that a resumed run must restore bit for bit.

use super::shared_step::{Shared, Sharing};
use super::spikes::Spikes;
use super::state::State;
use super::telling::{Spent, Told};
use super::together::Together;
use crate::data::Batch;
use crate::device::{self, AdamStep, Device, RECENT, VERDICT, tokens};
use crate::model::{ClassBatch, Criterion, MicroBatch, Objective, Transformer};
use crate::optim::{Adam, Average, Schedule, Skipped, Verdict};
use crate::tape::Parameters;

/// Model, optimiser and gradients between two steps.
pub struct Trainer<'a, D: Device> {
    pub(super) device: &'a D,
    model: Transformer,
    pub(super) parameters: Parameters<D>,
    /// Accumulated over the micro-batches of a step; one tensor per parameter.
    gradients: Vec<D::Tensor>,
    pub(super) adam: Adam<D>,
    /// The moving average of the parameters, if one is kept.
    pub(super) average: Option<Average<D>>,
    /// Tells spikes, if steps that are some are to be skipped.
    pub(super) spikes: Option<Spikes<D>>,
    schedule: Schedule,
    pub(super) criterion: Criterion,
    graphs: bool,
    /// The ranks that share the step, if it is shared.
    pub(super) shared: Option<Shared<D>>,
    /// The batch on the device, in the same tensors at every step.
    inputs: Option<Inputs<D>>,
    /// A step on those inputs, captured as a CUDA graph.
    recorded: Option<Recorded<D>>,
}

/// What a step reads, on the device.
struct Inputs<D: Device> {
    /// Images of each micro-batch, and tokens of an image.
    shape: (Vec<usize>, usize),
    micro_batches: Vec<MicroBatch<D>>,
    /// Whether a step was taken on inputs of this shape, so that all its memory is there.
    used: bool,
}

/// What a step leaves on the device.
struct Outputs<D: Device> {
    /// Of each micro-batch the generative loss and the class loss, those that there are.
    losses: Vec<D::Tensor>,
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
    /// Steps that were skipped so far because loss or gradient was not finite; this one was if any is in a row.
    pub skipped: Skipped,
    /// Whether it was skipped as a spike: loss and gradient are finite, and far above those before.
    pub is_spike: bool,
    /// Whether any rank of several was asked to stop.
    pub asked_to_stop: bool,
    /// Whether any rank of several could not write its part of a checkpoint.
    pub saving_failed: bool,
    /// Where several ranks spent their time.
    pub spent: Option<Spent>,
}

impl StepOutcome {
    /// Whether the step made no update, since its loss or gradient was not finite.
    pub fn was_skipped(&self) -> bool {
        self.skipped.in_a_row > 0
    }
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
        let gradients = parameters.zeros_like(device)?;
        Ok(Self::of(device, model, parameters, gradients, adam, (schedule, criterion.into())))
    }

    /// One that keeps no average, skips no spikes and shares with nobody, with memory for its gradients.
    fn of(
        device: &'a D,
        model: Transformer,
        parameters: Parameters<D>,
        gradients: Vec<D::Tensor>,
        adam: Adam<D>,
        (schedule, criterion): (Schedule, Criterion),
    ) -> Self {
        let (average, spikes, shared) = (None, None, None);
        let (graphs, inputs, recorded) = (true, None, None);
        Self {
            device,
            model,
            parameters,
            gradients,
            adam,
            average,
            spikes,
            schedule,
            criterion,
            graphs,
            shared,
            inputs,
            recorded,
        }
    }

    /// A trainer that shares every step with the ranks of `together`, each of which takes its own micro-batches; see [`Sharing`]. With
    /// ZeRO, the state's optimiser and average are of this rank's parts. One rank shares only with [`Reduction::Exact`], to have the
    /// sums of several.
    ///
    /// [`Reduction::Exact`]: crate::comm::Reduction::Exact
    pub(super) fn shared(
        device: &'a D,
        model: Transformer,
        state: State<D>,
        goal: (Schedule, Criterion),
        (together, sharing): (&Together<D>, Sharing),
    ) -> device::Result<Self> {
        let State { mut parameters, masters, adam, average, .. } = state;
        let (shared, gradients) = Shared::new(device, together, sharing, &mut parameters, masters)?;
        Ok(Self { average, shared, ..Self::of(device, model, parameters, gradients, adam, goal) })
    }

    /// Takes every update into `average` too, of the same parameters.
    pub fn with_average(mut self, average: Option<Average<D>>) -> Self {
        self.average = average;
        self
    }

    /// Skips steps whose loss or gradient is more than `sigmas` standard deviations above those before, going on from what a
    /// checkpoint has of them ([`Trainer::known_for_spikes`]).
    pub fn skipping_spikes(
        mut self,
        sigmas: Option<f32>,
        known: Option<[f64; RECENT]>,
        in_a_row: u64,
    ) -> device::Result<Self> {
        self.spikes = sigmas.map(|sigmas| Spikes::new(self.device, sigmas, known, in_a_row)).transpose()?;
        Ok(self)
    }

    /// What is known of the last steps, if spikes are looked for.
    pub fn known_for_spikes(&self) -> device::Result<Option<[f64; RECENT]>> {
        self.spikes.as_ref().map(|spikes| spikes.known(self.device)).transpose()
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

    /// Does `work` between two steps, in the memory that steps need only while they run: tensors that it makes must be gone when
    /// it ends.
    ///
    /// # Errors
    /// Those of the work, and the device's if it kept a tensor.
    pub fn between_steps<T, E: From<device::Error>>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.device.lend(self.recorded.as_ref().map(|recorded| &recorded.recording), work)
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

    /// Makes [`Trainer::parameters`] those of after the last step, which with ZeRO they are only once the next step has gathered
    /// them: for whoever reads them between two steps. All ranks do it together.
    pub(super) fn refresh(&mut self) -> device::Result<()> {
        let Self { device, parameters, shared, .. } = self;
        shared.as_mut().map_or(Ok(()), |shared| shared.refresh(device, parameters))
    }

    /// The gradients of the last step, one tensor per parameter.
    pub fn gradients(&self) -> &[D::Tensor] {
        &self.gradients
    }

    /// The optimiser.
    pub fn adam(&self) -> &Adam<D> {
        &self.adam
    }

    /// The moving average of the parameters, if one is kept.
    pub fn average(&self) -> Option<&Parameters<D>> {
        self.average.as_ref().map(Average::parameters)
    }

    /// Steps taken so far, skipped ones included.
    pub fn step_count(&self) -> u64 {
        self.adam.step()
    }

    /// Takes one step on `micro_batches` of images of `length` tokens. Micro-batches of one size give the
    /// gradient of the batch that they make together. Of a step that ranks share they are this rank's, as many as each has.
    pub fn step(&mut self, micro_batches: &[Batch], length: usize) -> device::Result<StepOutcome> {
        let pending = self.start(micro_batches, length)?;
        self.finish(pending)
    }

    /// Asks the device for a step, as [`Trainer::step`]; the next may be started before this one is finished.
    pub fn start(&mut self, micro_batches: &[Batch], length: usize) -> device::Result<PendingStep<D>> {
        self.stage(micro_batches, length)?;
        let learning_rate = self.schedule.learning_rate(self.adam.step());
        let update = self.adam.begin(self.device, learning_rate as f32)?;
        self.shared.iter_mut().for_each(Shared::begin);

        // Replay the captured step, capture it at the second step of a shape, or compute.
        let pending = match &self.recorded {
            Some(Recorded { recording, outputs }) => {
                self.device.replay(recording)?;
                self.read(outputs)?
            }
            None if self.graphs && self.inputs.as_ref().is_some_and(|inputs| inputs.used) => {
                let device = self.device;
                let (outputs, recording) = device.record(|| self.compute(update))?;
                let pending = self.read(&outputs)?;
                self.recorded = recording.map(|recording| Recorded { recording, outputs });
                pending
            }
            None => {
                let outputs = self.compute(update)?;
                self.read(&outputs)?
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
        let Told { losses, verdict, stop, unsaved, spent, norm } = self.told(pending)?;
        let Losses { generative, class } = self.losses(&losses);
        let Verdict { gradient_norm, skipped } = Verdict::of(verdict);
        let is_spike = norm.is_some_and(f32::is_finite) && !gradient_norm.is_finite();
        let gradient_norm = norm.map_or(gradient_norm, f64::from);

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
            skipped,
            is_spike,
            asked_to_stop: stop,
            saving_failed: unsaved,
            spent,
        })
    }

    /// Tells the other ranks with the next step whether this one was asked to stop, and whether it could not write a checkpoint; alone,
    /// nobody.
    pub(super) fn tell(&mut self, words: [bool; 2]) -> device::Result<()> {
        self.shared.as_mut().map_or(Ok(()), |shared| shared.tell(self.device, words))
    }

    /// Losses and verdict of a step; of all ranks, where several share it.
    fn told(&self, pending: D::PendingRead) -> device::Result<Told> {
        // What is known for spikes comes last.
        let mut values = self.device.wait(pending)?;
        let known = if self.spikes.is_some() { RECENT } else { 0 };
        let norm = values.split_off(values.len().saturating_sub(known)).get(1).copied();
        let Some(shared) = &self.shared else {
            let (losses, verdict) = values.split_last_chunk::<VERDICT>().unwrap_or((&[], &[f32::NAN; VERDICT]));
            let (stop, unsaved, spent) = (false, false, None);
            return Ok(Told { losses: losses.to_vec(), verdict: *verdict, stop, unsaved, spent, norm });
        };
        let Criterion { generative_weight, classification_weight, .. } = self.criterion;
        let losses = [generative_weight, classification_weight].iter().filter(|weight| **weight != 0.0).count();
        Ok(Told { norm, ..shared.read(&values, losses)? })
    }

    /// Sums what [`Outputs::losses`] holds over the micro-batches.
    fn losses(&self, micro_batches: &[f32]) -> Losses {
        let Criterion { generative_weight, classification_weight, .. } = self.criterion;
        let sum = |values: &mut dyn Iterator<Item = &f32>| values.map(|loss| f64::from(*loss)).sum();
        match (generative_weight != 0.0, classification_weight != 0.0) {
            (true, true) => Losses {
                generative: sum(&mut micro_batches.iter().step_by(2)),
                class: sum(&mut micro_batches.iter().skip(1).step_by(2)),
            },
            (true, false) => Losses { generative: sum(&mut micro_batches.iter()), class: 0.0 },
            (false, _) => Losses { generative: 0.0, class: sum(&mut micro_batches.iter()) },
        }
    }

    /// Copies the micro-batches to the device: over those of the last step if they are of the same shape.
    fn stage(&mut self, micro_batches: &[Batch], length: usize) -> device::Result<()> {
        // A step's loss is the mean over its micro-batches, of all ranks.
        let world = self.shared.as_ref().map_or(1, |shared| shared.together.size());
        let fraction = 1.0 / (world * micro_batches.len()) as f32;
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
        let Self { device, model, parameters, gradients, adam, average, spikes, criterion, inputs, shared, .. } = self;
        let device: &D = device;
        let batches = inputs.as_ref().map_or(&[][..], |inputs| &inputs.micro_batches);

        // With other ranks.
        if let Some(shared) = shared {
            let losses = shared.gradients(device, (model, criterion), parameters, batches, gradients)?;
            shared.update(
                device,
                (parameters, gradients),
                (adam, average.as_mut(), spikes.as_mut()),
                update,
                &losses,
            )?;
            return Ok(Outputs { losses });
        }

        // Alone: the update is made if loss and gradient are finite.
        let losses = model.accumulate_gradients(device, parameters, criterion, batches, gradients)?;
        adam.judge(device, gradients)?;
        if let Some(spikes) = spikes {
            spikes.judge(device, &losses, None, adam.verdict_mut())?;
        }
        adam.apply_judged(device, parameters, gradients, update)?;
        if let Some(average) = average {
            average.update(device, parameters, adam.verdict())?;
        }
        Ok(Outputs { losses })
    }

    /// Reads the losses, then the verdict on the gradients; of all ranks, where several share the step.
    fn read(&self, outputs: &Outputs<D>) -> device::Result<D::PendingRead> {
        let recent = self.spikes.as_ref().map(Spikes::recent);
        if let Some(told) = self.shared.as_ref().and_then(Shared::told) {
            return self.device.read(&[told].into_iter().chain(recent).collect::<Vec<_>>());
        }
        let scalars: Vec<_> = outputs.losses.iter().chain([self.adam.verdict()]).chain(recent).collect();
        self.device.read(&scalars)
    }
}

/// A step's weighted losses, summed over its micro-batches.
struct Losses {
    generative: f64,
    class: f64,
}
