//! Kernels that a card has in variants, for its shared memory: each card takes the one meant for it, and the bits are the same.

use std::collections::BTreeSet;

use igpt_engine::device::cuda::kernel::KERNELS;
use igpt_engine::device::prelude::*;
use igpt_engine::device::{
    Activation, Beta, CudaDevice, Mask, MlpGradients, MlpWeights, Norm, Precision, ResidualNorm, WeightGradient,
    WeightLayout,
};
use serde_json::Value as Json;
use test_support::devices::{Wanted, wanted};
use test_support::{has_turn, in_turn};

use crate::ops::support::{Tested, upload};
use crate::process;

/// A card of each size of shared memory, and the one with kernels of its own: what its kernels' names end with, for the large tile of
/// linear layers, and for attention of 64, 96, 128 and 192 columns those of the keys and of the queries.
const CARDS: [(&str, &str, [&str; 4], [&str; 4]); 3] = [
    ("h100", "sm90", ["sm90_64", "sm90_96", "sm90_128", "sm90_192"], ["sm90_64", "sm90_96", "sm90_128", "sm90_192"]),
    (
        "a100",
        "128",
        ["bf16_64", "bf16_96", "bf16_128_by_32", "bf16_192_by_16"],
        ["bf16_64", "bf16_96", "bf16_128_by_32", "bf16_192"],
    ),
    (
        "rtx4090",
        "128_short",
        ["bf16_64", "bf16_96_by_32", "bf16_128_by_16", "bf16_192"],
        ["bf16_64", "bf16_96_by_32", "bf16_128", "bf16_192"],
    ),
];

type Results = Vec<Vec<u32>>;

/// Linear layers with large tiles, whose last rows, columns and k's fill none.
fn linear(device: &Tested<CudaDevice>, results: &mut Results) {
    let random = &mut device.random(1);
    let mut tensor = |shape: &[usize]| upload(device, shape, &random.values(shape.iter().product()));
    let (rows, inputs, outputs) = (264, 776, 1032);
    let (x, dy, weight) = (tensor(&[rows, inputs]), tensor(&[rows, outputs]), tensor(&[inputs, outputs]));
    let mut d_weight = device.zeros(&[inputs, outputs]).unwrap();
    device.linear_backward(&dy, &x, &weight, WeightLayout::InOut, &mut d_weight, None, Beta::One).unwrap();

    let (rows, width, hidden) = (776, 72, 1032);
    let (x, up, down) = (tensor(&[rows, width]), tensor(&[width, hidden]), tensor(&[hidden, width]));
    let forward = device.linear(&x, &up, WeightLayout::InOut, None).unwrap();
    let transposed = device.linear(&x, &down, WeightLayout::OutIn, None).unwrap();
    let weights = || MlpWeights { up: &up, up_bias: None, down: &down, down_bias: None };
    let out = device.mlp(&x, weights(), Activation::QuickGelu).unwrap();
    let (mut d_up, mut d_down) = (device.zeros(&[width, hidden]).unwrap(), device.zeros(&[hidden, width]).unwrap());
    let slots = MlpGradients { up: &mut d_up, up_bias: None, down: &mut d_down, down_bias: None };
    let dx = device.mlp_backward(&x, &x, &out.hidden, weights(), Activation::QuickGelu, slots, Beta::One).unwrap();

    // Sums long enough for wide tiles, and more tiles than two for each multiprocessor.
    let (x, long) = (tensor(&[264, 1032]), tensor(&[1032, 3464]));
    let long = device.linear(&x, &long, WeightLayout::InOut, None).unwrap();
    let (x, many) = (tensor(&[392, 392]), tensor(&[11_528, 392]));
    let many = device.linear(&x, &many, WeightLayout::OutIn, None).unwrap();

    // A layer and the norm of the residual sum behind it.
    let (x, weight, gain) = (tensor(&[900, 520]), tensor(&[520, 808]), tensor(&[808]));
    let stream = tensor(&[900, 808]);
    let to = ResidualNorm { norm: Norm::Rms, x: &stream, gain: &gain, bias: None };
    let added = device.linear_residual_layernorm(&x, &weight, None, to).unwrap();

    // The weights of a block at once.
    let (x, wide) = (tensor(&[136, 520]), tensor(&[136, 2056]));
    let mut weights = [[520, 520], [520, 2056], [2056, 520]].map(|shape| device.zeros(&shape).unwrap());
    let [square, up, down] = &mut weights;
    let gradient = |x, dy, d_weight| WeightGradient { x, dy, layout: WeightLayout::InOut, d_weight, beta: Beta::Zero };
    let gradients = vec![gradient(&x, &x, square), gradient(&x, &wide, up), gradient(&wide, &x, down)];
    device.weight_gradients(gradients).unwrap();
    let [square, up, down] = &weights;

    let of_stream = [&added.sum, &added.normed, &added.stats];
    let tensors = [square, up, down, &long, &many, &d_weight, &forward, &transposed, &out.hidden, &d_up, &d_down, &dx];
    for tensor in tensors.into_iter().chain(of_stream) {
        results.push(device.download(tensor).unwrap().into_iter().map(f32::to_bits).collect());
    }
}

/// Attention's backward; the last tokens fill no stage. It is given the first card's output and sums: the forward of compute capability 9.0
/// has tiles, and so bits, of its own.
fn attention(device: &Tested<CudaDevice>, saved: &mut Vec<[Vec<f32>; 2]>, results: &mut Results) {
    let cases = [
        (64, Mask::Causal),
        (40, Mask::Full),
        (96, Mask::Causal),
        (128, Mask::Causal),
        (128, Mask::Full),
        (192, Mask::Causal),
        (184, Mask::Full),
    ];
    for (case, (head_dim, mask)) in cases.into_iter().enumerate() {
        let (tokens, random) = (139, &mut device.random(head_dim as u64));
        let mut tensor = |width: usize| upload(device, &[1, tokens, width], &random.values(tokens * width));
        let (qkv, dy) = (tensor(3 * head_dim), tensor(head_dim));
        let out = device.attention(&qkv, 1, mask).unwrap();
        if case == saved.len() {
            saved.push([&out.output, &out.logsumexp].map(|tensor| device.download(tensor).unwrap()));
        }
        let output = device.upload(&[1, tokens, head_dim], &saved[case][0]).unwrap();
        let logsumexp = device.upload(&[1, 1, tokens], &saved[case][1]).unwrap();
        let d_qkv = device.attention_backward(&dy, &qkv, &output, &logsumexp, 1, mask).unwrap();
        results.push(device.download(&d_qkv).unwrap().into_iter().map(f32::to_bits).collect());
    }
}

#[test]
fn each_card_takes_the_variants_for_its_shared_memory_and_the_bits_are_the_same() {
    if !has_turn(1, 2) {
        return;
    }
    const NAME: &str = "variants::each_card_takes_the_variants_for_its_shared_memory_and_the_bits_are_the_same";
    if KERNELS.is_empty() || wanted() != Wanted::Simulator || !process::is_alone(NAME) {
        return;
    }
    let simulator = test_support::devices::strict();
    let (mut first, mut saved): (Option<Results>, _) = (None, Vec::new());
    let [h100, others @ ..] = CARDS;
    for (card, tile, keys, queries) in std::iter::once(h100).chain(in_turn(others, 2)) {
        simulator.set_options(None, &format!("counters=on,card={card}")).unwrap();
        let device = Tested::new(CudaDevice::poisoned(0, Precision::Bf16).unwrap(), Precision::Bf16);
        let mut results = Results::new();
        linear(&device, &mut results);
        attention(&device, &mut saved, &mut results);
        let reports = simulator.take_reports(None);
        assert!(reports.is_empty(), "{card}:\n{reports}");

        // What was launched, but for the kernels that have no variants.
        let counters = simulator.take_counters(None);
        let launches = counters.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
        let names = launches.map(|launch| launch["kernel"].as_str().unwrap().to_owned());
        let has_variants = |name: &String| {
            let large = name.contains("_bf16_128") || name.contains("_sm90");
            name.starts_with("attention_") || name.starts_with("linear_") && large
        };
        let names: BTreeSet<String> = names.filter(has_variants).collect();
        let gemms = ["forward", "transposed", "activate", "activate_backward", "weight", "weights"];
        let gemms = gemms.map(|op| match (tile, op) {
            ("sm90", "weights") => "linear_weights_sm90".to_owned(),
            ("sm90", "weight") => format!("linear_{op}_sm90_cooperative"),
            ("sm90", _) => format!("linear_{op}_sm90_ping_pong"),
            _ => format!("linear_{op}_bf16_{tile}"),
        });
        let of_hopper = ["linear_forward_sm90_cooperative", "linear_layernorm_sm90"].map(str::to_owned);
        let long = of_hopper.into_iter().filter(|_| tile == "sm90");
        let forward = if tile == "sm90" { tile } else { "bf16" };
        let forward = [64, 96, 128, 192].map(|columns| format!("attention_{forward}_{columns}"));
        let keys = keys.map(|end| format!("attention_backward_keys_{end}"));
        let queries = queries.map(|end| format!("attention_backward_queries_{end}"));
        assert_eq!(names, gemms.into_iter().chain(long).chain(forward).chain(keys).chain(queries).collect(), "{card}");

        let first = first.get_or_insert_with(|| results.clone());
        for (index, (one, other)) in first.iter().zip(&results).enumerate() {
            assert!(one == other, "result {index} is not the same on {card}");
        }
    }
}
