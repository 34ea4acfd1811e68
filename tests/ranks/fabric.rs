//! `doctor --ranks`: every collective is tried before a run needs it.

use serde_json::Value;

use crate::{Ended, Libraries, Rank, Ranks, engine, port};

/// The binary as each of `ranks` ranks.
fn doctor(libraries: &Libraries, ranks: usize, flags: &[&str], fault: &str) -> Ranks {
    let port = port();
    let start = |rank| {
        let mut command = libraries.rank(engine(), [rank, ranks], port);
        command
            .args(["doctor", "--ranks", "--largest", "1", "--device", "cuda", "--meeting-timeout", "40"])
            .args(flags);
        Rank::start(command.env("NCCLSIM_FAULT", fault))
    };
    Ranks { ranks: (0..ranks).map(start).collect(), port }
}

#[test]
fn every_collective_is_right_and_timed() {
    let Some(libraries) = Libraries::new() else { return };
    let text = doctor(&libraries, 2, &[], "").succeed();
    for part in
        ["2 ranks by NCCL", "all-to-all", "1 MiB", "all numbers are right on all ranks", "iGPT-L adds up 5.4 GB"]
    {
        assert!(text.contains(part), "{part} is not in: {text}");
    }

    let report: Value = serde_json::from_str(&doctor(&libraries, 3, &["--json"], "").succeed()).unwrap();
    let trials = report["collectives"].as_array().unwrap();
    assert_eq!((report["ranks"].as_u64(), trials.len()), (Some(3), 15));
    for trial in trials {
        let of = |name: &str| trial[name].as_f64().unwrap();
        let share = match trial["collective"].as_str().unwrap() {
            "all-reduce" => 4.0 / 3.0,
            "broadcast" => 1.0,
            _ => 2.0 / 3.0,
        };
        let expected = share * of("bytes") / of("seconds");
        assert!((of("bus_bytes_per_second") / expected - 1.0).abs() < 1e-9, "{trial}");
    }
}

/// The first all-gather is the one by which ranks tell each other of the all-reduce before it.
#[test]
fn a_wrong_number_is_found_and_its_rank_named() {
    let Some(libraries) = Libraries::new() else { return };
    let ended = doctor(&libraries, 2, &[], "rank=1,at=1,kind=wrong").end();
    let told: String = ended.iter().map(|Ended { error, .. }| error.as_str()).collect();
    assert!(ended.iter().all(|rank| rank.code == Some(3)), "{ended:#?}");
    for part in ["rank 1 of 2: the all-reduce gave", "as element 0, which is wrong", "rank 1 has got wrong numbers"] {
        assert!(told.contains(part), "{part} is not in: {told}");
    }
}

#[test]
fn one_process_is_told_how_to_start_several() {
    let output = std::process::Command::new(engine()).args(["doctor", "--ranks"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("torchrun --no-python"), "{text}");
}
