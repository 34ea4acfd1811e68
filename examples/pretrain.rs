//! Pre-trains a small model on the built-in sample, as `igpt-engine train` does, and says how it went.
//!
//! `cargo run --release --example pretrain -- runs/example` makes 20 steps in a few seconds, in a new run folder.

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use igpt_engine::data::DataSpec;
use igpt_engine::device::CpuDevice;
use igpt_engine::run::metrics::{Record, TrainRecord};
use igpt_engine::run::metrics_reader::MetricsReader;
use igpt_engine::train::{Session, Settings, Silent};

fn main() -> Result<(), Box<dyn Error>> {
    let out: PathBuf = std::env::args_os().nth(1).ok_or("name a folder for the run")?.into();
    let device = CpuDevice::new(None)?;
    let settings = Settings { steps: 20, warmup: 2, eval_images: 16, ..Settings::pretraining(DataSpec::Sample, &out)? };

    let session = Session::open(&device, settings, None, false)?;
    println!("{}", session.describe());
    let outcome = session.run(&mut Silent, &AtomicBool::new(false))?;

    for record in MetricsReader::open(&outcome.folder.metrics())? {
        if let Record::Train(TrainRecord { step, loss, .. }) = record? {
            println!("step {step:2}: {loss:.4} nats per token");
        }
    }
    println!("checkpoint: {}", outcome.folder.checkpoint(outcome.step).display());
    Ok(())
}
