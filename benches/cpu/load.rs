//! Whether anything else ran while a sample was taken, from /proc (Linux).

use std::fs;
use std::thread::available_parallelism;
use std::time::Instant;

/// Part of the machine's processors that others may use during a sample that counts.
pub const QUIET: f64 = 0.05;

/// Ticks of the kernel's counters in a second: fixed on Linux, whatever its own clock is.
const TICKS: f64 = 100.0;

/// The counters at the start of a sample.
pub struct Load {
    start: Instant,
    process: u32,
    busy: Option<f64>,
    own: Option<f64>,
}

impl Load {
    /// Begins a sample that the process `process` takes.
    pub fn begin(process: u32) -> Self {
        Self { start: Instant::now(), process, busy: busy(), own: seconds_of(process) }
    }

    /// Part of all processors that others used since then; nothing where the system does not tell.
    pub fn foreign(self) -> Option<f64> {
        let (wall, processors) = (self.start.elapsed().as_secs_f64(), available_parallelism().map_or(1, usize::from));
        let others = (busy()? - self.busy?) - (seconds_of(self.process)? - self.own?);
        // The counters tick in hundredths of a second, of each processor.
        let resolution = processors as f64 / TICKS;
        Some((others - resolution).max(0.0) / (wall * processors as f64))
    }
}

/// Seconds that all processors have worked, for anyone; stolen ones count.
fn busy() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<f64> =
        stat.lines().next()?.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal
    Some([0, 1, 2, 5, 6, 7].iter().filter_map(|index| fields.get(*index)).sum::<f64>() / TICKS)
}

/// Seconds that a process has worked, on all its threads.
fn seconds_of(process: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    // utime and stime are the 14th and 15th field, and two stand before the bracket's end.
    Some((fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?) / TICKS)
}

/// The largest resident size that a process has had, bytes.
pub fn peak_memory(process: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1024.0)
}
