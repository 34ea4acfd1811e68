//! Counts of a sample of blocks against those of all blocks, for every launch of a training step.

use std::collections::HashMap;

use igpt_engine::device::Precision;
use igpt_engine::device::cuda::Traced;
use igpt_engine::device::cuda::kernel::KERNELS;
use igpt_engine::model::{ModelConfig, Preset};
use igpt_engine::plan::{Load, Work};
use igpt_engine::profile::Card;
use igpt_engine::profile::counter::{Counter, key};
use igpt_engine::profile::counting::LaunchCounts;
use test_support::{in_turn, skipped};

#[test]
fn a_sample_of_blocks_counts_as_all_of_them_do() {
    if KERNELS.is_empty() {
        return skipped("samples of blocks: this build has no kernels; `cargo xtask toolkit` gets the compiler");
    }
    for name in in_turn(["a100", "h100"], 2) {
        let card = Card::named(name).unwrap();
        let config = ModelConfig { layers: 1, ..ModelConfig::preset(Preset::Tiny, 16) };
        let load = Load::new(&config, Work::Training, 24, config.positions, Precision::Bf16);
        let trace = load.traced(card.traced()).unwrap();
        let (sampled, whole) = (Counter::new(&trace, 80), Counter::new(&trace, 80).of_all_blocks());

        let mut seen = HashMap::new();
        let mut samples = 0;
        for work in &trace.work {
            let Traced::Launch(launch) = work else { continue };
            if launch.kernel.name.contains("sm90") || seen.insert(key(launch), ()).is_some() {
                continue;
            }
            let [some, all] = [&sampled, &whole].map(|counter| counter.count(launch).unwrap());
            samples += u32::from(some.blocks_run < all.blocks_run);
            compare(launch.kernel.name, &some, &all);
        }
        assert!(samples > 4, "{samples} launches were large enough to be sampled");
    }
}

fn compare(kernel: &str, some: &LaunchCounts, all: &LaunchCounts) {
    // Blocks of matrix products are alike, rows of a causal mask are taken whole; the gradient of an embedding hangs on the colours.
    let tolerance = match kernel {
        _ if kernel.starts_with("linear") => 1e-9,
        _ if kernel.starts_with("embedding_table") => 0.1,
        _ => 0.02,
    };
    let of = |counts: &LaunchCounts| {
        let LaunchCounts { tensor_flops, l2_read, l2_written, wavefronts, ptx_instructions, .. } = *counts;
        [tensor_flops, l2_read, l2_written, wavefronts, ptx_instructions]
    };
    for (some, all) in of(some).into_iter().zip(of(all)) {
        assert!((some - all).abs() <= tolerance * all.max(1.0), "{kernel}: {some} of a sample, {all} of all");
    }
}
