//! `sample --npz`: images by the ten thousand into one file.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use indicatif::HumanDuration;
use serde_json::json;

use super::{SampleCommand, check_memory};
use crate::cli::common::counter::Counter;
use crate::cli::common::interrupt::{Stopped, stop_flag};
use crate::cli::common::output::{note_all, print_json, say, tell};
use crate::data::progress::Meter;
use crate::device::Device;
use crate::device::select::Chosen;
use crate::fs::path_text;
use crate::plan::limits;
use crate::sample::{Drawings, Session, Settings};

/// Sequences at a time where memory holds them: beyond, a GPU gains little, and what a kill loses grows.
const BATCH: usize = 128;

/// What a signal leaves.
const STOPPED: Stopped =
    Stopped("stopped; what is drawn is kept beside the file, and the same command goes on from there");

/// Draws the images of `command` into `file`, or those of them that are missing.
pub(super) fn run<D: Device>(
    command: &SampleCommand,
    file: &Path,
    settings: Settings,
    device: &D,
    chosen: &Chosen,
) -> Result<()> {
    let session = Session::open(device, settings)?;
    note_all(session.notes());
    let (config, precision) = (session.model(), chosen.precision);
    let sequences = session.sequences_per_image();
    let most = (BATCH / sequences).clamp(1, session.generated());
    let usual = || limits::drawing_batch(device, config, precision, sequences, most);
    let drawings = Drawings::open(&session, file, command.batch, usual, precision)?;
    let rows = drawings.batch().saturating_mul(sequences);
    check_memory(device, precision, config, rows, "try a smaller --batch")?;

    let (images, before) = (session.generated(), drawings.drawn());
    if before > 0 && !command.json {
        tell(format_args!("{before} of {images} images were drawn before; going on"));
    }
    let speed = Speed { start: Instant::now(), before, images };
    let template = "{bar:28.cyan/blue} {pos}/{len}  {msg}";
    let bar = Counter::new("drawing", images as u64, template, command.json);
    let finished = drawings.run(stop_flag(), |drawn| {
        bar.set_message(speed.describe(drawn));
        bar.set_position(drawn as u64);
    })?;
    bar.finish();
    if !finished {
        return Err(STOPPED.into());
    }

    if command.json {
        let checkpoint = path_text(session.checkpoint());
        return print_json(
            &json!({"npz": path_text(file), "drawings": images, "drawn_before": before, "checkpoint": checkpoint}),
        );
    }
    let side = session.side();
    say(format_args!("{images} images of {side}x{side} pixels in {}", file.display()))
}

/// How fast this run draws.
struct Speed {
    start: Instant,
    /// Images that earlier runs drew.
    before: usize,
    images: usize,
}

impl Speed {
    /// In words, when `drawn` images are drawn.
    fn describe(&self, drawn: usize) -> String {
        let here = drawn.saturating_sub(self.before);
        if here == 0 {
            return "drawing".to_owned();
        }
        let rate = here as f64 / self.start.elapsed().as_secs_f64().max(1e-9);
        let left = std::time::Duration::from_secs_f64((self.images - drawn) as f64 / rate);
        format!("drawing {rate:.1} images/s, {} left", HumanDuration(left))
    }
}
