//! One pixel at a time, with keys and values of earlier pixels cached; prompts all at once.

use std::rc::Rc;

use crate::device::{CacheDims, Device, Result};
use crate::model::Transformer;
use crate::tape::{Forward, NoTape, Parameters, Recorder, Var};

/// Tokens of a pass over prompts, where a device computes many images at once.
const PREFILL: usize = 8192;

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
    /// Keys and values of each block, `[B, H, T, d/H]` each.
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
        let (heads, width) = (model.config().heads, model.config().width);
        let dims = CacheDims { batch: images, positions: length, heads, head_dim: width / heads };
        let caches = (0..model.config().layers)
            .map(|_| Ok((device.attention_cache(dims)?, device.attention_cache(dims)?)))
            .collect::<Result<_>>()?;
        Ok(Self { device, model, parameters, caches, position: 0 })
    }

    /// A decoder of `images` that has seen `sos` and all of their prompts but the last token, which is fed next. `prompts` are
    /// `[images, tokens]`, in the model's order, or none. Neighbours with one prompt, as completions of an image are, see it once.
    pub fn prompted(
        device: &'a D,
        model: &'a Transformer,
        parameters: &'a Parameters<D>,
        images: usize,
        prompts: &[u16],
        length: usize,
    ) -> Result<Self> {
        let tokens = prompts.len() / images.max(1);
        if tokens == 0 {
            return Self::new(device, model, parameters, images, length);
        }

        // Prompts that differ from the one before, behind `sos`, and whose each image is.
        let (mut inputs, mut distinct, mut rows) = (Vec::new(), 0, Vec::with_capacity(images));
        for (image, prompt) in prompts.chunks_exact(tokens).enumerate() {
            if image == 0 || *prompt != prompts[(image - 1) * tokens..image * tokens] {
                inputs.push(model.sos());
                inputs.extend(&prompt[..tokens - 1]);
                distinct += 1;
            }
            rows.push(distinct - 1);
        }

        let mut decoder = Self::new(device, model, parameters, distinct, length)?;
        decoder.prefill(&inputs, tokens)?;
        if distinct < images {
            decoder.reorder(&rows)?;
        }
        Ok(decoder)
    }

    /// Feeds the first `tokens` tokens of every image at once, before any step: `ids` `[B, tokens]`, `sos` first. A step with the token
    /// that follows them goes on from there.
    pub fn prefill(&mut self, ids: &[u16], tokens: usize) -> Result<()> {
        let Self { device, model, parameters, caches, position } = self;
        let heads = model.config().heads;

        // On the CPU each image by itself: a prompt is enough rows for its GEMMs, and what an image becomes does not hang on those beside it.
        let at_once = if D::ASYNCHRONOUS { (PREFILL / tokens).max(1) } else { 1 };
        for (pass, ids) in ids.chunks(at_once * tokens).enumerate() {
            let mut no_tape = NoTape;
            let mut f = Forward::new(*device, parameters, &mut no_tape);
            let attend = |f: &mut Forward<'_, D, NoTape>, layer: usize, qkv: &Var<D>| {
                let (keys, values) = &mut caches[layer];
                let mixed = f.device.attention_prefill(qkv.value(), keys, values, pass * at_once, heads)?;
                Ok(f.recorder.value(mixed))
            };
            let ids = Rc::new(device.upload_tokens([ids.len() / tokens, tokens], ids)?);
            model.blocks(&mut f, &ids, 0, attend, |_| Ok(()))?;
        }
        *position = tokens;
        Ok(())
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
