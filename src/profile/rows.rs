//! A step's launches: what each does, how long it is predicted to take, and its share.

use std::collections::HashMap;

use cudasim::fatbin::{self, Entry};
use rayon::prelude::*;
use serde::{Serialize, Serializer};

use super::cache::Cache;
use super::card::{Card, GAP};
use super::counter::{CountError, Counter, Key, key};
use super::counting::LaunchCounts;
use super::machine_code::instruction::{Instruction, decode};
use super::model::{Bound, Input, Prediction, predict};
use super::references::References;
use crate::device::Error;
use crate::device::cuda::kernel::MODULES;
use crate::device::cuda::{Trace, Traced, TracedLaunch};
use crate::model::ModelConfig;
use crate::plan::{Load, Work};

/// What stops a profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The step cannot be traced.
    #[error(transparent)]
    Device(#[from] Error),
    /// A launch cannot be counted.
    #[error("{0}; please report this, with the command that you ran")]
    Count(#[from] CountError),
    /// The step was run on another card than it was predicted for.
    #[error("the card here launches other kernels than {0} would; give the --card that it is")]
    OtherKernels(&'static str),
}

/// Bytes by level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Bytes {
    /// That memory gives.
    pub dram_read: f64,
    /// That memory takes.
    pub dram_written: f64,
    /// That L2 gives.
    pub l2_read: f64,
    /// That L2 takes.
    pub l2_written: f64,
}

/// Launches of one kernel that are alike. All numbers but `count`, `total_us` and `share` are of one launch.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// The op: its file in `kernels/`.
    pub op: String,
    /// The kernel; `memset` and `copy` of the driver.
    pub name: String,
    /// Launches in a step.
    pub count: u64,
    /// Blocks in x, y and z.
    pub grid: [usize; 3],
    /// Threads of a block.
    pub block: u32,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of shared memory of a block.
    pub shared: u32,
    /// Blocks that a multiprocessor holds at once.
    pub blocks_per_multiprocessor: u32,
    /// Blocks that were run to count.
    pub blocks_counted: u64,
    /// Multiplications and additions on tensor cores.
    pub tensor_flops: f64,
    /// Multiplications and additions in f32 elsewhere.
    pub f32_flops: f64,
    /// Bytes.
    pub bytes: Bytes,
    /// Instructions of warps that are issued, by the machine code.
    pub issued: f64,
    /// Instructions of warps in PTX.
    pub ptx_instructions: f64,
    /// How many of these are `ldmatrix`.
    pub ldmatrix: f64,
    /// Clocks that the tensor cores of all multiprocessors are busy together.
    pub tensor_cycles: f64,
    /// Times that the banks of shared memory serve a warp.
    pub wavefronts: f64,
    /// How many of these are conflicts.
    pub conflicts: f64,
    /// What it is predicted to be bound by.
    pub bound: Bound,
    /// Predicted microseconds that each bound alone would take.
    #[serde(serialize_with = "as_map")]
    pub bounds_us: Vec<(Bound, f64)>,
    /// Predicted microseconds of one launch.
    pub predicted_us: f64,
    /// The least that a launch could take by the card's data sheet: its matrix products at the peak, or its bytes at the memory's
    /// bandwidth, whichever is longer.
    pub roofline_us: f64,
    /// Measured microseconds of one launch, where the step was run on a card.
    pub measured_us: Option<f64>,
    /// Predicted microseconds of all.
    pub total_us: f64,
    /// Fraction of the step.
    pub share: f64,
}

fn as_map<S: Serializer>(terms: &[(Bound, f64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(terms.iter().copied())
}

/// A step on a card, predicted: of training, or of drawing a pixel of each image.
#[derive(Clone, Debug, Serialize)]
pub struct Profile {
    /// The card's key.
    pub card: &'static str,
    /// The card's name.
    pub card_name: &'static str,
    /// Compute capability of the machine code that was read.
    pub machine_code: u32,
    /// Always: nothing here is measured.
    pub prediction: bool,
    /// Predicted milliseconds.
    pub step_ms: f64,
    /// How many of these are gaps between launches.
    pub gaps_ms: f64,
    /// Tokens per second.
    pub tokens_per_second: f64,
    /// Fraction of the card's peak, counting of causal attention only the half that is needed.
    pub mfu: f64,
    /// The same counting all of attention, as the PaLM paper does.
    pub mfu_palm: f64,
    /// Of drawing: fraction of the memory's bandwidth that reading each weight, key and value once would take.
    pub mbu: Option<f64>,
    /// Launches of a step.
    pub launches: u64,
    /// Measured milliseconds of all kernels, where the step was run on a card.
    pub measured_ms: Option<f64>,
    /// By predicted time, the longest first.
    pub rows: Vec<Row>,
    /// The row of each launch of a kernel, in order.
    #[serde(skip)]
    order: Vec<usize>,
}

impl Profile {
    /// Puts measured times beside the predicted: of each launch of a kernel its name and milliseconds, in the step's order.
    ///
    /// # Errors
    /// [`ProfileError::OtherKernels`] where they are not of this step on this card.
    pub fn measured(mut self, times: &[(&str, f32)]) -> Result<Self, ProfileError> {
        let same = |((name, _), row): (&(&str, f32), &usize)| self.rows[*row].name == *name;
        if times.len() != self.order.len() || !times.iter().zip(&self.order).all(same) {
            return Err(ProfileError::OtherKernels(self.card_name));
        }

        for ((_, milliseconds), &row) in times.iter().zip(&self.order) {
            let row = &mut self.rows[row];
            *row.measured_us.get_or_insert(0.0) += f64::from(*milliseconds) * 1e3 / row.count as f64;
        }
        self.measured_ms = Some(times.iter().map(|(_, milliseconds)| f64::from(*milliseconds)).sum());
        Ok(self)
    }
}

/// Predicts a step on a card: of training, one micro-batch; of sampling, one pixel of each image.
///
/// # Errors
/// [`ProfileError`].
pub fn profile(card: &Card, load: Load<'_>) -> Result<Profile, ProfileError> {
    let trace = load.traced(card.traced())?;
    let counter = Counter::new(&trace, card.shape.architecture());

    // Every different launch is counted once, several at a time.
    let mut distinct: HashMap<Key, &TracedLaunch> = HashMap::new();
    for launch in launches(&trace) {
        distinct.entry(key(launch)).or_insert(launch);
    }
    let counted: Result<HashMap<Key, LaunchCounts>, CountError> =
        distinct.into_par_iter().map(|(key, launch)| Ok((key, counter.count(launch)?))).collect();
    let counted = counted?;

    // Then all of them in their order, for what L2 holds.
    let mut groups = Groups::default();
    let mut cache = Cache::new(card.shape.l2);
    let mut order = Vec::new();
    for work in &trace.work {
        match work {
            Traced::Launch(launch) => order.extend(groups.launch(launch, &trace, &counted, &mut cache)),
            Traced::Fill(bytes) => groups.moved("memset", 0.0, *bytes as f64),
            Traced::Copy(bytes) => groups.moved("copy", *bytes as f64, *bytes as f64),
        }
    }
    Ok(sum_up(card, load, groups.rows(card, &counted), order))
}

fn launches(trace: &Trace) -> impl Iterator<Item = &TracedLaunch> {
    trace.work.iter().filter_map(|work| match work {
        Traced::Launch(launch) => Some(launch),
        _ => None,
    })
}

/// Launches that are alike, in the order of their first.
#[derive(Default)]
struct Groups<'t> {
    kernels: Vec<(Key, &'t TracedLaunch, u64, [f64; 2])>,
    places: HashMap<Key, usize>,
    /// Of the driver: name, number, bytes read and written in all.
    moves: Vec<(&'static str, u64, [f64; 2])>,
}

impl<'t> Groups<'t> {
    /// Adds a launch; the number of its group.
    fn launch(
        &mut self,
        launch: &'t TracedLaunch,
        trace: &Trace,
        counted: &HashMap<Key, LaunchCounts>,
        cache: &mut Cache,
    ) -> Option<usize> {
        let key = key(launch);
        let counts = counted.get(&key)?;

        // Each buffer that it refers to, by however many parameters, passes once between memory and L2, unless it is there already.
        let references = References::of(launch, trace);
        let mut dram = [0.0; 2];
        for (buffer, [read, written]) in references.moved(&counts.touched) {
            let there = cache.touch(buffer, read.max(written));
            dram[0] += if there { 0.0 } else { read };
            dram[1] += written;
        }
        let dram = [dram[0].min(counts.l2_read), dram[1].min(counts.l2_written)];

        let next = self.kernels.len();
        let place = *self.places.entry(key.clone()).or_insert(next);
        if place == next {
            self.kernels.push((key, launch, 0, [0.0; 2]));
        }
        let (_, _, count, sum) = &mut self.kernels[place];
        *count += 1;
        sum.iter_mut().zip(dram).for_each(|(sum, bytes)| *sum += bytes);
        Some(place)
    }

    fn moved(&mut self, name: &'static str, read: f64, written: f64) {
        let place = self.moves.iter().position(|(of, ..)| *of == name).unwrap_or_else(|| {
            self.moves.push((name, 0, [0.0; 2]));
            self.moves.len() - 1
        });
        let (_, count, sum) = &mut self.moves[place];
        *count += 1;
        *sum = [sum[0] + read, sum[1] + written];
    }

    fn rows(&self, card: &Card, counted: &HashMap<Key, LaunchCounts>) -> Vec<Row> {
        let kernels = self.kernels.par_iter().filter_map(|(key, launch, count, dram)| {
            let counts = counted.get(key)?;
            Some(kernel_row(card, launch, *count, counts, dram.map(|bytes| bytes / *count as f64)))
        });
        let mut rows: Vec<Row> = kernels.collect();
        rows.extend(self.moves.iter().map(|(name, count, bytes)| move_row(card, name, *count, *bytes)));
        rows
    }
}

/// The machine code of a launch's kernel for an architecture; nothing where its fat binary has none.
fn code_of(launch: &TracedLaunch, architecture: u32) -> Vec<Instruction> {
    let entries = fatbin::entries(MODULES[launch.kernel.module].image).unwrap_or_default();
    let code = entries.into_iter().find_map(|entry| match entry {
        Entry::MachineCode(of, elf) if of == architecture => fatbin::code_of(elf, launch.kernel.name),
        _ => None,
    });
    code.map_or_else(Vec::new, |code| decode(architecture, code))
}

fn kernel_row(card: &Card, launch: &TracedLaunch, count: u64, counts: &LaunchCounts, dram: [f64; 2]) -> Row {
    // What the compiler made of the kernel.
    let code = code_of(launch, card.machine_code());
    let of_architecture = launch.kernel.resources.iter().find(|resources| resources.arch == card.machine_code());
    let (registers, fixed) = of_architecture.map_or((0, 0), |resources| (resources.registers, resources.shared));
    let threads = launch.threads.iter().product();
    let shared = fixed + launch.shared as u32;

    // Its time.
    let input = Input { counts, code: &code, threads, registers, shared, dram };
    let Prediction { seconds, bound, terms, blocks_per_multiprocessor, issued, tensor_cycles } = predict(card, input);
    let [dram_read, dram_written] = dram;
    let least = (counts.tensor_flops / card.peak()).max((dram_read + dram_written) / card.memory_bandwidth());

    Row {
        op: MODULES[launch.kernel.module].name.trim_end_matches("_sm90").to_owned(),
        name: launch.kernel.name.to_owned(),
        count,
        grid: launch.blocks,
        block: threads,
        registers,
        shared,
        blocks_per_multiprocessor,
        blocks_counted: counts.blocks_run,
        tensor_flops: counts.tensor_flops,
        f32_flops: counts.f32_flops,
        bytes: Bytes { dram_read, dram_written, l2_read: counts.l2_read, l2_written: counts.l2_written },
        issued,
        ptx_instructions: counts.ptx_instructions,
        ldmatrix: counts.ldmatrix,
        tensor_cycles,
        wavefronts: counts.wavefronts,
        conflicts: counts.conflicts,
        bound,
        bounds_us: terms.into_iter().map(|(bound, seconds)| (bound, seconds * 1e6)).collect(),
        roofline_us: 1e6 * least,
        ..timed(seconds, count)
    }
}

/// What the driver moves: at the speed of the memory.
fn move_row(card: &Card, name: &str, count: u64, bytes: [f64; 2]) -> Row {
    let [read, written] = bytes.map(|bytes| bytes / count as f64);
    let least = (read + written) / card.memory_bandwidth();
    let seconds = least / card.ceilings.dram;
    Row {
        op: "driver".to_owned(),
        name: name.to_owned(),
        count,
        bytes: Bytes { dram_read: read, dram_written: written, l2_read: read, l2_written: written },
        bound: Bound::Dram,
        bounds_us: vec![(Bound::Dram, seconds * 1e6)],
        roofline_us: 1e6 * least,
        ..timed(seconds, count)
    }
}

/// A row with nothing but its times.
fn timed(seconds: f64, count: u64) -> Row {
    Row { predicted_us: seconds * 1e6, total_us: seconds * 1e6 * count as f64, ..Row::default() }
}

fn sum_up(card: &Card, load: Load<'_>, rows: Vec<Row>, order: Vec<usize>) -> Profile {
    let launches: u64 = rows.iter().map(|row| row.count).sum();
    let gaps = GAP * launches as f64;
    let step = rows.iter().map(|row| row.total_us * 1e-6).sum::<f64>() + gaps;

    // The longest first; launches know their rows still.
    let mut sorted: Vec<(usize, Row)> = rows.into_iter().enumerate().collect();
    sorted.sort_by(|(_, a), (_, b)| b.total_us.total_cmp(&a.total_us).then_with(|| a.name.cmp(&b.name)));
    let mut places = vec![0; sorted.len()];
    sorted.iter().enumerate().for_each(|(place, (group, _))| places[*group] = place);
    let order = order.into_iter().map(|group| places[group]).collect();
    let rows = sorted.into_iter().map(|(_, row)| Row { share: row.total_us * 1e-6 / step, ..row }).collect();

    // A backward pass is two thirds of a training step. A pixel in the middle attends to as many others as pixels do on average.
    let (tokens, part) = match load.work {
        Work::Sampling => (load.images as f64, 1.0 / 3.0),
        _ => ((load.images * load.length) as f64, 1.0),
    };
    let whole = ModelConfig { sos: false, ..load.config.clone() };
    let utilisation =
        |config: &ModelConfig| part * config.training_flops_per_token(load.length) * tokens / step / card.peak();
    let mbu = (load.work == Work::Sampling).then(|| bytes_of_a_pixel(load) / step / card.memory_bandwidth());
    Profile {
        card: card.shape.key,
        card_name: card.shape.model,
        machine_code: card.machine_code(),
        prediction: true,
        step_ms: step * 1e3,
        gaps_ms: gaps * 1e3,
        tokens_per_second: tokens / step,
        mfu: utilisation(load.config),
        mfu_palm: utilisation(&whole),
        mbu,
        launches,
        measured_ms: None,
        rows,
        order,
    }
}

/// Bytes that drawing the pixel in the middle must read: the weights of blocks and head, and the keys and values of all pixels before.
fn bytes_of_a_pixel(load: Load<'_>) -> f64 {
    let ModelConfig { layers, width, vocabulary, .. } = load.config;
    let weights = 12 * layers * width * width + vocabulary * width;
    let cache = 2 * layers * width * (load.length / 2) * load.images;
    (load.precision.bytes() * (weights + cache)) as f64
}
