//! `igpt-engine sample`: complete images, or generate them from nothing.

mod args;
mod many;

use anyhow::{Result, bail};
use serde_json::json;

pub use self::args::SampleCommand;
use super::common::counter::Counter;
use super::common::device::on_device;
use super::common::output::{note_all, print_json, say, tell};
use crate::data::npy;
use crate::data::progress::Meter;
use crate::device::select::{Chosen, DeviceJob, Request};
use crate::device::{Device, Precision};
use crate::fs::{Output, path_text};
use crate::model::ModelConfig;
use crate::plan::{Load, Work, limits};
use crate::sample::grid::{Grid, comfortable_scale, encode_png};
use crate::sample::{Session, Settings};

/// Longest side of a grid, in pixels: viewers refuse larger pictures.
const MAX_PIXELS: u32 = 65_535;

impl SampleCommand {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            bail!("--temperature must be 0 or more");
        }
        let scale = self.scale.map(|scale| scale as usize);
        let counts = [self.top_k, self.count, self.completions, self.batch, self.particles, scale];
        if counts.contains(&Some(0)) {
            bail!("--top-k, --count, --completions, --batch, --particles and --scale must be at least 1");
        }
        if self.top_p.is_some_and(|share| !(share > 0.0 && share <= 1.0)) {
            bail!("--top-p must be above 0 and at most 1, which takes all colours; 0.9 is usual");
        }
        if self.guidance.is_some_and(|strength| !(strength >= 0.0 && strength.is_finite())) {
            bail!("--guidance must be 0 or more; 0 draws as without it, 1 by the model's own odds of the class");
        }
        self.check_flags()?;
        let settings = self.settings()?;
        let request = Request { draws: true, ..(&self.device).into() };
        on_device(request, SampleJob { command: self, settings })
    }

    /// Refuses a grid that no picture or memory holds, before anything is generated.
    fn check_size<D: Device>(
        &self,
        device: &D,
        precision: Precision,
        session: &Session<'_, D>,
        scale: u32,
    ) -> Result<()> {
        let (columns, rows) = session.grid_extent();
        let images = session.generated();
        let remedy = "try a smaller --count, --completions or --scale";
        let extent = Grid::extent(session.side(), scale, columns, rows);
        let Some((width, height)) = extent.filter(|(width, height)| *width.max(height) <= MAX_PIXELS) else {
            bail!("{rows} rows of {columns} images are a picture of over {MAX_PIXELS} pixels a side; {remedy}");
        };

        let picture = 3.0 * f64::from(width) * f64::from(height);
        limits::check_machine(&format!("a picture of {rows} rows of {columns} images"), picture, remedy)?;
        let rows = images.saturating_mul(session.sequences_per_image());
        let remedy = if rows > images { "try a smaller --count, --completions or --particles" } else { remedy };
        check_memory(device, precision, session.model(), rows, remedy)
    }
}

/// Refuses to draw so many images at a time that the device has no memory for them.
fn check_memory<D: Device>(
    device: &D,
    precision: Precision,
    config: &ModelConfig,
    images: usize,
    remedy: &str,
) -> Result<()> {
    let (work, length) = (Work::Sampling, config.positions);
    let load = Load::new(config, work, images, length, precision);
    let work = format!("sampling {images} images of {}", limits::model_name(config));
    Ok(limits::check_device(device, &work, &limits::memory_on(device, load), remedy)?)
}

/// The command with what its flags say.
struct SampleJob {
    command: SampleCommand,
    settings: Settings,
}

impl DeviceJob for SampleJob {
    type Output = Result<()>;

    fn run<D: Device>(self, device: D, chosen: &Chosen) -> Result<()> {
        let Self { command, settings } = self;
        if !command.json {
            tell(format_args!("on the device {}{}", device.describe(), chosen.why));
        }
        if let Some(file) = &command.npz {
            return many::run(&command, file, settings, &device, chosen);
        }
        let out = Output::open(command.grid_file())?;
        let tokens_out = out.and(command.tokens_out.as_deref())?;
        let session = Session::open(&device, settings)?;
        note_all(session.notes());
        let scale = command.scale.unwrap_or_else(|| comfortable_scale(session.side()));
        command.check_size(&device, chosen.precision, &session, scale)?;

        let length = session.model().positions;
        let bar = Counter::images("pixels drawn of each image", length as u64, command.json);
        let outcome = session.run(|position| bar.set_position(position as u64))?;
        bar.finish();

        out.write_whole(&encode_png(&outcome.grid.draw(scale))?)?;
        let images = outcome.tokens.len() / length;
        if let Some(file) = tokens_out {
            npy::write_to(file, &[images, length], &outcome.tokens)?;
        }
        if command.json {
            return print_json(
                &json!({"picture": path_text(command.grid_file()), "drawings": images, "checkpoint": path_text(session.checkpoint())}),
            );
        }
        if command.unconditional {
            return say(format_args!("{images} images in {}", command.grid_file().display()));
        }
        let shown = session.model().order.describe_prompt();
        say(format_args!(
            "{images} completions in {}; of each image the model saw {shown}",
            command.grid_file().display()
        ))
    }
}
