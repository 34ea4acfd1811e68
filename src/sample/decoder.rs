//! One pixel at a time, with keys and values of earlier pixels cached; prompts all at once.
//!
//! A step reads its position from the device's memory, so that one recording (on a GPU, a CUDA graph) serves all positions.

use std::rc::Rc;

use crate::device::ops::attention_decode::check_position;
use crate::device::{CacheDims, Device, Error, Result, tokens};
use crate::model::Transformer;
use crate::tape::{Forward, NoTape, Parameters, Recorder, Var};

/// Tokens of a pass over prompts, where a device computes many images at once.
const PREFILL: usize = 8192;

/// What the model says at one position, until the next step.
pub(super) struct Step<D: Device> {
    /// The final features, `[B, 1, d]`.
    pub features: Rc<D::Tensor>,
    /// The logits of the pixel, `[B, 1, V]`.
    pub logits: Rc<D::Tensor>,
}

impl<D: Device> Clone for Step<D> {
    fn clone(&self) -> Self {
        Self { features: Rc::clone(&self.features), logits: Rc::clone(&self.logits) }
    }
}

/// A batch of images in progress: the model's caches, and how far they are filled.
pub struct Decoder<'a, D: Device> {
    device: &'a D,
    model: &'a Transformer,
    parameters: &'a Parameters<D>,
    /// Keys and values of each block, `[B, H, T, d/H]` each.
    caches: Vec<(D::Tensor, D::Tensor)>,
    position: usize,
    graphs: bool,
    /// What a step reads, in the same memory at every step; none before the first.
    inputs: Option<Inputs<D>>,
    /// A step on those, captured, and what it says.
    recorded: Option<(D::Recording, Step<D>)>,
}

/// What a step reads beside caches and weights.
struct Inputs<D: Device> {
    /// The token of each image, `[B, 1]`.
    ids: Rc<D::Tokens>,
    /// The position, `[1, 1]`.
    position: D::Tokens,
    /// Whether a step was taken on these caches, so that all its memory is there.
    used: bool,
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
        Ok(Self { device, model, parameters, caches, position: 0, graphs: true, inputs: None, recorded: None })
    }

    /// Whether the last step was captured or replayed.
    pub fn replays(&self) -> bool {
        self.recorded.is_some()
    }

    /// Whether a step is captured once and then replayed, where the device can: the default. The numbers are the same either way.
    pub fn with_graphs(self, graphs: bool) -> Self {
        Self { graphs, ..self }
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
        let Self { device, model, parameters, caches, position, .. } = self;
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
            model.blocks(&mut f, &ids, None, attend, |_| Ok(()))?;
        }
        *position = tokens;
        Ok(())
    }

    /// Feeds the token of the next position for every image (`ids` `[B]`: `sos` first) and returns the logits
    /// `[B, 1, V]` of the pixel at that position, which the next step may overwrite.
    ///
    /// # Errors
    /// Those of the device; a token that the model has not, or a position past the last.
    pub fn step(&mut self, ids: &[u16]) -> Result<Rc<D::Tensor>> {
        Ok(self.step_with_features(ids)?.logits)
    }

    /// [`Decoder::step`], with the final features too.
    pub(super) fn step_with_features(&mut self, ids: &[u16]) -> Result<Step<D>> {
        self.stage(ids)?;
        let used = self.inputs.as_ref().is_some_and(|inputs| inputs.used);

        // Replay the captured step, capture it at the second on these caches, or compute.
        let step = match &self.recorded {
            Some((recording, step)) => {
                self.device.replay(recording)?;
                step.clone()
            }
            None if used && self.graphs => {
                let device = self.device;
                let (step, recording) = device.record(|| self.compute())?;
                self.recorded = recording.map(|recording| (recording, step.clone()));
                step
            }
            None => self.compute()?,
        };
        if let Some(inputs) = &mut self.inputs {
            inputs.used = true;
        }
        self.position += 1;
        Ok(step)
    }

    /// Copies the tokens and the position to the device: over those of the last step.
    fn stage(&mut self, ids: &[u16]) -> Result<()> {
        let Self { device, model, caches, position, inputs, .. } = self;
        // A replayed step calls no op that would check them.
        tokens::check_all(ids, model.config().embedding_rows())?;
        let positions = caches.first().and_then(|(keys, _)| device.shape(keys).get(2).copied());
        check_position(*position, positions.unwrap_or(0))?;
        let Ok(at) = u16::try_from(*position) else {
            return Err(Error::unavailable("positions past 65,535 are not drawn", "draw smaller images"));
        };

        match inputs.as_mut().and_then(|Inputs { ids, position, .. }| Some((Rc::get_mut(ids)?, position))) {
            Some((there, position)) => {
                device.overwrite_tokens(there, ids)?;
                device.overwrite_tokens(position, &[at])
            }
            None => {
                let ids = Rc::new(device.upload_tokens([ids.len(), 1], ids)?);
                let position = device.upload_tokens([1, 1], &[at])?;
                *inputs = Some(Inputs { ids, position, used: false });
                Ok(())
            }
        }
    }

    /// The step on what is staged: nothing here moves numbers between host and device, so it can be recorded.
    fn compute(&mut self) -> Result<Step<D>> {
        let Self { device, model, parameters, caches, inputs: Some(Inputs { ids, position, .. }), .. } = self else {
            return Err(Error::unavailable("a step without tokens", "stage them first"));
        };
        let heads = model.config().heads;

        // Nothing goes on a tape, and attention reads the cache.
        let mut no_tape = NoTape;
        let mut f = Forward::new(*device, parameters, &mut no_tape);
        let attend = |f: &mut Forward<'_, D, NoTape>, layer: usize, qkv: &Var<D>| {
            let (keys, values) = &mut caches[layer];
            let mixed = f.device.attention_decode(qkv.value(), keys, values, position, heads)?;
            Ok(f.recorder.value(mixed))
        };

        // The token through all blocks to its logits.
        let features = model.blocks(&mut f, ids, Some(position), attend, |_| Ok(()))?;
        let logits = model.logits(&mut f, &features)?;
        Ok(Step { features: features.into_value(), logits: logits.into_value() })
    }

    /// Goes back to `position`, one that was fed: the next step is there once more, and what was fed behind it is forgotten.
    pub fn rewind(&mut self, position: usize) {
        self.position = self.position.min(position);
    }

    /// Goes on with the sequences `rows` in the place of the present ones, in this order and as often as named.
    pub fn reorder(&mut self, rows: &[usize]) -> Result<()> {
        // What was captured is of the present caches, and for as many images.
        self.recorded = None;
        self.inputs = None;
        for (keys, values) in &mut self.caches {
            *keys = self.device.gather(keys, rows)?;
            *values = self.device.gather(values, rows)?;
        }
        Ok(())
    }
}
