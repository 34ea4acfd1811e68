//! Pre-training objectives: from images as tokens to inputs, targets and each row's share of the loss.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::device::{Device, Mask, Result};
use crate::model::{Parameters, Transformer};
use crate::tape::Recorder;

/// What a model is trained to predict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// The next pixel, given all before it in raster order.
    #[default]
    Ar,
}

/// A batch as the model sees it, on its device.
pub struct ObjectiveBatch<D: Device> {
    /// What goes in, `[B, T]`.
    pub inputs: Rc<D::Tokens>,
    /// What should come out, `[B, T]`.
    pub targets: D::Tokens,
    /// Each row's share of the loss, `[B·T]`.
    pub weights: D::Tensor,
    /// Which positions see which.
    pub mask: Mask,
}

/// Result of [`Transformer::loss`].
pub struct Loss<D: Device> {
    /// The weighted sum over rows, one element.
    pub loss: D::Tensor,
    /// Nats of each row, `[B·T]`.
    pub nll: D::Tensor,
}

/// Inputs of the autoregressive objective: `tokens` (images of `length` each) shifted one place to the right behind
/// `sos`. The last pixel is never an input, and the logits at position `i` predict pixel `i`.
pub fn shift_right(tokens: &[u16], length: usize, sos: u16) -> Vec<u16> {
    tokens.chunks(length).flat_map(|image| std::iter::once(sos).chain(image.iter().copied().take(length - 1))).collect()
}

impl<D: Device> ObjectiveBatch<D> {
    /// The autoregressive objective on `images` × `length` `tokens`: mean over all positions, times `share` (1 divided by
    /// the micro-batches that make up a step).
    pub fn autoregressive(device: &D, tokens: &[u16], length: usize, sos: u16, share: f32) -> Result<Self> {
        let rows = tokens.len();
        let shape = [rows / length, length];
        Ok(Self {
            inputs: Rc::new(device.upload_tokens(shape, &shift_right(tokens, length, sos))?),
            targets: device.upload_tokens(shape, tokens)?,
            weights: device.upload(&[rows], &vec![share / rows as f32; rows])?,
            mask: Mask::Causal,
        })
    }
}

impl Transformer {
    /// The start-of-sequence token: the embedding row after the colours.
    pub fn sos(&self) -> u16 {
        self.config().vocabulary as u16
    }

    /// The loss of a batch; recorded, it is where [`Tape::backward`](crate::tape::Tape::backward) starts.
    pub fn loss<D: Device, R: Recorder<D>>(
        &self,
        device: &D,
        parameters: &Parameters<D>,
        recorder: &mut R,
        batch: &ObjectiveBatch<D>,
    ) -> Result<Loss<D>> {
        let features = self.features(device, parameters, recorder, &batch.inputs, batch.mask, |_| Ok(()))?;
        let logits = self.logits(device, parameters, recorder, &features)?;
        // The head's input is on the tape if it is needed; here it is not.
        drop(features);
        let (loss, nll) = crate::tape::cross_entropy(recorder, device, logits, &batch.targets, &batch.weights)?;
        Ok(Loss { loss, nll })
    }
}
