//! `eval`: what it found, for people.

use anyhow::Result;

use crate::cli::common::output::say;
use crate::eval::{ClassCount, Evaluation, Outcome};
use crate::model::{bits_per_dimension, bits_per_token};

/// Lines for people.
pub fn print(outcome: &Outcome) -> Result<()> {
    let Evaluation { nats_per_token: nats, images, tokens, unigram_entropy, classification } = outcome.evaluation;

    // Of a fine-tuned model.
    if let Some(found) = classification {
        let correct = (found.accuracy * found.images as f64).round();
        say(format_args!(
            "{:.2} % accuracy ({correct:.0} of {}), class loss {:.4} nats per image",
            100.0 * found.accuracy,
            found.images,
            found.loss
        ))?;
    }
    for ClassCount { class, images, found } in outcome.per_class.iter().flatten() {
        let percent = 100.0 * *found as f64 / (*images).max(1) as f64;
        say(format_args!("  {percent:>6.2} %  {found:>6} of {images:<6}  {class}"))?;
    }

    if !outcome.predicts {
        say(format_args!("no nats per token: the model has no language-model head (lm_head.weight)"))?;
        return say(format_args!("over {images} images of {}", outcome.data));
    }
    let (bits, per_dimension) = (bits_per_token(nats), bits_per_dimension(nats));
    say(format_args!("{nats:.6} nats per token ({bits:.4} bits, perplexity {:.3})", nats.exp()))?;
    say(format_args!(
        "{per_dimension:.6} bits per dimension: bits per token over the 3 channel values of a palette colour"
    ))?;
    let masked = outcome.masks.as_ref().map_or(String::new(), |masks| format!(", masked: {masks}"));
    let averaged = if outcome.ema { "; the moving average of the weights" } else { "" };
    say(format_args!("over {images} images, {tokens} tokens, of {}{masked}{averaged}", outcome.data))?;
    say(format_args!("{unigram_entropy:.6} nats is the entropy of the colours' own frequencies there"))
}
