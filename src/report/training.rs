//! `report.html`: one file, nothing to load, that shows a run to whoever opens it.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::card::ExpectedEnergy;
use super::compute::Compute;
use super::curves;
use super::history::History;
use super::html::{duration, escape, filled, grouped};
use crate::model::{bits_per_dimension, bits_per_token};
use crate::run::metrics::TrainRecord;

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
    /// What it recorded.
    pub history: History,
    /// FLOPs of a token, and the device's peak; left out where several devices may have been used.
    pub compute: Option<Compute>,
    /// The energy of a step that `plan` would expect, where the card is known or tells its limit.
    pub energy: Option<ExpectedEnergy>,
    /// Sample grids that are shown, in order; see [`shown`](super::grids::shown).
    pub samples: Vec<SampleGrid>,
    /// Sample grids in all.
    pub sample_count: usize,
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
    /// The curves, as HTML.
    pub(super) fn figures(&self) -> String {
        curves::figures(&self.history, self.vocabulary)
    }

    /// The page.
    pub fn render(&self) -> String {
        let samples = if self.samples.is_empty() { "<p>None were drawn.</p>\n".to_owned() } else { self.pictures() };

        filled(include_str!("page.html"), |name| match name {
            "title" => escape(&self.title),
            "summary" => self.summary(),
            "charts" => self.figures(),
            "sample-note" => self.sample_note(),
            "samples" => samples.clone(),
            _ => escape(&self.config),
        })
    }

    /// The rows of the summary table.
    pub(crate) fn summary(&self) -> String {
        let mut rows = vec![
            ("Model", self.model.clone()),
            ("Parameters", grouped(self.parameters as u64)),
            ("Data", self.data.clone()),
            ("Device", self.device.clone()),
        ];

        let Self { history, .. } = self;
        let done = history.last_step().map_or(0, |record| record.step);
        rows.push(("Steps", format!("{} of {}", grouped(done), grouped(self.planned_steps))));
        if history.skipped() > 0 {
            let why = "loss or gradient was not finite, or a spike, so no update was made";
            rows.push(("Skipped steps", format!("{}: {why}", grouped(history.skipped()))));
        }
        if let Some(last) = history.last_made() {
            rows.push(("Training loss", nats_and_bits(last.generative())));
        }
        if let Some((step, best)) = history.best_accuracy() {
            rows.push(("Best accuracy", format!("{:.2} % at step {}", 100.0 * best, grouped(step))));
        }

        if let Some(last) = history.last_validation() {
            rows.push(("Validation loss", format!("{}, {} images", nats_and_bits(last.val_loss), last.images)));
            if let Some(best) = history.best_validation().filter(|best| best.step != last.step) {
                rows.push((
                    "Best validation",
                    format!("{} at step {}", nats_and_bits(best.val_loss), grouped(best.step)),
                ));
            }
        }

        if let Some(entropy) = history.unigram_entropy() {
            rows.push(("Unigram entropy", nats_and_bits(entropy)));
        }
        if let Some(last) = history.last_step() {
            rows.push(("Time", duration(last.elapsed)));
            rows.extend(self.speed(last));
        }
        rows.extend(history.card.rows(self.energy.as_ref()));

        rows.iter().fold(String::new(), |mut html, (name, value)| {
            // Writing to a string cannot fail.
            let _ = writeln!(html, "<tr><th scope=\"row\">{name}</th><td>{}</td></tr>", escape(value));
            html
        })
    }

    /// Of the median step: tokens and images per second, FLOP/s, and of the whole session the wait for data.
    fn speed(&self, last: &TrainRecord) -> Vec<(&'static str, String)> {
        let tokens = self.history.speed.value();
        let images = last.images_per_second.map(|images| images / last.tokens_per_second * tokens);
        let images = images.filter(|images| images.is_finite());
        let images = images.map_or(String::new(), |images| format!(", {images:.1} images/s"));
        let mut rows = vec![("Speed", format!("{} tokens/s{images}", grouped(tokens as u64)))];
        if let Some(compute) = &self.compute {
            rows.push(("Compute", compute.describe(tokens)));
        }
        if let Some(wait) = last.data_wait {
            rows.push(("Waiting for data", format!("{:.1} % of the last session", 100.0 * wait)));
        }
        rows
    }

    /// Where the grids are that are not shown.
    fn sample_note(&self) -> String {
        let (shown, all) = (self.samples.len(), grouped(self.sample_count as u64));
        if shown == self.sample_count {
            return String::new();
        }
        format!(
            "<p>{shown} of {all} grids, spread evenly over the run. All of them are in the folder samples beside this \
             page.</p>\n"
        )
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

/// `2.5000 nats/token (3.6067 bits, 1.2022 bits/dimension)`.
fn nats_and_bits(nats: f64) -> String {
    format!("{nats:.4} nats/token ({:.4} bits, {:.4} bits/dimension)", bits_per_token(nats), bits_per_dimension(nats))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::compute::Peak;
    use crate::run::metrics::{PeakSource, Record, ValidationRecord};

    /// 400 steps, with a validation every 50.
    fn records() -> (Vec<TrainRecord>, Vec<ValidationRecord>) {
        let training = (1..=400_u32).map(|step| {
            let t = f64::from(step);
            let noise = 0.35 * (t * 12.9898).sin() * (t * 4.1414).cos();
            TrainRecord {
                step: u64::from(step),
                loss: 3.4 + 2.84 * (-t / 70.0).exp() + noise,
                lr: 1e-3 * (t / 50.0).min(1.0) * 0.5 * (1.0 + (std::f64::consts::PI * t / 400.0).cos()),
                grad_norm: if step == 250 { f64::NAN } else { 0.6 + 2.0 * (-t / 30.0).exp() + noise.abs() },
                tokens_per_second: 11_000.0 + t,
                images_per_second: Some((11_000.0 + t) / 256.0),
                data_wait: Some(0.021),
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
        (training.collect(), validation.collect())
    }

    fn history(training: &[TrainRecord], validation: &[ValidationRecord]) -> History {
        let steps = training.iter().copied().map(Record::Train);
        steps.chain(validation.iter().copied().map(Record::Validation)).collect()
    }

    fn report() -> Report {
        let (training, validation) = records();
        let mut png = Vec::new();
        let picture = image::RgbImage::from_fn(64, 32, |x, y| image::Rgb([(x * 4) as u8, (y * 8) as u8, 128]));
        picture.write_with_encoder(image::codecs::png::PngEncoder::new(&mut png)).unwrap();
        let grid = |step| SampleGrid { step, caption: "completions & samples".to_owned(), png: png.clone() };

        Report {
            title: "runs/<first> {{config}}".to_owned(),
            model: "tiny".to_owned(),
            parameters: 952_448,
            vocabulary: 512,
            data: "CIFAR-10 sample, 960 images at 16 × 16".to_owned(),
            device: "cpu (2 threads)".to_owned(),
            planned_steps: 400,
            history: history(&training, &validation),
            compute: Some(Compute {
                needed: 6e6,
                palm: 7.5e6,
                peak: Some(Peak { flops: 1e12, of: "a card".to_owned(), source: PeakSource::DataSheet }),
            }),
            energy: None,
            samples: vec![grid(200), grid(400)],
            sample_count: 2,
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
        for text in [
            "952,448",
            "400 of 400",
            "5.7100 nats/token (8.2378 bits, 2.7459 bits/dimension)",
            "2 min 40 s",
            "11,201 tokens/s, 43.8 images/s",
            "0.067 TFLOP/s (0.084 as PaLM counts), 6.7 % (8.4 %) of the 1.0 TFLOP/s of a card",
            "2.1 % of the last session",
        ] {
            assert!(page.contains(text), "{text}");
        }
        assert!(!page.contains("NaN"));
    }

    #[test]
    fn fine_tuning_has_curves_of_its_own() {
        let (mut training, mut validation) = records();
        for (record, accuracy) in validation.iter_mut().zip([0.1, 0.2, 0.5, 0.62, 0.6, 0.62, 0.55, 0.5, 0.4]) {
            (record.accuracy, record.class_loss) = (Some(accuracy), Some(1.0 - accuracy));
        }
        for record in &mut training {
            (record.generative_loss, record.class_loss) = (Some(record.loss), Some(0.5));
        }
        let page = Report { history: history(&training, &validation), ..report() }.render();
        assert_eq!(page.matches("<svg").count(), 5);
        assert!(page.contains("62.00 % at step 150"), "the first of equals is the best");
    }

    #[test]
    fn a_run_that_has_not_begun_has_a_page_too() {
        let empty = Report { history: History::default(), samples: vec![], sample_count: 0, ..report() };
        let page = empty.render();
        assert!(page.contains("0 of 400") && page.contains("Nothing was recorded") && page.contains("None were drawn"));
    }

    #[test]
    fn one_record_is_enough_for_a_chart() {
        let one = Report { history: history(&records().0[..1], &[]), ..report() };
        assert_eq!(one.render().matches("<svg").count(), 3);
    }

    #[test]
    fn a_long_run_has_a_page_of_the_size_of_a_short_one() {
        let (training, validation) = records();
        let long = |steps: u64| {
            let step = |step: u64| TrainRecord { step: step + 1, ..training[(step % 400) as usize] };
            let validation =
                |step: u64| ValidationRecord { step, accuracy: Some(0.5), class_loss: Some(1.0), ..validation[0] };
            let of = |at: u64| [Record::Train(step(at)), Record::Validation(validation(at))];
            Report { history: (0..steps).flat_map(of).collect(), ..report() }.render()
        };
        let sizes = [2_000, 200_000].map(|steps| long(steps).len());
        assert!(sizes[1] < 1 << 20 && sizes[1] < sizes[0] * 5 / 4, "{sizes:?} bytes");
    }

    /// Heights of the points of the first curve of a colour, downwards.
    fn heights(page: &str, colour: &str) -> Vec<f64> {
        let tag = page.split("<polyline ").skip(1).find(|tag| tag.contains(colour)).unwrap();
        let points = tag.split_once("points=\"").unwrap().1.split('"').next().unwrap();
        points.split_whitespace().map(|point| point.split_once(',').unwrap().1.parse().unwrap()).collect()
    }

    #[test]
    fn of_a_million_steps_one_spike_is_drawn() {
        let page = |spike: Option<u64>| {
            let step = |step: u64| TrainRecord {
                step,
                loss: if Some(step) == spike { 99.5 } else { 3.0 },
                elapsed: step as f64,
                ..TrainRecord::default()
            };
            Report { history: (1..=1_000_000).map(|at| Record::Train(step(at))).collect(), ..report() }.render()
        };
        for (spike, drawn) in [(None, 0), (Some(777_777), 1)] {
            let heights = heights(&page(spike), "#A9C8F5");
            assert!(heights.len() <= 2002, "{} points", heights.len());
            // The chart is 400 high, and 3 of 99.5 is near its foot; without a spike the line is between the two dashed ones.
            let lowest = heights.iter().copied().fold(0.0, f64::max);
            let up = heights.iter().filter(|height| **height < 0.5 * lowest).count();
            assert_eq!(up, drawn, "a spike at step {spike:?}");
        }
    }

    #[test]
    fn grids_that_are_not_shown_are_counted() {
        assert!(!report().render().contains("beside this page"));
        let page = Report { sample_count: 10_000, ..report() }.render();
        assert!(page.contains("2 of 10,000 grids") && page.contains("in the folder samples beside this page"));
    }
}
