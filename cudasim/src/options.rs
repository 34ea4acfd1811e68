//! What a run checks, counts and randomises.

use std::sync::Arc;

use crate::card::Card;
use crate::numerics::approx_error::Approx;
use crate::numerics::tensor_core::Sums;
use crate::report::{Level, Report};

/// When asynchronous copies and `wgmma` complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Completion {
    /// As late as allowed, which shows a missing wait.
    #[default]
    Late,
    /// At once, which shows memory that is overwritten too soon.
    Early,
    /// Now or later, by the seed.
    Random,
}

/// Where the output of kernels (`printf`) goes.
#[derive(Clone, Default)]
pub struct Output(Option<Arc<Printer>>);

type Printer = dyn Fn(&str) + Send + Sync;

impl Output {
    /// To a function, which is called with the text of each `printf` of each thread.
    pub fn to(function: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(function)))
    }

    /// Gives out text; to standard output where no function takes it.
    pub fn print(&self, text: &str) {
        match &self.0 {
            Some(function) => function(text),
            None => print!("{text}"),
        }
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Output(function)" } else { "Output(stdout)" })
    }
}

/// Where warnings go that do not stop a kernel.
#[derive(Clone, Default)]
pub struct Warnings(Option<Arc<Listener>>);

type Listener = dyn Fn(Report) + Send + Sync;

impl Warnings {
    /// To a function.
    pub fn to(function: impl Fn(Report) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(function)))
    }

    /// Gives a warning to whoever listens.
    pub fn give(&self, report: Report) {
        if let Some(function) = &self.0 {
            function(report);
        }
    }
}

impl std::fmt::Debug for Warnings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Warnings(function)" } else { "Warnings(nobody)" })
    }
}

/// When the work of streams runs that nothing waits for yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamOrder {
    /// As late as the rules allow, or, where other work runs anyway, now and then before it, by the seed.
    #[default]
    Random,
    /// As late as the rules allow, always.
    Late,
    /// At once: what a missing synchronisation would show stays hidden.
    Eager,
}

/// Options of the device; every check has its own.
#[derive(Clone, Debug)]
pub struct Options {
    /// Chooses the interleaving of blocks, warps and streams, and everything else that is left open.
    pub seed: u64,
    /// Host threads that run blocks; 0 for all.
    pub threads: usize,
    /// When asynchronous operations complete.
    pub completion: Completion,
    /// The lowest level of a report that stops a kernel.
    pub stop: Level,
    /// Warnings are looked for.
    pub warnings: bool,
    /// Where those go that do not stop a kernel.
    pub warned: Warnings,
    /// Reads of memory that nothing was written to.
    pub uninitialised: bool,
    /// Uses of registers that nothing was written to.
    pub registers: bool,
    /// Races in shared memory.
    pub shared_races: bool,
    /// Lanes of a warp race unless something synchronises them: Volta's rule, stricter than most kernels obey.
    pub lane_races: bool,
    /// Races in global memory.
    pub global_races: bool,
    /// How tensor cores sum.
    pub mma: Sums,
    /// How `.approx` instructions err.
    pub approx: Approx,
    /// Exact counts of each launch.
    pub counters: bool,
    /// Blocks of a launch that run, spread over its grid; 0 for all. What the others would have done is not done, so results are
    /// wrong: for counts of launches that are too large to run whole.
    pub blocks: u64,
    /// Instructions of one warp before it is stopped as hanging.
    pub warp_instructions: u64,
    /// Where `printf` writes.
    pub output: Output,
    /// When the work of streams runs.
    pub streams: StreamOrder,
    /// Read pageable memory when the stream gets so far, as a driver may that shares its memory with the host.
    pub late_pageable: bool,
    /// What is still there when its context ends.
    pub leaks: bool,
    /// Bytes of global memory of a context; taken from the host as they are touched.
    pub memory: u64,
    /// Bytes of the host's memory that a context may have page-locked by the driver.
    pub pinned: u64,
    /// Devices that the driver shows; each has memory, reports and faults of its own.
    pub devices: u32,
    /// The card that a device is; `None` for one with the limits of an H100 and the memory of the option `memory`.
    pub card: Option<&'static Card>,
    /// Release of CUDA whose driver this stands for: major, minor.
    pub driver: (u32, u32),
    /// The code with which every module fails to load; 0 for none.
    pub module_error: i32,
    /// Functions of NVML that are not supported, without `nvmlDeviceGet`, with `+` between them.
    pub nvml_lacks: String,
    /// Readings of power after which NVML has lost the card.
    pub nvml_lost: u64,
}

/// Every option by name, as [`Options::set`] reads it: how it is spelled, and what it does.
macro_rules! named {
    ($($name:literal => $($field:ident),+ : $read:ident;)*) => {
        impl Options {
            /// Names of the options.
            pub const NAMES: &[&str] = &[$($name,)*];

            fn set_one(&mut self, name: &str, value: &str) -> Result<(), String> {
                match name {
                    $($name => {
                        let value = $read(value).ok_or_else(|| format!("option {name}: `{value}` is not {}", expected(stringify!($read))))?;
                        $(self.$field = value;)+
                    })*
                    _ => return Err(format!("no option `{name}`; there are {}", Self::NAMES.join(", "))),
                }
                Ok(())
            }
        }
    };
}

named! {
    "seed" => seed: number;
    "threads" => threads: count;
    "completion" => completion: completion;
    "stop" => stop: level;
    "warnings" => warnings: switch;
    "uninitialised" => uninitialised: switch;
    "registers" => registers: switch;
    "races" => shared_races, global_races: switch;
    "shared_races" => shared_races: switch;
    "lane_races" => lane_races: switch;
    "global_races" => global_races: switch;
    "mma" => mma: sums;
    "approx" => approx: approximations;
    "counters" => counters: switch;
    "blocks" => blocks: number;
    "warp_instructions" => warp_instructions: number;
    "streams" => streams: streams;
    "late_pageable" => late_pageable: switch;
    "leaks" => leaks: switch;
    "memory" => memory: number;
    "pinned" => pinned: number;
    "devices" => devices: devices;
    "card" => card: card;
    "driver" => driver: release;
    "module_error" => module_error: code;
    "nvml_lacks" => nvml_lacks: names;
    "nvml_lost" => nvml_lost: number;
}

fn expected(reader: &str) -> &'static str {
    match reader {
        "switch" => "on or off",
        "completion" => "late, early or random",
        "streams" => "random, late or eager",
        "level" => "error or warning",
        "sums" => "exact, ampere or hopper",
        "approximations" => "exact, low, high or spread",
        "devices" => "a number from 1 to 256",
        "card" => "a card that is known (src/card.rs lists them)",
        "release" => "a release from 12.0 to 13.0",
        "code" => "the number of an error",
        "names" => "names with + between them",
        _ => "a number",
    }
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

fn count(text: &str) -> Option<usize> {
    text.parse().ok()
}

fn devices(text: &str) -> Option<u32> {
    text.parse().ok().filter(|devices| (1..=256).contains(devices))
}

fn card(text: &str) -> Option<Option<&'static Card>> {
    Card::named(text).map(Some)
}

fn release(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    let release = (major.parse().ok()?, minor.parse().ok()?);
    ((12, 0)..=(13, 0)).contains(&release).then_some(release)
}

fn code(text: &str) -> Option<i32> {
    text.parse().ok().filter(|code| (0..=999).contains(code))
}

fn names(text: &str) -> Option<String> {
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|letter| letter.is_ascii_alphanumeric() || letter == b'_');
    text.split('+').all(is_name).then(|| text.to_owned())
}

fn switch(text: &str) -> Option<bool> {
    match text {
        "on" | "1" => Some(true),
        "off" | "0" => Some(false),
        _ => None,
    }
}

fn completion(text: &str) -> Option<Completion> {
    match text {
        "late" => Some(Completion::Late),
        "early" => Some(Completion::Early),
        "random" => Some(Completion::Random),
        _ => None,
    }
}

fn level(text: &str) -> Option<Level> {
    match text {
        "error" => Some(Level::Error),
        "warning" => Some(Level::Warning),
        _ => None,
    }
}

fn sums(text: &str) -> Option<Sums> {
    match text {
        "exact" => Some(Sums::Exact),
        "ampere" => Some(Sums::Ampere),
        "hopper" => Some(Sums::Hopper),
        _ => None,
    }
}

fn approximations(text: &str) -> Option<Approx> {
    match text {
        "exact" => Some(Approx::Exact),
        "low" => Some(Approx::Low),
        "high" => Some(Approx::High),
        "spread" => Some(Approx::Spread),
        _ => None,
    }
}

fn streams(text: &str) -> Option<StreamOrder> {
    match text {
        "random" => Some(StreamOrder::Random),
        "late" => Some(StreamOrder::Late),
        "eager" => Some(StreamOrder::Eager),
        _ => None,
    }
}

impl Options {
    /// Changes the options that a text names: `seed=7,completion=early,races=off`. A name alone switches a check on.
    ///
    /// # Errors
    /// An unknown name or value; the options before it are changed.
    pub fn set(&mut self, text: &str) -> Result<(), String> {
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (name, value) = item.split_once('=').unwrap_or((item, "on"));
            self.set_one(name.trim(), value.trim())?;
            // A card brings its memory; the option `memory` behind it changes that.
            if let ("card", Some(card)) = (name.trim(), self.card) {
                self.memory = card.memory;
            }
        }
        Ok(())
    }

    /// The card that a device is.
    pub fn card(&self) -> &'static Card {
        self.card.unwrap_or(Card::default_card())
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            threads: 0,
            completion: Completion::Late,
            stop: Level::Error,
            warnings: true,
            warned: Warnings::default(),
            uninitialised: true,
            registers: true,
            shared_races: true,
            lane_races: false,
            global_races: true,
            mma: Sums::Exact,
            approx: Approx::Exact,
            counters: false,
            blocks: 0,
            warp_instructions: 1 << 32,
            output: Output::default(),
            streams: StreamOrder::Random,
            late_pageable: false,
            leaks: true,
            memory: 8 << 30,
            pinned: u64::MAX,
            devices: 1,
            card: None,
            driver: (13, 0),
            module_error: 0,
            nvml_lacks: String::new(),
            nvml_lost: u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_from_text() {
        let mut options = Options::default();
        options.set("seed=7, completion=early,races=off,counters,streams=late,").unwrap();
        assert_eq!((options.seed, options.completion, options.streams), (7, Completion::Early, StreamOrder::Late));
        assert!(options.counters && !options.shared_races && !options.global_races);
        options.set("mma=hopper,approx=spread").unwrap();
        assert_eq!((options.mma, options.approx), (Sums::Hopper, Approx::Spread));
        options.set("stop=warning,warnings=off").unwrap();
        assert_eq!((options.stop, options.warnings), (Level::Warning, false));
        assert_eq!(options.set("stop=all").unwrap_err(), "option stop: `all` is not error or warning");
        options.set("card=rtx4090,driver=12.4").unwrap();
        assert_eq!((options.card().multiprocessors, options.memory, options.driver), (128, 24 << 30, (12, 4)));
        assert!(options.set("card=rtx1").unwrap_err().contains("src/card.rs") && options.set("driver=11.8").is_err());
        assert_eq!(options.set("seed=x").unwrap_err(), "option seed: `x` is not a number");
        assert!(options.set("sed=1").unwrap_err().starts_with("no option `sed`; there are seed, "));
    }
}
