//! The op table: every op of a device against plain f64 definitions, their finite differences, and itself.
//!
//! Each file is an op, and its functions are generic over the device; [`on_device`] runs all of them on one. Inputs are
//! fresh random numbers in every run, of odd shapes; a failure prints its seed.
//!
//! It runs on the CUDA device too, in f32 and in bf16: on the simulator, or with `IGPT_TEST_DEVICE=cuda` on a GPU.

pub mod adam;
pub mod attention;
pub mod attention_decode;
pub mod attention_prefill;
pub mod cross_entropy;
mod determinism;
pub mod elementwise;
pub mod ema;
pub mod embedding;
pub mod everything;
pub mod global_norm;
pub mod lap;
pub mod layernorm;
pub mod linear;
pub mod mean_pool;
mod memory;
pub mod mlp;
pub mod reference;
pub mod residual;
pub mod sample;
pub mod spike;
pub mod support;

use igpt_engine::device::{CpuDevice, CudaDevice, Precision};
use test_support::devices::poisoned_cuda;

use support::Tested;

/// One `#[test]` for each function, on the device that the expression makes, if it does.
macro_rules! on_device {
    ($name:ident: $device:expr; $($op:ident { $($test:ident),* $(,)? })*) => {
        mod $name {
            $(mod $op {
                $(#[test]
                fn $test() {
                    if !crate::ops::support::is_tried(concat!(stringify!($op), "::", stringify!($test))) {
                        println!("{}", crate::ops::support::LEFT);
                        return;
                    }
                    let Some(device) = $device else {
                        println!("not asked for");
                        return;
                    };
                    println!("on {}", igpt_engine::device::Tensors::describe(&*device));
                    crate::ops::$op::$test(&device);
                })*
            })*
        }
    };
}

/// The table, once.
macro_rules! op_table {
    ($name:ident: $device:expr) => {
        on_device! { $name: $device;
            adam {
                three_steps, tails, many_tensors, clipping, ends_of_the_range, norms_that_are_not_finite_change_nothing,
                mistakes_are_errors
            }
            attention {
                forward, backward, two_tokens, long_sequences, edges, large_scores, low_scores, rising_scores,
                a_nan_stays_in_its_head, gradients_of_any_size, mistakes_are_errors
            }
            attention_decode {
                equals_attention, bounds, large_scores, chunks_of_no_weight, a_nan_stays_in_its_head, mistakes_are_errors
            }
            attention_prefill { fills_the_cache, mistakes_are_errors }
            cross_entropy {
                loss_and_gradient, all_colours, bounds, extreme_logits, classes_that_cannot_be, weights_of_any_size,
                rows_without_weight, losses_that_are_not_finite, mistakes_are_errors
            }
            determinism { two_runs_agree }
            elementwise { tails, rows_and_parts, narrow_weights, conversions }
            ema { approaches_the_parameter, norms_that_are_not_finite_change_nothing, mistakes_are_errors }
            embedding {
                forward, backward, tails, many_tokens, large_palettes, bounds, values_of_any_size, blanks,
                mistakes_are_errors
            }
            global_norm {
                norm_of_everything, bounds, many_partial_sums, both_precisions, ends_of_the_range, sums_of_blocks, verdicts
            }
            lap { totals_add_up, mistakes_are_errors }
            layernorm {
                forward, backward, wide, bounds, many_sums, far_from_zero, small_rows, values_of_any_size, mistakes_are_errors
            }
            linear {
                forward, backward, bounds, few_rows, large, large_palettes, splits, several_weights, weights_in_parts, one_position,
                values_of_any_size, mistakes_are_errors
            }
            mean_pool { both_ways, bounds, values_of_any_size, mistakes_are_errors }
            memory { values_come_back, rows_are_gathered, values_are_fetched, no_tensor_is_empty }
            mlp {
                forward, backward, bounds, large, rounded_where_stored, large_values, a_nan_stays_in_its_row,
                mistakes_are_errors
            }
            residual { is_both_ops, large, values_of_any_size, mistakes_are_errors }
            sample {
                follows_the_distribution, every_token_can_be_drawn, equal_logits, argmax_takes_the_first,
                argmax_of_no_numbers, top_k_keeps_the_best, top_k_of_many, top_p_draws_from_the_nucleus,
                top_p_keeps_as_many_equals_as_it_needs, large_palettes, odd_logits, mistakes_are_errors
            }
            spike { as_on_the_host, mistakes_are_errors }
        }
    };
}

op_table! { cpu: Some(crate::ops::poisoned_cpu(2)) }
op_table! { cuda_f32: crate::ops::cuda(crate::ops::Precision::F32) }
op_table! { cuda_bf16: crate::ops::cuda(crate::ops::Precision::Bf16) }

/// A CPU device on which forgotten elements are NaN.
fn poisoned_cpu(threads: usize) -> Tested<CpuDevice> {
    Tested::new(CpuDevice::poisoned(Some(threads)).expect("threads start"), Precision::F32)
}

/// The CUDA device, if the tests run on one; forgotten elements are NaN.
fn cuda(precision: Precision) -> Option<Tested<CudaDevice>> {
    poisoned_cuda(precision).map(|device| Tested::new(device, precision))
}
