//! Steps that compute again what they do not keep, recorded as graphs.

use igpt_engine::device::{CudaDevice, Precision};
use igpt_engine::named::Named;
use igpt_engine::tape::Recompute;
use igpt_engine::train::Trainer;
use test_support::{devices, has_turn, in_turn};

use super::{Case, LENGTH, bits};

/// Three steps, the last two of them recorded: their outcomes, weights and moments, and the memory that they took.
fn run(device: &CudaDevice, case: &Case, recompute: Recompute) -> (Vec<String>, Vec<Vec<u32>>, usize) {
    let mut trainer: Trainer<'_, _> = case.trainer_recomputing(device, recompute);
    let outcomes: Vec<_> =
        (0..3).map(|step| format!("{:?}", trainer.step(&case.batches(step), LENGTH).unwrap())).collect();
    assert!(trainer.replays());
    (outcomes, bits(device, &trainer), device.memory_use().allocated)
}

#[test]
fn recorded_steps_that_compute_again_have_the_same_bits_in_less_memory() {
    if !has_turn(1, 2) {
        return;
    }
    let Some(simulator) = devices::simulator() else { return };
    simulator.set_options(None, "devices=8").unwrap();
    for (case, precision) in in_turn([(Case::finetuning(), Precision::Bf16), (Case::bert(), Precision::F32)], 2) {
        let open = || CudaDevice::new(4, precision).unwrap();
        let (outcomes, weights, mut memory) = run(&open(), &case, Recompute::None);
        for level in Recompute::VALUES.iter().skip(1) {
            let (now, also, less) = run(&open(), &case, level.value);
            assert_eq!(now, outcomes, "{}", level.name);
            assert!(also == weights, "{}: weights or moments differ", level.name);
            println!("{precision}, {}: {less} bytes after {memory}", level.name);
            assert!(less <= memory, "{}: {less} bytes, and {memory} with less computed again", level.name);
            memory = less;
        }
    }
}
