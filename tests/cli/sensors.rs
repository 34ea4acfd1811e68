//! A card's sensors, by NVML, and the peak of a card that nobody knows. Driver and library are the simulator's, whose cards have
//! 40 °C and 200 W and their place on the bus, from 1; NVML's numbers of them run backwards.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;
use test_support::devices::{Wanted, simulator_library, wanted};

use crate::cuda::RUN;
use crate::tensorboard::{curves, event_files};
use crate::{assert_succeeds, engine, json_lines, stderr, weights_and_moments};

/// A folder with the driver's two libraries; nothing where the tests do not run on the simulator.
fn driver_package() -> Option<TempDir> {
    if wanted() != Wanted::Simulator {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["libcuda.so", "libnvidia-ml.so.1"] {
        std::os::unix::fs::symlink(simulator_library(), folder.path().join(name)).unwrap();
    }
    Some(folder)
}

fn engine_on(package: &Path, options: &str) -> Command {
    let mut command = engine();
    command.env("LD_LIBRARY_PATH", package).env("CUDASIM", format!("stop=warning,{options}"));
    command
}

fn train_on(package: &Path, options: &str, device: &str, out: &Path, steps: &str) -> Command {
    let mut command = engine_on(package, options);
    command.args(RUN).args([device, "--steps", steps, "--schedule", "constant", "--warmup", "0", "--out"]).arg(out);
    command
}

fn metrics(run: &Path) -> Vec<Value> {
    json_lines(&std::fs::read_to_string(run.join("metrics.jsonl")).unwrap())
}

/// The readings of a run.
fn readings(run: &Path) -> Vec<Value> {
    metrics(run).into_iter().filter_map(|line| line.get("gpu").cloned()).collect()
}

#[test]
fn the_sensors_are_those_of_the_card_that_trains_and_change_no_bit() {
    let Some(package) = driver_package() else { return };
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");

    // The second card, which NVML counts as the first.
    let output = train_on(package.path(), "devices=2", "cuda:1", &run, "3").output().unwrap();
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("202 W, 42 °C, held by power cap"), "{said}");
    let reading = readings(&run).remove(0);
    let expected = [("watts", 202.0), ("celsius", 42.0), ("sm_mhz", 1410.0), ("memory_mhz", 2600.0)];
    assert!(expected.iter().all(|(key, value)| reading[*key].as_f64() == Some(*value)), "{reading}");
    assert!(reading["joules"].as_f64().unwrap() >= 0.0, "{reading}");
    assert_eq!(reading["throttled_by"], serde_json::json!(["power cap"]));
    assert!(reading["memory_bytes"].as_u64().unwrap() > 100_000, "{reading}");

    // The report and TensorBoard have them too.
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    for part in ["Power of the card, W", "Temperature of the card", "Clock of the multi", "by NVML", "at most 42 °C"] {
        assert!(page.contains(part), "{part}");
    }
    let curves = curves(&event_files(&run));
    assert_eq!(curves["gpu/watts"][0], (1, 202.0));
    assert_eq!(curves["gpu/throttled_by"][0], (1, 1.0));

    // Without NVML there is nothing of it, no word is lost about it, and every bit is the same.
    std::fs::remove_file(package.path().join("libnvidia-ml.so.1")).unwrap();
    let bare = folder.path().join("bare");
    let output = train_on(package.path(), "devices=2", "cuda:1", &bare, "3").output().unwrap();
    assert!(output.status.success() && !stderr(&output).contains("NVML"), "{}", stderr(&output));
    assert!(readings(&bare).is_empty());
    assert!(weights_and_moments(&bare, 3) == weights_and_moments(&run, 3));
}

#[test]
fn what_a_card_does_not_support_is_left_out() {
    let Some(package) = driver_package() else { return };
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let lacks = "nvml_lacks=TotalEnergyConsumption+Temperature+CurrentClocksThrottleReasons+MemoryInfo_v2";
    assert_succeeds(&mut train_on(package.path(), lacks, "cuda", &run, "2"));
    let reading = readings(&run).remove(0);
    // Energy by power and time, then.
    let mut keys: Vec<&String> = reading.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["joules", "memory_mhz", "sm_mhz", "watts"]);
}

/// A run that lasts long enough for a second reading, however fast this machine is: its output, and seconds.
fn lasting_run(package: &Path, options: &str, run: &Path) -> (Output, f64) {
    for steps in ["12", "100", "1000"] {
        let start = Instant::now();
        let output = train_on(package, options, "cuda", run, steps).arg("--json").output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let last = metrics(run).pop().unwrap();
        if last["elapsed"].as_f64().unwrap() > 1.5 {
            return (output, start.elapsed().as_secs_f64());
        }
        std::fs::remove_dir_all(run).unwrap();
    }
    panic!("a thousand steps took no second");
}

#[test]
fn a_card_that_nvml_loses_in_the_middle_is_told_of_once_and_trains_on() {
    let Some(package) = driver_package() else { return };
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let (output, _) = lasting_run(package.path(), "card=h100,nvml_lost=1", &run);
    let said = stderr(&output);
    assert_eq!(said.matches("sensors do not answer (NVML: ").count(), 1, "{said}");
    // The reading before that may be older than the first step.
    let lines = json_lines(&String::from_utf8(output.stdout).unwrap());
    assert!(readings(&run).len() <= 1 && lines.last().unwrap()["ending"] == "finished");
}

#[test]
fn energy_adds_up_over_sessions() {
    let Some(package) = driver_package() else { return };
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let (output, seconds) = lasting_run(package.path(), "", &run);
    let lines = json_lines(&String::from_utf8(output.stdout).unwrap());
    let joules = lines.last().unwrap()["joules"].as_f64().unwrap();
    assert!(joules > 100.0 && joules < 201.0 * seconds, "{joules} J of 201 W in {seconds} s");
    assert!(lines.iter().any(|line| line["event"] == "step" && line["gpu"]["joules"] == joules));

    let steps = (metrics(&run).len() + 1).to_string();
    let said = assert_succeeds(train_on(package.path(), "", "cuda", &run, &steps).arg("--resume"));
    assert!(said.contains("energy ") && said.contains("by NVML"), "{said}");
    let after: Vec<f64> = readings(&run).iter().map(|reading| reading["joules"].as_f64().unwrap()).collect();
    assert!(after.is_sorted() && *after.last().unwrap() >= joules, "{after:?}");
}

#[test]
fn doctor_shows_the_sensors_of_each_card_or_what_is_missing() {
    let Some(package) = driver_package() else { return };
    let doctor = |flags: &[&str]| assert_succeeds(engine_on(package.path(), "devices=2").arg("doctor").args(flags));
    let text = doctor(&[]);
    for watts in ["now 201 of 700 W, 41 °C, 1410 of 1980 MHz, 0.0 of 8.0 GiB in use, power cap, by NVML", "now 202 of"]
    {
        assert!(text.contains(watts), "{text}");
    }
    let report = json_lines(&doctor(&["--json"])).remove(0);
    let second = &report["devices"][2];
    assert_eq!((&second["pci_bus_id"], &second["nvml"]["now"]["celsius"]), (&"00000000:02:00.0".into(), &42.into()));

    std::fs::remove_file(package.path().join("libnvidia-ml.so.1")).unwrap();
    assert!(doctor(&[]).contains("no power, temperature and clocks: libnvidia-ml.so.1 is not there"));
}

#[test]
fn of_a_card_that_nobody_knows_the_gemm_is_measured_and_it_says_so() {
    let Some(package) = driver_package() else { return };
    let folder = tempfile::tempdir().unwrap();
    let train = |card: &str| {
        let run = folder.path().join(card);
        let output = train_on(package.path(), &format!("card={card}"), "cuda", &run, "2").output().unwrap();
        let said = stderr(&output);
        assert!(output.status.success(), "{said}");
        let page = std::fs::read_to_string(run.join("report.html")).unwrap();
        (said, metrics(&run).remove(0), page, weights_and_moments(&run, 2))
    };

    let (said, line, page, bits) = train("rtx5090");
    assert!(said.contains("note: no data sheet of this card is known") && said.contains("% of its own GEMM"), "{said}");
    assert!(line["peak"] == "measured" && line["mfu"].as_f64().unwrap() > 0.0, "{line}");
    assert!(page.contains("of its own GEMM, measured at the start (") && page.contains("³, bf16)"));

    // A known one has its data sheet's, and neither changes a bit.
    let (said, line, page, known_bits) = train("rtx4090");
    assert!(!said.contains("data sheet") && line["mfu"].is_number() && line.get("peak").is_none(), "{said} {line}");
    assert!(page.contains("TFLOP/s of GeForce RTX 4090 in bf16"));
    assert!(bits == known_bits);
}
