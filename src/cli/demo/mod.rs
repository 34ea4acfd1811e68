//! `igpt-engine demo`: everything in one walk, by the commands that a user would type.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use clap::{Args, Parser};
use serde_json::json;

use super::Cli;
use super::common::device::{DeviceArgs, on_device};
use super::common::interrupt::stop_flag;
use super::common::output::{print_json, say, tell};
use crate::data::DataSpec;
use crate::demo::{Demo, Outcome, SMALL_SAMPLE, Settings, Stage, typed};
use crate::device::Device;
use crate::device::select::{Chosen, DeviceJob, Request};
use crate::fs::path_text;
use crate::report::html::percent;
use crate::report::probe::Source;

/// Everything in one walk: pre-train a small model, probe every depth, fine-tune, complete images; ends with a report
///
/// The model learns to predict the pixels of small images without their labels. Then a linear classifier shows what each layer
/// has learned of the class, beside the same model untrained and beside raw pixels; fine-tuning goes further; and the model
/// completes images that it has never seen. Some minutes on two cores. Each stage is a command that you can type yourself; the
/// demo prints it. After Ctrl-C or a crash the same command continues, and stages that are done are not done again.
///
///   igpt-engine demo                                            the built-in sample: 1,000 images, no download
///   igpt-engine data fetch cifar10 --out data && igpt-engine demo --data cifar10:data
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct DemoCommand {
    /// Images with labels: cifar10:DIR, cifar100:DIR, stl10:DIR, images:DIR, or sample (1,000 CIFAR-10 images in the binary)
    #[arg(long, value_name = "KIND:PATH", default_value = "sample")]
    data: DataSpec,
    /// Folder for everything that is made; report.html in it is the page to open
    #[arg(long, value_name = "DIR", default_value = "demo")]
    out: PathBuf,
    /// A much smaller model, for seconds: to see that everything works, not what it can do
    #[arg(long)]
    quick: bool,
    /// Seed of weights, order, held-out images and samples
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print JSON lines, those of each command and the demo's own, and nothing else on standard output
    #[arg(long)]
    json: bool,
}

/// Looks which device it is.
struct Describe<'a>(&'a mut String);

impl DeviceJob for Describe<'_> {
    type Output = Result<()>;

    fn run<D: Device>(self, device: D, chosen: &Chosen) -> Result<()> {
        *self.0 = format!("{}{}", device.describe(), chosen.why);
        Ok(())
    }
}

impl DemoCommand {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let mut device = String::new();
        on_device(Request::from(&self.device), Describe(&mut device))?;
        let mut demo = Demo::open(self.settings())?;
        let stop = stop_flag();
        if self.data == DataSpec::Sample && !self.json {
            tell(format_args!("note: {SMALL_SAMPLE}"));
        }

        let stages = demo.len();
        let stopped_at = demo.walk(|stage, number, done| {
            self.announce(number, stages, stage, done)?;
            if !done {
                let words = stage.words.iter().cloned().chain(self.json.then(|| "--json".to_owned()));
                Cli::try_parse_from(words).context("cannot run this stage")?.command.run()?;
            }
            Ok::<_, anyhow::Error>(!stop.load(Ordering::Relaxed))
        })?;
        match stopped_at {
            Some(stage) => self.stopped(stage),
            None => self.conclude(&demo.report(device)?),
        }
    }

    /// What the flags say, for the library.
    fn settings(&self) -> Settings {
        let DeviceArgs { device, precision, threads } = self.device;
        let device_flags = [
            ("--device", device.map(|device| device.to_string())),
            ("--precision", precision.map(|precision| precision.to_string())),
            ("--threads", threads.map(|threads| threads.to_string())),
        ];
        let device_flags = device_flags.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), value?]));
        Settings {
            data: self.data.clone(),
            out: self.out.clone(),
            quick: self.quick,
            seed: self.seed,
            device_flags: device_flags.flatten().collect(),
        }
    }

    fn announce(&self, number: usize, of: usize, stage: &Stage, done: bool) -> Result<()> {
        let command = typed(&stage.words);
        if self.json {
            return print_json(&json!({
                "event": "stage", "stage": stage.name, "number": number, "of": of, "command": command, "skipped": done,
            }));
        }
        let state = if done { " (done before)" } else { "" };
        say(format_args!("\n{number}/{of} {}{state}: {}\n$ {command}", stage.name, stage.purpose))
    }

    fn stopped(&self, stage: &str) -> Result<()> {
        if self.json {
            return print_json(
                &json!({"event": "demo", "finished": false, "stopped_at": stage, "out": path_text(&self.out)}),
            );
        }
        say(format_args!("stopped at {stage}; the same command continues from here"))
    }

    fn conclude(&self, found: &Outcome) -> Result<()> {
        let row = |source| found.probe.best_of(source);
        let accuracy = |source| row(source).and_then(|row| row.test_accuracy);
        let depth = row(Source::Trained).and_then(|row| row.depths.first().copied());
        let (trained, untrained) = (accuracy(Source::Trained), accuracy(Source::Untrained));
        let pixels = accuracy(Source::RawPixels);

        // For scripts.
        if self.json {
            return print_json(&json!({
                "event": "demo",
                "finished": true,
                "best_depth": depth,
                "probe_accuracy": trained,
                "untrained_accuracy": untrained,
                "raw_pixels_accuracy": pixels,
                "finetuned_accuracy": found.score.accuracy,
                "seconds": found.seconds,
                "report": path_text(&found.report),
            }));
        }

        // For people.
        say(format_args!("\naccuracy on the test images"))?;
        let depth = depth.map_or(String::new(), |depth| format!(", depth {depth}"));
        for (accuracy, name) in [
            (trained, format!("linear probe of the pre-trained model{depth}")),
            (untrained, "the same of the untrained model".to_owned()),
            (pixels, "the same of raw pixels".to_owned()),
            (Some(found.score.accuracy), "fine-tuned".to_owned()),
        ] {
            say(format_args!("  {:>8}  {name}", percent(accuracy)))?;
        }

        say(format_args!("{:.0} s in all", found.seconds))?;
        say(format_args!("report   {}", found.report.display()))
    }
}
