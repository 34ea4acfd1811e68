//! Being one of several ranks: meeting the others, being watched, and ending where they end.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use super::output::tell;
use crate::comm::{self, Launch, Limits, Reduction, Watchdog};
use crate::device::Device;
use crate::device::Error;
use crate::fs::unfinished;
use crate::train::{Together, TrainError};

/// Exit code of a rank that ends because another failed or never came.
pub const FAILED: u8 = 3;

/// How long ranks wait for each other.
#[derive(Args, Clone, Copy, Debug)]
pub struct RankArgs {
    /// Of several ranks: seconds that a step may take before a rank that waits for another ends all of them, with exit code 3 and the
    /// name of who never came
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400), default_value_t = comm::LIMITS.step.as_secs(),
          help_heading = "Ranks")]
    collective_timeout: u64,
    /// Seconds in which all ranks must have met
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400), default_value_t = comm::LIMITS.init.as_secs(),
          help_heading = "Ranks")]
    meeting_timeout: u64,
}

impl RankArgs {
    /// Which rank this is, by what started it, and how long it waits; `lost` is what is said of its work where the ranks must end.
    pub fn launch(self, lost: &'static str) -> Result<Ranks> {
        let step = Duration::from_secs(self.collective_timeout);
        let limits = Limits { init: Duration::from_secs(self.meeting_timeout), step };
        Ok(Ranks { launch: Launch::from_environment()?, limits, lost })
    }
}

/// This rank and its limits.
#[derive(Clone, Debug)]
pub struct Ranks {
    /// Which it is.
    pub launch: Launch,
    limits: Limits,
    lost: &'static str,
}

/// Of runs: what their end costs.
pub const STEPS_ARE_LOST: &str = ". The steps since the last checkpoint are lost; --resume goes on from it";

impl Ranks {
    /// Whether there are others.
    pub fn are_several(&self) -> bool {
        self.launch.size > 1
    }

    /// Meets the others.
    pub fn meet<D: Device>(&self, device: &D, reduction: Reduction) -> Result<Together<D>> {
        let Self { launch, limits, lost } = self;
        if !self.are_several() {
            return Ok(Together::alone());
        }
        let lost = *lost;
        let watchdog = Watchdog::start(launch.rank, launch.size, *limits, Box::new(move |message| end(message, lost)));
        let watchdog = Rc::new(watchdog.context("cannot start the thread that watches this rank")?);
        let comm = comm::open(launch, device, reduction, Some(&watchdog))?;
        Ok(Together::new(Rc::from(comm), Some(watchdog)).on_machines_of(launch.local_size))
    }
}

/// Ends this process: with the message, or without where another rank has given it.
fn end(message: &str, lost: &str) {
    if !message.is_empty() {
        tell(format_args!("error: {message}{lost}"));
    }
    unfinished::abandon();
    at_once();
}

/// Without what libraries do at the end of a process: they would wait for the ranks that are gone.
#[cfg(unix)]
fn at_once() -> ! {
    // SAFETY: ends the process; nothing is left that would have to be written.
    unsafe { libc::_exit(i32::from(FAILED)) }
}

#[cfg(not(unix))]
fn at_once() -> ! {
    std::process::exit(i32::from(FAILED))
}

/// Whether an error is that of another rank.
pub fn is_of_another_rank(error: &anyhow::Error) -> bool {
    fn of_peer(error: &TrainError) -> bool {
        match error {
            TrainError::Device(Error::Peer(_)) => true,
            TrainError::Kept { reason, .. } | TrainError::NotKept { reason, .. } => of_peer(reason),
            _ => false,
        }
    }
    let of_device = matches!(error.downcast_ref::<Error>(), Some(Error::Peer(_)));
    of_device || error.downcast_ref::<TrainError>().is_some_and(of_peer)
}
