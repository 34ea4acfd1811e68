//! Fine-tuning: a class head on the mean of the final features, trained together with the generative objective
//! (section 2.3 of the paper: L_GEN + L_CLF).

use crate::device::{Device, Result, ShapeError, WeightLayout};
use crate::model::{Loss, Masking, Objective, ObjectiveBatch, Transformer};
use crate::tape::{self, LinearIds, Parameters, Recorder, Var};

/// Everything that says which number training makes smaller.
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

/// The classes of a batch of images, on their device.
pub struct ClassBatch<D: Device> {
    /// The class of each image, `[B, 1]`.
    pub labels: D::Tokens,
    /// Each image's share of the loss, `[B]`.
    pub weights: D::Tensor,
}

impl<D: Device> ClassBatch<D> {
    /// The mean over the images of a batch of `images`, times `share`.
    ///
    /// # Errors
    /// Fewer or more labels than images.
    pub fn new(device: &D, labels: &[u16], images: usize, share: f32) -> Result<Self> {
        Self::check(labels, images)?;
        Ok(Self {
            labels: device.upload_tokens([images, 1], labels)?,
            weights: device.upload(&[images], &vec![share / images as f32; images])?,
        })
    }

    /// Other images of the same number and share.
    ///
    /// # Errors
    /// As [`ClassBatch::new`].
    pub fn overwrite(&mut self, device: &D, labels: &[u16], images: usize) -> Result<()> {
        Self::check(labels, images)?;
        device.overwrite_tokens(&mut self.labels, labels)
    }

    fn check(labels: &[u16], images: usize) -> Result<()> {
        if labels.len() == images {
            return Ok(());
        }
        let (expected, got) = (format!("{images}, one an image"), labels.len().to_string());
        Err(ShapeError { op: "classify", argument: "labels", expected, got }.into())
    }
}

/// The two losses of fine-tuning, each with its weight in it.
pub struct JointLoss<D: Device> {
    /// L_GEN, unless it was left out.
    pub generative: Option<Loss<D>>,
    /// L_CLF, unless there is no class to learn.
    pub class: Option<Loss<D>>,
}

impl Transformer {
    /// Scores of every class, from [`Transformer::features`]: the mean over all positions (`sos` among them), then the head.
    /// `[B, T, d] → [B, classes]`.
    ///
    /// # Errors
    /// A model without a class head.
    pub fn class_logits<D: Device>(
        &self,
        device: &D,
        parameters: &Parameters<D>,
        recorder: &mut impl Recorder<D>,
        features: &Var<D>,
    ) -> Result<Var<D>> {
        let Some(weight) = self.ids().class_head else {
            let (expected, got) = ("there".to_owned(), "a model without one".to_owned());
            return Err(ShapeError { op: "classify", argument: "class head", expected, got }.into());
        };
        let pooled = tape::mean_pool(recorder, device, features)?;
        tape::linear(recorder, device, parameters, LinearIds { weight, bias: None }, WeightLayout::OutIn, &pooled)
    }

    /// The losses of a batch: the generative one (unless `generative` is false) and, given its classes, the class head's.
    /// Recorded, they are where [`Tape::backward`](crate::tape::Tape::backward) starts.
    pub fn joint_loss<D: Device, R: Recorder<D>>(
        &self,
        device: &D,
        parameters: &Parameters<D>,
        recorder: &mut R,
        batch: &ObjectiveBatch<D>,
        generative: bool,
        classes: Option<&ClassBatch<D>>,
    ) -> Result<JointLoss<D>> {
        let features = self.features(device, parameters, recorder, &batch.inputs, batch.mask, |_| Ok(()))?;
        let class = match classes {
            None => None,
            Some(classes) => {
                let logits = self.class_logits(device, parameters, recorder, &features)?;
                let (loss, nll) = tape::cross_entropy(recorder, device, logits, &classes.labels, &classes.weights)?;
                Some(Loss { loss, nll })
            }
        };
        let generative =
            generative.then(|| self.generative_loss(device, parameters, recorder, batch, features)).transpose()?;
        Ok(JointLoss { generative, class })
    }
}
