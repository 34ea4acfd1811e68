//! Ranks as threads of one process, each with a CPU device of its own: what they share out changes no bit, and takes the memory that it should.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Barrier, Mutex, PoisonError};

use super::Trainer;
use super::buckets::{Buckets, Parts};
use super::collect::Collector;
use super::saving::exchange;
use super::shared_step::Sharing;
use super::snapshot::Snapshot;
use super::state::State;
use super::together::Together;
use crate::checkpoint::{CheckpointError, Files, Progress};
use crate::comm::{Comm, Reduction};
use crate::data::{Batch, hex};
use crate::device::{CpuDevice, Precision, RECENT, Result, Tensors};
use crate::model::{Criterion, Masking, ModelConfig, Objective, OnHost, Preset, Transformer, parameter_specs};
use crate::optim::{Adam, AdamConfig, Average, Schedule, ScheduleKind, Skipped};
use crate::plan::{Load, Shares, Work};
use crate::tape::{ParameterSpec, Parameters, Recompute};

/// Where threads meet.
struct Meeting {
    barrier: Barrier,
    sent: Mutex<Vec<Vec<f32>>>,
}

/// A rank that is a thread.
struct Threads {
    rank: usize,
    size: usize,
    meeting: Arc<Meeting>,
}

impl Threads {
    /// What every rank has sent.
    fn exchange(&self, device: &CpuDevice, tensor: &<CpuDevice as Tensors>::Tensor) -> Result<Vec<Vec<f32>>> {
        let sent = device.download(tensor)?;
        self.meeting.sent.lock().unwrap_or_else(PoisonError::into_inner)[self.rank] = sent;
        self.meeting.barrier.wait();
        let all = self.meeting.sent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.meeting.barrier.wait();
        Ok(all)
    }

    /// Part `part` of every rank's.
    fn parts(&self, all: &[Vec<f32>], part: usize) -> Vec<Vec<f32>> {
        all.iter().map(|sent| sent.chunks_exact(sent.len() / self.size).nth(part).unwrap().to_vec()).collect()
    }
}

fn sum(all: &[Vec<f32>]) -> Vec<f32> {
    (0..all[0].len()).map(|index| all.iter().map(|sent| sent[index]).sum()).collect()
}

impl Comm<CpuDevice> for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn describe(&self) -> String {
        "threads".to_owned()
    }

    fn all_reduce(&self, device: &CpuDevice, tensor: &mut <CpuDevice as Tensors>::Tensor) -> Result<()> {
        let all = self.exchange(device, tensor)?;
        device.overwrite(tensor, &sum(&all))
    }

    fn reduce_scatter(
        &self,
        device: &CpuDevice,
        send: &mut <CpuDevice as Tensors>::Tensor,
        receive: &mut <CpuDevice as Tensors>::Tensor,
    ) -> Result<()> {
        let all = self.exchange(device, send)?;
        device.overwrite(receive, &sum(&self.parts(&all, self.rank)))
    }

    fn all_gather(
        &self,
        device: &CpuDevice,
        send: &mut <CpuDevice as Tensors>::Tensor,
        receive: &mut <CpuDevice as Tensors>::Tensor,
    ) -> Result<()> {
        let all = self.exchange(device, send)?;
        device.overwrite(receive, &all.concat())
    }

    fn all_to_all(
        &self,
        device: &CpuDevice,
        send: &mut <CpuDevice as Tensors>::Tensor,
        receive: &mut <CpuDevice as Tensors>::Tensor,
    ) -> Result<()> {
        let all = self.exchange(device, send)?;
        device.overwrite(receive, &self.parts(&all, self.rank).concat())
    }

    fn broadcast(&self, device: &CpuDevice, tensor: &mut <CpuDevice as Tensors>::Tensor, root: usize) -> Result<()> {
        let all = self.exchange(device, tensor)?;
        device.overwrite(tensor, &all[root])
    }

    fn barrier(&self, _device: &CpuDevice) -> Result<()> {
        self.meeting.barrier.wait();
        Ok(())
    }

    fn split(&self, _device: &CpuDevice, _colour: usize, _key: usize) -> Result<Box<dyn Comm<CpuDevice>>> {
        Err(crate::device::Error::unavailable("no step splits its ranks", "call no split"))
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// A run to be shared.
#[derive(Clone)]
struct Run {
    config: ModelConfig,
    criterion: Criterion,
    ema: bool,
    clip: Option<f32>,
    /// A weight that is infinite from the start, so that no step has a finite loss.
    is_ruined: bool,
    /// Steps before, beside which these are spikes.
    spikes: Option<[f64; RECENT]>,
    recompute: Recompute,
}

/// Twelve micro-batches, which one to four ranks share.
const MICRO_BATCHES: usize = 12;
const STEPS: usize = 2;
const LENGTH: usize = 16;

impl Run {
    fn pretraining(width: usize, layers: usize) -> Self {
        let config = ModelConfig { layers, width, heads: 2, vocabulary: 64, ..ModelConfig::preset(Preset::Tiny, 4) };
        Self {
            config,
            criterion: Objective::Ar.into(),
            ema: false,
            clip: None,
            is_ruined: false,
            spikes: None,
            recompute: Recompute::None,
        }
    }

    fn values(&self, spec: &ParameterSpec, index: usize) -> Vec<f32> {
        let mut values = spec.initial_values(7, index);
        if self.is_ruined && spec.name == "transformer.h.0.ln_1.weight" {
            values[3] = f32::INFINITY;
        }
        values
    }

    /// This rank's state before the first step.
    fn state(&self, device: &CpuDevice, buckets: Option<&Buckets>) -> State<CpuDevice> {
        let specs = parameter_specs(&self.config);
        let whole = |device: &CpuDevice| {
            Parameters::from_fn(device, specs.clone(), |index, spec| {
                Ok::<_, crate::device::Error>(self.values(spec, index))
            })
        };
        let own = match buckets {
            None => whole(device).unwrap(),
            Some(buckets) => {
                let mut parts = Parts::of(buckets);
                specs.iter().enumerate().for_each(|(index, spec)| parts.put(index, &self.values(spec, index)));
                parts.upload(device, OnHost::Nothing).unwrap()
            }
        };
        let [first, second] = [own.zeros_like(device).unwrap(), own.zeros_like(device).unwrap()];
        let adam_config = AdamConfig { clip: self.clip, ..AdamConfig::default() };
        let adam = Adam::resume(device, adam_config, first, second, 0, Skipped::default()).unwrap();
        let average = self.ema.then(|| Average::new(device, &own, 0.5).unwrap());
        let (parameters, masters) = match buckets {
            Some(buckets) => (buckets.weights(device, &specs).unwrap(), Some(own)),
            None => (own, None),
        };
        State { parameters, masters, adam, average, progress: Progress::default(), fingerprint: 0 }
    }

    /// The run's steps on `world` ranks; what they leave, to the bit, and how many bytes a rank has in tensors between steps.
    fn on(&self, world: usize, sharing: Sharing) -> (Left, Vec<usize>) {
        let meeting = Arc::new(Meeting { barrier: Barrier::new(world), sent: Mutex::new(vec![Vec::new(); world]) });
        let rank = |rank: usize| {
            let meeting = Arc::clone(&meeting);
            move || self.as_rank(Threads { rank, size: world, meeting }, sharing)
        };
        let ranks: Vec<(Left, usize)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..world).map(|index| scope.spawn(rank(index))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let bytes = ranks.iter().map(|(_, bytes)| *bytes).collect();
        let mut left = Left::default();
        for (rank, _) in ranks {
            assert!(left.outcomes.is_empty() || left.outcomes == rank.outcomes, "ranks report other steps");
            left.outcomes = rank.outcomes;
            left.tensors.extend(rank.tensors);
        }
        (left, bytes)
    }

    fn as_rank(&self, threads: Threads, sharing: Sharing) -> (Left, usize) {
        let device = CpuDevice::new(Some(1)).unwrap();
        let place @ [rank, world] = [threads.rank, threads.size];
        let together = Together::unwatched(Rc::new(threads));
        let specs = parameter_specs(&self.config);
        let state = self.state(&device, sharing.buckets(&together, &specs).as_ref());
        let schedule = Schedule { kind: ScheduleKind::Constant, peak: 0.01, warmup: 0, steps: 9, cooldown: 0 };
        let model = Transformer::new(self.config.clone()).unwrap().recomputing(self.recompute);
        let mut trainer =
            Trainer::shared(&device, model, state, (schedule, self.criterion), (&together, sharing)).unwrap();
        trainer = trainer.skipping_spikes(self.spikes.map(|_| 6.0), self.spikes, 0).unwrap();

        // Micro-batch m is rank m mod W's.
        let mut left = Left::default();
        for step in 0..STEPS {
            let batch = |index: usize| {
                let sample = step * MICRO_BATCHES + index;
                let tokens = (0..LENGTH).map(|at| ((sample * 37 + at * 11) % 64) as u16).collect();
                let labels = vec![(sample % 3) as u16; usize::from(!self.config.classes.is_empty())];
                Batch { tokens, labels, first_sample: sample as u64 }
            };
            let own: Vec<Batch> = (rank..MICRO_BATCHES).step_by(world).map(batch).collect();
            let outcome = trainer.step(&own, LENGTH).unwrap();
            let numbers =
                [outcome.loss, outcome.gradient_norm].map(|number| if number.is_nan() { 0 } else { number.to_bits() });
            left.outcomes.push((numbers, outcome.skipped.total, outcome.skipped.in_a_row));
        }
        let bytes = device.memory_use().in_use;

        // Each rank's files of a checkpoint.
        let files = Files::new(&specs, [self.ema, true], world, u64::MAX);
        let mut collector = Collector::new(&mut trainer, &files, place);
        for file in files.list.iter().filter(|file| file.writer == rank) {
            for (kept, index) in &file.tensors {
                let values = collector.read(*kept, *index).unwrap();
                let key = (specs[*index].name.clone(), format!("{kept:?}"));
                left.tensors.insert(key, values.into_iter().map(f32::to_bits).collect());
            }
        }
        collector.finish().unwrap();

        // What a thread would write of them is the same, in memory that the next ones use again.
        let (still, going) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut collector = Collector::new(&mut trainer, &files, place);
        let read = &mut |kept, index| collector.read(kept, index);
        let expected = files.write(still.path(), rank, read).unwrap();
        collector.finish().unwrap();
        let mut free = Vec::new();
        for turn in 0..2 {
            let snapshot = Snapshot::take(&mut trainer, &files, place, &mut free).unwrap();
            assert!(free.is_empty(), "turn {turn}: a buffer was not used again");
            assert_eq!(snapshot.write(&files, going.path()).unwrap(), expected);
            free = snapshot.into_buffers();
            assert_eq!(free.len(), expected.len());
        }
        (left, bytes)
    }
}

/// What a run leaves.
#[derive(Default, PartialEq)]
struct Left {
    /// Of each step: loss and norm, or zero for NaN; steps skipped, in all and in a row.
    outcomes: Vec<([u64; 2], u64, u64)>,
    /// All tensors of a checkpoint.
    tensors: BTreeMap<(String, String), Vec<u32>>,
}

fn sharing(reduction: Reduction, zero: u8) -> Sharing {
    Sharing { reduction, zero, overlap: true, offload: false }
}

fn exact(zero: u8) -> Sharing {
    sharing(Reduction::Exact, zero)
}

/// All levels on all these numbers of ranks leave what one rank leaves.
#[track_caller]
fn assert_same(run: &Run, worlds: &[usize]) -> Left {
    let (alone, _) = run.on(1, exact(0));
    let kinds = 3 + usize::from(run.ema);
    assert_eq!(alone.tensors.len(), kinds * parameter_specs(&run.config).len());
    for world in worlds {
        for zero in 0..3 {
            let (left, _) = run.on(*world, exact(zero));
            assert_eq!(left.outcomes, alone.outcomes, "level {zero} on {world} ranks");
            for (key, values) in &alone.tensors {
                assert!(left.tensors.get(key) == Some(values), "{key:?} of level {zero} on {world} ranks");
            }
        }
    }
    alone
}

/// A block has 49,152 elements in its matrices, three blocks of the norm's sums: of two ranks one has two of them and the other one, of
/// four ranks one has none. The embeddings end inside of one.
#[test]
fn exact_levels_are_the_same_bits() {
    let run = Run { ema: true, clip: Some(0.7), ..Run::pretraining(64, 2) };
    let left = assert_same(&run, &[1, 2, 3, 4]);
    let moved = |kept: &str| {
        let values = left.tensors.iter().filter(|((name, of), _)| of == kept && name.ends_with("c_attn.weight"));
        values.flat_map(|(_, values)| values.clone()).collect::<Vec<_>>()
    };
    assert_ne!(moved("Weight"), moved("Average"));
    assert!(moved("SecondMoment").iter().any(|bits| *bits != 0));
}

#[test]
fn fine_tuning_and_bert_too() {
    let classes = ["a", "b", "c"].map(str::to_owned).to_vec();
    let run = Run::pretraining(32, 2);
    let config = ModelConfig { classes, bias: true, ..run.config.clone() };
    // With and without the generative loss, whose head then has no gradient.
    for generative_weight in [1.0, 0.0] {
        let criterion = Criterion { generative_weight, classification_weight: 1.0, ..run.criterion };
        assert_same(&Run { config: config.clone(), criterion, ..run.clone() }, &[3]);
    }
    let bert = Criterion::pretraining(Objective::Bert, Masking { rate: 0.3, seed: 1 });
    let config = ModelConfig { sos: false, ..run.config.clone() };
    assert_same(&Run { config, criterion: bert, ..run }, &[2]);
}

#[test]
fn steps_that_are_not_finite_are_skipped_alike() {
    let run = Run { is_ruined: true, ema: true, ..Run::pretraining(32, 1) };
    let left = assert_same(&run, &[1, 2]);
    let skipped: Vec<_> = left.outcomes.iter().map(|(_, total, in_a_row)| (*total, *in_a_row)).collect();
    assert_eq!(skipped, [(1, 1), (2, 2)]);
    let moments = left.tensors.iter().filter(|((_, kept), _)| kept.ends_with("Moment"));
    assert!(moments.flat_map(|(_, values)| values).all(|bits| *bits == 0));
}

/// Gradients of blocks that are computed again are handed on as others are.
#[test]
fn recompute_changes_no_bit() {
    let run = Run::pretraining(32, 2);
    let (expected, _) = run.on(1, exact(0));
    for (world, zero) in [(1, 0), (2, 1), (2, 2)] {
        let again = Run { recompute: Recompute::Block, ..run.clone() };
        assert!(again.on(world, exact(zero)).0 == expected, "level {zero} on {world} ranks");
    }
}

/// Nor do the ways that parts of an optimiser on the host take to the others, nor exchanges in their place.
#[test]
fn ways_to_the_others_change_no_bit() {
    let run = Run { ema: true, ..Run::pretraining(32, 2) };
    let (expected, _) = run.on(1, exact(0));
    for (zero, overlap) in [(0, false), (1, true), (2, false)] {
        let sharing = Sharing { overlap, offload: true, ..exact(zero) };
        assert!(run.on(2, sharing).0 == expected, "level {zero}");
    }
}

/// Losses of ln 64 or so, where they were 1.
#[test]
fn spikes_are_skipped_alike() {
    let run = Run { spikes: Some([0.0, 0.0, 100.0, 1.0, 1e-6, 1.0, 1.0]), ..Run::pretraining(32, 1) };
    let left = assert_same(&run, &[1, 2, 3]);
    let skipped: Vec<_> = left.outcomes.iter().map(|(_, total, in_a_row)| (*total, *in_a_row)).collect();
    assert_eq!(skipped, [(1, 1), (2, 2)]);
    let finite = |bits: u64| f64::from_bits(bits).is_finite() && bits != 0;
    assert!(left.outcomes.iter().all(|(numbers, ..)| numbers.iter().all(|bits| finite(*bits))));
    let moments = left.tensors.iter().filter(|((_, kept), _)| kept.ends_with("Moment"));
    assert!(moments.flat_map(|(_, values)| values).all(|bits| *bits == 0));
}

/// Hashes of the files of all ranks; a rank that could not write its own is named on the others.
#[test]
fn ranks_learn_who_has_written_what() {
    let run = |fails: bool| {
        let meeting = Arc::new(Meeting { barrier: Barrier::new(2), sent: Mutex::new(vec![Vec::new(); 2]) });
        let rank = |rank: usize| {
            let meeting = Arc::clone(&meeting);
            move || {
                let device = CpuDevice::new(Some(1)).unwrap();
                let together = Together::unwatched(Rc::new(Threads { rank, size: 2, meeting }));
                let hash = |file: u8| (usize::from(file), hex(&[file + 17; 32]));
                let written = match (rank, fails) {
                    (1, true) => Err(CheckpointError::NoAverage { path: "mine".into() }.into()),
                    (1, false) => Ok(vec![hash(1)]),
                    _ => Ok(vec![hash(0), hash(2)]),
                };
                exchange(&device, &together, 3, written).map_err(|error| error.to_string())
            }
        };
        std::thread::scope(|scope| [0, 1].map(|index| scope.spawn(rank(index))).map(|thread| thread.join().unwrap()))
    };
    let expected: Vec<_> = (0..3).map(|file: u8| (usize::from(file), hex(&[file + 17; 32]))).collect();
    assert_eq!(run(false), [Ok(expected.clone()), Ok(expected)]);
    let [other, own] = run(true).map(|told| told.unwrap_err());
    assert!(other.contains("rank 1 failed at the saving of a checkpoint"), "{other}");
    assert!(own.starts_with("mine holds no moving average"), "{own}");
}

/// The other sums: a bit more or less, and the same on every rank.
#[test]
fn other_reductions_are_near() {
    let run = Run::pretraining(32, 1);
    let norm = |left: &Left| f64::from_bits(left.outcomes[0].0[1]);
    let expected = norm(&run.on(1, exact(0)).0);
    for zero in 0..3 {
        let (left, _) = run.on(2, sharing(Reduction::Repeatable, zero));
        assert!((norm(&left) / expected - 1.0).abs() < 1e-5, "level {zero}: {} and not {expected}", norm(&left));
        assert!(left == run.on(2, sharing(Reduction::Repeatable, zero)).0, "another run, other bits");
    }
}

/// Bytes of a rank between steps against the formula of docs/guide/ranks.md, of a model that is mostly blocks.
#[test]
fn levels_take_the_memory_that_they_should() {
    let run = Run::pretraining(128, 8);
    let specs = parameter_specs(&run.config);
    let parameters: usize = specs.iter().map(ParameterSpec::elements).sum();
    let mut all = Vec::new();
    for (world, zero) in [(1, 0), (2, 0), (2, 1), (2, 2), (4, 1), (4, 2)] {
        let reduction = if world == 1 { Reduction::Exact } else { Reduction::Repeatable };
        let (_, bytes) = run.on(world, sharing(reduction, zero));
        let buckets = Buckets::new(&specs, [0, world]);

        // Weights, and gradients: of all, or of one block and what is in no block. Parts of sum, master weights and two moments.
        let rest: usize = buckets.list.iter().filter(|bucket| !bucket.is_block()).map(|bucket| bucket.elements).sum();
        let block = buckets.list[0].elements;
        let gradients = if zero == 2 { block + rest } else { parameters };
        let parts: usize = buckets.list.iter().map(|bucket| bucket.part).sum();
        let kept = match (world, zero) {
            (1, _) => 3 * parameters + parts,
            (_, 0) => 3 * parameters,
            _ => parameters + 4 * parts,
        };

        // Buckets of the three sizes on their way; at level 2 a part of each as it comes.
        let sizes = [0, buckets.list.len() - 2, buckets.list.len() - 1].map(|index| buckets.list[index].part);
        let scratch: usize =
            sizes.iter().map(|part| part * (world + usize::from(world == 1) + usize::from(zero == 2))).sum();
        let expected = 4 * (kept + gradients + scratch);
        for rank in &bytes {
            let off = *rank as f64 / expected as f64 - 1.0;
            assert!(
                off.abs() < 0.005,
                "level {zero} on {world}: {rank} bytes, expected {expected} ({:.2} %)",
                100.0 * off
            );
        }
        all.push(bytes[0]);
    }
    // In f32 the parts of the master weights are there beside the weights: two ranks save nothing at level 1, and four do.
    let [_, two_at_0, _, two_at_2, four_at_1, four_at_2] = all[..] else { panic!("{all:?}") };
    assert!(two_at_2 < two_at_0 && four_at_1 < two_at_0 && four_at_2 < four_at_1, "no less memory: {all:?}");
    println!("bytes of a rank: {all:?} for {parameters} parameters");
}

/// Bytes of a rank between steps against what `plan` says, with an average, whole or in parts.
#[test]
fn a_rank_has_what_is_planned() {
    let run = Run { ema: true, ..Run::pretraining(128, 8) };
    let parameters = run.config.parameter_count() as f64;
    for (world, zero) in [(1, 0), (2, 0), (2, 1), (3, 1), (2, 2), (4, 2)] {
        for reduction in [Reduction::Exact, Reduction::Repeatable] {
            let shares = Shares { ranks: world, zero, reduction, offload: false };
            let load = Load::new(&run.config, Work::Training, 1, LENGTH, Precision::F32);
            let plan = Load { ema: true, shares, ..load }.by_formula();
            let planned = plan.weights + plan.gradients + plan.moments + plan.average + plan.exchange;
            let (_, bytes) = run.on(world, sharing(reduction, zero));
            for bytes in bytes {
                let off = planned / bytes as f64 - 1.0;
                assert!(off.abs() <= 0.03, "level {zero} on {world}, {reduction}: {bytes} bytes, planned {planned}");
            }
            // In parts, each rounded up, at the levels that share anything out.
            let share = if zero == 0 { 1.0 } else { 1.0 / world as f64 };
            let average = plan.average / (4.0 * share * parameters);
            assert!((1.0..1.2).contains(&average), "level {zero} on {world}: {average} of what an average is");
        }
    }
}
