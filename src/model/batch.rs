//! Batches of the pre-training objectives: from images as tokens to inputs, targets and each row's weight in the loss.

use std::borrow::Cow;
use std::rc::Rc;

use crate::device::{BLANK, Device, Mask, Result, ShapeError};
use crate::model::Transformer;

/// A batch as the model sees it, on its device.
pub struct ObjectiveBatch<D: Device> {
    /// What goes in, `[B, T]`.
    pub inputs: Rc<D::Tokens>,
    /// What should come out, `[B, T]`.
    pub targets: D::Tokens,
    /// Each row's weight in the loss, `[B·T]`.
    pub weights: D::Tensor,
    /// Which positions see which.
    pub mask: Mask,
}

/// Inputs of the autoregressive objective: `tokens` (images of `length` each) shifted one position to the right behind
/// `sos`. The last pixel is never an input, and the logits at position `i` predict pixel `i`.
pub fn shift_right(tokens: &[u16], length: usize, sos: u16) -> Vec<u16> {
    tokens.chunks(length).flat_map(|image| std::iter::once(sos).chain(image.iter().copied().take(length - 1))).collect()
}

/// A batch on the host, as [`ObjectiveBatch`] will have it.
#[derive(Clone, Debug, PartialEq)]
pub struct HostBatch {
    shape: [usize; 2],
    inputs: Vec<u16>,
    targets: Vec<u16>,
    weights: Vec<f32>,
    mask: Mask,
}

impl HostBatch {
    /// See [`ObjectiveBatch::autoregressive`].
    pub fn autoregressive(tokens: &[u16], length: usize, sos: u16, scale: f32) -> Self {
        let rows = tokens.len();
        Self {
            shape: [rows / length, length],
            inputs: shift_right(tokens, length, sos),
            targets: tokens.to_vec(),
            weights: vec![scale / rows as f32; rows],
            mask: Mask::Causal,
        }
    }

    /// See [`ObjectiveBatch::bert`].
    pub fn bert(tokens: &[u16], length: usize, masked: &[bool], scale: f32) -> Result<Self> {
        let images = tokens.len() / length;
        if masked.len() != tokens.len() {
            return Err(mask_error(format!("{} of them, one per token", tokens.len()), masked.len()));
        }

        // Each image's masked positions have the same weight in all, however many there are.
        let mut weights = Vec::with_capacity(tokens.len());
        for (image, masked) in masked.chunks(length).enumerate() {
            let count = masked.iter().filter(|masked| **masked).count();
            if count == 0 {
                return Err(mask_error("at least one in each image".to_owned(), format!("none in image {image}")));
            }
            let weight = scale / (images * count) as f32;
            weights.extend(masked.iter().map(|masked| if *masked { weight } else { 0.0 }));
        }

        // Masked positions go in without their content.
        let shown = tokens.iter().zip(masked).map(|(token, masked)| if *masked { BLANK } else { *token });
        let (shape, inputs, targets) = ([images, length], shown.collect(), tokens.to_vec());
        Ok(Self { shape, inputs, targets, weights, mask: Mask::Full })
    }

    /// The batch on a device.
    pub fn upload<D: Device>(&self, device: &D) -> Result<ObjectiveBatch<D>> {
        Ok(ObjectiveBatch {
            inputs: Rc::new(device.upload_tokens(self.shape, &self.inputs)?),
            targets: device.upload_tokens(self.shape, &self.targets)?,
            weights: device.upload(&[self.weights.len()], &self.weights)?,
            mask: self.mask,
        })
    }

    /// Overwrites a batch of the same shape on the device.
    ///
    /// # Errors
    /// Another shape, or a batch that a tape still reads.
    pub fn overwrite<D: Device>(&self, device: &D, batch: &mut ObjectiveBatch<D>) -> Result<()> {
        let Some(inputs) = Rc::get_mut(&mut batch.inputs) else {
            let (expected, got) = ("not in use".to_owned(), "a batch that a tape reads".to_owned());
            return Err(ShapeError { op: "overwrite", argument: "batch", expected, got }.into());
        };
        device.overwrite_tokens(inputs, &self.inputs)?;
        device.overwrite_tokens(&mut batch.targets, &self.targets)?;
        device.overwrite(&mut batch.weights, &self.weights)
    }
}

impl<D: Device> ObjectiveBatch<D> {
    /// The autoregressive objective on `images` × `length` `tokens`, already in the model's order: mean over all
    /// positions, times `scale` (1 divided by the micro-batches that make up a step).
    pub fn autoregressive(device: &D, tokens: &[u16], length: usize, sos: u16, scale: f32) -> Result<Self> {
        HostBatch::autoregressive(tokens, length, sos, scale).upload(device)
    }

    /// The BERT objective on `images` × `length` `tokens`, of which those that are `true` in `masked` go in without
    /// their content and come out: mean over each image's masked positions, then over images, times `scale`.
    ///
    /// # Errors
    /// A mask of another size, or an image without a masked position: its mean would be of nothing.
    pub fn bert(device: &D, tokens: &[u16], length: usize, masked: &[bool], scale: f32) -> Result<Self> {
        HostBatch::bert(tokens, length, masked, scale)?.upload(device)
    }
}

fn mask_error(expected: String, got: impl ToString) -> crate::device::Error {
    ShapeError { op: "bert", argument: "masked positions", expected, got: got.to_string() }.into()
}

impl Transformer {
    /// The start-of-sequence token: the embedding row after the colours.
    pub fn sos(&self) -> u16 {
        self.config().vocabulary as u16
    }

    /// Images (`[B · length]`, raster order) in the model's own order.
    ///
    /// # Errors
    /// Images of another length than the order's.
    pub fn arrange<'t, T: Copy>(&self, images: &'t [T], length: usize) -> Result<Cow<'t, [T]>> {
        self.reorder(images, length, |order| order.arrange(images))
    }

    /// Sequences (`[B · length]`, the model's order) in raster order: the inverse of [`Transformer::arrange`].
    ///
    /// # Errors
    /// As [`Transformer::arrange`].
    pub fn restore<'t, T: Copy>(&self, sequences: &'t [T], length: usize) -> Result<Cow<'t, [T]>> {
        self.reorder(sequences, length, |order| order.restore(sequences))
    }

    fn reorder<'t, T: Copy>(
        &self,
        rows: &'t [T],
        length: usize,
        by: impl FnOnce(&crate::model::Permutation) -> Vec<T>,
    ) -> Result<Cow<'t, [T]>> {
        match self.permutation() {
            None => Ok(Cow::Borrowed(rows)),
            Some(order) if order.len() == length => Ok(Cow::Owned(by(order))),
            Some(order) => {
                let expected = format!("{}, the pixels of the model's order", order.len());
                Err(ShapeError { op: "order", argument: "length", expected, got: length.to_string() }.into())
            }
        }
    }

    /// Images (`tokens` `[B · length]`, raster order) as a batch of the autoregressive objective in the model's order.
    pub fn autoregressive_batch<D: Device>(
        &self,
        device: &D,
        tokens: &[u16],
        length: usize,
        scale: f32,
    ) -> Result<ObjectiveBatch<D>> {
        self.autoregressive_on_host(tokens, length, scale)?.upload(device)
    }

    /// [`Transformer::autoregressive_batch`], still on the host.
    pub fn autoregressive_on_host(&self, tokens: &[u16], length: usize, scale: f32) -> Result<HostBatch> {
        let sequences = self.arrange(tokens, length)?;
        Ok(HostBatch::autoregressive(&sequences, length, self.sos(), scale))
    }

    /// Images (`tokens` `[B · length]`, raster order, as is `masked`) as a batch of the BERT objective.
    pub fn bert_batch<D: Device>(
        &self,
        device: &D,
        tokens: &[u16],
        length: usize,
        masked: &[bool],
        scale: f32,
    ) -> Result<ObjectiveBatch<D>> {
        self.bert_on_host(tokens, length, masked, scale)?.upload(device)
    }

    /// [`Transformer::bert_batch`], still on the host.
    pub fn bert_on_host(&self, tokens: &[u16], length: usize, masked: &[bool], scale: f32) -> Result<HostBatch> {
        let (sequences, masked) = (self.arrange(tokens, length)?, self.arrange(masked, length)?);
        HostBatch::bert(&sequences, length, &masked, scale)
    }
}
