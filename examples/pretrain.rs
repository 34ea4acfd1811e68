//! Pre-trains a small model on the built-in sample, as `igpt-engine train` does, and says how it went.
//!
//! `cargo run --release --example pretrain -- runs/example` makes 20 steps in a few seconds, in a new run folder.

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use igpt_engine::data::DataSpec;
use igpt_engine::device::CpuDevice;
use igpt_engine::train::{Session, Settings, Silent};

fn main() -> Result<(), Box<dyn Error>> {
    let out: PathBuf = std::env::args_os().nth(1).ok_or("name a folder for the run")?.into();
    let device = CpuDevice::new(None)?;
    let settings = Settings { steps: 20, warmup: 2, eval_images: 16, ..Settings::pretraining(DataSpec::Sample, &out)? };

    let session = Session::open(&device, settings, None, false)?;
    println!("{}", session.describe());
    let outcome = session.run(&mut Silent, &AtomicBool::new(false))?;

    for record in &outcome.report.training {
        println!("step {:2}: {:.4} nats per token", record.step, record.loss);
    }
    println!("checkpoint: {}", outcome.folder.checkpoint(outcome.step).display());
    Ok(())
}
