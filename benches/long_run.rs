//! What a run's metrics cost after a thousand steps and after a million: `cargo bench --bench long_run [-- STEPS]`.
//!
//! The run is made up: its metrics and event file are written by the log that training writes, a checkpoint says that the last step
//! was made, and then it is resumed for one step more, its page written, its result collected. Steps have all fields that a card
//! with sensors gives, a reading with every tenth. Times are the whole call's, from the page cache; `IGPT_LONG_RUN=DIR` keeps the
//! runs there, to look at or to try commands on.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use igpt_engine::checkpoint::{self, CheckpointContents, Progress, TrainingState};
use igpt_engine::data::DataSpec;
use igpt_engine::device::CpuDevice;
use igpt_engine::device::nvml::{Reading, Throttle};
use igpt_engine::report::history::History;
use igpt_engine::results;
use igpt_engine::run::folder::RunFolder;
use igpt_engine::run::metrics::{Record, TrainRecord, ValidationRecord};
use igpt_engine::run::run_log::RunLog;
use igpt_engine::train::{Session, Settings, Silent};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Steps between validations.
const VALIDATED: u64 = 1000;

fn main() -> Result<()> {
    let argument = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let lengths = match argument.as_deref().map(|argument| (argument, argument.parse::<u64>())) {
        None => vec![1_000, 1_000_000],
        Some((_, Ok(steps))) => vec![steps],
        Some((name, Err(_))) if "long_run".contains(name) => vec![1_000, 1_000_000],
        // The name of another benchmark.
        Some((_, Err(_))) => return Ok(()),
    };
    let place = tempfile::tempdir()?;
    let kept = std::env::var_os("IGPT_LONG_RUN").map(PathBuf::from);
    let root = kept.as_deref().unwrap_or(place.path());

    println!("    steps  a step's lines  metrics    events   resume, and a step  report  report.html  results");
    for steps in lengths {
        println!("{}", measure(&root.join(format!("steps-{steps}")), steps)?);
    }
    Ok(())
}

/// The line of a run of so many steps.
fn measure(run: &Path, steps: u64) -> Result<String> {
    let device = CpuDevice::new(Some(1))?;
    let settings = |steps| -> Result<Settings> {
        let (layers, width, heads, resolution) = (Some(2), Some(16), Some(2), Some(8));
        let out = Settings::pretraining(DataSpec::Sample, run)?;
        Ok(Settings { layers, width, heads, resolution, steps, batch: 4, eval_every: 0, sample_every: 0, ..out })
    };

    // A first step makes the folder; then its counters say that all were made.
    let first = settings(1)?;
    let outcome = Session::open(&device, first.clone(), None, false)?.run(&mut Silent, &AtomicBool::new(false))?;
    drop(outcome);
    pretend(&device, run, steps)?;

    // What a step costs beside its computation.
    let folder = RunFolder::open(run)?;
    let mut log = RunLog::resume(&folder, 0, true)?;
    let start = Instant::now();
    for step in 1..=steps {
        log.append(&Record::Train(record(step)))?;
        if step.is_multiple_of(VALIDATED) {
            log.append(&Record::Validation(validation(step)))?;
        }
    }
    let microseconds = start.elapsed().as_secs_f64() * 1e6 / steps as f64;
    let metrics = std::fs::metadata(folder.metrics())?.len();
    let events = events(run)?;
    drop((log, folder));

    // What resuming costs, with one step and the page at its end.
    let start = Instant::now();
    let session = Session::open(&device, settings(steps + 1)?, Some(&first), false)?;
    let outcome = session.run(&mut Silent, &AtomicBool::new(false))?;
    let resumed = start.elapsed().as_secs_f64();
    assert_eq!(outcome.step, steps + 1);

    // What of it is the page, and what collecting results costs.
    let start = Instant::now();
    let history = History::read(&outcome.folder.metrics())?;
    let page = igpt_engine::report::training::Report { history, ..outcome.report }.render();
    let reported = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let found = results::collect(&[run])?;
    let collected = start.elapsed().as_secs_f64();
    assert_eq!(found.len(), usize::from(steps >= VALIDATED));

    let (megabytes, kilobytes) = (|bytes: u64| bytes as f64 / 1e6, page.len() as f64 / 1e3);
    Ok(format!(
        "{steps:9}  {microseconds:11.1} µs  {:6.1} MB  {:6.1} MB  {resumed:18.3} s  {reported:4.2} s  {kilobytes:8.0} kB  {collected:6.2} s",
        megabytes(metrics),
        megabytes(events),
    ))
}

/// Replaces the run's checkpoint by one that says that `steps` were made.
fn pretend(device: &CpuDevice, run: &Path, steps: u64) -> Result<()> {
    let folder = RunFolder::open(run)?;
    let made = folder.checkpoint(1);
    let config = checkpoint::load_config(&made)?;
    let parameters = checkpoint::load_parameters(device, &made, &config)?;
    let moments = [parameters.zeros_like(device)?, parameters.zeros_like(device)?];
    let progress = Progress {
        step: steps,
        samples: 4 * steps,
        tokens: 256 * steps,
        elapsed: 0.01 * steps as f64,
        ..Progress::default()
    };
    let training = TrainingState { first_moments: &moments[0], second_moments: &moments[1], progress };
    let palette = checkpoint::palette_of(&made)?.ok_or("the checkpoint has its palette")?;
    let contents = CheckpointContents {
        device,
        config: &config,
        parameters: &parameters,
        average: None,
        training: Some(training),
        palette: Some(&palette),
    };
    checkpoint::save(&folder.checkpoint(steps), &contents)?;
    std::fs::remove_dir_all(made)?;
    Ok(())
}

fn record(step: u64) -> TrainRecord {
    let t = step as f64;
    let reading = Reading {
        watts: Some(300.0 + (t * 0.7).sin()),
        celsius: Some(60),
        sm_mhz: Some(1410),
        memory_mhz: Some(2600),
        throttled_by: Some(Throttle(4)),
        memory_bytes: Some(30 << 30),
        joules: Some(3.0 * t),
    };
    TrainRecord {
        step,
        loss: 2.5 + 0.1 * (t * 12.9).sin(),
        lr: 1e-3 / (1.0 + t / 1e5),
        grad_norm: 0.3 + 0.01 * (t * 4.1).cos(),
        tokens_per_second: 123_456.789,
        images_per_second: Some(1929.0123),
        data_wait: Some(0.001_234),
        mfu: Some(0.401_234),
        mfu_palm: Some(0.456_789),
        gpu: step.is_multiple_of(10).then_some(reading),
        elapsed: 0.01 * t,
        ..TrainRecord::default()
    }
}

fn validation(step: u64) -> ValidationRecord {
    let val_loss = 2.5 + 1.0 / step as f64;
    ValidationRecord {
        step,
        val_loss,
        unigram_entropy: 5.8,
        images: 256,
        elapsed: 0.01 * step as f64,
        ..ValidationRecord::default()
    }
}

/// Bytes of all event files.
fn events(run: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(run)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().contains("tfevents") {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}
