//! Completes test images of the built-in sample, as `igpt-engine sample` does.
//!
//! `cargo run --release --example sample -- runs/example completions.png` takes a run, a checkpoint or a Hugging Face folder,
//! and the picture to write.

use std::error::Error;
use std::path::PathBuf;

use igpt_engine::device::CpuDevice;
use igpt_engine::sample::grid::{comfortable_scale, write_png};
use igpt_engine::sample::{Session, Settings, Source};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let checkpoint = arguments.next().ok_or("name a checkpoint or a run")?;
    let picture = arguments.next().ok_or("name a PNG file to write")?;
    let device = CpuDevice::new(None)?;
    let settings = Settings { count: 4, completions: 2, ..Settings::new(&checkpoint, Source::DataSet) };

    let session = Session::open(&device, settings)?;
    let outcome = session.run(|_| ())?;
    write_png(&picture, &outcome.grid.draw(comfortable_scale(session.side())))?;

    let seen = session.model().order.describe_prompt();
    println!("{} completions in {}; of each image the model saw {seen}", session.generated(), picture.display());
    Ok(())
}
