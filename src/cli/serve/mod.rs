//! `igpt-engine serve`: a page in the browser on which a model completes pictures.

mod args;

use anyhow::Result;
use serde_json::json;

pub use self::args::ServeCommand;
use super::common::device::on_device;
use super::common::interrupt::stop_flag_saying;
use super::common::output::{note_all, print_json, say, tell};
use crate::device::Device;
use crate::device::select::{Chosen, DeviceJob, Request};
use crate::fs::path_text;
use crate::model::Objective;
use crate::plan::{Load, Work, limits};
use crate::serve::{Listening, Session, Settings};

impl ServeCommand {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let settings = self.settings()?;
        let request = Request { draws: true, ..(&self.device).into() };
        on_device(request, ServeJob { settings, json: self.json })
    }
}

/// The command with what its flags say.
struct ServeJob {
    settings: Settings,
    json: bool,
}

impl DeviceJob for ServeJob {
    type Output = Result<()>;

    fn run<D: Device>(self, device: D, chosen: &Chosen) -> Result<()> {
        let Self { settings, json } = self;
        if !json {
            tell(format_args!("on the device {}{}", device.describe(), chosen.why));
        }
        let checkpoint = path_text(&settings.checkpoint);
        let images = settings.max_images;
        let session = Session::open(&device, settings)?;
        note_all(session.notes());
        check_memory(&device, chosen, &session, images)?;

        let listening = session.listen()?;
        let stop = stop_flag_saying("stopping; Ctrl-C again to stop at once");
        announce(&listening, &checkpoint, json)?;
        Ok(session.run(listening, stop)?)
    }
}

/// Refuses drawings that no memory holds, before anybody asks for one.
fn check_memory<D: Device>(device: &D, chosen: &Chosen, session: &Session<'_, D>, images: usize) -> Result<()> {
    let config = session.model();
    let work = match config.objective() {
        Objective::Ar => Work::Sampling,
        Objective::Bert => Work::Forward,
    };
    let (length, precision) = (config.positions, chosen.precision);
    let memory = limits::memory_on(device, Load::new(config, work, images, length, precision));
    let work = format!("drawing up to {images} images at a time with {}", limits::model_name(config));
    Ok(limits::check_device(device, &work, &memory, "try a smaller --max-images")?)
}

/// Says where the page is, and who can reach it.
fn announce(listening: &Listening, checkpoint: &str, json: bool) -> Result<()> {
    if !listening.is_loopback() {
        tell(format_args!(
            "warning: {} is reached from other machines too, and whoever reaches it can use it: there is no password",
            listening.address()
        ));
    }
    if json {
        let address = listening.address();
        return print_json(&json!({
            "url": listening.url(),
            "host": address.ip().to_string(),
            "port": address.port(),
            "checkpoint": checkpoint,
        }));
    }
    say(format_args!("{}", listening.url()))?;
    tell(format_args!("open this address in a browser; Ctrl-C ends it"));
    Ok(())
}
