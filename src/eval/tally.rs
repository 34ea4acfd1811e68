//! The running totals of an evaluation, and what they add up to.

use crate::model::Objective;

/// Result of [`evaluate_with`](super::evaluate_with).
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

/// The totals of an evaluation that has not ended yet.
pub(super) struct Tally {
    histogram: Vec<u64>,
    /// Of autoregressive models over tokens, of BERT models over images' means.
    nats: f64,
    tokens: usize,
    classes: usize,
    class_loss: f64,
    labelled: usize,
    correct: usize,
}

impl Tally {
    pub fn new(vocabulary: usize, classes: usize) -> Self {
        Self { histogram: vec![0; vocabulary], nats: 0.0, tokens: 0, classes, class_loss: 0.0, labelled: 0, correct: 0 }
    }

    pub fn colours(&mut self, tokens: &[u16]) {
        for token in tokens {
            if let Some(seen) = self.histogram.get_mut(usize::from(*token)) {
                *seen += 1;
            }
        }
    }

    /// Adds the nats of one of `passes` passes.
    pub fn nats(&mut self, nll: &[f32], masked: Option<&[bool]>, length: usize, passes: usize) {
        let Some(masked) = masked else {
            self.nats += nll.iter().map(|nats| f64::from(*nats)).sum::<f64>();
            self.tokens += nll.len();
            return;
        };
        for (nll, masked) in nll.chunks(length).zip(masked.chunks(length)) {
            let scored: Vec<f64> =
                nll.iter().zip(masked).filter(|(_, masked)| **masked).map(|(nats, _)| f64::from(*nats)).collect();
            self.nats += scored.iter().sum::<f64>() / scored.len() as f64 / passes as f64;
            self.tokens += scored.len();
        }
    }

    /// Adds the cross-entropies of one of `passes` passes, and each image's likeliest class to its votes.
    pub fn class_losses(&mut self, logits: &[f32], labels: &[Option<u16>], votes: &mut [Vec<u16>], passes: usize) {
        for ((logits, label), votes) in logits.chunks(self.classes).zip(labels).zip(votes) {
            votes.push(likeliest(logits));
            if let Some(logit) = label.and_then(|label| logits.get(usize::from(label))) {
                self.class_loss += (log_sum_exp(logits) - f64::from(*logit)) / passes as f64;
            }
        }
    }

    pub fn classes(&mut self, taken_for: &[u16], labels: &[Option<u16>]) {
        for (taken_for, label) in taken_for.iter().zip(labels) {
            if let Some(label) = label {
                self.labelled += 1;
                self.correct += usize::from(taken_for == label);
            }
        }
    }

    pub fn evaluation(self, images: usize, objective: Objective) -> Evaluation {
        let parts = match objective {
            Objective::Ar => self.tokens,
            Objective::Bert => images,
        };
        let labelled = self.labelled as f64;
        let classification = (self.labelled > 0).then(|| Classification {
            accuracy: self.correct as f64 / labelled,
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
