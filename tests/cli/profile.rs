//! `profile`: a step predicted launch by launch, without a card.

use igpt_engine::device::cuda::kernel::KERNELS;
use serde_json::Value;
use test_support::{has_turn, skipped};

use super::{assert_refused, assert_succeeds, engine};

/// The prediction of a step of the tiny model.
fn profile(flags: &[&str]) -> Option<Value> {
    if KERNELS.is_empty() {
        skipped("profile: this build has no kernels; `cargo xtask toolkit` gets the compiler (no GPU needed)");
        return None;
    }
    let mut command = engine();
    command.args(["profile", "--model", "tiny", "--resolution", "8", "--json"]).args(flags);
    Some(serde_json::from_str(&assert_succeeds(&mut command)).expect("one JSON object"))
}

fn number(of: &Value, key: &str) -> f64 {
    of[key].as_f64().unwrap_or_else(|| panic!("{key} of {of}"))
}

#[test]
fn the_object_has_what_scripts_read_and_its_parts_make_the_whole() {
    let Some(found) = profile(&["--batch", "4"]) else { return };
    let rows = found["rows"].as_array().unwrap();
    assert!(
        found["prediction"] == true
            && number(&found, "mfu") > 0.0
            && number(&found, "mfu_palm") > number(&found, "mfu")
    );
    assert_eq!(rows.iter().map(|row| row["count"].as_u64().unwrap()).sum::<u64>(), found["launches"].as_u64().unwrap());

    let rest = number(&found, "gaps_ms") / number(&found, "step_ms");
    let shares: f64 = rows.iter().map(|row| number(row, "share")).sum();
    assert!((shares + rest - 1.0).abs() < 1e-9, "{shares} {rest}");
    for row in rows {
        for key in [
            "name",
            "op",
            "count",
            "grid",
            "block",
            "registers",
            "shared",
            "blocks_per_multiprocessor",
            "bytes",
            "bound",
        ] {
            assert!(!row[key].is_null(), "{key} of {row}");
        }
        for key in ["issued", "tensor_cycles", "wavefronts", "predicted_us", "tensor_flops", "roofline_us"] {
            assert!(number(row, key) >= 0.0, "{key} of {row}");
        }
        assert!(number(row, "predicted_us") >= number(row, "roofline_us") * 0.999, "faster than the data sheet: {row}");
    }
}

/// Machine code that is not understood is gone through more seldom, or more often, than the PTX it was made of: a loop whose exit was not seen is left
/// out.
#[test]
fn kernels_with_products_have_about_as_many_instructions_as_their_ptx() {
    for card in ["a100", "h100"] {
        let Some(found) = profile(&["--batch", "4", "--card", card]) else { return };
        let rows = found["rows"].as_array().unwrap().iter();
        let products: Vec<&Value> = rows.filter(|row| number(row, "tensor_flops") > 0.0).collect();
        assert!(products.len() > 8, "{found}");
        for row in products {
            let of_ptx = number(row, "issued") / number(row, "ptx_instructions");
            assert!((0.5..1.5).contains(&of_ptx), "{card}: {of_ptx} of {row}");
        }
    }
}

#[test]
fn the_launches_of_a_step_are_those_of_its_code() {
    let Some(found) = profile(&["--batch", "4"]) else { return };
    let count = |name: &str| -> u64 {
        let rows = found["rows"].as_array().unwrap().iter();
        rows.filter(|row| row["name"].as_str().unwrap().starts_with(name))
            .map(|row| row["count"].as_u64().unwrap())
            .sum()
    };
    // Four layers: an attention forward and its two passes backward each; one embedding, one loss.
    assert_eq!(
        [count("attention_bf16_"), count("attention_backward_keys"), count("attention_backward_queries")],
        [4; 3]
    );
    assert_eq!([count("embedding_bf16"), count("cross_entropy")], [1, 1]);
}

#[test]
fn a_pixel_is_predicted_with_the_launches_of_a_drawn_step() {
    let Some(found) = profile(&["--draw", "--batch", "4"]) else { return };
    let rows = found["rows"].as_array().unwrap();
    let count = |name: &str| -> u64 {
        let of = |row: &&Value| row["name"].as_str().unwrap().starts_with(name);
        rows.iter().filter(of).map(|row| row["count"].as_u64().unwrap()).sum()
    };
    // Four layers of four products, and the head; a norm before each half of a block and one at the end.
    let kernels = ["attention_decode_bf16", "attention_decode_combine", "linear", "layernorm", "embedding", "sample"];
    assert_eq!(kernels.map(count), [4, 4, 17, 9, 1, 1]);
    assert_eq!(count("linear_forward_bf16_few") + count("linear_activate_bf16_few"), 16, "weights of few rows");
    assert!(number(&found, "mbu") > 0.0 && number(&found, "mbu") < 1.0, "{found}");

    // A training step has none, and more images take longer.
    assert!(profile(&["--batch", "4"]).unwrap()["mbu"].is_null());
    assert!(number(&profile(&["--draw", "--batch", "64"]).unwrap(), "step_ms") > number(&found, "step_ms"));
    let mut command = engine();
    command.args(["profile", "--model", "tiny", "--resolution", "8", "--draw"]);
    let said = assert_succeeds(&mut command);
    assert!(said.contains("Drawing a pixel of each of 16 images") && said.contains("MBU"), "{said}");
}

#[test]
fn faster_cards_and_smaller_batches_take_less_time() {
    if !has_turn(1, 2) {
        return;
    }
    let Some(h100) = profile(&["--batch", "4", "--card", "h100"]) else { return };
    let step = |flags: &[&str]| number(&profile(flags).unwrap(), "step_ms");
    let h100 = number(&h100, "step_ms");
    assert!(step(&["--batch", "4", "--card", "h200"]) <= h100);
    assert!(step(&["--batch", "4", "--card", "a100"]) > h100);
    assert!(step(&["--batch", "64", "--card", "h100"]) > h100);
}

/// Measured here: no figure is asked for, but that the parts make the whole.
#[test]
fn a_step_on_this_processor_is_measured_op_by_op() {
    let mut command = engine();
    command.args(["profile", "--device", "cpu", "--model", "tiny", "--resolution", "8", "--threads", "1", "--json"]);
    let found: Value = serde_json::from_str(&assert_succeeds(&mut command)).expect("one JSON object");
    let rows = found["rows"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["op"].as_str().unwrap()).collect();
    assert!(["linear", "mlp", "attention", "adam"].iter().all(|op| names.contains(op)), "{names:?}");
    for key in ["step_ms", "tokens_per_second", "gflops", "of_gemm", "gemm_gflops", "memory_gbytes"] {
        assert!(number(&found, key) > 0.0, "{key} of {found}");
    }
    let ops: f64 = rows.iter().map(|row| number(row, "ms")).sum();
    let shares: f64 = rows.iter().map(|row| number(row, "share")).sum();
    let rest = number(&found, "rest_ms");
    assert!((ops / (ops + rest) - shares).abs() < 1e-6, "{ops} ms in ops, {rest} beside, {shares} of the whole");
}

#[test]
fn a_pixel_is_drawn_on_this_processor_op_by_op() {
    let measured = |flags: &[&str]| -> Value {
        let mut command = engine();
        command.args("profile --device cpu --draw --model tiny --resolution 8 --threads 1".split(' '));
        serde_json::from_str(&assert_succeeds(command.args(flags))).unwrap()
    };
    for precision in ["f32", "bf16"] {
        let found = measured(&["--batch", "3", "--json", "--precision", precision]);
        let calls =
            |op: &str| found["rows"].as_array().unwrap().iter().find(|row| row["op"] == op).unwrap()["calls"].as_f64();
        let ops = ["attention_decode", "mlp", "linear", "residual_layernorm", "embedding", "sample"];
        assert_eq!(ops.map(|op| calls(op).unwrap()), [4.0, 4.0, 9.0, 8.0, 1.0, 1.0], "{found}");
        assert!(number(&found, "of_memory") > 0.0 && number(&found, "read_gbytes") > 0.0, "{found}");
    }
    let mut command = engine();
    command.args(["profile", "--device", "cpu", "--model", "tiny", "--resolution", "8", "--precision", "bf16"]);
    assert!(assert_refused(&mut command).contains("give --draw"));
}

#[test]
fn what_cannot_be_is_refused_with_what_can() {
    let refused = |flags: &[&str]| assert_refused(engine().arg("profile").args(flags));
    assert!(refused(&["--card", "h1000"]).contains("h100-pcie"));
    assert!(refused(&["--batch", "0"]).contains("--batch"));
    assert!(refused(&["--resolution", "100000"]).contains("--resolution"));
    assert!(refused(&["--model", "xxl"]).contains("tiny"));
    if !KERNELS.is_empty() {
        assert!(refused(&["--batch", "65536", "--resolution", "256"]).contains("tokens at a time"));
    }
    assert!(refused(&["--model", "tiny", "--svg", "/no/such/folder/a.svg"]).contains("/no/such/folder"));
}

#[test]
fn the_picture_has_a_bar_for_each_op() {
    if KERNELS.is_empty() {
        return skipped("profile: this build has no kernels; `cargo xtask toolkit` gets the compiler (no GPU needed)");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("step.svg");
    let mut command = engine();
    command.args(["profile", "--model", "tiny", "--resolution", "8", "--batch", "2", "--svg"]).arg(&file);
    let said = assert_succeeds(&mut command);
    assert!(said.contains("predicted") && said.contains("share of each op"), "{said}");
    let svg = std::fs::read_to_string(file).unwrap();
    assert!(["linear", "attention", "layernorm", "adam"].iter().all(|op| svg.contains(op)), "{svg}");
}
