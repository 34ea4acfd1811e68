//! The class head of fine-tuning, on the mean of the final features (section 2.3 of the paper).

use crate::device::{Device, Result, ShapeError, WeightLayout};
use crate::model::Transformer;
use crate::tape::{Forward, LinearIds, ParameterId, Parameters, Recorder, Var};

/// The classes of a batch of images, on their device.
pub struct ClassBatch<D: Device> {
    /// The class of each image, `[B, 1]`.
    pub labels: D::Tokens,
    /// Each image's weight in the loss, `[B]`.
    pub weights: D::Tensor,
}

impl<D: Device> ClassBatch<D> {
    /// The mean over the images of a batch of `images`, times `scale`.
    ///
    /// # Errors
    /// Fewer or more labels than images.
    pub fn new(device: &D, labels: &[u16], images: usize, scale: f32) -> Result<Self> {
        Self::check(labels, images)?;
        Ok(Self {
            labels: device.upload_tokens([images, 1], labels)?,
            weights: device.upload(&[images], &vec![scale / images as f32; images])?,
        })
    }

    /// Other images, as many as before, with the same weights.
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
        let (expected, got) = (format!("{images}, one per image"), labels.len().to_string());
        Err(ShapeError { op: "classify", argument: "labels", expected, got }.into())
    }
}

impl Transformer {
    /// Scores of every class, from [`Transformer::features`]: the mean over all positions (`sos` among them), then the
    /// head. `[B, T, d] → [B, classes]`.
    ///
    /// # Errors
    /// A model without a class head.
    pub fn class_logits<D: Device, R: Recorder<D>>(
        &self,
        f: &mut Forward<'_, D, R>,
        features: &Var<D>,
    ) -> Result<Var<D>> {
        let weight = self.class_head()?;
        let pooled = f.mean_pool(features)?;
        f.linear(LinearIds { weight, bias: None }, WeightLayout::OutIn, &pooled)
    }

    /// The head alone, on features that are pooled already, with nothing recorded: `[.., d] → [.., classes]`.
    ///
    /// # Errors
    /// A model without a class head.
    pub fn head_logits<D: Device>(
        &self,
        device: &D,
        parameters: &Parameters<D>,
        pooled: &D::Tensor,
    ) -> Result<D::Tensor> {
        device.linear(pooled, parameters.get(self.class_head()?), WeightLayout::OutIn, None)
    }

    fn class_head(&self) -> Result<ParameterId> {
        self.ids().class_head.ok_or_else(|| {
            let (expected, got) = ("there".to_owned(), "a model without one".to_owned());
            ShapeError { op: "classify", argument: "class head", expected, got }.into()
        })
    }
}
