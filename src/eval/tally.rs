//! What images of an evaluation gave, and what they add up to.

use std::ops::Range;

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

/// What images gave, each by itself: what is asked of them all is added up in their order, so it is the same bits in whatever parts
/// they were scored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// How often each colour came, `[V]`.
    colours: Vec<u64>,
    /// In order.
    images: Vec<ImageScore>,
}

/// What one image gave.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct ImageScore {
    /// Nats of all its pixels; of a BERT model their mean over the masked ones.
    nats: f64,
    /// Pixels that were scored.
    tokens: f64,
    /// Cross-entropy of its class.
    class_loss: f64,
    /// Of a model with classes: whether it has a label, and whether that is the class that it was taken for.
    labelled: bool,
    correct: bool,
}

/// Which images of an evaluation are scored here: of several ranks, each takes `images` in a row by turns.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Which rank this is.
    pub rank: usize,
    /// How many there are.
    pub ranks: usize,
    /// Images in a row.
    pub images: usize,
}

impl Part {
    /// All images.
    pub const ALL: Self = Self { rank: 0, ranks: 1, images: usize::MAX };

    /// The images of rank `rank` among `images`, those in a row together.
    fn ranges_of(self, rank: usize, images: usize) -> impl Iterator<Item = Range<usize>> {
        let each = self.images.clamp(1, images.max(1));
        (rank..images.div_ceil(each)).step_by(self.ranks).map(move |turn| turn * each..images.min((turn + 1) * each))
    }

    /// This rank's images among `images`, those in a row together.
    pub(super) fn ranges(self, images: usize) -> impl Iterator<Item = Range<usize>> {
        self.ranges_of(self.rank, images)
    }

    /// Numbers that [`Scores::numbers`] of any rank has at most, of `images` images of `vocabulary` colours.
    pub fn most_numbers(self, images: usize, vocabulary: usize) -> usize {
        vocabulary + IMAGE_NUMBERS * self.ranges_of(0, images).map(|range| range.len()).sum::<usize>()
    }
}

/// Numbers of an image.
const IMAGE_NUMBERS: usize = 4;

impl Scores {
    pub(super) fn new(vocabulary: usize) -> Self {
        Self { colours: vec![0; vocabulary], images: Vec::new() }
    }

    /// Takes `count` more images, and counts their colours.
    pub(super) fn begin(&mut self, tokens: &[u16], count: usize) {
        for token in tokens {
            if let Some(seen) = self.colours.get_mut(usize::from(*token)) {
                *seen += 1;
            }
        }
        self.images.resize(self.images.len() + count, ImageScore::default());
    }

    /// The last `count` images.
    fn last(&mut self, count: usize) -> &mut [ImageScore] {
        let before = self.images.len().saturating_sub(count);
        &mut self.images[before..]
    }

    /// Adds the nats of one of `passes` passes over the last images.
    pub(super) fn nats(&mut self, nll: &[f32], masked: Option<&[bool]>, length: usize, passes: usize) {
        let images = nll.chunks(length);
        for (place, (image, nll)) in self.last(images.len()).iter_mut().zip(images).enumerate() {
            let Some(masked) = masked.and_then(|masked| masked.chunks(length).nth(place)) else {
                image.nats += nll.iter().map(|nats| f64::from(*nats)).sum::<f64>();
                image.tokens += nll.len() as f64;
                continue;
            };
            let scored: Vec<f64> =
                nll.iter().zip(masked).filter(|(_, masked)| **masked).map(|(nats, _)| f64::from(*nats)).collect();
            image.nats += scored.iter().sum::<f64>() / scored.len() as f64 / passes as f64;
            image.tokens += scored.len() as f64;
        }
    }

    /// Adds the cross-entropies of one of `passes` passes over the last images, `logits` `[images, classes]`, and each image's likeliest
    /// class to its votes.
    pub(super) fn class_losses(
        &mut self,
        logits: &[f32],
        labels: &[Option<u16>],
        votes: &mut [Vec<u16>],
        passes: usize,
    ) {
        let classes = logits.len() / labels.len().max(1);
        let images = self.last(labels.len()).iter_mut().zip(logits.chunks(classes.max(1)));
        for (((image, logits), label), votes) in images.zip(labels).zip(votes) {
            votes.push(likeliest(logits));
            if let Some(logit) = label.and_then(|label| logits.get(usize::from(label))) {
                image.class_loss += (log_sum_exp(logits) - f64::from(*logit)) / passes as f64;
            }
        }
    }

    /// Notes what each of the last images was taken for.
    pub(super) fn classes(&mut self, taken_for: &[u16], labels: &[Option<u16>]) {
        for ((image, label), taken_for) in self.last(labels.len()).iter_mut().zip(labels).zip(taken_for) {
            (image.labelled, image.correct) = (label.is_some(), label.as_ref() == Some(taken_for));
        }
    }

    /// As plain numbers, for other ranks: of each colour one, of each image four.
    pub fn numbers(&self) -> Vec<f64> {
        let colours = self.colours.iter().map(|seen| *seen as f64);
        let image = |image: &ImageScore| {
            let judged = f64::from(u8::from(image.labelled)) + 2.0 * f64::from(u8::from(image.correct));
            [image.nats, image.tokens, image.class_loss, judged]
        };
        colours.chain(self.images.iter().flat_map(image)).collect()
    }

    /// What all ranks have found of `images` images of `vocabulary` colours, from the numbers of each.
    pub fn together(parts: &[Vec<f64>], part: Part, images: usize, vocabulary: usize) -> Self {
        let mut scores = Self::new(vocabulary);
        let mut of_ranks: Vec<_> = Vec::with_capacity(parts.len());
        for numbers in parts {
            let (colours, of_images) = numbers.split_at(vocabulary.min(numbers.len()));
            scores.colours.iter_mut().zip(colours).for_each(|(all, seen)| *all += *seen as u64);
            of_ranks.push(of_images.as_chunks::<IMAGE_NUMBERS>().0.iter());
        }

        // In the order of the images, in which ranks take turns.
        let turns = Part { rank: 0, ranks: 1, ..part }.ranges(images).enumerate();
        for (turn, range) in turns {
            let Some(of_rank) = of_ranks.get_mut(turn % part.ranks) else { continue };
            scores.images.extend(of_rank.take(range.len()).map(|[nats, tokens, class_loss, judged]| {
                let judged = *judged as u8;
                let (labelled, correct) = (judged & 1 != 0, judged & 2 != 0);
                ImageScore { nats: *nats, tokens: *tokens, class_loss: *class_loss, labelled, correct }
            }));
        }
        scores
    }

    /// What they add up to.
    pub fn evaluation(&self, objective: Objective) -> Evaluation {
        let sum = |of: fn(&ImageScore) -> f64| self.images.iter().map(of).sum::<f64>();
        let count = |of: fn(&ImageScore) -> bool| self.images.iter().filter(|image| of(image)).count();
        let tokens = sum(|image| image.tokens);
        let parts = match objective {
            Objective::Ar => tokens,
            Objective::Bert => self.images.len() as f64,
        };
        let labelled = count(|image| image.labelled);
        let classification = (labelled > 0).then(|| Classification {
            accuracy: count(|image| image.correct) as f64 / labelled as f64,
            loss: sum(|image| image.class_loss) / labelled as f64,
            images: labelled,
        });
        Evaluation {
            nats_per_token: sum(|image| image.nats) / parts,
            images: self.images.len(),
            tokens: tokens as usize,
            unigram_entropy: entropy(&self.colours),
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
        let mut scores = Scores::new(2);
        scores.begin(&[0, 1, 1, 1], 2);
        scores.nats(&[1.0, 2.0, 9.0, 6.0], Some(&[true, true, false, true]), 2, 1);
        let evaluation = scores.evaluation(Objective::Bert);
        assert_eq!((evaluation.nats_per_token, evaluation.tokens), ((1.5 + 6.0) / 2.0, 3));
    }

    /// Eleven images of three pixels, two at a time: one rank, ranks that have as many turns, and ranks that have none.
    #[test]
    fn parts_together_are_the_whole_to_the_bit() {
        let (images, vocabulary, length) = (11, 5, 3);
        let logits = |image: usize, class: usize| ((image * 7 + class * 5) % 11) as f32 / 3.0;
        let scored = |part: Part| {
            let mut scores = Scores::new(vocabulary);
            for range in part.ranges(images) {
                let tokens: Vec<u16> = range.clone().flat_map(|image| [image as u16 % 5, 1, 2]).collect();
                let labels: Vec<Option<u16>> =
                    range.clone().map(|image| (image % 4 != 3).then_some(image as u16 % 3)).collect();
                scores.begin(&tokens, range.len());
                let nll: Vec<f32> = range.clone().flat_map(|image| [0.1 * image as f32, 1e-3, 1.7]).collect();
                scores.nats(&nll, None, length, 1);
                let of_classes: Vec<f32> =
                    range.clone().flat_map(|image| (0..3).map(move |class| logits(image, class))).collect();
                let mut votes = vec![Vec::new(); range.len()];
                scores.class_losses(&of_classes, &labels, &mut votes, 1);
                let taken: Vec<u16> = votes.iter().map(|votes| votes[0]).collect();
                scores.classes(&taken, &labels);
            }
            scores
        };
        let whole = scored(Part::ALL);
        let expected = whole.evaluation(Objective::Ar);
        let found = expected.classification.unwrap();
        assert_eq!((expected.images, expected.tokens, found.images), (11, 33, 9));
        assert!(found.accuracy > 0.0 && found.accuracy < 1.0 && found.loss > 0.0, "{found:?}");

        for (ranks, in_a_row) in [(1, 2), (2, 2), (3, 4), (4, 1), (8, 2), (3, 100)] {
            let part = |rank| Part { rank, ranks, images: in_a_row };
            let parts: Vec<Vec<f64>> = (0..ranks).map(|rank| scored(part(rank)).numbers()).collect();
            let most = part(0).most_numbers(images, vocabulary);
            assert!(parts.iter().all(|numbers| numbers.len() <= most), "{ranks} ranks");
            assert_eq!(Scores::together(&parts, part(0), images, vocabulary), whole, "{ranks} ranks");
        }
    }
}
