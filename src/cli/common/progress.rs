//! Showing a training run: a progress bar on a terminal, plain lines elsewhere, JSON lines for scripts.

use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::counter::{LINE_INTERVAL, draws_bars};
use super::output::{describe, print_json, tell};
use crate::eval::Evaluation;
use crate::fs::path_text;
use crate::run::metrics::PeakSource;
use crate::train::{Events, Pace, Saved, StepOutcome};

/// The watcher that fits the output: JSON lines if asked for, a bar on a terminal that draws one, else lines.
pub fn watcher(json: bool) -> Box<dyn Events> {
    if json {
        Box::new(JsonLines { failed: false })
    } else if draws_bars() {
        Box::new(Bar {
            bar: ProgressBar::hidden(),
            loss: String::new(),
            validation: String::new(),
            speed: String::new(),
        })
    } else {
        Box::new(Lines { steps: 0, last: None })
    }
}

/// One JSON object per line on standard output, and nothing else there.
struct JsonLines {
    /// Whether a line could not be written, which was said.
    failed: bool,
}

impl JsonLines {
    /// A line that cannot be written (a full disk) does not end the run; if it lasts, the line of the run's end meets it
    /// too and makes it an error.
    fn print(&mut self, value: &serde_json::Value) {
        if let Err(error) = print_json(value)
            && !std::mem::replace(&mut self.failed, true)
        {
            self.note(&format!("note: {}; the run goes on", describe(&error)));
        }
    }

    /// Without the keys that say nothing: those of a class head in pre-training, that of a skipped step, shares
    /// of a peak that is not known, and sensors without a new reading.
    fn print_given(&mut self, mut value: serde_json::Value) {
        if let Some(map) = value.as_object_mut() {
            const SILENT: [&str; 8] =
                ["class_loss", "generative_loss", "accuracy", "skipped", "mfu", "mfu_palm", "peak", "gpu"];
            let silent = |key: &str| SILENT.contains(&key);
            map.retain(|key, value| !(silent(key) && value.is_null()));
        }
        self.print(&value);
    }
}

impl Events for JsonLines {
    fn started(&mut self, step: u64, steps: u64) {
        self.print(&json!({"event": "start", "at_step": step, "steps": steps}));
    }

    fn stepped(&mut self, outcome: &StepOutcome, pace: &Pace) {
        self.print_given(json!({
            "event": "step",
            "step": outcome.step,
            "skipped": outcome.was_skipped().then_some(outcome.skipped.in_a_row),
            "loss": outcome.loss,
            "class_loss": outcome.class_loss,
            "generative_loss": outcome.class_loss.and(outcome.generative_loss),
            "lr": outcome.learning_rate,
            "grad_norm": outcome.gradient_norm,
            "tokens_per_second": pace.tokens_per_second,
            "images_per_second": pace.images_per_second,
            "exchange_ms": outcome.spent.map(|spent| spent.exchanging),
            "skew_ms": outcome.spent.map(|spent| spent.skew),
            "slowest_rank": outcome.spent.map(|spent| spent.slowest),
            "mfu": pace.utilisation.map(|share| share.needed),
            "mfu_palm": pace.utilisation.map(|share| share.palm),
            "peak": pace.utilisation.map(|share| share.peak).filter(|peak| *peak == PeakSource::Measured),
            "gpu": pace.gpu.filter(|_| pace.gpu_is_new),
            "elapsed": pace.elapsed,
            "data_wait": pace.data_wait,
        }));
    }

    fn evaluated(&mut self, step: u64, evaluation: &Evaluation) {
        self.print_given(json!({
            "event": "validation",
            "at_step": step,
            "val_loss": evaluation.nats_per_token,
            "unigram_entropy": evaluation.unigram_entropy,
            "class_loss": evaluation.classification.map(|found| found.loss),
            "accuracy": evaluation.classification.map(|found| found.accuracy),
            "images": evaluation.images,
        }));
    }

    fn saved(&mut self, saved: &Saved<'_>) {
        let milliseconds = |time: Duration| 1e3 * time.as_secs_f64();
        self.print(&json!({
            "event": "checkpoint",
            "at_step": saved.step,
            "path": path_text(saved.path),
            "stall_ms": milliseconds(saved.stood_still),
            "write_ms": milliseconds(saved.writing),
        }));
    }

    fn sampled(&mut self, step: u64, picture: &Path) {
        self.print(&json!({"event": "sample", "at_step": step, "path": path_text(picture)}));
    }

    fn note(&mut self, text: &str) {
        tell(format_args!("{text}"));
    }
}

/// A progress bar with loss, speed and time left; notable events scroll by above it.
struct Bar {
    bar: ProgressBar,
    /// Of the last step.
    loss: String,
    speed: String,
    /// Of the last validation.
    validation: String,
}

impl Bar {
    fn show(&self) {
        self.bar.set_message(format!("{}{}{}", self.loss, self.validation, self.speed));
    }

    /// A line that stays, above the bar if there is one yet.
    fn print(&self, line: &str) {
        if self.bar.is_hidden() { tell(format_args!("{line}")) } else { self.bar.println(line) }
    }
}

impl Events for Bar {
    fn started(&mut self, step: u64, steps: u64) {
        self.bar = ProgressBar::new(steps);
        // The least important part comes last, where a narrow terminal cuts it off.
        let template = "{bar:14.cyan/blue} {pos}/{len}  {eta} left  {wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("━╸─"));
        }
        self.bar.set_position(step);
        self.bar.reset_eta();
        self.bar.enable_steady_tick(Duration::from_millis(500));
    }

    fn stepped(&mut self, outcome: &StepOutcome, pace: &Pace) {
        self.loss = losses(outcome);
        self.speed = format!("  {}", speed(pace));
        self.show();
        self.bar.set_position(outcome.step);
        if outcome.step == self.bar.length().unwrap_or(0) {
            self.bar.disable_steady_tick();
        }
    }

    fn evaluated(&mut self, step: u64, evaluation: &Evaluation) {
        self.validation = match evaluation.classification {
            None => format!("  validation {:.4}", evaluation.nats_per_token),
            Some(found) => format!("  validation {:.2} %", 100.0 * found.accuracy),
        };
        self.show();
        self.print(&validation_line(step, evaluation));
    }

    fn saved(&mut self, _saved: &Saved<'_>) {}

    fn sampled(&mut self, step: u64, picture: &Path) {
        self.print(&format!("step {step}: samples in {}", picture.display()));
    }

    fn note(&mut self, text: &str) {
        self.print(text);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.abandon();
    }
}

/// A line for the first and last steps and every few seconds between: for log files.
struct Lines {
    steps: u64,
    last: Option<Instant>,
}

impl Events for Lines {
    fn started(&mut self, _step: u64, steps: u64) {
        self.steps = steps;
    }

    fn stepped(&mut self, outcome: &StepOutcome, pace: &Pace) {
        let due = self.last.is_none_or(|last| last.elapsed() >= LINE_INTERVAL);
        if due || outcome.step == self.steps {
            self.last = Some(Instant::now());
            tell(format_args!(
                "step {}/{}: {}, lr {:.2e}, gradient norm {:.3}, {}, {:.0} s",
                outcome.step,
                self.steps,
                losses(outcome),
                outcome.learning_rate,
                outcome.gradient_norm,
                speed(pace),
                pace.elapsed
            ));
        }
    }

    fn evaluated(&mut self, step: u64, evaluation: &Evaluation) {
        tell(format_args!("{}", validation_line(step, evaluation)));
    }

    fn saved(&mut self, saved: &Saved<'_>) {
        let Saved { step, path, stood_still, writing } = saved;
        let [still, writing] = [stood_still, writing].map(Duration::as_secs_f64);
        tell(format_args!(
            "step {step}: saved {}; training stood still for {still:.2} s, files took {writing:.2} s",
            path.display()
        ));
    }

    fn sampled(&mut self, step: u64, picture: &Path) {
        tell(format_args!("step {step}: samples in {}", picture.display()));
    }

    fn note(&mut self, text: &str) {
        tell(format_args!("{text}"));
    }
}

/// The losses of a step, in fine-tuning the weighted sum and the class loss; and how many steps were skipped, if any.
fn losses(outcome: &StepOutcome) -> String {
    let skipped = match outcome.skipped.total {
        0 => String::new(),
        total => format!(", {total} skipped"),
    };
    match outcome.class_loss {
        None => format!("loss {:.4}{skipped}", outcome.loss),
        Some(class) => format!("loss {:.4} (class {class:.4}){skipped}", outcome.loss),
    }
}

/// Tokens and images per second; where the peak is known what they are of it, where there are sensors what they say, and where
/// loading falls behind the wait.
fn speed(pace: &Pace) -> String {
    let mut words = format!("{:.0} tokens/s ({:.1} images/s", pace.tokens_per_second, pace.images_per_second);
    if let Some(share) = pace.utilisation {
        let of = if share.peak == PeakSource::Measured { " of its own GEMM" } else { "" };
        words.push_str(&format!(", MFU {:.1} %{of}", 100.0 * share.needed));
    }
    if let Some(sensed) = pace.gpu.map(|reading| reading.in_short()).filter(|sensed| !sensed.is_empty()) {
        words.push_str(&format!(", {sensed}"));
    }
    if pace.data_wait >= 0.01 {
        words.push_str(&format!(", {:.0} % waiting for data", 100.0 * pace.data_wait));
    }
    words + ")"
}

fn validation_line(step: u64, evaluation: &Evaluation) -> String {
    if let Some(found) = evaluation.classification {
        return format!(
            "step {step}: validation accuracy {:.2} %, class loss {:.4}, {:.4} nats/token, over {} images",
            100.0 * found.accuracy,
            found.loss,
            evaluation.nats_per_token,
            evaluation.images
        );
    }
    format!(
        "step {step}: validation {:.4} nats/token over {} images (unigram entropy {:.4})",
        evaluation.nats_per_token, evaluation.images, evaluation.unigram_entropy
    )
}
