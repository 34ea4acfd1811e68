//! The shipped binary on a CUDA device: it finds `libcuda.so` as it would a driver's, and here that is the simulator.

use std::path::Path;
use std::process::Command;

use igpt_engine::device::cuda::kernel::KERNELS;
use tempfile::TempDir;
use test_support::devices::{Wanted, simulator_library, wanted};

use test_support::has_turn;

use crate::resume::metrics;
use crate::{assert_refused, assert_succeeds, engine, json_lines, losses, weights_and_moments};

/// Two layers on images of 4 × 4, so that the simulator takes a fraction of a second for a step.
pub const RUN: [&str; 20] = [
    "train",
    "--layers",
    "2",
    "--width",
    "64",
    "--heads",
    "2",
    "--resolution",
    "4",
    "--batch",
    "2",
    "--lr",
    "0.01",
    "--eval-every",
    "0",
    "--sample-every",
    "0",
    "--save-every",
    "0",
    "--device",
];

/// A folder whose `libcuda.so` is the simulator; nothing where the tests run on no CUDA device.
pub struct Driver(Option<TempDir>);

impl Driver {
    pub fn new() -> Option<Self> {
        match wanted() {
            Wanted::Neither => None,
            Wanted::Gpu => Some(Self(None)),
            Wanted::Simulator => {
                let folder = tempfile::tempdir().unwrap();
                std::os::unix::fs::symlink(simulator_library(), folder.path().join("libcuda.so")).unwrap();
                Some(Self(Some(folder)))
            }
        }
    }

    /// The binary with that driver, in which blocks and warps run in the order of `seed`.
    pub fn engine(&self, seed: u64) -> Command {
        self.engine_with(&format!("seed={seed}"))
    }

    /// The binary with that driver, and options of the simulator.
    pub fn engine_with(&self, options: &str) -> Command {
        let mut command = engine();
        if let Some(folder) = &self.0 {
            let options = format!("stop=warning,{options}");
            command.env("LD_LIBRARY_PATH", folder.path()).env("CUDASIM", options);
        }
        command
    }

    pub fn train(&self, seed: u64, device: &str, out: &Path, flags: &[&str]) -> Command {
        let mut command = self.engine(seed);
        command.args(RUN).arg(device).args(flags).arg("--out").arg(out);
        command
    }
}

/// The binary on a machine that has no driver.
fn without_driver() -> Command {
    let mut command = engine();
    command.env_remove("LD_LIBRARY_PATH");
    command
}

#[test]
fn a_run_follows_the_cpu_and_every_order_gives_the_same_bits() {
    if !has_turn(0, 3) {
        return;
    }
    let Some(driver) = Driver::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, seed: u64, device: &str, flags: &[&str]| {
        let out = folder.path().join(name);
        let flags: Vec<&str> = ["--steps", "5"].iter().chain(flags).copied().collect();
        assert_succeeds(&mut driver.train(seed, device, &out, &flags));
        (weights_and_moments(&out, 5), metrics(&out))
    };
    let (_, cpu) = run("cpu", 0, "cpu", &[]);
    for (precision, tolerance) in [("f32", 1e-4), ("bf16", 2e-3)] {
        let flags = ["--precision", precision];
        let (bits, losses) = run(&format!("graph-{precision}"), 1, "cuda", &flags);
        assert_eq!(losses.len(), cpu.len());
        for ((step, loss), (expected_step, expected)) in losses.iter().zip(&cpu) {
            assert_eq!(step, expected_step, "the metrics are complete and in order");
            assert!((loss - expected).abs() <= tolerance * expected, "{precision} step {step}: {loss}, not {expected}");
        }
        let again = run(&format!("eager-{precision}"), 2, "cuda:0", &["--precision", precision, "--no-graph"]);
        assert!(again == (bits, losses), "{precision}: another order of blocks and warps, without a graph");
    }
}

#[test]
fn a_resumed_run_is_undisturbed_and_may_change_its_device() {
    if !has_turn(1, 3) {
        return;
    }
    let Some(driver) = Driver::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    // The schedule is that of the last step, so a constant one.
    let flags = |steps: &'static str| ["--schedule", "constant", "--warmup", "0", "--steps", steps];
    assert_succeeds(&mut driver.train(0, "cuda", &whole, &flags("6")));
    assert_succeeds(&mut driver.train(1, "cuda", &parts, &flags("2")));
    assert_succeeds(driver.train(2, "cuda", &parts, &flags("6")).arg("--resume"));
    assert!(weights_and_moments(&parts, 6) == weights_and_moments(&whole, 6));
    assert_eq!(metrics(&parts), metrics(&whole));
    let config = |run: &Path| std::fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(config(&whole).contains("precision = \"bf16\"") && config(&whole).contains("device = \"cuda\""));

    // On to the CPU, which has no bf16, and back to the GPU.
    assert_succeeds(driver.train(0, "cpu", &parts, &flags("8")).arg("--resume"));
    assert!(config(&parts).contains("precision = \"f32\""));
    assert_succeeds(driver.train(0, "cuda", &parts, &flags("9")).arg("--resume"));
    assert!(config(&parts).contains("precision = \"f32\""), "a run keeps its precision");
    assert_succeeds(driver.train(0, "cuda", &parts, &flags("10")).args(["--resume", "--precision", "bf16"]));
    let steps: Vec<u64> = metrics(&parts).into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps, (1..=10).collect::<Vec<_>>());
}

#[test]
fn other_commands_compute_there_too() {
    if !has_turn(2, 3) {
        return;
    }
    let Some(driver) = Driver::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let flags = ["--steps", "2", "--eval-every", "2", "--eval-images", "2", "--sample-every", "2"];
    // auto takes the device, and says so.
    let output = driver.train(0, "auto", &run, &flags).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("on the device cuda (") && said.contains("bf16"), "{said}");
    let nats = |device: &str, flags: &[&str]| {
        let mut command = driver.engine(0);
        command.arg("eval").arg("--checkpoint").arg(&run).args(["--images", "4", "--json", "--device", device]);
        json_lines(&assert_succeeds(command.args(flags))).remove(0)["nats_per_token"].as_f64().unwrap()
    };
    let (cpu, f32, bf16) = (nats("cpu", &[]), nats("cuda", &["--precision", "f32"]), nats("cuda", &[]));
    assert!((f32 / cpu - 1.0).abs() < 1e-5 && (bf16 / cpu - 1.0).abs() < 2e-3, "{cpu} {f32} {bf16}");
    let tokens = |device: &str| {
        let (out, npy) = (folder.path().join("grid.png"), folder.path().join(format!("{device}.npy")));
        let mut command = driver.engine(0);
        command.args(["sample", "--unconditional", "--count", "2", "--temperature", "0", "--device", device]);
        assert_succeeds(command.arg("--checkpoint").arg(&run).arg("--out").arg(out).arg("--tokens-out").arg(&npy));
        std::fs::read(npy).unwrap()
    };
    assert_eq!(tokens("cuda").len(), tokens("cpu").len());
    // Ten classes, so an image of each is enough to learn from.
    let tuned = folder.path().join("tuned");
    let mut command = driver.engine(0);
    command.arg("finetune").arg("--checkpoint").arg(&run).args(["--steps", "3", "--batch", "2", "--eval-images", "2"]);
    let lines = json_lines(&assert_succeeds(command.args(["--device", "cuda", "--json", "--out"]).arg(&tuned)));
    assert_eq!(losses(&lines).len(), 3);
}

#[test]
fn doctor_lists_devices_and_kernels() {
    let Some(driver) = Driver::new() else { return };
    let report = json_lines(&assert_succeeds(driver.engine(0).args(["doctor", "--json"]))).remove(0);
    let device = report["devices"].as_array().unwrap().iter().find(|device| device["name"] == "cuda:0").unwrap();
    assert_eq!(device["ready"], true, "{device}");
    assert!(device["memory_gib"].as_f64().unwrap() > 0.1 && report["cuda_driver"].is_string(), "{report}");
    let kernels = report["kernels"].as_array().unwrap();
    assert_eq!(kernels.len(), KERNELS.len());
    assert!(kernels.iter().all(|kernel| kernel["resources"][0]["registers"].as_u64().unwrap() > 0));
    let text = assert_succeeds(driver.engine(0).args(["doctor", "--kernels"]));
    assert!(text.contains("device cuda:0") && text.contains("ready") && text.contains("CUDA driver"), "{text}");
    assert!(KERNELS.iter().all(|kernel| text.contains(kernel.name)), "{text}");
}

/// Only where there is none: a machine with a GPU has a driver.
#[test]
fn without_a_driver_the_message_says_what_to_do() {
    if wanted() == Wanted::Gpu {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut command = without_driver();
    let message = assert_refused(command.args(RUN).args(["cuda", "--steps", "1", "--out"]).arg(&out));
    let missing = if KERNELS.is_empty() { "cargo xtask toolkit" } else { "no CUDA driver" };
    assert!(message.contains(missing) && message.contains("--device cpu"), "{message}");
    assert!(!out.exists(), "nothing should have been started");
    let mut command = without_driver();
    let message =
        assert_refused(command.args(RUN).args(["cpu", "--steps", "1", "--precision", "bf16", "--out"]).arg(&out));
    assert!(message.contains("--precision bf16"), "{message}");
    let mut command = without_driver();
    let message = assert_refused(command.args(RUN).args(["gpu", "--steps", "1", "--out"]).arg(&out));
    assert!(message.contains("cuda:N"), "{message}");
    let output = without_driver().args(RUN).args(["auto", "--steps", "1", "--out"]).arg(&out).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("on the device cpu") && said.contains(", since "), "{said}");
    let report = json_lines(&assert_succeeds(without_driver().args(["doctor", "--json"]))).remove(0);
    let cuda = report["devices"].as_array().unwrap().iter().find(|device| device["name"] == "cuda").unwrap();
    assert!(cuda["ready"] == false && cuda["why"].as_str().unwrap().contains("driver"), "{cuda}");
}

#[test]
fn a_device_that_is_not_there() {
    let Some(driver) = Driver::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let message = assert_refused(&mut driver.train(0, "cuda:99", &folder.path().join("run"), &["--steps", "1"]));
    assert!(message.contains("device 99") && message.contains("--device cpu"), "{message}");
}

#[test]
fn a_profile_puts_measured_times_beside_the_predicted() {
    // A real card would have to be told by its name.
    let Some(driver) = Driver::new().filter(|driver| driver.0.is_some()) else { return };
    let mut command = driver.engine_with("card=h100");
    command.args(["profile", "--model", "tiny", "--resolution", "4", "--batch", "2", "--card", "h100", "--measure"]);
    let found: serde_json::Value = serde_json::from_str(&assert_succeeds(command.arg("--json"))).unwrap();

    let rows = found["rows"].as_array().unwrap();
    let measured = |row: &serde_json::Value| row["measured_us"].as_f64().unwrap() * row["count"].as_f64().unwrap();
    let sum: f64 = rows.iter().map(measured).sum();
    let all = found["measured_ms"].as_f64().unwrap();
    assert!(all > 0.0 && (sum / 1e3 - all).abs() < 1e-3 * all, "{sum} us of the rows, {all} ms of all");
}
