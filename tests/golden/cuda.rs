//! The same golden values on the CUDA device: f32 as tight as on the CPU, bf16 by direction and length of every tensor.

use igpt_engine::device::{CudaDevice, Precision};
use test_support::devices::poisoned_cuda;

use crate::{activations, adam, all_gradients, bert, finetune, short_gradients};

fn on(precision: Precision, test: impl FnOnce(&CudaDevice, Precision)) {
    let Some(device) = poisoned_cuda(precision) else { return };
    test(&device, precision);
    device.synchronize().unwrap();
}

macro_rules! golden {
    ($($name:ident: $test:expr;)*) => {
        mod in_f32 {
            $(#[test]
            fn $name() {
                super::on(super::Precision::F32, $test);
            })*
        }
        mod in_bf16 {
            $(#[test]
            fn $name() {
                super::on(super::Precision::Bf16, $test);
            })*
        }
    };
}

golden! {
    activations_match: super::activations;
    gradients_match: super::all_gradients;
    gradients_of_a_short_sequence_match: super::short_gradients;
    three_adam_steps_match: super::adam;
    bert_matches: super::bert::bert;
    finetuning_matches: super::finetune::finetuning;
}
