//! Probes a model at every depth on the built-in sample, as `igpt-engine probe` does.
//!
//! `cargo run --release --example probe -- runs/example runs/example-probe` takes a run, a checkpoint or a Hugging Face folder,
//! and the folder of the results.

use std::error::Error;
use std::path::PathBuf;

use igpt_engine::data::DataSpec;
use igpt_engine::device::CpuDevice;
use igpt_engine::probe::{Session, Settings, Silent, Solver};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let checkpoint = arguments.next().ok_or("name a checkpoint or a run")?;
    let out = arguments.next().ok_or("name a folder for the results")?;
    let device = CpuDevice::new(None)?;
    let settings = Settings {
        images: Some(200),
        solver: Solver::lbfgs(vec![0.01, 1.0]),
        out: Some(out),
        ..Settings::new(DataSpec::Sample, Some(&checkpoint))
    };

    let outcome = Session::open(&device, settings)?.run(&mut Silent)?;
    for fitted in &outcome.fitted {
        let accuracy = 100.0 * fitted.test_accuracy.unwrap_or(0.0);
        println!("depths {:?}: {accuracy:.1} % of the test images, {}", fitted.depths, fitted.choice);
    }
    println!("report: {}", outcome.report_path().display());
    Ok(())
}
