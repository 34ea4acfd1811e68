//! A kernel of Triton at toy size, all the way from its compiler to a prediction: `cargo xtask test --peers` writes its launch down.

use std::process::Command;

use igpt_engine::profile::Card;
use serde_json::Value;
use test_support::skipped;

#[test]
fn a_kernel_of_triton_is_counted_exactly_and_predicted_within_what_the_card_can_do() {
    let Some(launches) = std::env::var_os("GPU_PEERS_LAUNCHES") else {
        return skipped("a kernel of Triton through the model; `cargo xtask test --peers` compiles and runs it");
    };
    let output = Command::new(env!("CARGO_BIN_EXE_gpu-peers"))
        .arg("--launches")
        .arg(launches)
        .args(["--case", "toy/matmul", "--card", "a100"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let predicted: Value = serde_json::from_slice(&output.stdout).unwrap();
    let launch = &predicted["launches"][0];
    let number = |name: &str| launch[name].as_f64().unwrap();

    // 256 x 256 x 128 in tiles of 128 x 64: eight blocks of four warps.
    let flops = 2.0 * 256.0 * 256.0 * 128.0;
    assert_eq!(number("tensor_flops"), flops);
    // Each block reads its rows of A and its columns of B, all of which is in memory once.
    assert_eq!(number("l2_bytes"), 2.0 * (8.0 * (128.0 + 64.0) * 128.0 + 256.0 * 256.0));
    assert_eq!(number("dram_bytes"), 2.0 * (2.0 * 256.0 * 128.0 + 256.0 * 256.0));

    // Between what the card could do and a thousandth of it: a launch that small is all latency.
    let card = Card::named("a100").unwrap();
    let part = flops / predicted["seconds"].as_f64().unwrap() / card.peak();
    assert!((1e-3..0.5).contains(&part), "{part} of the card's peak");
}
