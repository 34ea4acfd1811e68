//! Showing a training run: a progress bar on a terminal, plain lines elsewhere, JSON lines for scripts.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::train::{Evaluation, Events, Pace, StepOutcome};

/// The watcher that fits: JSON lines if asked for, a bar on a terminal, else lines.
pub fn watcher(json: bool) -> Box<dyn Events> {
    if json {
        Box::new(JsonLines)
    } else if std::io::stderr().is_terminal() {
        Box::new(Bar { bar: ProgressBar::hidden(), validation: String::new() })
    } else {
        Box::new(Lines { steps: 0, last: None })
    }
}

/// One JSON object a line on standard output, and nothing else there.
struct JsonLines;

/// Prints one line of JSON; a reader that has gone away ends the process as it would any filter.
pub fn print_json(value: &serde_json::Value) {
    if writeln!(std::io::stdout(), "{value}").is_err() {
        std::process::exit(0);
    }
}

impl Events for JsonLines {
    fn started(&mut self, step: u64, steps: u64) {
        print_json(&json!({"event": "start", "at_step": step, "steps": steps}));
    }

    fn stepped(&mut self, outcome: &StepOutcome, pace: &Pace) {
        print_json(&json!({
            "event": "step",
            "step": outcome.step,
            "loss": outcome.loss,
            "lr": outcome.learning_rate,
            "grad_norm": outcome.gradient_norm,
            "tokens_per_second": pace.tokens_per_second,
            "elapsed": pace.elapsed,
        }));
    }

    fn evaluated(&mut self, step: u64, evaluation: &Evaluation) {
        print_json(&json!({
            "event": "validation",
            "at_step": step,
            "val_loss": evaluation.nats_per_token,
            "unigram_entropy": evaluation.unigram_entropy,
            "images": evaluation.images,
        }));
    }

    fn saved(&mut self, step: u64, checkpoint: &Path) {
        print_json(&json!({"event": "checkpoint", "at_step": step, "path": checkpoint}));
    }

    fn sampled(&mut self, step: u64, picture: &Path) {
        print_json(&json!({"event": "sample", "at_step": step, "path": picture}));
    }

    fn note(&mut self, text: &str) {
        eprintln!("{text}");
    }
}

/// A progress bar with loss, speed and time left; events of note scroll by above it.
struct Bar {
    bar: ProgressBar,
    validation: String,
}

impl Events for Bar {
    fn started(&mut self, step: u64, steps: u64) {
        self.bar = ProgressBar::new(steps);
        let template = "{bar:28.cyan/blue} {pos}/{len}  {msg}  {elapsed} spent, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("━╸─"));
        }
        self.bar.set_position(step);
        self.bar.reset_eta();
        self.bar.enable_steady_tick(Duration::from_millis(500));
    }

    fn stepped(&mut self, outcome: &StepOutcome, pace: &Pace) {
        let speed = pace.tokens_per_second;
        self.bar.set_message(format!("loss {:.4}{}  {speed:.0} tokens/s", outcome.loss, self.validation));
        self.bar.set_position(outcome.step);
        if outcome.step == self.bar.length().unwrap_or(0) {
            self.bar.disable_steady_tick();
        }
    }

    fn evaluated(&mut self, step: u64, evaluation: &Evaluation) {
        self.validation = format!("  validation {:.4}", evaluation.nats_per_token);
        self.bar.println(validation_line(step, evaluation));
    }

    fn saved(&mut self, _step: u64, _checkpoint: &Path) {}

    fn sampled(&mut self, step: u64, picture: &Path) {
        self.bar.println(format!("step {step}: samples in {}", picture.display()));
    }

    fn note(&mut self, text: &str) {
        self.bar.println(text);
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

/// Time between two lines of a log.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

impl Events for Lines {
    fn started(&mut self, _step: u64, steps: u64) {
        self.steps = steps;
    }

    fn stepped(&mut self, outcome: &StepOutcome, pace: &Pace) {
        let due = self.last.is_none_or(|last| last.elapsed() >= LINE_INTERVAL);
        if due || outcome.step == self.steps {
            self.last = Some(Instant::now());
            eprintln!(
                "step {}/{}: loss {:.4}, lr {:.2e}, gradient norm {:.3}, {:.0} tokens/s, {:.0} s",
                outcome.step,
                self.steps,
                outcome.loss,
                outcome.learning_rate,
                outcome.gradient_norm,
                pace.tokens_per_second,
                pace.elapsed
            );
        }
    }

    fn evaluated(&mut self, step: u64, evaluation: &Evaluation) {
        eprintln!("{}", validation_line(step, evaluation));
    }

    fn saved(&mut self, step: u64, checkpoint: &Path) {
        eprintln!("step {step}: saved {}", checkpoint.display());
    }

    fn sampled(&mut self, step: u64, picture: &Path) {
        eprintln!("step {step}: samples in {}", picture.display());
    }

    fn note(&mut self, text: &str) {
        eprintln!("{text}");
    }
}

fn validation_line(step: u64, evaluation: &Evaluation) -> String {
    format!(
        "step {step}: validation {:.4} nats/token over {} images (unigram entropy {:.4})",
        evaluation.nats_per_token, evaluation.images, evaluation.unigram_entropy
    )
}
