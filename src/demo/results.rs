//! What the stages left in their folders, read back for the report: a demo that was continued shows what earlier sessions did too.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::{DemoError, Result};
use super::stages::{COMPLETIONS, FINETUNED, PRETRAINED, PROBED, Stage, score_file, typed};
use super::state::State;
use crate::checkpoint;
use crate::data::DataSpec;
use crate::probe::Saved;
use crate::report::demo::{self as page, TestScore, Walk};
use crate::report::history::History;
use crate::report::html::describe_model;
use crate::report::probe::ProbeReport;
use crate::report::training::Report;
use crate::run::checkpoints;
use crate::run::folder::RunFolder;

/// The parts of the score's file that are needed.
#[derive(Deserialize)]
struct Scored {
    accuracy: f64,
    labelled: usize,
}

/// All figures.
pub(super) struct StageResults {
    pub probe: ProbeReport,
    pub score: TestScore,
    train_images: usize,
    test_images: usize,
    pretraining: Report,
    finetuning: Report,
}

impl StageResults {
    /// Reads what the stages of `plan` have left in `out`.
    pub fn read(out: &Path, plan: &[Stage], data: &DataSpec, device: String) -> Result<Self> {
        let probed: Saved = from_json(&out.join(PROBED).join(RunFolder::PROBE))?;
        let scored: Scored = from_json(&score_file(out))?;

        let steps = |folder: &str| steps_of(plan, folder);
        Ok(Self {
            probe: probed.report(),
            score: TestScore { accuracy: scored.accuracy, images: scored.labelled },
            train_images: probed.train_images,
            test_images: probed.test_images,
            pretraining: run(&out.join(PRETRAINED), data, &device, steps("train"))?,
            finetuning: run(&out.join(FINETUNED), data, &device, steps("finetune"))?,
        })
    }

    /// Everything for the page.
    pub fn walk(&self, out: &Path, plan: &[Stage], state: &State, caution: Option<String>) -> Result<Walk> {
        let path = out.join(COMPLETIONS);
        let completions = std::fs::read(&path).map_err(|source| DemoError::Read { path, source })?;

        let stage = |planned: &Stage| page::Stage {
            name: planned.name,
            command: typed(&planned.words),
            seconds: state.seconds_of(planned),
        };

        Ok(Walk {
            title: format!("igpt-engine demo: {}", out.display()),
            caution,
            probe_tested: self.test_images,
            probe_trained: self.train_images,
            pretraining: self.pretraining.clone(),
            probe: self.probe.clone(),
            finetuning: self.finetuning.clone(),
            score: self.score,
            completions,
            stages: plan.iter().map(stage).collect(),
        })
    }
}

/// What `--steps` of a command says.
fn steps_of(plan: &[Stage], command: &str) -> u64 {
    let words = plan.iter().map(|stage| &stage.words).find(|words| words.get(1).is_some_and(|word| word == command));
    let mut after = words.into_iter().flatten().skip_while(|word| *word != "--steps");
    after.nth(1).and_then(|steps| steps.parse().ok()).unwrap_or(0)
}

/// A run's curves and facts.
fn run(folder: &Path, data: &DataSpec, device: &str, planned_steps: u64) -> Result<Report> {
    let config = checkpoint::load_config(&checkpoints::resolve(folder)?)?;
    Ok(Report {
        title: String::new(),
        model: describe_model(&config),
        parameters: config.parameter_count(),
        vocabulary: config.vocabulary,
        data: data.to_string(),
        device: device.to_owned(),
        planned_steps,
        history: History::read(&folder.join(RunFolder::METRICS))?,
        compute: None,
        energy: None,
        samples: Vec::new(),
        sample_count: 0,
        config: String::new(),
    })
}

fn from_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read(path).map_err(|source| DemoError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| DemoError::Results { path: path.to_owned(), source })
}
