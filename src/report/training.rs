//! `report.html`: one file, nothing to load, that shows a run to whoever opens it.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::curves::{self, Records};
use super::html::{duration, escape, grouped};
use crate::run::metrics::{Record, TrainRecord, ValidationRecord};

/// Everything that the report shows.
#[derive(Clone, Debug)]
pub struct Report {
    /// Heading, e.g. the run's name.
    pub title: String,
    /// The model in words, see [`describe_model`](super::html::describe_model).
    pub model: String,
    /// Trainable parameters.
    pub parameters: usize,
    /// Colours of the palette; `ln` of it is the loss of a model that knows nothing.
    pub vocabulary: usize,
    /// The data in words: source, images, resolution.
    pub data: String,
    /// The device in words.
    pub device: String,
    /// Steps that were asked for.
    pub planned_steps: u64,
    /// Training records, in order.
    pub training: Vec<TrainRecord>,
    /// Validation records, in order.
    pub validation: Vec<ValidationRecord>,
    /// Sample grids, in order.
    pub samples: Vec<SampleGrid>,
    /// The resolved configuration, TOML.
    pub config: String,
}

/// A picture of samples.
#[derive(Clone, Debug)]
pub struct SampleGrid {
    /// Updates made before it.
    pub step: u64,
    /// What it shows.
    pub caption: String,
    /// A PNG file.
    pub png: Vec<u8>,
}

impl Report {
    /// Takes a run's metrics apart into `training` and `validation`.
    pub fn with_records(mut self, records: &[Record]) -> Self {
        for record in records {
            match record {
                Record::Train(record) => self.training.push(*record),
                Record::Validation(record) => self.validation.push(*record),
            }
        }
        self
    }

    /// Entropy of the validation tokens' histogram, nats, if there was a validation.
    pub fn unigram_entropy(&self) -> Option<f64> {
        self.validation.last().map(|record| record.unigram_entropy).filter(|entropy| entropy.is_finite())
    }

    /// The curves, as HTML.
    pub(super) fn figures(&self) -> String {
        let Self { training, validation, vocabulary, .. } = self;
        curves::figures(&Records {
            training,
            validation,
            vocabulary: *vocabulary,
            unigram_entropy: self.unigram_entropy(),
        })
    }

    /// The page.
    pub fn render(&self) -> String {
        let samples = if self.samples.is_empty() { "<p>None were drawn.</p>\n".to_owned() } else { self.pictures() };

        // One pass, so that nothing that is filled in can be taken for a placeholder.
        let mut page = String::new();
        for part in include_str!("page.html").split("{{") {
            match part.split_once("}}") {
                None => page.push_str(part),
                Some((name, rest)) => {
                    page.push_str(&match name {
                        "title" => escape(&self.title),
                        "summary" => self.summary(),
                        "charts" => self.figures(),
                        "samples" => samples.clone(),
                        _ => escape(&self.config),
                    });
                    page.push_str(rest);
                }
            }
        }
        page
    }

    /// The rows of the summary table.
    pub(crate) fn summary(&self) -> String {
        let mut rows = vec![
            ("Model", self.model.clone()),
            ("Parameters", grouped(self.parameters as u64)),
            ("Data", self.data.clone()),
            ("Device", self.device.clone()),
        ];

        let done = self.training.last().map_or(0, |record| record.step);
        rows.push(("Steps", format!("{} of {}", grouped(done), grouped(self.planned_steps))));
        if let Some(last) = self.training.last() {
            rows.push(("Training loss", nats_and_bits(last.generative())));
        }

        let accuracy = |record: &ValidationRecord| record.accuracy.map(|accuracy| (record.step, accuracy));
        if let Some((step, best)) = self.validation.iter().filter_map(accuracy).reduce(|best, next| {
            // The first of equals is the one that was kept.
            if next.1 > best.1 { next } else { best }
        }) {
            rows.push(("Best accuracy", format!("{:.2} % at step {}", 100.0 * best, grouped(step))));
        }

        if let Some(last) = self.validation.last() {
            rows.push(("Validation loss", format!("{}, {} images", nats_and_bits(last.val_loss), last.images)));
            let best = self.validation.iter().min_by(|a, b| a.val_loss.total_cmp(&b.val_loss));
            if let Some(best) = best.filter(|best| best.step != last.step) {
                rows.push((
                    "Best validation",
                    format!("{} at step {}", nats_and_bits(best.val_loss), grouped(best.step)),
                ));
            }
        }

        if let Some(entropy) = self.unigram_entropy() {
            rows.push(("Unigram entropy", nats_and_bits(entropy)));
        }
        if let Some(last) = self.training.last() {
            rows.push(("Time", duration(last.elapsed)));
            rows.push(("Speed", format!("{} tokens/s", grouped(self.median_speed() as u64))));
        }

        rows.iter().fold(String::new(), |mut html, (name, value)| {
            // Writing to a string cannot fail.
            let _ = writeln!(html, "<tr><th scope=\"row\">{name}</th><td>{}</td></tr>", escape(value));
            html
        })
    }

    /// Tokens per second of the median step: the first one, and pauses, do not count.
    fn median_speed(&self) -> f64 {
        let mut speeds: Vec<f64> = self.training.iter().map(|record| record.tokens_per_second).collect();
        speeds.sort_by(f64::total_cmp);
        speeds.get(speeds.len() / 2).copied().unwrap_or(0.0)
    }

    fn pictures(&self) -> String {
        self.samples.iter().rev().fold(String::new(), |mut html, grid| {
            let (step, caption) = (grouped(grid.step), escape(&grid.caption));
            let png = STANDARD.encode(&grid.png);
            let _ = writeln!(
                html,
                "<figure><img alt=\"{caption}, step {step}\" src=\"data:image/png;base64,{png}\">\
                 <figcaption>Step {step}: {caption}</figcaption></figure>"
            );
            html
        })
    }
}

/// `2.5000 nats/token (3.6067 bits)`.
fn nats_and_bits(nats: f64) -> String {
    format!("{nats:.4} nats/token ({:.4} bits)", nats / std::f64::consts::LN_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let training = (1..=400_u32).map(|step| {
            let t = f64::from(step);
            let noise = 0.35 * (t * 12.9898).sin() * (t * 4.1414).cos();
            TrainRecord {
                step: u64::from(step),
                loss: 3.4 + 2.84 * (-t / 70.0).exp() + noise,
                lr: 1e-3 * (t / 50.0).min(1.0) * 0.5 * (1.0 + (std::f64::consts::PI * t / 400.0).cos()),
                grad_norm: if step == 250 { f64::NAN } else { 0.6 + 2.0 * (-t / 30.0).exp() + noise.abs() },
                tokens_per_second: 11_000.0 + t,
                elapsed: 0.4 * t,
                ..TrainRecord::default()
            }
        });

        let validation = (0..=8_u32).map(|i| ValidationRecord {
            step: u64::from(i) * 50,
            val_loss: 3.45 + 2.79 * (-f64::from(i) / 1.5).exp(),
            unigram_entropy: 5.71,
            images: 200,
            elapsed: 20.0 * f64::from(i),
            ..ValidationRecord::default()
        });

        let mut png = Vec::new();
        let picture = image::RgbImage::from_fn(64, 32, |x, y| image::Rgb([(x * 4) as u8, (y * 8) as u8, 128]));
        picture.write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png).unwrap();
        let grid = |step| SampleGrid { step, caption: "completions & samples".to_owned(), png: png.clone() };

        Report {
            title: "runs/<first> {{config}}".to_owned(),
            model: "tiny".to_owned(),
            parameters: 952_448,
            vocabulary: 512,
            data: "CIFAR-10 sample, 960 images at 16 × 16".to_owned(),
            device: "cpu (2 threads)".to_owned(),
            planned_steps: 400,
            training: training.collect(),
            validation: validation.collect(),
            samples: vec![grid(200), grid(400)],
            config: "model = \"tiny\"\nnote = \"</pre><script>\"\n".to_owned(),
        }
    }

    #[test]
    fn the_page_is_self_contained_escaped_and_complete() {
        let page = report().render();
        // To look at it: IGPT_REPORT_PREVIEW=report.html cargo test self_contained
        if let Some(path) = std::env::var_os("IGPT_REPORT_PREVIEW") {
            std::fs::write(path, &page).unwrap();
        }
        assert!(page.contains("<h1>runs/&lt;first&gt; {{config}}</h1>"));
        assert!(!page.contains("<script"));
        assert!(!page.replace("http://www.w3.org/2000/svg", "").contains("http"));
        assert_eq!(page.matches("<svg").count(), 3);
        assert_eq!(page.matches("data:image/png;base64,").count(), 2);
        for text in ["952,448", "400 of 400", "5.7100 nats/token (8.2378 bits)", "2 min 40 s", "11,201 tokens/s"] {
            assert!(page.contains(text), "{text}");
        }
        assert!(!page.contains("NaN"));
    }

    #[test]
    fn fine_tuning_has_curves_of_its_own() {
        let mut tuned = report();
        for (record, accuracy) in tuned.validation.iter_mut().zip([0.1, 0.2, 0.5, 0.62, 0.6, 0.62, 0.55, 0.5, 0.4]) {
            (record.accuracy, record.class_loss) = (Some(accuracy), Some(1.0 - accuracy));
        }
        for record in &mut tuned.training {
            (record.generative_loss, record.class_loss) = (Some(record.loss), Some(0.5));
        }
        let page = tuned.render();
        assert_eq!(page.matches("<svg").count(), 5);
        assert!(page.contains("62.00 % at step 150"), "the first of equals is the best");
    }

    #[test]
    fn a_run_that_has_not_begun_has_a_page_too() {
        let empty = Report { training: vec![], validation: vec![], samples: vec![], ..report() };
        let page = empty.render();
        assert!(page.contains("0 of 400") && page.contains("Nothing was recorded") && page.contains("None were drawn"));
    }

    #[test]
    fn one_record_is_enough_for_a_chart() {
        let full = report();
        let one = Report { training: full.training[..1].to_vec(), validation: vec![], ..full };
        assert_eq!(one.render().matches("<svg").count(), 3);
    }
}
