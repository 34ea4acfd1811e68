//! Teaches a pre-trained model to classify the built-in sample, as `igpt-engine finetune` does.
//!
//! `cargo run --release --example finetune -- runs/example runs/example-finetuned` takes a run, a checkpoint or a Hugging Face
//! folder, and the folder of the new run.

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use igpt_engine::data::DataSpec;
use igpt_engine::device::CpuDevice;
use igpt_engine::train::{Session, Settings, Silent};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let checkpoint = arguments.next().ok_or("name a checkpoint or a run")?;
    let out = arguments.next().ok_or("name a folder for the new run")?;
    let device = CpuDevice::new(None)?;
    let settings =
        Settings { steps: 20, eval_every: 10, ..Settings::fine_tuning(&checkpoint, DataSpec::Sample, &out)? };

    let session = Session::open(&device, settings, None, false)?;
    println!("{}", session.describe());
    let outcome = session.run(&mut Silent, &AtomicBool::new(false))?;

    if let Some(best) = outcome.best {
        println!("{:.2} % of the held-out images after step {}", 100.0 * best.accuracy, best.step);
    }
    Ok(())
}
