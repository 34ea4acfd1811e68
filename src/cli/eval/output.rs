//! `eval`: what it found, for people and for scripts.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::common::output::say;
use crate::data::{Examples, Split};
use crate::eval::Evaluation;
use crate::model::Objective;

/// How often each class was there, and was found.
pub struct PerClass {
    seen: Vec<usize>,
    found: Vec<usize>,
}

/// One class.
#[derive(Clone, Debug, Serialize)]
pub struct ClassRow {
    class: String,
    images: usize,
    found: usize,
}

impl PerClass {
    /// Nothing yet, of so many classes.
    pub fn new(classes: usize) -> Self {
        Self { seen: vec![0; classes], found: vec![0; classes] }
    }

    /// Adds a batch: what its images, from number `first` on, were taken for.
    pub fn add(&mut self, first: usize, taken_for: &[u16], examples: &dyn Examples) {
        for (image, taken_for) in (first..).zip(taken_for) {
            let Some(label) = examples.label(image) else { continue };
            if let (Some(seen), Some(found)) =
                (self.seen.get_mut(usize::from(label)), self.found.get_mut(usize::from(label)))
            {
                *seen += 1;
                *found += usize::from(*taken_for == label);
            }
        }
    }

    /// A row a class.
    pub fn rows(&self, names: &[String]) -> Vec<ClassRow> {
        let counts = self.seen.iter().zip(&self.found);
        names
            .iter()
            .zip(counts)
            .map(|(name, (&images, &found))| ClassRow { class: name.clone(), images, found })
            .collect()
    }
}

/// What an evaluation found, and of what.
pub struct Report {
    pub result: Evaluation,
    pub objective: Objective,
    pub per_class: Option<Vec<ClassRow>>,
    pub split: Split,
    /// The images in words.
    pub data: String,
    pub checkpoint: PathBuf,
    /// The masks of a BERT model in words.
    pub masks: Option<String>,
}

impl Report {
    /// The JSON object.
    pub fn json(&self) -> Value {
        let Evaluation { nats_per_token: nats, images, tokens, unigram_entropy, classification } = self.result;
        let mut value = json!({
            "nats_per_token": nats,
            "bits_per_token": nats / std::f64::consts::LN_2,
            "perplexity": nats.exp(),
            "unigram_entropy": unigram_entropy,
            "images": images,
            "tokens": tokens,
            "objective": self.objective,
            "split": self.split,
            "data": self.data,
            "checkpoint": self.checkpoint,
        });
        if let Some(masks) = &self.masks {
            value["masks"] = masks.as_str().into();
        }
        if let Some(found) = classification {
            value["accuracy"] = found.accuracy.into();
            value["class_loss"] = found.loss.into();
            value["labelled"] = found.images.into();
        }
        if let Some(rows) = &self.per_class {
            value["per_class"] = json!(rows);
        }
        value
    }

    /// Lines for people.
    pub fn print(&self) -> Result<()> {
        let Evaluation { nats_per_token: nats, images, tokens, unigram_entropy, classification } = self.result;
        if let Some(found) = classification {
            let right = (found.accuracy * found.images as f64).round();
            say(format_args!(
                "{:.2} % accuracy ({right:.0} of {}), class loss {:.4} nats an image",
                100.0 * found.accuracy,
                found.images,
                found.loss
            ))?;
        }
        for ClassRow { class, images, found } in self.per_class.iter().flatten() {
            let share = 100.0 * *found as f64 / (*images).max(1) as f64;
            say(format_args!("  {share:>6.2} %  {found:>6} of {images:<6}  {class}"))?;
        }
        let bits = nats / std::f64::consts::LN_2;
        say(format_args!("{nats:.6} nats per token ({bits:.4} bits, perplexity {:.3})", nats.exp()))?;
        let masked = self.masks.as_ref().map_or(String::new(), |masks| format!(", masked: {masks}"));
        say(format_args!("over {images} images, {tokens} tokens, of {}{masked}", self.data))?;
        say(format_args!("{unigram_entropy:.6} nats is the entropy of the colours' own frequencies there"))
    }
}
