//! Exact counts of a launch.
//!
//! Each step counts how often a warp ran it and with how many lanes; what kind it is, and what a tensor-core instruction
//! multiplies, is read from its form afterwards. Memory instructions count what their addresses ask of the hardware: sectors
//! of 32 bytes in global memory, wavefronts in shared memory. What asynchronous copies and `wgmma` move is counted apart
//! ([`asynchronous`]). The counts do not depend on the seed or on the host's threads, as far as the kernel itself does not: one
//! that spins counts its rounds.

pub mod asynchronous;
mod class;
pub mod pages;

use std::fmt::Write as _;

use self::asynchronous::{BulkTraffic, Multiplicand};
use self::class::{CLASSES, class_of, flops_of_warp, is_barrier};
use self::pages::Pages;
use crate::mask::{Mask, lanes};
use crate::ptx::form::Form;

/// Bytes of a sector of global memory.
const SECTOR: u64 = 32;

/// Bytes that all banks of shared memory serve at once: 32 banks of 4.
const WAVEFRONT: u64 = 128;

/// What goes one way between warps and global memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GlobalTraffic {
    /// Instructions, one for each warp.
    pub requests: u64,
    /// Sectors of 32 bytes that they touched, each once for each request.
    pub sectors: u64,
    /// Bytes that their lanes asked for.
    pub bytes: u64,
}

impl GlobalTraffic {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.sectors += other.sectors;
        self.bytes += other.bytes;
    }

    fn json(&self, text: &mut String) {
        let Self { requests, sectors, bytes } = self;
        // Writing to a string cannot fail.
        let _ = write!(text, "{{\"requests\":{requests},\"sectors\":{sectors},\"bytes\":{bytes}}}");
    }
}

/// Members of a JSON object: a name and a value each.
fn names<T>(text: &mut String, names: &[&str], values: &[T], value: impl Fn(&T, &mut String)) {
    for (index, (name, member)) in names.iter().zip(values).enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(text, "{comma}\"{name}\":");
        value(member, text);
    }
}

/// What goes one way between warps and shared memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SharedTraffic {
    /// Instructions, one for each warp.
    pub requests: u64,
    /// Times that the banks had to serve them.
    pub wavefronts: u64,
    /// How many of these are due to lanes that want different words of one bank.
    pub conflicts: u64,
    /// Bytes that their lanes asked for.
    pub bytes: u64,
}

impl SharedTraffic {
    fn json(&self, text: &mut String) {
        let Self { requests, wavefronts, conflicts, bytes } = self;
        let _ = write!(
            text,
            "{{\"requests\":{requests},\"wavefronts\":{wavefronts},\"conflicts\":{conflicts},\"bytes\":{bytes}}}"
        );
    }
}

/// The ways that memory is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Reads.
    Load,
    /// Writes.
    Store,
    /// Both: `atom` and `red`.
    Atomic,
}

/// What a launch did, added up over its warps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Instructions, one for each warp that ran it with at least one lane for which its predicate holds.
    pub warp_instructions: u64,
    /// Instructions, one for each lane that ran it.
    pub thread_instructions: u64,
    /// Branches after which the lanes of a warp went different ways.
    pub divergences: u64,
    /// Global memory, by direction.
    pub global: [GlobalTraffic; 3],
    /// Shared memory, by direction.
    pub shared: [SharedTraffic; 3],
    /// Bulk and tensor copies.
    pub bulk: BulkTraffic,
    /// What wgmma reads of A and B in shared memory.
    pub wgmma: [Multiplicand; 2],
    /// Pages of global memory that were touched.
    pub pages: Pages,
    /// Of each step of the kernel: warps and lanes that ran it.
    steps: Vec<(u64, u64)>,
    /// Of each warp of a block by its number, in all blocks: how often it ran each step.
    warps: Vec<Vec<u64>>,
}

/// Code whose steps are counted.
pub trait Code {
    /// The form of each step.
    fn forms(&self) -> impl Iterator<Item = &Form>;
}

impl Counts {
    /// No counts yet, of code of this many steps.
    pub fn new(steps: usize) -> Self {
        Self { steps: vec![(0, 0); steps], ..Self::default() }
    }

    /// Adds those of another worker.
    pub fn add(&mut self, other: &Self) {
        self.warp_instructions += other.warp_instructions;
        self.thread_instructions += other.thread_instructions;
        self.divergences += other.divergences;

        for (mine, theirs) in self.global.iter_mut().zip(&other.global) {
            mine.add(theirs);
        }

        self.bulk.add(&other.bulk);
        for (mine, theirs) in self.wgmma.iter_mut().zip(&other.wgmma) {
            mine.add(theirs);
        }

        for (mine, theirs) in self.shared.iter_mut().zip(&other.shared) {
            mine.requests += theirs.requests;
            mine.wavefronts += theirs.wavefronts;
            mine.conflicts += theirs.conflicts;
            mine.bytes += theirs.bytes;
        }

        for (mine, theirs) in self.steps.iter_mut().zip(&other.steps) {
            mine.0 += theirs.0;
            mine.1 += theirs.1;
        }
        for (warp, theirs) in other.warps.iter().enumerate() {
            self.warp(warp).iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
        }
        self.pages.add(&other.pages);
    }

    /// Counts a step that `active` lanes of a warp (by its number in the block) have run.
    #[inline]
    pub fn step(&mut self, pc: u32, warp: u32, active: Mask) {
        let (warps, threads) = (u64::from(active != 0), u64::from(active.count_ones()));
        self.warp_instructions += warps;
        self.thread_instructions += threads;
        if let Some(step) = self.steps.get_mut(pc as usize) {
            step.0 += warps;
            step.1 += threads;
        }
        if let Some(step) = self.warp(warp as usize).get_mut(pc as usize) {
            *step += warps;
        }
    }

    #[inline]
    fn warp(&mut self, warp: usize) -> &mut [u64] {
        while self.warps.len() <= warp {
            self.warps.push(vec![0; self.steps.len()]);
        }
        &mut self.warps[warp]
    }

    /// Counts that a warp now has this many splits.
    pub fn diverged(&mut self, splits: usize) {
        self.divergences += u64::from(splits > 1);
    }

    /// Counts an access of global memory by the lanes of `mask`, of `bytes` bytes each.
    pub fn global(&mut self, direction: Direction, addresses: &[u64; 32], mask: Mask, bytes: u64) {
        self.global_each(direction, addresses, mask, |_| bytes);
    }

    /// The same where each lane has a number of bytes of its own, none of them 0.
    pub fn global_each(
        &mut self,
        direction: Direction,
        addresses: &[u64; 32],
        mask: Mask,
        bytes: impl Fn(usize) -> u64,
    ) {
        if mask == 0 {
            return;
        }

        // Sectors, each once: lanes side by side mostly want the one before.
        let mut sectors = [0; 32 * 3];
        let mut count = 0;
        for lane in lanes(mask) {
            let first = addresses[lane] / SECTOR;
            for sector in first..=(addresses[lane] + bytes(lane) - 1) / SECTOR {
                if count < sectors.len() && (count == 0 || sectors[count - 1] != sector) {
                    sectors[count] = sector;
                    count += 1;
                }
            }
        }
        let sectors = &mut sectors[..count];
        sectors.sort_unstable();

        for lane in [mask.trailing_zeros(), 31 - mask.leading_zeros()] {
            self.pages.touch(direction, addresses[lane as usize & 31]);
        }

        let different = 1 + sectors.windows(2).filter(|pair| pair[0] != pair[1]).count();
        let traffic = &mut self.global[direction as usize];
        traffic.requests += 1;
        traffic.sectors += different as u64;
        traffic.bytes += lanes(mask).map(bytes).sum::<u64>();
    }

    /// Counts an access of shared memory by the lanes of `mask`, of `bytes` bytes each; also what `ldmatrix` and `stmatrix` do,
    /// whose lanes have 16 bytes each. Wide accesses are served half or a quarter of the warp at a time.
    pub fn shared(&mut self, direction: Direction, addresses: &[u64; 32], mask: Mask, bytes: u64) {
        if mask == 0 {
            return;
        }

        // How many lanes are served at once.
        let group = match bytes {
            0..=4 => 32,
            5..=8 => 16,
            _ => 8,
        };

        let traffic = &mut self.shared[direction as usize];
        traffic.requests += 1;
        traffic.bytes += bytes * u64::from(mask.count_ones());
        for first in (0..32).step_by(group) {
            let part = mask & ((((1_u64 << group) - 1) << first) as u32);
            if part == 0 {
                continue;
            }
            let wavefronts = wavefronts(addresses, part, bytes);
            // What the lanes' bytes need without conflicts: more than one for accesses wider than 16 bytes.
            let least = (bytes * group as u64).div_ceil(WAVEFRONT).max(1).min(wavefronts);
            traffic.wavefronts += wavefronts;
            traffic.conflicts += wavefronts - least;
        }
    }

    /// Of each step: its form, and how many warps and lanes ran it.
    pub fn by_form<'a>(&'a self, code: &'a impl Code) -> impl Iterator<Item = (&'a Form, u64, u64)> {
        code.forms().zip(&self.steps).map(|(form, &(warps, threads))| (form, warps, threads))
    }

    /// Of each warp of a block, up to the last that ran anything: how often it ran each step, in all blocks together.
    pub fn by_warp(&self) -> &[Vec<u64>] {
        &self.warps
    }

    /// Multiplications and additions on tensor cores.
    pub fn tensor_flops(&self, code: &impl Code) -> u64 {
        Work::of(code, &self.steps).flops
    }

    /// As JSON: one object without line breaks. `code`: what was launched.
    pub fn json(&self, code: &impl Code) -> String {
        let work = Work::of(code, &self.steps);
        let mut text = String::from("{");
        self.instructions_json(&work, &mut text);
        self.traffic_json(&mut text);

        // Writing to a string cannot fail.
        let _ = write!(text, ",\"barriers\":{},\"divergences\":{}}}", work.barriers, self.divergences);
        text
    }

    /// How many instructions ran, of which class, and what the tensor cores multiplied.
    fn instructions_json(&self, work: &Work, text: &mut String) {
        let _ = write!(
            text,
            "\"warp_instructions\":{},\"thread_instructions\":{},\"instructions\":{{",
            self.warp_instructions, self.thread_instructions
        );
        names(text, &CLASSES, &work.classes, |(warps, threads), text| {
            let _ = write!(text, "{{\"warps\":{warps},\"threads\":{threads}}}");
        });
        let Work { operations, flops, .. } = work;
        let _ = write!(text, "}},\"tensor\":{{\"operations\":{operations},\"flops\":{flops}}}");
    }

    /// What went between warps, copies, `wgmma` and the memories.
    fn traffic_json(&self, text: &mut String) {
        const DIRECTIONS: [&str; 3] = ["load", "store", "atomic"];
        text.push_str(",\"global\":{");
        names(text, &DIRECTIONS, &self.global, GlobalTraffic::json);
        text.push_str("},\"shared\":{");
        names(text, &DIRECTIONS, &self.shared, SharedTraffic::json);
        text.push_str("},\"bulk\":");
        self.bulk.json(text);
        text.push_str(",\"wgmma\":{");
        names(text, &["a", "b"], &self.wgmma, Multiplicand::json);
        text.push('}');
    }
}

/// Multiplications and additions that one warp does in an instruction of tensor cores: a warpgroup's are four warps' together.
pub fn tensor_flops(form: &Form) -> u64 {
    flops_of_warp(form)
}

/// What the steps of a kernel did, by what they were decoded from.
#[derive(Default)]
struct Work {
    /// Warps and lanes that ran instructions of each class.
    classes: [(u64, u64); CLASSES.len()],
    /// Warps that ran a barrier.
    barriers: u64,
    /// Warps that ran a tensor-core instruction.
    operations: u64,
    /// Multiplications and additions of these.
    flops: u64,
}

impl Work {
    /// Adds up the steps of code, with the warps and lanes that ran each.
    fn of(code: &impl Code, steps: &[(u64, u64)]) -> Self {
        let mut sum = Self::default();
        for (form, &(warps, threads)) in code.forms().zip(steps) {
            let class = &mut sum.classes[class_of(form) as usize];
            class.0 += warps;
            class.1 += threads;

            sum.barriers += if is_barrier(form) { warps } else { 0 };
            let flops = flops_of_warp(form);
            sum.operations += if flops != 0 { warps } else { 0 };
            sum.flops += flops * warps;
        }
        sum
    }
}

/// How often the banks must serve these lanes: the most different words that one bank has to give.
fn wavefronts(addresses: &[u64; 32], mask: Mask, bytes: u64) -> u64 {
    // Different words, each in the list of its bank; 32 lanes want at most 8 words each.
    let mut words = [0; 256];
    let mut count = 0;
    for lane in lanes(mask) {
        for word in addresses[lane] / 4..(addresses[lane] + bytes).div_ceil(4) {
            if count < words.len() {
                words[count] = word;
                count += 1;
            }
        }
    }

    let words = &mut words[..count];
    words.sort_unstable();

    let mut banks = [0_u64; 32];
    for (index, &word) in words.iter().enumerate() {
        if index == 0 || words[index - 1] != word {
            banks[word as usize % 32] += 1;
        }
    }

    banks.into_iter().max().unwrap_or(0).max(1)
}

#[cfg(test)]
mod tests;
