//! The benchmark at toy size, as a user starts it, on the simulator or the card that `IGPT_TEST_DEVICE` names: so that it works
//! on the day. Times mean nothing there.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value as Json;
use tempfile::TempDir;
use test_support::devices::{Wanted, simulator_library, wanted};

/// The program, with the simulator in the driver's place; nothing where the tests run on no CUDA device.
fn bench(folder: &Path) -> Option<Command> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-bench"));
    match wanted() {
        Wanted::Neither => return None,
        Wanted::Gpu => {}
        Wanted::Simulator => {
            let driver = folder.join("libcuda.so");
            if !driver.exists() {
                std::os::unix::fs::symlink(simulator_library(), &driver).unwrap();
            }
            command.env("LD_LIBRARY_PATH", folder).env("CUDASIM", "stop=warning,card=h100");
        }
    }
    command.args(["--size", "toy"]);
    Some(command)
}

fn said(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn json(path: &Path) -> Json {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn every_row_runs_is_right_and_stands_in_both_reports() {
    let folder = TempDir::new().unwrap();
    let Some(mut command) = bench(folder.path()) else { return };
    let path = folder.path().join("bench.json");
    let output = command.arg("--json").arg(&path).output().unwrap();
    let (page, errors) = said(&output);
    assert!(output.status.success(), "{errors}\n{page}");

    // Each row is right; without a time is only one that is a difference of two graphs.
    let report = json(&path);
    let rows = report["rows"].as_array().unwrap();
    for row in rows {
        let (error, tolerance) = (&row["checked"]["error"], &row["checked"]["tolerance"]);
        assert!(error.as_f64().unwrap() <= tolerance.as_f64().unwrap(), "{row}");
        let why = row["not_run"].as_str().unwrap_or_default();
        assert!(row["time_us"]["median"].is_f64() || why.contains("difference"), "{row}");
        assert!(
            page.contains(&format!(
                "| {} | {} | {} |",
                row["op"].as_str().unwrap(),
                row["model"].as_str().unwrap(),
                row["shape"].as_str().unwrap()
            )),
            "{row}"
        );
    }

    // No op is left out, nor a ceiling.
    for op in OPS {
        assert!(rows.iter().any(|row| row["op"] == *op), "{op} is missing");
    }
    for ceiling in ["copy", "l2", "mma", "ffma", "node_us"] {
        assert!(report["ceilings"][ceiling]["median"].is_f64(), "{ceiling}: {}", report["ceilings"]);
    }
    if wanted() == Wanted::Simulator {
        assert!(report["ceilings"]["wgmma"]["median"].is_f64(), "an H100 has wgmma");
        assert!(
            ["cuBLASLt: ", "NVML", "PyTorch: "].iter().all(|what| page.contains(what)),
            "what was not run is not said: {page}"
        );
    }
}

/// Every op that has a row.
const OPS: &[&str] = &[
    "qkv forward",
    "qkv input gradient",
    "qkv weight gradient",
    "proj forward",
    "fc forward",
    "fc + activation, forward",
    "down forward",
    "down input gradient x activation'",
    "down weight gradient",
    "attention forward",
    "attention backward",
    "residual + norm forward",
    "layer + residual + norm",
    "norm backward + residual",
    "cross-entropy",
    "gradient norm",
    "Adam",
    "embedding forward",
    "embedding backward",
    "attention of one token",
    "training step",
    "sampled token",
];

#[test]
fn a_baseline_of_another_card_or_size_is_refused_and_one_that_was_faster_fails() {
    let folder = TempDir::new().unwrap();
    let Some(mut command) = bench(folder.path()) else { return };
    let path = folder.path().join("before.json");
    let only = ["--only", "qkv forward"];
    let output = command.args(only).arg("--json").arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", said(&output).1);

    // As the run before was, but with rows a hundred times as fast: this one is worse.
    let against = |change: &dyn Fn(&mut Json)| {
        let mut baseline = json(&path);
        change(&mut baseline);
        let changed = folder.path().join("changed.json");
        std::fs::write(&changed, baseline.to_string()).unwrap();
        let output = bench(folder.path()).unwrap().args(only).arg("--compare").arg(&changed).output().unwrap();
        (output.status.code(), said(&output))
    };
    let (code, (page, _)) = against(&|baseline| {
        for row in baseline["rows"].as_array_mut().unwrap() {
            row["least_us"] = Json::from(row["time_us"]["median"].as_f64().unwrap() * 100.0);
            row["time_us"]["cv"] = Json::from(0.0);
        }
    });
    // The simulator's spread may be wider than any change; then the band says so.
    assert!(page.contains("## Changes") && page.contains("qkv forward"), "{page}");
    assert!(code == Some(1) && page.contains("WORSE") || page.contains("within the noise"), "{code:?} {page}");

    let (code, (_, errors)) = against(&|baseline| baseline["card"]["name"] = Json::from("another card"));
    assert!(code == Some(2) && errors.contains("another card"), "{errors}");
    let (code, (_, errors)) = against(&|baseline| baseline["size"] = Json::from("full"));
    assert!(code == Some(2) && errors.contains("full"), "{errors}");
}

#[test]
fn a_file_that_is_no_report_is_refused_before_anything_is_measured() {
    let folder = TempDir::new().unwrap();
    let Some(mut command) = bench(folder.path()) else { return };
    let path = folder.path().join("baseline.json");
    std::fs::write(&path, "{}").unwrap();
    let output = command.arg("--compare").arg(&path).output().unwrap();
    let (page, errors) = said(&output);
    assert_eq!((output.status.code(), page.as_str()), (Some(2), ""));
    assert!(errors.contains("baseline.json is no report"), "{errors}");
}
