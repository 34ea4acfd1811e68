//! Steps whose gradient is not finite: they change nothing and are counted, as a graph and without.

use igpt_engine::data::Batch;
use igpt_engine::device::{CpuDevice, Device, Norm, Precision};
use igpt_engine::model::{ModelConfig, parameter_specs};
use igpt_engine::tape::{Parameters, Recompute};
use igpt_engine::train::{StepOutcome, Trainer};
use test_support::{devices, in_turn};

use crate::{Case, LENGTH, bits};

/// A token whose embedding is so large that a mean over the row overflows: its images have a loss of NaN, all others are sound.
const OVERFLOWING: u16 = 500;

/// A trainer in which [`OVERFLOWING`] is so, and batches of which `bad` ones hold it.
struct Skipping {
    case: Case,
    bad: [bool; 7],
}

impl Skipping {
    fn trainer<'d, D: Device>(&self, device: &'d D) -> Trainer<'d, D> {
        let specs = parameter_specs(&self.case.config);
        let parameters = Parameters::from_fn(device, specs, |index, spec| {
            let mut values = spec.initial_values(7, index);
            if spec.name == "transformer.wte.weight" {
                let width = self.case.config.width;
                values[usize::from(OVERFLOWING) * width..][..width].fill(3e38);
            }
            Ok::<_, igpt_engine::device::Error>(values)
        });
        self.case.trainer_of(device, parameters.unwrap(), Recompute::None)
    }

    fn batches(&self, step: usize) -> Vec<Batch> {
        let mut batches = self.case.batches(step as u64);
        let tokens = batches.iter_mut().flat_map(|batch| &mut batch.tokens);
        tokens.for_each(|token| *token %= OVERFLOWING);
        if self.bad[step] {
            // Every pixel of one image of the last micro-batch: BERT masks some.
            let last = batches.last_mut().unwrap();
            last.tokens[..LENGTH].fill(OVERFLOWING);
        }
        batches
    }

    /// Bits after each step, and what it told: in the same order on every device.
    fn run<D: Device>(&self, device: &D, graphs: bool) -> Vec<(StepOutcome, Vec<Vec<u32>>)> {
        let mut trainer = self.trainer(device).with_graphs(graphs);
        let mut steps = Vec::new();
        for step in 0..self.bad.len() {
            let outcome = trainer.step(&self.batches(step), LENGTH).unwrap();
            steps.push((outcome, bits(device, &trainer)));
        }
        steps
    }

    /// Skipped steps change no bit and are counted, and all others are made.
    fn check<D: Device>(&self, device: &D) {
        let eager = self.run(device, false);
        let mut before = bits(device, &self.trainer(device));
        let (mut total, mut in_a_row) = (0, 0);
        for ((outcome, after), bad) in eager.iter().zip(self.bad) {
            (total, in_a_row) = if bad { (total + 1, in_a_row + 1) } else { (total, 0) };
            assert_eq!((outcome.skipped.total, outcome.skipped.in_a_row), (total, in_a_row), "{outcome:?}");
            assert_eq!(outcome.was_skipped(), bad);
            assert_eq!((outcome.loss.is_finite(), outcome.gradient_norm.is_finite()), (!bad, !bad), "{outcome:?}");
            assert_eq!(*after == before, bad, "step {}", outcome.step);
            before.clone_from(after);
        }

        // NaN is not equal to itself, its text is.
        let graph = self.run(device, true);
        assert_eq!(format!("{:?}", graph.iter().map(|step| step.0).collect::<Vec<_>>()), {
            format!("{:?}", eager.iter().map(|step| step.0).collect::<Vec<_>>())
        });
        assert!(graph.iter().zip(&eager).all(|(graph, eager)| graph.1 == eager.1), "a graph's bits differ");
    }
}

/// The first step, the one that is recorded, those that are replayed, alone and in a row.
#[test]
fn steps_that_are_not_finite_are_skipped_on_every_device() {
    let layer = |case: Case| Case { config: ModelConfig { norm: Norm::Layer, ..case.config }, ..case };
    let cases = [layer(Case::autoregressive()), Case::finetuning(), layer(Case::bert())];
    let patterns = [
        [true, false, false, true, true, false, true],
        [false, true, true, false, true, false, false],
        [false, false, true, true, true, false, false],
    ];
    let skipping = || cases.clone().into_iter().zip(patterns).map(|(case, bad)| Skipping { case, bad });
    skipping().for_each(|skipping| skipping.check(&CpuDevice::new(Some(1)).unwrap()));
    for skipping in in_turn(skipping(), 3) {
        for precision in [Precision::F32, Precision::Bf16] {
            devices::poisoned_cuda(precision).iter().for_each(|device| skipping.check(device));
        }
    }
}
