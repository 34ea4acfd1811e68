//! What two ranks have written, read by Hugging Face's transformers: the same tensors, and nats per token as the engine has them.
//!
//! `cargo xtask peers --cpu` installs PyTorch and transformers into `.peers-cpu`; `IGPT_TRANSFORMERS_PYTHON` names another Python that has them.

use std::path::{Path, PathBuf};
use std::process::Command;

use test_support::skipped;

use crate::{Libraries, engine, place, tensor_files};

/// A Python that has transformers.
fn python() -> Option<PathBuf> {
    let given = std::env::var_os("IGPT_TRANSFORMERS_PYTHON").map(PathBuf::from);
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(".peers-cpu/bin/python");
    let python = given.or_else(|| own.is_file().then_some(own));
    // A peers' folder from before transformers was in it has none.
    let has = |python: &PathBuf| {
        let found = Command::new(python).args(["-c", "import torch, transformers"]).output();
        found.is_ok_and(|output| output.status.success())
    };
    python.filter(has)
}

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// A model with biases as it was saved. One without, as the paper's are, goes through `export`, which adds biases of zero: transformers
/// leaves those that a folder lacks as memory happens to be.
#[test]
fn transformers_reads_what_two_ranks_have_written() {
    let Some(libraries) = Libraries::new() else { return };
    let Some(python) = python() else {
        skipped("transformers: there is no Python with it; `cargo xtask peers --cpu` installs it (700 MB from PyPI)");
        return;
    };
    let (_folder, run) = place();
    let alone = || {
        let mut command = Command::new(engine());
        command.env("NO_COLOR", "1").env_remove("LD_LIBRARY_PATH");
        command
    };
    let tokens = run("tokens.npy");
    let encode = ["data", "encode", "--data", "sample", "--resolution", "4", "--split", "test", "--out"];
    succeeds(alone().args(encode).arg(&tokens));

    for (name, bias, exported) in [("biased", "--bias", false), ("plain", "--bias=false", true)] {
        libraries.train(2, &run(name), &["--steps", "3", "--precision", "f32", bias], &[]).succeed();
        let saved = run(name).join("checkpoints/step-00000003");
        let weights = tensor_files(&saved).into_iter().filter(|path| path.to_str().unwrap().contains("/model-000"));
        assert_eq!(weights.count(), 2);
        assert!(saved.join("model.safetensors.index.json").is_file());
        let folder = if exported { run("exported") } else { saved.clone() };
        if exported {
            succeeds(alone().args(["export", "--checkpoint"]).arg(&saved).arg("--out").arg(&folder));
        }

        // The engine's nats for each token of some images, and theirs.
        let nats = run("nats.npy");
        let eval =
            ["eval", "--data", "sample", "--split", "test", "--images", "5", "--device", "cpu", "--threads", "1"];
        succeeds(alone().args(eval).arg("--checkpoint").arg(&saved).arg("--per-token").arg(&nats));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ranks/read_by_transformers.py");
        let mut command = Command::new(&python);
        command.env("HF_HUB_OFFLINE", "1").env_remove("LD_LIBRARY_PATH");
        let printed = succeeds(command.args(["-B", "-W", "ignore"]).arg(script).args([&folder, &tokens, &nats]));
        println!("{name}: {printed}");
        assert!(printed.contains("tensors are equal"), "{printed}");
    }
}
