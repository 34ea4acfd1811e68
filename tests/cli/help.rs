//! What a newcomer reads first.

use crate::{assert_succeeds, engine, json_lines};

#[test]
fn every_command_explains_itself() {
    let text = assert_succeeds(engine().arg("--help"));
    let commands = vec![
        "train",
        "finetune",
        "eval",
        "sample",
        "serve",
        "probe",
        "import",
        "export",
        "data",
        "new",
        "plan",
        #[cfg(target_os = "linux")]
        "profile",
        "results",
        "demo",
        "doctor",
        "completions",
    ];
    for command in commands {
        assert!(text.contains(command), "{command} is not in the overview");
        let help = assert_succeeds(engine().args([command, "--help"]));
        assert!(help.len() > 300, "{command} explains itself in {} letters", help.len());
    }
    for command in ["fetch", "info", "palette", "encode", "bench"] {
        assert!(assert_succeeds(engine().args(["data", command, "--help"])).len() > 200, "data {command}");
    }
}

#[test]
fn doctor_says_what_is_there() {
    let report = json_lines(&assert_succeeds(engine().args(["doctor", "--json"]))).remove(0);
    assert!(report["gemm_gflops"].as_f64().unwrap() > 0.1, "{report}");
    assert_eq!(report["devices"][0]["name"], "cpu");
    assert!(assert_succeeds(engine().arg("doctor")).contains("device cpu"));
}

#[test]
fn unknown_flags_exit_with_two() {
    let output = engine().args(["train", "--learning-rate", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
