//! Scoring a model batch by batch.

use std::ops::Range;

use super::error::EvalError;
use super::tally::{Evaluation, Part, Scores};
use crate::data::{Examples, tokens_of};
use crate::device::Device;
use crate::model::{Masking, Objective, ObjectiveBatch, Transformer, modal_class};
use crate::tape::{Forward, NoTape, Parameters};

/// Which pixels a BERT model must guess.
#[derive(Clone, Copy, Debug)]
pub enum Masks<'a> {
    /// Random: `per_image` masks per image, whose predicted classes are put to the vote ([`modal_class`]) and whose losses are
    /// averaged.
    Random {
        /// Rate and seed.
        masking: Masking,
        /// Masks per image, at least 1.
        per_image: u64,
    },
    /// Given, `[N, n]` in raster order: `true` is masked, at least one in each image.
    Given(&'a [bool]),
}

/// What is scored, and how.
#[derive(Clone, Copy, Debug)]
pub struct EvaluationPlan<'a> {
    /// Images, from the first; more than there are is all.
    pub images: usize,
    /// Images at a time; changes nothing but speed and memory.
    pub batch: usize,
    /// The loss.
    pub objective: Objective,
    /// Masks of the BERT objective.
    pub masks: Masks<'a>,
}

impl EvaluationPlan<'_> {
    /// The masks of images `first..first + count`: one set per mask; none for an autoregressive model, which needs one pass.
    fn masks_of(&self, first: usize, count: usize, length: usize) -> Vec<Option<Vec<bool>>> {
        match (self.objective, self.masks) {
            (Objective::Ar, _) => vec![None],
            (Objective::Bert, Masks::Given(given)) => {
                let rows = given.get(first * length..(first + count) * length).unwrap_or_default();
                vec![Some(rows.to_vec())]
            }
            (Objective::Bert, Masks::Random { masking, per_image }) => {
                (0..per_image.max(1)).map(|mask| Some(masking.evaluation(mask, first as u64, count, length))).collect()
            }
        }
    }

    fn seed(&self) -> u64 {
        match self.masks {
            Masks::Random { masking, .. } => masking.seed,
            Masks::Given(_) => 0,
        }
    }
}

/// What one batch of an evaluation gave.
#[derive(Clone, Copy, Debug)]
pub struct BatchScores<'a> {
    /// Number of the first image.
    pub first: usize,
    /// Nats of each pixel, `[images, T]` in raster order; not a number where a BERT model saw the pixel.
    pub nats: &'a [f32],
    /// The class that was predicted for each image, `[images]`; empty without a class head.
    pub classes: &'a [u16],
}

/// Scores the first `images` of `examples` without augmentation under the objective that the model was made for, `batch` at a
/// time; BERT models under one mask of seed 0 at the paper's rate. `each` is given the nats of every batch, `[images, T]`, in
/// order.
pub fn evaluate<D: Device, E: From<EvalError>>(
    device: &D,
    model: &Transformer,
    parameters: &Parameters<D>,
    examples: &dyn Examples,
    images: usize,
    batch: usize,
    mut each: impl FnMut(&[f32]) -> Result<(), E>,
) -> Result<Evaluation, E> {
    let masks = Masks::Random { masking: Masking::default(), per_image: 1 };
    let plan = EvaluationPlan { images, batch, objective: model.config().objective(), masks };
    evaluate_with(device, model, parameters, examples, &plan, |scores| each(scores.nats))
}

/// Scores `examples` by a plan. `each` is given what every batch gave, in order; of several masks, the first one's nats.
pub fn evaluate_with<D: Device, E: From<EvalError>>(
    device: &D,
    model: &Transformer,
    parameters: &Parameters<D>,
    examples: &dyn Examples,
    plan: &EvaluationPlan<'_>,
    each: impl FnMut(BatchScores<'_>) -> Result<(), E>,
) -> Result<Evaluation, E> {
    let scores = evaluate_part(device, model, parameters, examples, plan, Part::ALL, each)?;
    Ok(scores.evaluation(plan.objective))
}

/// Scores the images of `part` alone, in batches that end where images in a row do; [`Scores::together`] puts those of all ranks together.
pub fn evaluate_part<D: Device, E: From<EvalError>>(
    device: &D,
    model: &Transformer,
    parameters: &Parameters<D>,
    examples: &dyn Examples,
    plan: &EvaluationPlan<'_>,
    part: Part,
    mut each: impl FnMut(BatchScores<'_>) -> Result<(), E>,
) -> Result<Scores, E> {
    let length = examples.sequence_length();
    let images = plan.images.min(examples.len());
    let mut scores = Scores::new(model.config().vocabulary);
    let at_a_time = |range: Range<usize>| {
        let (end, batch) = (range.end, plan.batch.max(1));
        range.step_by(batch).map(move |first| (first, batch.min(end - first)))
    };

    for (first, count) in part.ranges(images).flat_map(at_a_time) {
        // Tokens and labels of the batch.
        let tokens = tokens_of(examples, first, count).map_err(EvalError::from)?;
        let labels: Vec<Option<u16>> = (first..first + count).map(|image| examples.label(image)).collect();
        scores.begin(&tokens, count);

        // Score them under each mask; an autoregressive model needs none.
        let masks = plan.masks_of(first, count, length);
        let (mut nats, mut votes) = (Vec::new(), vec![Vec::new(); count]);
        for masked in &masks {
            let passed = forward(device, model, parameters, &tokens, length, masked.as_deref());
            let Passed { nll, class_logits } = passed.map_err(EvalError::from)?;
            scores.nats(&nll, masked.as_deref(), length, masks.len());
            if let Some(logits) = class_logits {
                scores.class_losses(&logits, &labels, &mut votes, masks.len());
            }
            if nats.is_empty() {
                nats = nll;
            }
        }

        // Of pixels that a BERT model saw, it says nothing.
        if let Some(Some(masked)) = masks.first() {
            nats.iter_mut().zip(masked).filter(|(_, masked)| !**masked).for_each(|(nats, _)| *nats = f32::NAN);
        }

        // The class that most masks' predictions name.
        let taken_for =
            votes.iter().zip(first as u64..).filter_map(|(votes, image)| modal_class(votes, plan.seed(), image));
        let classes: Vec<u16> = taken_for.collect();
        scores.classes(&classes, &labels);
        each(BatchScores { first, nats: &nats, classes: &classes })?;
    }
    Ok(scores)
}

/// Nats of every token of a batch of the model's own objective, `[B·T]` in raster order; a BERT model's under one mask of seed
/// 0 at the paper's rate, as if the images were a data set's first.
pub fn score<D: Device>(
    device: &D,
    model: &Transformer,
    parameters: &Parameters<D>,
    tokens: &[u16],
    length: usize,
) -> crate::device::Result<Vec<f32>> {
    let masked = match model.config().objective() {
        Objective::Ar => None,
        Objective::Bert => Some(Masking::default().evaluation(0, 0, tokens.len() / length, length)),
    };
    Ok(forward(device, model, parameters, tokens, length, masked.as_deref())?.nll)
}

/// What a model says of a batch.
struct Passed {
    /// Nats of each pixel, `[B·T]`, raster order.
    nll: Vec<f32>,
    /// `[B, classes]`, of a model with a class head.
    class_logits: Option<Vec<f32>>,
}

/// One pass over images, `tokens` `[B·T]` in raster order: as the BERT objective where `masked` is given, else as the
/// autoregressive one.
fn forward<D: Device>(
    device: &D,
    model: &Transformer,
    parameters: &Parameters<D>,
    tokens: &[u16],
    length: usize,
    masked: Option<&[bool]>,
) -> crate::device::Result<Passed> {
    let batch: ObjectiveBatch<D> = match masked {
        None => model.autoregressive_batch(device, tokens, length, 1.0)?,
        Some(masked) => model.bert_batch(device, tokens, length, masked, 1.0)?,
    };

    let mut no_tape = NoTape;
    let f = &mut Forward::new(device, parameters, &mut no_tape);
    let features = model.features(f, &batch.inputs, batch.mask, |_| Ok(()))?;
    let class_logits = if model.config().classes.is_empty() {
        None
    } else {
        Some(device.download(model.class_logits(f, &features)?.value())?)
    };

    let loss = model.generative_loss(f, &batch, features)?;
    let nll = model.restore(&device.download(&loss.nll)?, length)?.into_owned();
    Ok(Passed { nll, class_logits })
}
