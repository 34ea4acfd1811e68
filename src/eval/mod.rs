//! Nats per token of a model over a data set and, with a class head, how many of its images are classified correctly.

use crate::data::{DataError, Examples};
use crate::device::Device;
use crate::model::{Masking, Objective, ObjectiveBatch, Transformer, modal_class};
use crate::tape::{Forward, NoTape, Parameters};

/// Why a model could not be scored.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// The device could not do an op.
    #[error(transparent)]
    Device(#[from] crate::device::Error),
    /// An image could not be had.
    #[error(transparent)]
    Data(#[from] DataError),
}

/// Result of [`evaluate_with`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean negative log-likelihood, nats: of all pixels of all images; of a BERT model, the mean over images of the mean over
    /// their masked pixels.
    pub nats_per_token: f64,
    /// Images scored.
    pub images: usize,
    /// Tokens scored; of a BERT model the masked ones.
    pub tokens: usize,
    /// Entropy of these images' tokens' own histogram, nats: what a model reaches that knows each colour's frequency and
    /// nothing of its neighbours.
    pub unigram_entropy: f64,
    /// How the class head did, where the model has one and the images have labels.
    pub classification: Option<Classification>,
}

/// How a class head did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Classification {
    /// Fraction of the images that are classified correctly.
    pub accuracy: f64,
    /// Mean cross-entropy, nats per image; of several masks, their mean.
    pub loss: f64,
    /// Images with a label.
    pub images: usize,
}

/// Which pixels a BERT model must guess.
#[derive(Clone, Copy, Debug)]
pub enum Masks<'a> {
    /// Drawn: `draws` masks an image, whose predicted classes are put to the vote ([`modal_class`]) and whose losses are
    /// averaged.
    Drawn {
        /// Rate and seed.
        masking: Masking,
        /// Masks an image, at least 1.
        draws: u64,
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
    /// The masks of images `first..first + count`: one set a draw; none for an autoregressive model, which needs one pass.
    fn masks_of(&self, first: usize, count: usize, length: usize) -> Vec<Option<Vec<bool>>> {
        match (self.objective, self.masks) {
            (Objective::Ar, _) => vec![None],
            (Objective::Bert, Masks::Given(given)) => {
                let rows = given.get(first * length..(first + count) * length).unwrap_or_default();
                vec![Some(rows.to_vec())]
            }
            (Objective::Bert, Masks::Drawn { masking, draws }) => {
                (0..draws.max(1)).map(|draw| Some(masking.evaluation(draw, first as u64, count, length))).collect()
            }
        }
    }

    fn seed(&self) -> u64 {
        match self.masks {
            Masks::Drawn { masking, .. } => masking.seed,
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
    /// The class that each image was taken for, `[images]`; empty without a class head.
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
    let masks = Masks::Drawn { masking: Masking::default(), draws: 1 };
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
    mut each: impl FnMut(BatchScores<'_>) -> Result<(), E>,
) -> Result<Evaluation, E> {
    let length = examples.sequence_length();
    let images = plan.images.min(examples.len());
    let mut tally = Tally::new(model.config().vocabulary, model.config().classes.len());
    let mut first = 0;
    while first < images {
        let count = plan.batch.clamp(1, images - first);
        let tokens = tokens_of(examples, first, count).map_err(EvalError::from)?;
        tally.colours(&tokens);
        let labels: Vec<Option<u16>> = (first..first + count).map(|image| examples.label(image)).collect();
        let draws = plan.masks_of(first, count, length);
        let (mut nats, mut votes) = (Vec::new(), vec![Vec::new(); count]);
        for masked in &draws {
            let passed = forward(device, model, parameters, &tokens, length, masked.as_deref());
            let Passed { nll, class_logits } = passed.map_err(EvalError::from)?;
            tally.nats(&nll, masked.as_deref(), length, draws.len());
            if let Some(logits) = class_logits {
                tally.class_losses(&logits, &labels, &mut votes, draws.len());
            }
            if nats.is_empty() {
                nats = nll;
            }
        }
        if let Some(Some(masked)) = draws.first() {
            nats.iter_mut().zip(masked).filter(|(_, masked)| !**masked).for_each(|(nats, _)| *nats = f32::NAN);
        }
        let taken_for =
            votes.iter().zip(first as u64..).filter_map(|(votes, image)| modal_class(votes, plan.seed(), image));
        let classes: Vec<u16> = taken_for.collect();
        tally.classes(&classes, &labels);
        each(BatchScores { first, nats: &nats, classes: &classes })?;
        first += count;
    }
    Ok(tally.evaluation(images, plan.objective))
}

/// The un-augmented tokens of images `first..first + count`, row after row.
pub fn tokens_of(examples: &dyn Examples, first: usize, count: usize) -> Result<Vec<u16>, crate::data::DataError> {
    let length = examples.sequence_length();
    let mut tokens = vec![0; count * length];
    for (offset, row) in tokens.chunks_mut(length).enumerate() {
        examples.tokens(first + offset, None, row)?;
    }
    Ok(tokens)
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

/// The sums of an evaluation under way.
struct Tally {
    histogram: Vec<u64>,
    /// Of autoregressive models over tokens, of BERT models over images' means.
    nats: f64,
    tokens: usize,
    classes: usize,
    class_loss: f64,
    labelled: usize,
    right: usize,
}

impl Tally {
    fn new(vocabulary: usize, classes: usize) -> Self {
        Self { histogram: vec![0; vocabulary], nats: 0.0, tokens: 0, classes, class_loss: 0.0, labelled: 0, right: 0 }
    }

    fn colours(&mut self, tokens: &[u16]) {
        for token in tokens {
            if let Some(seen) = self.histogram.get_mut(usize::from(*token)) {
                *seen += 1;
            }
        }
    }

    /// Adds the nats of one of `draws` passes.
    fn nats(&mut self, nll: &[f32], masked: Option<&[bool]>, length: usize, draws: usize) {
        let Some(masked) = masked else {
            self.nats += nll.iter().map(|nats| f64::from(*nats)).sum::<f64>();
            self.tokens += nll.len();
            return;
        };
        for (nll, masked) in nll.chunks(length).zip(masked.chunks(length)) {
            let scored: Vec<f64> =
                nll.iter().zip(masked).filter(|(_, masked)| **masked).map(|(nats, _)| f64::from(*nats)).collect();
            self.nats += scored.iter().sum::<f64>() / scored.len() as f64 / draws as f64;
            self.tokens += scored.len();
        }
    }

    /// Adds the cross-entropies of one of `draws` passes, and each image's likeliest class to its votes.
    fn class_losses(&mut self, logits: &[f32], labels: &[Option<u16>], votes: &mut [Vec<u16>], draws: usize) {
        for ((logits, label), votes) in logits.chunks(self.classes).zip(labels).zip(votes) {
            votes.push(likeliest(logits));
            if let Some(logit) = label.and_then(|label| logits.get(usize::from(label))) {
                self.class_loss += (log_sum_exp(logits) - f64::from(*logit)) / draws as f64;
            }
        }
    }

    fn classes(&mut self, taken_for: &[u16], labels: &[Option<u16>]) {
        for (taken_for, label) in taken_for.iter().zip(labels) {
            if let Some(label) = label {
                self.labelled += 1;
                self.right += usize::from(taken_for == label);
            }
        }
    }

    fn evaluation(self, images: usize, objective: Objective) -> Evaluation {
        let parts = match objective {
            Objective::Ar => self.tokens,
            Objective::Bert => images,
        };
        let labelled = self.labelled as f64;
        let classification = (self.labelled > 0).then(|| Classification {
            accuracy: self.right as f64 / labelled,
            loss: self.class_loss / labelled,
            images: self.labelled,
        });
        Evaluation {
            nats_per_token: self.nats / parts as f64,
            images,
            tokens: self.tokens,
            unigram_entropy: entropy(&self.histogram),
            classification,
        }
    }
}

/// The first of the highest logits.
fn likeliest(logits: &[f32]) -> u16 {
    let mut best = 0;
    for (class, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = class;
        }
    }
    best as u16
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let highest = logits.iter().fold(f64::NEG_INFINITY, |highest, logit| highest.max(f64::from(*logit)));
    highest + logits.iter().map(|logit| (f64::from(*logit) - highest).exp()).sum::<f64>().ln()
}

/// Shannon entropy of a histogram, nats.
fn entropy(histogram: &[u64]) -> f64 {
    let total: u64 = histogram.iter().sum();
    histogram
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let p = *count as f64 / total as f64;
            -p * p.ln()
        })
        .sum::<f64>()
        // One colour alone has an entropy of 0, not of -0.
        .max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_of_even_and_certain_histograms() {
        assert!((entropy(&[5, 5, 0, 5, 5]) - 4_f64.ln()).abs() < 1e-12);
        assert_eq!(entropy(&[0, 7]), 0.0);
        assert_eq!(entropy(&[]), 0.0);
    }

    #[test]
    fn class_scores_by_hand() {
        assert_eq!(likeliest(&[0.5, 2.0, 2.0, -1.0]), 1);
        assert!((log_sum_exp(&[0.0, 3_f32.ln()]) - 4_f64.ln()).abs() < 1e-6);
        assert!(log_sum_exp(&[1e30, -1e30]).is_finite());
    }

    #[test]
    fn masked_nats_are_means_of_images_and_not_of_tokens() {
        let mut tally = Tally::new(2, 0);
        tally.nats(&[1.0, 2.0, 9.0, 6.0], Some(&[true, true, false, true]), 2, 1);
        assert_eq!(tally.evaluation(2, Objective::Bert).nats_per_token, (1.5 + 6.0) / 2.0);
    }
}
