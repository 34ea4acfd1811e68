//! What work takes of a GPU's memory, counted: the work's own code runs on a device that only counts.
//!
//! So everything is in it that a formula leaves out: partial sums of a gradient that is cut along k, copies in bf16, buffers
//! of sizes that nothing else asks for, and what evaluation and samples need beside a recorded step.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::memory::{Memory, Work};
use super::offload::Offloaded;
use super::shares::Shares;
use crate::device::{Capture, CudaDevice, Error, Precision, Result, SampleOps, SampleOptions, Tensors};
use crate::eval::score;
use crate::model::{ClassBatch, Criterion, MicroBatch, ModelConfig, OnHost, Transformer, parameter_specs};
use crate::optim::{Adam, AdamConfig, Average, Skipped};
use crate::sample::Decoder;
use crate::sample::grid::{GRID_COMPLETIONS, drawn_at_once};
use crate::tape::{Parameters, Recompute};

/// Tokens at a time up to which memory is counted: a count takes time and host memory in proportion to them.
const MAX_COUNTED: usize = 1 << 17;

/// What is done at a time.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// The model, with its classes if it is fine-tuned.
    pub config: &'a ModelConfig,
    /// What is done.
    pub work: Work,
    /// Images at a time: of training, those of a micro-batch.
    pub images: usize,
    /// Tokens of an image.
    pub length: usize,
    /// How the GPU stores activations and matmul weights.
    pub precision: Precision,
    /// Of training: how much of the forward pass is computed again.
    pub recompute: Recompute,
    /// Of training: whether a moving average of the weights is kept.
    pub ema: bool,
    /// Of training: images that are validated at a time; as many as of a micro-batch if `None`.
    pub eval_images: Option<usize>,
    /// Of training: how ranks share its steps, and whether moments and master weights lie in the host's memory.
    pub shares: Shares,
}

impl<'a> Load<'a> {
    /// `work` on `images` images at a time, with nothing computed again and nothing beside it.
    pub fn new(config: &'a ModelConfig, work: Work, images: usize, length: usize, precision: Precision) -> Self {
        let (recompute, ema, eval_images, shares) = (Recompute::None, false, None, Shares::ALONE);
        Self { config, work, images, length, precision, recompute, ema, eval_images, shares }
    }
}

impl Load<'_> {
    /// Its memory by formula, which on the CPU is what it takes.
    pub fn by_formula(self) -> Memory {
        let Self { config, work, images, length, precision, recompute, ema, eval_images, shares } = self;
        let tokens = images as f64 * length as f64;
        if work != Work::Training {
            return Memory::of(config, work, tokens, precision);
        }
        let memory = Memory::training(config, tokens, precision, recompute);
        // A validation of no more images than a step has finds the step's memory free.
        let evaluation = eval_images.filter(|more| *more > images).map_or(0.0, |images| {
            Memory::of(config, Work::Forward, images as f64 * length as f64, precision).workspace
        });
        let average = if ema { 4.0 * config.parameter_count() as f64 } else { 0.0 };
        let memory = Memory { average, evaluation, ..memory };
        let alone = if shares.alone().offload {
            let Offloaded { bytes, masters, .. } = Offloaded::of(config, precision, Shares::ALONE, ema);
            Memory { weights: memory.weights - masters, moments: 0.0, host: bytes, ..memory }
        } else {
            memory
        };
        shares.of(alone, config, precision)
    }

    /// Its memory on a GPU: counted up to 131,072 tokens at a time, and beyond that in proportion to the images; of a rank, what one
    /// process takes is counted, and its share follows from sizes.
    ///
    /// # Errors
    /// A model that no GPU's kernels can compute.
    pub fn on_gpu(self) -> Result<Memory> {
        let Self { config, precision, work, shares, .. } = self;
        let alone = Self { shares: shares.alone(), ..self }.alone_on_gpu()?;
        Ok(if work == Work::Training { shares.of(alone, config, precision) } else { alone })
    }

    fn alone_on_gpu(self) -> Result<Memory> {
        let most = (MAX_COUNTED / self.length.max(1)).max(2);
        if self.images <= most {
            return self.counted();
        }
        let [half, most_counted] = [most / 2, most].map(|images| Self { images, ..self }.counted());
        let (half, whole) = (half?, most_counted?);
        let more = (self.images - most) as f64 / (most - most / 2) as f64;
        let grown = |of: fn(&Memory) -> f64| of(&whole) + more * (of(&whole) - of(&half));
        Ok(Memory {
            weights: grown(|memory| memory.weights),
            gradients: grown(|memory| memory.gradients),
            moments: grown(|memory| memory.moments),
            average: grown(|memory| memory.average),
            activations: grown(|memory| memory.activations),
            workspace: grown(|memory| memory.workspace),
            evaluation: grown(|memory| memory.evaluation),
            exchange: 0.0,
            host: grown(|memory| memory.host),
        })
    }

    /// The same, by running it on a device that counts; what was counted before in this process is known.
    fn counted(self) -> Result<Memory> {
        static KNOWN: Mutex<BTreeMap<String, Memory>> = Mutex::new(BTreeMap::new());
        let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);

        let load = format!("{self:?}");
        if let Some(memory) = known().get(&load) {
            return Ok(*memory);
        }
        let memory = self.count()?;
        known().insert(load, memory);
        Ok(memory)
    }

    fn count(self) -> Result<Memory> {
        let device = CudaDevice::counting(self.precision);
        let in_use = || device.memory_use().in_use as f64;
        let model = self.model()?;
        let specs = parameter_specs(self.config);
        // Zeros that are never touched take no memory of the host.
        let on_host = OnHost::weights(&device, self.shares.offload, false);
        let values = specs.iter().map(|spec| on_host.upload(&device, spec, &vec![0.0; spec.elements()]));
        let values = values.collect::<Result<_>>()?;
        let mut parameters = Parameters::of(specs, values);
        let master = in_use();

        let tokens = vec![0; self.images.saturating_mul(self.length)];
        let taken = || device.memory_use().allocated as f64;
        match self.work {
            Work::Training => self.training(&device, &model, &mut parameters, &tokens),
            Work::Forward => {
                score(&device, &model, &parameters, &tokens, self.length)?;
                let weights = in_use().max(master);
                Ok(Memory { weights, workspace: taken() - weights, ..Memory::default() })
            }
            Work::Sampling => {
                drop(draw(&device, &model, &parameters, self.images, &self.prompts(self.images), self.length)?);
                let weights = in_use();
                Ok(Memory { weights, activations: taken() - weights, ..Memory::default() })
            }
        }
    }

    /// The model, which computes again what it is told to.
    pub(super) fn model(self) -> Result<Transformer> {
        let model = Transformer::new(self.config.clone()).map_err(|error| Error::unavailable(error.to_string(), ""))?;
        Ok(model.recomputing(self.recompute))
    }

    /// A run: its first step, the second, which is recorded, and what is done between steps.
    fn training(
        self,
        device: &CudaDevice,
        model: &Transformer,
        parameters: &mut Parameters<CudaDevice>,
        tokens: &[u16],
    ) -> Result<Memory> {
        let (in_use, taken) = (|| device.memory_use().in_use as f64, || device.memory_use().allocated as f64);
        let master = in_use();
        let mut gradients = parameters.zeros_like(device)?;
        let gradient_bytes = in_use() - master;
        let on_host = OnHost::moments(self.shares.offload);
        let moment = || parameters.specs().iter().map(|spec| on_host.zeros(device, spec)).collect::<Result<Vec<_>>>();
        let [first, second] = [moment()?, moment()?];
        let moments = in_use() - gradient_bytes - master;
        let mut adam = Adam::resume(device, AdamConfig::default(), first, second, 0, Skipped::default())?;
        let before = in_use();
        let mut average = self.ema.then(|| Average::new(device, parameters, 0.999)).transpose()?;
        let average_bytes = in_use() - before;

        let (batches, criterion) = self.micro_batch(device, model, tokens)?;

        // Two steps, the second recorded.
        let update = adam.begin(device, 1e-3)?;
        let at_rest = in_use();
        let mut step = |parameters: &mut Parameters<CudaDevice>| {
            let losses = model.accumulate_gradients(device, parameters, &criterion, &batches, &mut gradients)?;
            adam.apply(device, parameters, &gradients, update)?;
            if let Some(average) = &mut average {
                average.update(device, parameters, adam.verdict())?;
            }
            Ok(losses)
        };
        drop(step(parameters)?);
        let copies = in_use() - at_rest;
        let (losses, recording) = device.record(|| step(parameters))?;
        let after_steps = taken();

        let validated = vec![0; self.eval_images.unwrap_or(self.images).saturating_mul(self.length)];
        device.lend(recording.as_ref(), || self.between_steps(device, model, parameters, &validated))?;
        drop(losses);

        // What the backward pass reads is known by formula, the rest by the difference.
        let weights = master + copies;
        let tokens = tokens.len() as f64;
        let kept = Memory::training(self.config, tokens, self.precision, self.recompute).activations;
        let kept_always = weights + gradient_bytes + moments + average_bytes;
        let activations = kept.min(after_steps - kept_always);
        Ok(Memory {
            weights,
            gradients: gradient_bytes,
            moments,
            average: average_bytes,
            activations,
            workspace: after_steps - kept_always - activations,
            evaluation: taken() - after_steps,
            exchange: 0.0,
            host: device.memory_use().host as f64,
        })
    }

    /// A micro-batch on the device, and the loss that it is for.
    pub(super) fn micro_batch(
        self,
        device: &CudaDevice,
        model: &Transformer,
        tokens: &[u16],
    ) -> Result<([MicroBatch<CudaDevice>; 1], Criterion)> {
        let Self { config, images, length, .. } = self;
        let batch = match config.sos {
            true => model.autoregressive_batch(device, tokens, length, 1.0)?,
            // Which pixels are masked changes nothing.
            false => model.bert_batch(device, tokens, length, &vec![true; tokens.len()], 1.0)?,
        };

        let learns = !config.classes.is_empty();
        let classes = learns.then(|| ClassBatch::new(device, &vec![0; images], images, 1.0)).transpose()?;
        let classification_weight = if learns { 1.0 } else { 0.0 };
        let criterion = Criterion { classification_weight, ..Criterion::from(config.objective()) };
        Ok(([(batch, classes)], criterion))
    }

    /// Halves of as many images, no two neighbours alike.
    fn prompts(self, images: usize) -> Vec<u16> {
        let prompt = self.config.order.prompt(self.length.isqrt()).max(1);
        (0..images).flat_map(|image| std::iter::repeat_n((image % 2) as u16, prompt)).collect()
    }

    /// Validation, the check before a checkpoint, and samples.
    fn between_steps(
        self,
        device: &CudaDevice,
        model: &Transformer,
        parameters: &Parameters<CudaDevice>,
        tokens: &[u16],
    ) -> Result<()> {
        let length = self.length;
        score(device, model, parameters, tokens, length)?;
        score(device, model, parameters, tokens.get(..length).unwrap_or(tokens), length)?;

        let side = length.isqrt();
        if self.config.sos && side * side == length && side >= 2 {
            let images = drawn_at_once(self.images, self.recompute);
            let rows = images.div_ceil(GRID_COMPLETIONS);
            let prompts = self.prompts(rows);
            let prompt = prompts.len() / rows;
            let prompts: Vec<u16> = prompts.chunks(prompt).flat_map(|prompt| prompt.repeat(images / rows)).collect();
            drop(draw(device, model, parameters, images, &prompts, length)?);
        }
        Ok(())
    }
}

/// The caches of `images` in progress, their prompts and two positions of theirs: all others take what the second takes.
fn draw<'a>(
    device: &'a CudaDevice,
    model: &'a Transformer,
    parameters: &'a Parameters<CudaDevice>,
    images: usize,
    prompts: &[u16],
    length: usize,
) -> Result<Decoder<'a, CudaDevice>> {
    let mut decoder = Decoder::prompted(device, model, parameters, images, prompts, length)?;
    // The second step is recorded.
    decoder.step(&vec![model.sos(); images])?;
    let logits = decoder.step(&vec![model.sos(); images])?;
    let options = SampleOptions::PLAIN;
    device.download_tokens(&device.sample(&logits, options, &vec![0.5; images])?)?;
    Ok(decoder)
}
