//! One pixel at a time, with keys and values of earlier pixels cached.

use std::rc::Rc;

use crate::device::{Device, Result};
use crate::model::Transformer;
use crate::tape::{Forward, NoTape, Parameters, Recorder, Var};

/// What the model says at one position.
pub(super) struct Step<D: Device> {
    /// The final features, `[B, 1, d]`.
    pub features: Rc<D::Tensor>,
    /// The logits of the pixel, `[B, 1, V]`.
    pub logits: Rc<D::Tensor>,
}

/// A batch of images in progress: the model's caches, and how far they are filled.
pub struct Decoder<'a, D: Device> {
    device: &'a D,
    model: &'a Transformer,
    parameters: &'a Parameters<D>,
    /// Keys and values of each block, `[B, T, d]` each.
    caches: Vec<(D::Tensor, D::Tensor)>,
    position: usize,
}

impl<'a, D: Device> Decoder<'a, D> {
    /// Empty caches for `images` sequences of `length` tokens.
    pub fn new(
        device: &'a D,
        model: &'a Transformer,
        parameters: &'a Parameters<D>,
        images: usize,
        length: usize,
    ) -> Result<Self> {
        let shape = [images, length, model.config().width];
        let caches = (0..model.config().layers)
            .map(|_| Ok((device.zeros(&shape)?, device.zeros(&shape)?)))
            .collect::<Result<_>>()?;
        Ok(Self { device, model, parameters, caches, position: 0 })
    }

    /// Feeds the token of the next position for every image (`ids` `[B, 1]`: `sos` first) and returns the logits
    /// `[B, 1, V]` of the pixel at that position.
    pub fn step(&mut self, ids: D::Tokens) -> Result<Rc<D::Tensor>> {
        Ok(self.step_with_features(ids)?.logits)
    }

    /// [`Decoder::step`], with the final features too.
    pub(super) fn step_with_features(&mut self, ids: D::Tokens) -> Result<Step<D>> {
        let Self { device, model, parameters, caches, position } = self;
        let heads = model.config().heads;

        // Nothing is recorded, and attention reads the cache.
        let mut no_tape = NoTape;
        let mut f = Forward::new(*device, parameters, &mut no_tape);
        let attend = |f: &mut Forward<'_, D, NoTape>, layer: usize, qkv: &Var<D>| {
            let (keys, values) = &mut caches[layer];
            let mixed = f.device.attention_decode(qkv.value(), keys, values, *position, heads)?;
            Ok(f.recorder.value(mixed))
        };

        // The token through all blocks to its logits.
        let features = model.blocks(&mut f, &Rc::new(ids), *position, attend, |_| Ok(()))?;
        let logits = model.logits(&mut f, &features)?;
        *position += 1;
        Ok(Step { features: features.into_value(), logits: logits.into_value() })
    }

    /// Goes on with the sequences `rows` in the place of the present ones, in this order and as often as named.
    pub(super) fn reorder(&mut self, rows: &[usize]) -> Result<()> {
        for (keys, values) in &mut self.caches {
            *keys = self.device.gather(keys, rows)?;
            *values = self.device.gather(values, rows)?;
        }
        Ok(())
    }
}
