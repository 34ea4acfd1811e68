//! Training on the CUDA device: against the CPU step by step, and against itself in other orders, as a graph and without.

mod beside;
mod drawing;
mod launches;
mod offload;
mod recompute;
mod skipping;

use igpt_engine::data::Batch;
use igpt_engine::device::prelude::*;
use igpt_engine::device::{Activation, CpuDevice, CudaDevice, Device, Norm, Precision};
use igpt_engine::model::{Criterion, Masking, ModelConfig, Objective, Preset, Transformer, parameter_specs};
use igpt_engine::optim::{Adam, AdamConfig, Schedule, ScheduleKind};
use igpt_engine::tape::{Parameters, Recompute};
use igpt_engine::train::{StepOutcome, Trainer};
use test_support::{devices, has_turn, in_turn};

/// Pixels of an image.
const LENGTH: usize = 16;
/// The first is launched kernel by kernel, the second recorded, the others are replayed.
const STEPS: u64 = 4;

/// A run small enough that the simulator takes a fraction of a second for a step.
#[derive(Clone)]
struct Case {
    config: ModelConfig,
    criterion: Criterion,
    clip: Option<f32>,
    /// Micro-batches a step, and images of each.
    micro_batches: [usize; 2],
}

impl Case {
    fn autoregressive() -> Self {
        let tiny = ModelConfig::preset(Preset::Tiny, 4);
        Self {
            config: ModelConfig { layers: 2, width: 64, heads: 2, ..tiny },
            criterion: Objective::Ar.into(),
            clip: None,
            micro_batches: [1, 2],
        }
    }

    /// Everything that the official models leave out.
    fn finetuning() -> Self {
        let Self { config, .. } = Self::autoregressive();
        let classes = ["cat", "dog", "owl"].map(str::to_owned).to_vec();
        let (norm, activation) = (Norm::Layer, Activation::Gelu);
        Self {
            config: ModelConfig { norm, activation, bias: true, classes, ..config },
            criterion: Criterion { classification_weight: 0.5, ..Objective::Ar.into() },
            clip: Some(0.5),
            micro_batches: [2, 2],
        }
    }

    fn bert() -> Self {
        let Self { config, .. } = Self::autoregressive();
        let criterion = Criterion::pretraining(Objective::Bert, Masking { rate: 0.5, seed: 3 });
        Self { config: ModelConfig { sos: false, ..config }, criterion, ..Self::autoregressive() }
    }

    /// The micro-batches of a step; others at every step.
    fn batches(&self, step: u64) -> Vec<Batch> {
        let [count, images] = self.micro_batches;
        let batch = |number: usize| Batch {
            tokens: (0..images * LENGTH).map(|i| ((i * i + 37 * number + 101 * step as usize) % 512) as u16).collect(),
            labels: (0..images).map(|image| ((image + step as usize) % 3) as u16).collect(),
            first_sample: step * 100 + number as u64 * 10,
        };
        (0..count).map(batch).collect()
    }

    fn trainer<'d, D: Device>(&self, device: &'d D) -> Trainer<'d, D> {
        self.trainer_recomputing(device, Recompute::None)
    }

    fn trainer_recomputing<'d, D: Device>(&self, device: &'d D, recompute: Recompute) -> Trainer<'d, D> {
        // A head of zeros would leave all other gradients at zero in the first step.
        let parameters = Parameters::from_fn(device, parameter_specs(&self.config), |index, spec| {
            let drawn = spec.initial_values(7, index);
            let values = drawn.iter().enumerate().map(|(i, value)| value + 0.02 * ((i * 31 % 17) as f32 - 8.0) / 8.0);
            Ok::<_, igpt_engine::device::Error>(values.collect())
        });
        self.trainer_of(device, parameters.unwrap(), recompute)
    }

    fn trainer_of<'d, D: Device>(
        &self,
        device: &'d D,
        parameters: Parameters<D>,
        recompute: Recompute,
    ) -> Trainer<'d, D> {
        let adam = Adam::new(device, &parameters, AdamConfig { clip: self.clip, ..AdamConfig::default() }).unwrap();
        let schedule = Schedule { kind: ScheduleKind::Cosine, peak: 1e-3, warmup: 2, steps: 10, cooldown: 0 };
        let model = Transformer::new(self.config.clone()).unwrap().recomputing(recompute);
        Trainer::new(device, model, parameters, adam, schedule, self.criterion).unwrap()
    }

    fn outcomes<D: Device>(&self, device: &D) -> Vec<StepOutcome> {
        let mut trainer = self.trainer(device);
        (0..STEPS).map(|step| trainer.step(&self.batches(step), LENGTH).unwrap()).collect()
    }
}

/// Bits of all weights and moments.
fn bits<D: Device>(device: &D, trainer: &Trainer<'_, D>) -> Vec<Vec<u32>> {
    let adam = trainer.adam();
    let tensors = trainer.parameters().values().iter().chain(adam.first_moments()).chain(adam.second_moments());
    let bits = |tensor| device.download(tensor).unwrap().into_iter().map(f32::to_bits).collect();
    tensors.map(bits).collect()
}

/// Steps that overlap as those of a run do: each is started before the numbers of the one before are read.
fn overlapping(trainer: &mut Trainer<'_, CudaDevice>, case: &Case) -> Vec<StepOutcome> {
    let mut outcomes = Vec::new();
    let mut before = None;
    for step in 0..STEPS {
        let started = trainer.start(&case.batches(step), LENGTH).unwrap();
        outcomes.extend(before.replace(started).map(|before| trainer.finish(before).unwrap()));
    }
    outcomes.extend(before.map(|before| trainer.finish(before).unwrap()));
    outcomes
}

#[track_caller]
fn follows_the_cpu(case: &Case, precision: Precision, tolerance: f64) {
    let Some(device) = devices::poisoned_cuda(precision) else { return };
    let expected = case.outcomes(&CpuDevice::new(Some(1)).unwrap());
    let got = case.outcomes(&device);
    for (expected, got) in expected.iter().zip(&got) {
        let off = |a: f64, b: f64| (a - b).abs() / b.abs();
        let (loss, norm) = (off(got.loss, expected.loss), off(got.gradient_norm, expected.gradient_norm));
        println!("{precision:?} step {}: loss {} off by {loss:.1e}, norm by {norm:.1e}", got.step, got.loss);
        assert!(loss <= tolerance, "{got:?}, not {expected:?}");
        assert!(norm <= 10.0 * tolerance, "{got:?}, not {expected:?}");
        assert_eq!((got.step, got.learning_rate), (expected.step, expected.learning_rate));
        assert_eq!(got.class_loss.is_some(), expected.class_loss.is_some());
    }
}

/// f32: sums in another order, over all steps so far.
const F32: f64 = 1e-4;
/// bf16: logits, of size 1, stand behind some twenty roundings of 2⁻⁸ · 3^-½ of a number (root mean square), which add up as a
/// random walk, to √20 of one. A loss is a mean over 32 tokens, whose errors are their own, and here near ln 512; twice for the
/// tails. A norm has no such mean: ten times as much.
const BF16: f64 = 2.0 * 4.472 * (0.577 / 256.0) / 5.657 / 6.238;

#[test]
fn f32_losses_are_those_of_the_cpu() {
    follows_the_cpu(&Case::autoregressive(), Precision::F32, F32);
}

#[test]
fn bf16_losses_are_those_of_the_cpu() {
    follows_the_cpu(&Case::autoregressive(), Precision::Bf16, BF16);
}

#[test]
fn finetuning_and_bert_losses_are_those_of_the_cpu() {
    let cases = [
        (Case::finetuning(), Precision::F32, F32),
        (Case::finetuning(), Precision::Bf16, BF16),
        (Case::bert(), Precision::Bf16, BF16),
        (Case::bert(), Precision::F32, F32),
    ];
    in_turn(cases, 2).for_each(|(case, precision, tolerance)| follows_the_cpu(&case, precision, tolerance));
}

/// Recorded steps do what steps do that are launched kernel by kernel, to the bit, and neither allocates after the first.
#[track_caller]
fn graph_is_eager(case: &Case, precision: Precision) {
    let Some(device) = devices::poisoned_cuda(precision) else { return };

    let mut eager = case.trainer(&device).with_graphs(false);
    let expected: Vec<_> = (0..STEPS).map(|step| eager.step(&case.batches(step), LENGTH).unwrap()).collect();
    assert!(!eager.replays());

    let mut trainer = case.trainer(&device);
    let mut allocated = Vec::new();
    let first = trainer.step(&case.batches(0), LENGTH).unwrap();
    assert!(!trainer.replays());
    allocated.push(device.memory_use().allocated);
    let mut got = vec![first];
    for step in 1..STEPS {
        got.push(trainer.step(&case.batches(step), LENGTH).unwrap());
        assert!(trainer.replays());
        allocated.push(device.memory_use().allocated);
    }

    assert_eq!(got, expected);
    assert!(bits(&device, &trainer) == bits(&device, &eager));
    assert!(allocated.iter().all(|bytes| *bytes == allocated[0]), "steps allocated: {allocated:?}");
    let mut trainer = case.trainer(&device);
    assert_eq!(overlapping(&mut trainer, case), expected);
    assert!(bits(&device, &trainer) == bits(&device, &eager));
}

#[test]
fn a_graph_of_steps_is_eager() {
    let cases = [
        (Case::autoregressive(), Precision::F32),
        (Case::autoregressive(), Precision::Bf16),
        (Case::finetuning(), Precision::Bf16),
        (Case::bert(), Precision::F32),
    ];
    in_turn(cases, 2).for_each(|(case, precision)| graph_is_eager(&case, precision));
}

/// Whatever the order of streams, blocks and warps, and whenever copies land.
#[test]
fn every_order_gives_the_same_bits() {
    let Some(simulator) = devices::simulator() else { return };
    for precision in in_turn([Precision::F32, Precision::Bf16], 2) {
        let case = Case::finetuning();
        let run = |options: &str| {
            simulator.set_options(None, options).unwrap();
            let device = CudaDevice::new(0, precision).unwrap();
            let mut trainer = case.trainer(&device);
            let outcomes = overlapping(&mut trainer, &case);
            (outcomes, bits(&device, &trainer))
        };
        let expected = run("seed=0,completion=late");
        assert!(run("seed=11,completion=early") == expected);
        assert!(run("seed=12345,completion=random,streams=eager") == expected);
        simulator.set_options(None, "seed=0,completion=late,streams=random").unwrap();
    }
}

/// A card's multiprocessors decide nothing: a step of a model whose weights' gradients take more splits to fill an H100 than to fill an
/// RTX 3090, and whose norm would be summed by other blocks. Its heads are too narrow for the attention of compute capability
/// 9.0, which has bits of its own.
#[test]
fn cards_of_any_size_train_to_the_same_bits() {
    if !has_turn(1, 2) {
        return;
    }
    let Some(simulator) = devices::simulator() else { return };
    let case = Case { micro_batches: [1, 40], ..Case::autoregressive() };
    let case = Case { config: ModelConfig { layers: 1, width: 256, heads: 8, ..case.config.clone() }, ..case };
    let case = Case { clip: Some(0.1), ..case };
    // Devices of their own: the tests beside this one keep theirs.
    simulator.set_options(None, "devices=3").unwrap();
    let run = |ordinal: u32, card: &str| {
        simulator.set_options(Some(ordinal), &format!("card={card}")).unwrap();
        let device = CudaDevice::new(ordinal as usize, Precision::Bf16).unwrap();
        let mut trainer = case.trainer(&device);
        (trainer.step(&case.batches(0), LENGTH).unwrap(), bits(&device, &trainer))
    };
    let expected = run(1, "h100");
    let got = run(2, "rtx3090");
    assert_eq!(got.0, expected.0);
    assert!(got.1 == expected.1, "weights or moments are not the same");
}

/// cudarc panics where a driver lacks a function, so all that are ever called must be looked for when a device is opened.
#[test]
fn every_function_that_is_called_is_looked_for_first() {
    let Some(simulator) = devices::simulator() else { return };
    let device = devices::cuda(Precision::Bf16).unwrap();
    let case = Case::finetuning();
    let mut trainer = case.trainer(&device);
    overlapping(&mut trainer, &case);
    drop(trainer);
    device.timed(|| device.zeros(&[4]).and_then(|zeros| device.global_norm(&[zeros]).map(drop))).unwrap();
    assert!(device.zeros(&[1 << 30, 1 << 12]).is_err());
    drop(device);
    igpt_engine::device::cuda::enumerate_devices().unwrap();

    let called = simulator.called();
    let functions = igpt_engine::device::cuda::FUNCTIONS;
    let missed: Vec<_> = called.iter().filter(|name| !functions.contains(&name.as_str())).collect();
    assert!(missed.is_empty() && called.len() > 30, "not looked for: {missed:?}, of {called:?}");
}

/// Work between two steps (validation, samples) takes and gives back memory of its own; other shapes are recorded anew.
#[test]
fn other_work_and_other_shapes_in_between() {
    let Some(device) = devices::poisoned_cuda(Precision::Bf16) else { return };
    let case = Case::autoregressive();
    let large = Case { micro_batches: [1, 3], ..case.clone() };
    let plan = [&case, &case, &case, &large, &large, &large, &case, &case];

    let run = |graphs: bool| {
        let mut trainer = case.trainer(&device).with_graphs(graphs);
        let mut seen = Vec::new();
        let mut held = Vec::new();
        for (step, case) in plan.into_iter().enumerate() {
            seen.push(trainer.step(&case.batches(step as u64), LENGTH).unwrap());
            let tokens = &case.batches(99)[0].tokens;
            let (model, parameters) = (trainer.model(), trainer.parameters());
            let nats = igpt_engine::eval::score(&device, model, parameters, tokens, LENGTH).unwrap();
            // Held over the next steps, whose recordings must not write here.
            held.push((device.upload(&[nats.len()], &nats).unwrap(), nats));
        }

        for (tensor, nats) in &held {
            assert_eq!(&device.download(tensor).unwrap(), nats);
        }
        (seen, held.into_iter().map(|(_, nats)| nats).collect::<Vec<_>>(), bits(&device, &trainer))
    };

    assert!(run(true) == run(false));
}

/// A recorded step asks no op, so the trainer itself must refuse tokens that are none.
#[test]
fn bad_tokens_are_refused_at_every_step() {
    let Some(device) = devices::cuda(Precision::F32) else { return };
    let case = Case::finetuning();
    let mut trainer = case.trainer(&device);
    for step in 0..3 {
        let mut bad = case.batches(step);
        bad[1].tokens[3] = 512;
        let Err(error) = trainer.step(&bad, LENGTH) else { panic!("token 512 of 512 is refused") };
        assert!(error.to_string().contains("token 512"), "{error}");
        let mut bad = case.batches(step);
        bad[0].labels[0] = 3;
        assert!(trainer.step(&bad, LENGTH).is_err());
        let mut bad = case.batches(step);
        bad[0].labels.pop();
        assert!(trainer.step(&bad, LENGTH).is_err());
        trainer.step(&case.batches(step), LENGTH).unwrap();
    }
}

/// What the driver refuses comes back as an error with the call's name; the process lives.
#[test]
fn errors_of_the_driver_are_values() {
    let Some(_) = devices::simulator() else { return };
    let missing = CudaDevice::new(99, Precision::F32).err().expect("there is no device 99").to_string();
    assert!(missing.contains("device 99") && missing.contains("--device cpu"), "{missing}");
    let device = CudaDevice::new(0, Precision::F32).unwrap();
    let error = device.zeros(&[1 << 30, 1 << 12]).err().expect("16 TiB are refused").to_string();
    assert!(error.contains("cuMemAlloc") && error.contains("smaller batch"), "{error}");
    // The device is as good as before.
    let tensor = device.upload(&[2], &[1.0, 2.0]).unwrap();
    assert_eq!(device.download(&tensor).unwrap(), [1.0, 2.0]);
}
