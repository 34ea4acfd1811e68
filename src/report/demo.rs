//! The page of `igpt-engine demo`: one model's way from pre-training over probes and fine-tuning to completed images.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::html::{duration, escape, opening, percent};
use super::probe::{ProbeReport, Row, Source, describe_depths};
use super::training::Report;

/// One command of the walk.
#[derive(Clone, Debug)]
pub struct Stage {
    /// What it does, e.g. `pre-train`.
    pub name: &'static str,
    /// As a user would type it.
    pub command: String,
    /// Seconds it took.
    pub seconds: f64,
}

/// The fine-tuned model on test images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TestScore {
    /// Accuracy on them.
    pub accuracy: f64,
    /// Images scored.
    pub images: usize,
}

/// Everything that the page shows.
#[derive(Clone, Debug)]
pub struct Walk {
    /// Heading.
    pub title: String,
    /// What a reader must know before believing the figures, if anything.
    pub caution: Option<String>,
    /// Test images of the probe.
    pub probe_tested: usize,
    /// Training images of the probe.
    pub probe_trained: usize,
    /// Pre-training.
    pub pretraining: Report,
    /// Probes of every depth, of fresh weights and of raw pixels.
    pub probe: ProbeReport,
    /// Fine-tuning.
    pub finetuning: Report,
    /// What came of it.
    pub score: TestScore,
    /// Completed images, a PNG file.
    pub completions: Vec<u8>,
    /// What was run.
    pub stages: Vec<Stage>,
}

/// A line of the table of accuracies.
struct Line {
    name: String,
    accuracy: Option<f64>,
    of: String,
}

impl Walk {
    /// The page, with nothing to load.
    pub fn render(&self) -> String {
        let mut page = opening(&self.title, ".completions img { max-width: 48rem; }\n");
        if let Some(caution) = &self.caution {
            let _ = writeln!(page, "<p>{}</p>", escape(caution));
        }
        page.push_str(&self.accuracies());

        let charts = |report: &Report| format!("<div class=\"charts\">\n{}</div>\n", report.figures());

        let _ = write!(
            page,
            "<h2>Pre-training: predict the next pixel</h2>\n<table>\n{}</table>\n{}\
             <h2>Linear probes: what each layer knows of the class</h2>\n<div class=\"charts\">\n{}</div>\n{}\
             <h2>Fine-tuning: all weights and a class head</h2>\n<table>\n{}</table>\n{}",
            self.pretraining.summary(),
            charts(&self.pretraining),
            self.probe.figure(),
            self.probe.table(),
            self.finetuning.summary(),
            charts(&self.finetuning)
        );
        let _ = write!(
            page,
            "<h2>Completions</h2>\n<div class=\"samples completions\" style=\"display: block\"><figure>\
             <img alt=\"completed images\" src=\"data:image/png;base64,{}\"><figcaption>Test images: the original, the half \
             that the model sees, and its completions</figcaption></figure></div>\n",
            STANDARD.encode(&self.completions)
        );

        page.push_str("<h2>Commands</h2>\n<pre>");
        for Stage { name, command, seconds } in &self.stages {
            let _ = writeln!(page, "# {name}, {}\n{}", duration(*seconds), escape(command));
        }
        page.push_str("</pre>\n</body>\n</html>\n");
        page
    }

    /// Accuracies side by side.
    fn accuracies(&self) -> String {
        let probes = format!("{} test images, {} labels", self.probe_tested, self.probe_trained);
        let of = |row: Option<&Row>| row.and_then(|row| row.test_accuracy);
        let deepest = |name: &str, source| {
            let row = self.probe.best_of(source);
            let depth = row.map_or(String::new(), |row| format!(", depth {}", describe_depths(&row.depths)));
            Line { name: format!("{name}{depth}"), accuracy: of(row), of: probes.clone() }
        };

        let pixels = self.probe.best_of(Source::RawPixels);
        let chance = 1.0 / self.probe.classes.max(1) as f64;
        let lines = [
            deepest("Linear probe of the pre-trained model", Source::Trained),
            deepest("The same probe of the untrained model", Source::Untrained),
            Line { name: "The same probe of raw pixels".to_owned(), accuracy: of(pixels), of: probes.clone() },
            Line {
                name: "Fine-tuned model".to_owned(),
                accuracy: Some(self.score.accuracy),
                of: format!("{} test images", self.score.images),
            },
            Line { name: "Guessing".to_owned(), accuracy: Some(chance), of: "classes of equal size".to_owned() },
        ];

        let mut html = "<h2>Accuracy</h2>\n<table class=\"results\">\n<tr><th>Classifier</th><th>Test accuracy</th>\
                        <th>Of</th></tr>\n"
            .to_owned();
        for Line { name, accuracy, of } in lines {
            let _ = writeln!(html, "<tr><td>{name}</td><td>{}</td><td>{of}</td></tr>", percent(accuracy));
        }
        html.push_str("</table>\n<p>Depths are chosen on held-out training images, never on the test images.</p>\n");
        html
    }
}
