//! The training loss: the generative objective, and in fine-tuning the class head's cross-entropy beside it
//! (section 2.3 of the paper: L_GEN + L_CLF).

use crate::device::{Device, Result};
use crate::model::{ClassBatch, Masking, Objective, ObjectiveBatch, Transformer};
use crate::tape::{Destination, Forward, Hooks, NoHooks, ParameterId, Parameters, Recorder, Tape, Var};

/// A share of a batch whose gradient is taken at once: its images and, where the class head learns, their classes.
pub type MicroBatch<D> = (ObjectiveBatch<D>, Option<ClassBatch<D>>);

/// The training loss: `generative_weight · L_GEN + classification_weight · L_CLF`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Criterion {
    /// The generative loss, L_GEN.
    pub objective: Objective,
    /// Masks of a BERT objective.
    pub masking: Masking,
    /// Factor of L_GEN; at 0 the token head is left out of the computation.
    pub generative_weight: f32,
    /// Factor of L_CLF, the cross-entropy of the class head; 0 without one.
    pub classification_weight: f32,
}

impl Criterion {
    /// Pre-training: the generative loss alone.
    pub fn pretraining(objective: Objective, masking: Masking) -> Self {
        Self { objective, masking, generative_weight: 1.0, classification_weight: 0.0 }
    }
}

impl From<Objective> for Criterion {
    /// Pre-training with the paper's masks of seed 0.
    fn from(objective: Objective) -> Self {
        Self::pretraining(objective, Masking::default())
    }
}

/// A loss and its parts.
pub struct Loss<D: Device> {
    /// The weighted sum over rows, one element.
    pub loss: D::Tensor,
    /// Nats of each row, `[B·T]`; of a class head, `[B]`.
    pub nll: D::Tensor,
}

/// The two losses of fine-tuning, each times its weight.
pub struct JointLoss<D: Device> {
    /// L_GEN, unless it was left out.
    pub generative: Option<Loss<D>>,
    /// L_CLF, where there are classes to learn.
    pub class: Option<Loss<D>>,
}

impl Transformer {
    /// The generative loss of a batch; recorded, it is where [`Tape::backward`](crate::tape::Tape::backward) starts.
    pub fn loss<D: Device, R: Recorder<D>>(
        &self,
        f: &mut Forward<'_, D, R>,
        batch: &ObjectiveBatch<D>,
    ) -> Result<Loss<D>> {
        let features = self.features(f, &batch.inputs, batch.mask, |_| Ok(()))?;
        self.generative_loss(f, batch, features)
    }

    /// The generative loss of a batch from its final features `[B, T, d]`.
    pub fn generative_loss<D: Device, R: Recorder<D>>(
        &self,
        f: &mut Forward<'_, D, R>,
        batch: &ObjectiveBatch<D>,
        features: Var<D>,
    ) -> Result<Loss<D>> {
        let logits = self.logits(f, &features)?;
        // The head's input is on the tape if it is needed; here it is not.
        drop(features);
        let (loss, nll) = f.cross_entropy(logits, &batch.targets, &batch.weights)?;
        Ok(Loss { loss, nll })
    }

    /// The losses of a batch: the generative one (unless `generative` is false) and, given its classes, the class
    /// head's. Every training step comes through here; recorded, the losses are where
    /// [`Tape::backward`](crate::tape::Tape::backward) starts.
    pub fn joint_loss<D: Device, R: Recorder<D>>(
        &self,
        f: &mut Forward<'_, D, R>,
        batch: &ObjectiveBatch<D>,
        generative: bool,
        classes: Option<&ClassBatch<D>>,
    ) -> Result<JointLoss<D>> {
        let features = self.features(f, &batch.inputs, batch.mask, |_| Ok(()))?;

        // L_CLF
        let class = match classes {
            None => None,
            Some(classes) => {
                let logits = self.class_logits(f, &features)?;
                let (loss, nll) = f.cross_entropy(logits, &classes.labels, &classes.weights)?;
                Some(Loss { loss, nll })
            }
        };

        // L_GEN
        let generative = generative.then(|| self.generative_loss(f, batch, features)).transpose()?;
        Ok(JointLoss { generative, class })
    }

    /// The gradient of a step into `gradients`, one tensor per parameter: forward and backward of each micro-batch. Returns their
    /// losses, of each micro-batch the generative one and that of the class head, those that there are. Nothing here moves
    /// numbers between host and device, so it can be recorded.
    pub fn accumulate_gradients<D: Device>(
        &self,
        device: &D,
        parameters: &Parameters<D>,
        criterion: &Criterion,
        micro_batches: &[MicroBatch<D>],
        gradients: &mut [D::Tensor],
    ) -> Result<Vec<D::Tensor>> {
        let places: Vec<usize> = (0..gradients.len()).collect();
        self.gradients_with(device, parameters, criterion, micro_batches, (gradients, &places), &mut NoHooks)
    }

    /// The same, with `hooks` called before parameters are read in a forward pass, before gradients are written, and with the last
    /// micro-batch as soon as those of weights are finished, after which other weights may take their tensors. `places` says which
    /// of `tensors` is whose; weights may share one only where there is one micro-batch. What no hook was told of is in place at the end.
    pub fn gradients_with<D: Device>(
        &self,
        device: &D,
        parameters: &Parameters<D>,
        criterion: &Criterion,
        micro_batches: &[MicroBatch<D>],
        (tensors, places): (&mut [D::Tensor], &[usize]),
        hooks: &mut dyn Hooks<D>,
    ) -> Result<Vec<D::Tensor>> {
        // The first op that writes a gradient stores it.
        let mut written = vec![false; places.len()];
        let mut step_losses = Vec::new();
        for (index, (batch, classes)) in micro_batches.iter().enumerate() {
            let mut tape = Tape::recomputing(self.recompute());
            let f = &mut Forward::new(device, parameters, &mut tape).with_hooks(&mut *hooks);
            let losses = self.joint_loss(f, batch, criterion.generative_weight != 0.0, classes.as_ref())?;

            let finishes = index + 1 == micro_batches.len();
            let (written, hooks) = (&mut *written, &mut *hooks);
            tape.walk_into(device, parameters, Destination { tensors, places, written, hooks, finishes })?;
            step_losses.extend([losses.generative, losses.class].into_iter().flatten().map(|loss| loss.loss));
        }

        // What no loss depends on, as the token head of a fine-tuning without the generative loss.
        for (index, place) in places.iter().enumerate().filter(|(index, _)| !written[*index]) {
            hooks.writes(&[ParameterId(index)])?;
            device.zero(&mut tensors[*place])?;
        }
        Ok(step_losses)
    }
}
