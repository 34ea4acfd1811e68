//! Everything in one walk: pre-train, probe, fine-tune, test and complete, each stage by the command that a user would type.

mod error;
mod results;
mod settings;
mod stages;
mod state;

use std::path::PathBuf;
use std::time::Instant;

pub use error::{DemoError, Result};
pub use settings::{SMALL_SAMPLE, Settings};
pub use stages::{Stage, typed};

use self::results::StageResults;
use self::state::{SavedSettings, State};
use crate::data::{self, Fingerprint, OpenOptions, Palette, Split};
use crate::fs::{FsError, atomic_dir, atomic_file};
use crate::report::demo::TestScore;
use crate::report::probe::ProbeReport;
use crate::run::folder::RunFolder;

/// A demo in its folder: its stages, and which of them are done.
pub struct Demo {
    settings: Settings,
    stages: Vec<Stage>,
    state: State,
}

/// What the stages found.
pub struct Outcome {
    /// The probes.
    pub probe: ProbeReport,
    /// The fine-tuned model on test images.
    pub score: TestScore,
    /// Seconds of all stages.
    pub seconds: f64,
    /// The page that shows everything.
    pub report: PathBuf,
}

impl Demo {
    /// Begins a demo, or continues the one in its folder.
    ///
    /// # Errors
    /// Data that a later stage would refuse; a folder that holds anything else, or a demo of other settings.
    pub fn open(settings: Settings) -> Result<Self> {
        let refused = |FsError { source, .. }: FsError| DemoError::Folder { path: settings.out.clone(), source };
        atomic_dir::check_folder(&settings.out).map_err(refused)?;
        let images = check_data(&settings)?;
        let state = State::open(&settings.out, SavedSettings { images: Some(images), ..(&settings).into() })?;
        let stages = stages::stages(&settings)?;
        Ok(Self { settings, stages, state })
    }

    /// How many stages there are.
    pub fn len(&self) -> usize {
        self.stages.len()
    }

    /// Whether there are no stages.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// Goes through the stages. `run` is given each stage, its number from 1 and whether it was done before; it runs the
    /// stage's command if not, and says whether to go on. Returns the stage that it stopped at, if any.
    ///
    /// # Errors
    /// Those of `run`; a state that cannot be saved.
    pub fn walk<E: From<DemoError>>(
        &mut self,
        mut run: impl FnMut(&Stage, usize, bool) -> std::result::Result<bool, E>,
    ) -> std::result::Result<Option<&'static str>, E> {
        for (number, stage) in (1..).zip(&self.stages) {
            if self.state.is_done(stage) {
                run(stage, number, true)?;
                continue;
            }

            // What comes after rests on this stage.
            self.state.forget_from(&self.stages[number - 1..])?;
            let begun = Instant::now();
            if !run(stage, number, false)? {
                return Ok(Some(stage.name));
            }
            self.state.finish(stage, begun.elapsed().as_secs_f64())?;
        }
        Ok(None)
    }

    /// Reads what the stages have left and writes the page; `device` is where they ran, in words.
    ///
    /// # Errors
    /// Results that cannot be read; a page that cannot be written.
    pub fn report(&self, device: String) -> Result<Outcome> {
        let out = &self.settings.out;
        let results = StageResults::read(out, &self.stages, &self.settings.data, device)?;
        let page = results.walk(out, &self.stages, &self.state, self.settings.caution())?.render();

        let report = out.join(RunFolder::REPORT);
        atomic_file::write_file(&report, |file| file.write_all(page.as_bytes()))
            .map_err(|source| DemoError::Write { path: report.clone(), source })?;
        Ok(Outcome { probe: results.probe, score: results.score, seconds: self.state.seconds(), report })
    }
}

/// Refuses data that a later stage would refuse, before the first one spends minutes; returns what both parts hold.
fn check_data(settings: &Settings) -> Result<[Fingerprint; 2]> {
    let data = &settings.data;
    if data.is_tokens() {
        return Err(DemoError::Tokens { data: data.to_string() });
    }
    let options = OpenOptions { progress: false, ..OpenOptions::new(Palette::built_in()?.into()) };
    let open = |split| {
        let part = data::open(data, split, &options)?;
        if part.is_empty() || part.classes() < 2 {
            let (data, images, classes) = (part.describe(), part.len(), part.classes());
            return Err(DemoError::NoClasses { data, images, classes });
        }
        Ok(part.fingerprint()?)
    };
    Ok([open(Split::Train)?, open(Split::Test)?])
}
