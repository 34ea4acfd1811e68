//! What a training step launches: the nodes of its graph, counted on a device that computes nothing.

use std::collections::BTreeMap;

use igpt_engine::device::Precision;
use igpt_engine::device::cuda::kernel::KERNELS;
use igpt_engine::device::cuda::{Traced, TracedCard};
use igpt_engine::model::{ModelConfig, Preset};
use igpt_engine::plan::{Load, Work};
use test_support::skipped;

const A100: TracedCard = TracedCard { capability: (8, 0), multiprocessors: 108, shared_limit: 163 << 10 };
const H100: TracedCard = TracedCard { capability: (9, 0), multiprocessors: 132, shared_limit: 227 << 10 };

/// The second step of the official model of this size on one micro-batch in bf16: the one that is recorded.
fn launches(card: TracedCard, preset: Preset, images: usize) -> BTreeMap<&'static str, usize> {
    let config = ModelConfig::preset(preset, 32);
    let load = Load::new(&config, Work::Training, images, config.positions, Precision::Bf16);

    let mut launches = BTreeMap::new();
    for work in load.traced(card).unwrap().work {
        let name = match work {
            Traced::Launch(launch) => launch.kernel.name,
            Traced::Fill(_) => "memset",
            Traced::Copy(_) => "memcpy",
        };
        *launches.entry(name).or_default() += 1;
    }
    launches
}

/// Of each of the paper's models, at micro-batches that fit a card: in all, and by kernel what a layer, a step or a list of tensors
/// costs. S took 1,082 before lists, groups and gradients that are stored.
#[test]
fn a_training_step_is_a_few_hundred_launches() {
    if KERNELS.is_empty() {
        skipped("launches of a step: no CUDA compiler; `cargo xtask toolkit` gets it (no GPU needed)");
        return;
    }
    let cases = [
        (A100, Preset::S, 32, 401),
        (A100, Preset::M, 16, 594),
        (A100, Preset::L, 16, 788),
        (H100, Preset::S, 32, 353),
        (H100, Preset::M, 16, 522),
        (H100, Preset::L, 16, 692),
    ];
    for (card, preset, images, most) in cases {
        let launches = launches(card, preset, images);
        let total: usize = launches.values().sum();
        println!("{preset}, compute capability {:?}: {total}", card.capability);
        launches.iter().for_each(|(kernel, count)| println!("  {count:4} {kernel}"));
        assert!(total <= most, "{preset}: {total} launches, {most} expected: {launches:#?}");

        let of = |kernel: &str| launches.get(kernel).copied().unwrap_or(0);
        let (layers, ..) = preset.shape();
        assert_eq!(of("memset"), 0, "{preset}: gradients are stored, not zeroed and added to");
        assert_eq!(of("sum_partials"), 1, "{preset}: gains of all norms");
        let weights = of("linear_weights_bf16_128") + of("linear_weights_sm90");
        assert_eq!(weights, layers, "{preset}: the weights of a block at once");
        assert!(of("square_sums_f32") + of("root_of_sum") + of("adam") <= 7, "{preset}: lists of parameters");
        let norms = if card == H100 { 2 * layers } else { 0 };
        assert_eq!(of("linear_layernorm_sm90"), norms, "{preset}: norms with the layer before them");
    }
}
