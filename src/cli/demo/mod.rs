//! `igpt-engine demo`: everything in one walk, by the commands that a user would type.

mod results;
mod stages;
mod state;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser};
use serde_json::json;

use self::results::Found;
use self::stages::{Planned, planned, typed};
use self::state::{Settings, State};
use super::Cli;
use super::common::device::{DeviceArgs, on_device};
use super::common::interrupt::stop_flag;
use super::common::output::{print_json, say, tell};
use crate::data::{self, DataSpec, OpenOptions, Palette, Split};
use crate::device::Device;
use crate::device::select::{Chosen, DeviceJob, Request};
use crate::fs::atomic_file;
use crate::report::html::percent;
use crate::report::probe::Source;
use crate::run::folder::RunFolder;

/// Everything in one walk: pre-train a small model, probe every depth, fine-tune, complete images; ends with a report
///
/// The model learns to predict the pixels of small images without their labels. Then a linear classifier shows what each layer
/// has learned of the class, beside the same model untrained and beside raw pixels; fine-tuning goes further; and the model
/// completes images that it has never seen. Some minutes on two cores. Each stage is a command that you can type yourself; the
/// demo prints it. After Ctrl-C or a crash the same command goes on, and stages that are done are not done again.
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
        self.check_data()?;
        let settings = Settings { data: self.data.to_string(), quick: self.quick, seed: self.seed };
        let mut state = State::open(&self.out, settings)?;
        let stop = stop_flag()?;
        if self.data == DataSpec::Sample && !self.json {
            tell(format_args!("note: {}", SMALL_SAMPLE));
        }
        let plan = planned(&self)?;
        for (number, stage) in (1..).zip(&plan) {
            let done = state.is_done(stage);
            self.announce(number, plan.len(), stage, done)?;
            if done {
                continue;
            }
            state.forget_from(&plan[number - 1..])?;
            let begun = Instant::now();
            let words = stage.words.iter().cloned().chain(self.json.then(|| "--json".to_owned()));
            Cli::try_parse_from(words).context("cannot run this stage")?.command.run()?;
            if stop.load(std::sync::atomic::Ordering::Relaxed) {
                return self.stopped(stage);
            }
            state.finish(stage, begun.elapsed().as_secs_f64())?;
        }
        let found = Found::read(&self.out, &plan, &self.data, device)?;
        let report = self.out.join(RunFolder::REPORT);
        let caution = self.caution();
        let page = found.walk(&self.out, &plan, &state, caution)?.render();
        atomic_file::write_file(&report, |file| file.write_all(page.as_bytes()))
            .with_context(|| format!("cannot write {}", report.display()))?;
        self.conclude(&found, &state, &report)
    }

    /// Refuses data that a later stage would refuse, before the first one spends minutes.
    fn check_data(&self) -> Result<()> {
        if self.data.is_tokens() {
            bail!("the demo shrinks and probes images, and {} holds tokens; give images, e.g. cifar10:DIR", self.data);
        }
        let options = OpenOptions { progress: false, ..OpenOptions::new(Palette::built_in()?.into()) };
        for split in [Split::Train, Split::Test] {
            let part = data::open(&self.data, split, &options)?;
            if part.is_empty() || part.classes() < 2 {
                bail!(
                    "the demo tells classes apart, and {} has {} images of {} classes; give images of a data set with labels",
                    part.describe(),
                    part.len(),
                    part.classes()
                );
            }
        }
        Ok(())
    }

    /// What to know before believing the figures.
    fn caution(&self) -> Option<String> {
        let sample = (self.data == DataSpec::Sample).then_some(SMALL_SAMPLE);
        let quick =
            self.quick.then_some("This was --quick: a toy model after a few steps, which shows that everything runs.");
        let said: Vec<&str> = quick.into_iter().chain(sample).collect();
        (!said.is_empty()).then(|| said.join(" "))
    }

    fn announce(&self, number: usize, of: usize, stage: &Planned, done: bool) -> Result<()> {
        let command = typed(&stage.words);
        if self.json {
            return print_json(&json!({
                "event": "stage", "stage": stage.name, "number": number, "of": of, "command": command, "skipped": done,
            }));
        }
        let state = if done { " (done before)" } else { "" };
        say(format_args!("\n{number}/{of} {}{state}: {}\n$ {command}", stage.name, stage.purpose))
    }

    fn stopped(&self, stage: &Planned) -> Result<()> {
        if self.json {
            return print_json(&json!({"event": "demo", "finished": false, "stopped_at": stage.name, "out": self.out}));
        }
        say(format_args!("stopped at {}; the same command goes on from here", stage.name))
    }

    fn conclude(&self, found: &Found, state: &State, report: &Path) -> Result<()> {
        let row = |source| found.probe.best_of(source);
        let accuracy = |source| row(source).and_then(|row| row.test_accuracy);
        let depth = row(Source::Trained).and_then(|row| row.depths.first().copied());
        let (trained, untrained) = (accuracy(Source::Trained), accuracy(Source::Untrained));
        let pixels = accuracy(Source::RawPixels);
        if self.json {
            return print_json(&json!({
                "event": "demo",
                "finished": true,
                "best_depth": depth,
                "probe_accuracy": trained,
                "untrained_accuracy": untrained,
                "raw_pixels_accuracy": pixels,
                "finetuned_accuracy": found.score.accuracy,
                "seconds": state.seconds(),
                "report": report,
            }));
        }
        say(format_args!("\nright of the test images"))?;
        let depth = depth.map_or(String::new(), |depth| format!(", depth {depth}"));
        for (accuracy, name) in [
            (trained, format!("linear probe of the pre-trained model{depth}")),
            (untrained, "the same of the untrained model".to_owned()),
            (pixels, "the same of raw pixels".to_owned()),
            (Some(found.score.accuracy), "fine-tuned".to_owned()),
        ] {
            say(format_args!("  {:>8}  {name}", percent(accuracy)))?;
        }
        say(format_args!("{:.0} s in all", state.seconds()))?;
        say(format_args!("report   {}", report.display()))
    }
}

/// What the sample cannot show.
const SMALL_SAMPLE: &str = "The built-in sample has 1,000 training and 200 test images: enough to see how everything works, too few \
                            for accuracies that mean much. For those: igpt-engine data fetch cifar10 --out data, then \
                            igpt-engine demo --data cifar10:data --out demo-cifar10.";
