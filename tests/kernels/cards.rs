//! Other cards than the one that the simulator is by default: the op table passes on them, and the bits are the same.

use igpt_engine::device::cuda::kernel::KERNELS;
use igpt_engine::device::cuda::{CudaTensor, SHARED_LIMITS};
use igpt_engine::device::prelude::*;
use igpt_engine::device::{Beta, CudaDevice, Precision, WeightGradient, WeightLayout};
use rayon::prelude::*;
use test_support::devices::{Wanted, wanted};
use test_support::{has_turn, in_turn, skipped, tries_all};

use crate::ops::everything::{attention_of_wide_heads, with_the_bits_of_every_card};
use crate::ops::linear::IN_PARTS;
use crate::ops::support::{Tested, upload};
use crate::process::{self, TABLES};

fn on_simulator() -> bool {
    !KERNELS.is_empty() && wanted() == Wanted::Simulator
}

/// The whole table on each card. An ordinary run has it on the default's, and one precision of it on two more: under `cargo xtask test` on
/// an A100 or an H100, and in `another_toolkit` on the newest, with the other toolkit's kernels.
#[test]
fn the_op_table_passes_on_every_card() {
    if !on_simulator() {
        return;
    }
    if !tries_all() {
        skipped("the op table on every card: `cargo xtask test --all` runs it, in minutes");
        return;
    }
    let failures: Vec<String> = cudasim::card::CARDS.par_iter().filter_map(|card| table_on(card.key).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// The op table on a card.
fn table_on(card: &str) -> Result<(), String> {
    println!("{card}");
    let passed = process::op_tables(&TABLES, |command| command.env("CUDASIM", format!("card={card}")), 1);
    passed.map_err(|printed| format!("{card}:\n{printed}"))
}

/// Sums that a card could be tempted to cut by its multiprocessors: long, with few tiles, and over a large tensor.
fn sums(device: &Tested<CudaDevice>) -> Vec<Vec<u32>> {
    let mut results = Vec::new();
    let mut keep = |tensor: &CudaTensor| {
        results.push(device.download(tensor).unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>())
    };
    // Cut to fill each of the cards below, these would get 14, 11 and 6 splits in bf16, and 3, 2 and 1 in f32, which takes long.
    let rows = if device.precision() == Precision::Bf16 { 3600 } else { 1200 };
    let (inputs, outputs) = (512, 768);
    let random = &mut device.random(5);
    let mut tensor = |shape: &[usize]| upload(device, shape, &random.values(shape.iter().product()));
    let (x, dy, weight) = (tensor(&[rows, inputs]), tensor(&[rows, outputs]), tensor(&[inputs, outputs]));
    let mut d_weight = device.zeros(&[inputs, outputs]).unwrap();
    keep(&device.linear_backward(&dy, &x, &weight, WeightLayout::InOut, &mut d_weight, None, Beta::One).unwrap());
    keep(&d_weight);

    let large = 1_200_000;
    let large = upload(device, &[large], &device.random(6).values(large));
    keep(&device.global_norm(&[large]).unwrap());
    results
}

#[test]
fn every_card_gives_the_same_bits() {
    if !has_turn(1, 2) {
        return;
    }
    if !on_simulator() || !process::is_alone("cards::every_card_gives_the_same_bits") {
        return;
    }
    let simulator = cudasim::install().expect("cargo has built cudasim beside the tests");
    // 132 multiprocessors, and 108 or 170.
    let pairs = [["h100", "a100"], ["h100", "rtx5090"]];
    let cases =
        pairs.into_iter().flat_map(|cards| [Precision::F32, Precision::Bf16].map(|precision| (precision, cards)));
    for (precision, cards) in in_turn(cases, 4) {
        let mut first = None;
        for card in cards {
            simulator.set_options(None, &format!("card={card}")).unwrap();
            let device = Tested::new(CudaDevice::poisoned(0, precision).unwrap(), precision);
            let results = [with_the_bits_of_every_card(&device), sums(&device)].concat();
            let reports = simulator.take_reports(None);
            assert!(reports.is_empty(), "{precision:?}, {card}:\n{reports}");
            let first = first.get_or_insert_with(|| results.clone());
            for (index, (one, other)) in first.iter().zip(&results).enumerate() {
                assert!(one == other, "{precision:?}: result {index} is not the same on {card}");
            }
        }
    }
}

/// 132 and 114 multiprocessors of compute capability 9.0; 108, 82 and 170 of others.
#[test]
fn attention_of_wide_heads_has_the_same_bits_on_cards_with_the_same_forward() {
    const NAME: &str = "cards::attention_of_wide_heads_has_the_same_bits_on_cards_with_the_same_forward";
    if !on_simulator() || !process::is_alone(NAME) {
        return;
    }
    let simulator = cudasim::install().expect("cargo has built cudasim beside the tests");
    for cards in in_turn([&["h100", "h100-pcie"][..], &["a100", "rtx3090"], &["a100", "rtx5090"]], 3) {
        let results = cards.iter().map(|card| {
            simulator.set_options(None, &format!("card={card}")).unwrap();
            let device = Tested::new(CudaDevice::poisoned(0, Precision::Bf16).unwrap(), Precision::Bf16);
            let results = attention_of_wide_heads(&device);
            let reports = simulator.take_reports(None);
            assert!(reports.is_empty(), "{card}:\n{reports}");
            results
        });
        let results: Vec<_> = results.collect();
        for (card, other) in cards.iter().zip(&results) {
            assert!(results[0] == *other, "{card} has not the bits of {}", cards[0]);
        }
    }
}

/// Weights whose tiles are cut along k, so that an H100's 66 clusters are all busy; 57 share the parts another way, and an A100's blocks add up
/// both parts themselves.
#[test]
fn weights_in_parts_have_the_same_bits_on_every_card() {
    if !has_turn(0, 2) {
        return;
    }
    if !on_simulator() || !process::is_alone("cards::weights_in_parts_have_the_same_bits_on_every_card") {
        return;
    }
    let simulator = cudasim::install().expect("cargo has built cudasim beside the tests");
    let others = in_turn(["h100-pcie", "a100"], 2);
    let results = std::iter::once("h100").chain(others).map(|card| {
        simulator.set_options(None, &format!("card={card}")).unwrap();
        let device = Tested::new(CudaDevice::poisoned(0, Precision::Bf16).unwrap(), Precision::Bf16);
        let results = weights_in_parts(&device);
        let reports = simulator.take_reports(None);
        assert!(reports.is_empty(), "{card}:\n{reports}");
        results
    });
    let results: Vec<_> = results.collect();
    assert!(results.iter().all(|other| *other == results[0]));
}

/// Stored, and added to.
fn weights_in_parts(device: &Tested<CudaDevice>) -> Vec<Vec<u32>> {
    let (rows, sizes) = IN_PARTS;
    let random = &mut device.random(7);
    let mut tensor = |shape: [usize; 2]| upload(device, &shape, &random.values(shape[0] * shape[1]));
    let operands = sizes.map(|(inputs, outputs)| [tensor([rows, inputs]), tensor([rows, outputs])]);
    let mut weights = sizes.map(|(inputs, outputs)| device.zeros(&[inputs, outputs]).unwrap());
    for beta in [Beta::Zero, Beta::One] {
        let gradients = operands.iter().zip(&mut weights).map(|([x, dy], d_weight)| WeightGradient {
            x,
            dy,
            layout: WeightLayout::InOut,
            d_weight,
            beta,
        });
        device.weight_gradients(gradients.collect()).unwrap();
    }
    weights.iter().map(|weight| device.download(weight).unwrap().into_iter().map(f32::to_bits).collect()).collect()
}

/// Two tables say what a block may have: that of the engine, by which variants are checked, and that of the simulator.
#[test]
fn the_limits_of_shared_memory_are_those_of_the_cards() {
    for card in &cudasim::card::CARDS {
        let (major, minor) = card.limits.capability;
        let found = SHARED_LIMITS.iter().find(|(capability, _)| *capability == (major as i32, minor as i32));
        assert_eq!(found.map(|(_, bytes)| *bytes), Some(card.limits.shared_opt_in as usize), "{}", card.key);
    }
}
