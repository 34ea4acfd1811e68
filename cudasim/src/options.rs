//! What a run checks, counts and randomises.

use std::sync::Arc;

/// When asynchronous copies and wgmma land.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Landing {
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
pub struct Output(Option<Arc<dyn Fn(&str) + Send + Sync>>);

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

/// Options of the device; every check has its own.
#[derive(Clone, Debug)]
pub struct Options {
    /// Order of blocks, warps and streams, and everything else that is left open.
    pub seed: u64,
    /// Host threads that run blocks; 0 for all.
    pub threads: usize,
    /// When asynchronous operations land.
    pub landing: Landing,
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
    /// Exact counts of each launch.
    pub counters: bool,
    /// Instructions of one warp before it is stopped as hanging.
    pub warp_instructions: u64,
    /// Where `printf` writes.
    pub output: Output,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            threads: 0,
            landing: Landing::Late,
            uninitialised: true,
            registers: true,
            shared_races: true,
            lane_races: false,
            global_races: true,
            counters: false,
            warp_instructions: 1 << 32,
            output: Output::default(),
        }
    }
}
