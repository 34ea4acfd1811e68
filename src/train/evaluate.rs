//! Nats per token of a model over a data set.

use crate::data::Examples;
use crate::device::Device;
use crate::model::{ObjectiveBatch, Parameters, Transformer};
use crate::tape::NoTape;
use crate::train::TrainError;

/// Result of [`evaluate`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean negative log-likelihood of all pixels of all images, nats.
    pub nats_per_token: f64,
    /// Images scored.
    pub images: usize,
    /// Tokens scored.
    pub tokens: usize,
    /// Entropy of these tokens' own histogram, nats: what a model reaches that knows each colour's frequency and nothing
    /// of its neighbours.
    pub unigram_entropy: f64,
}

/// Scores the first `images` of `examples` without augmentation, `batch` at a time. `each` is given the nats of every
/// batch, `[images, T]`, in order.
pub fn evaluate<D: Device, E: From<TrainError>>(
    device: &D,
    model: &Transformer,
    parameters: &Parameters<D>,
    examples: &dyn Examples,
    images: usize,
    batch: usize,
    mut each: impl FnMut(&[f32]) -> Result<(), E>,
) -> Result<Evaluation, E> {
    let length = examples.sequence_length();
    let images = images.min(examples.len());
    let mut histogram = vec![0_u64; model.config().vocabulary];
    let mut total = 0.0;
    let mut first = 0;
    while first < images {
        let count = batch.clamp(1, images - first);
        let tokens = tokens_of(examples, first, count).map_err(TrainError::from)?;
        for token in &tokens {
            if let Some(seen) = histogram.get_mut(usize::from(*token)) {
                *seen += 1;
            }
        }
        let nll = score(device, model, parameters, &tokens, length).map_err(TrainError::from)?;
        total += nll.iter().map(|nats| f64::from(*nats)).sum::<f64>();
        each(&nll)?;
        first += count;
    }
    let tokens = images * length;
    Ok(Evaluation { nats_per_token: total / tokens as f64, images, tokens, unigram_entropy: entropy(&histogram) })
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

/// Nats of every token of a batch, `[B·T]`.
pub fn score<D: Device>(
    device: &D,
    model: &Transformer,
    parameters: &Parameters<D>,
    tokens: &[u16],
    length: usize,
) -> crate::device::Result<Vec<f32>> {
    let batch = ObjectiveBatch::autoregressive(device, tokens, length, model.sos(), 1.0)?;
    let loss = model.loss(device, parameters, &mut NoTape, &batch)?;
    device.download(&loss.nll)
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
    use super::entropy;

    #[test]
    fn entropy_of_even_and_certain_histograms() {
        assert!((entropy(&[5, 5, 0, 5, 5]) - 4_f64.ln()).abs() < 1e-12);
        assert_eq!(entropy(&[0, 7]), 0.0);
        assert_eq!(entropy(&[]), 0.0);
    }
}
