//! What is refused before a rank has met another, with the remedy.

use std::process::Command;

use crate::{Libraries, RUN, engine, place};

#[track_caller]
fn refused(command: &mut Command, parts: &[&str]) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(parts.iter().all(|part| text.contains(part)), "{parts:?} are not all in: {text}");
}

fn alone() -> Command {
    let mut command = Command::new(engine());
    command.args(RUN).env("NO_COLOR", "1").env_remove("LD_LIBRARY_PATH");
    command
}

#[test]
fn half_a_launch_is_refused() {
    let (_folder, run) = place();
    refused(
        alone().args(["--device", "cpu", "--out"]).arg(run("a")).env("RANK", "1"),
        &["WORLD_SIZE is not", "unset RANK"],
    );
    let mut two = alone();
    two.args(["--device", "cpu", "--out"]).arg(run("b")).envs([("RANK", "0"), ("WORLD_SIZE", "2")]);
    refused(&mut two, &["MASTER_ADDR is not set", "torchrun"]);
}

#[cfg(not(feature = "mpi"))]
#[test]
fn ranks_on_cpus_need_mpi() {
    let (_folder, run) = place();
    let mut two = alone();
    two.args(["--device", "cpu", "--out"]).arg(run("a")).envs([
        ("RANK", "0"),
        ("WORLD_SIZE", "2"),
        ("NCCL_COMM_ID", "127.0.0.1:9"),
    ]);
    refused(&mut two, &["2 ranks on CPUs talk by MPI", "--features mpi", "--device cuda"]);
}

#[test]
fn a_batch_that_ranks_cannot_share_is_refused_with_those_that_can() {
    let (_folder, run) = place();
    refused(
        alone().args(["--global-batch", "7", "--batch", "2", "--out"]).arg(run("a")),
        &["--global-batch 7 is not a multiple of --batch 2"],
    );

    let Some(libraries) = Libraries::new() else { return };
    let ended = libraries.train(2, &run("b"), &["--global-batch", "5", "--steps", "1"], &[]).end();
    for rank in &ended {
        let parts = ["2 ranks cannot share a step of 5 images evenly", "Ranks that can: 1, 5"];
        assert!(rank.code == Some(2) && parts.iter().all(|part| rank.error.contains(part)), "{rank:#?}");
    }
    assert!(!run("b").exists());
}

#[test]
fn a_machine_without_nccl_is_told_where_to_get_it() {
    let Some(libraries) = Libraries::new() else { return };
    std::fs::remove_file(libraries.0.path().join("libnccl.so.2")).unwrap();
    let (_folder, run) = place();
    let mut rank = libraries.rank(engine(), [0, 2], 9);
    rank.args(RUN).args(["--device", "cuda", "--out"]).arg(run("a"));
    refused(&mut rank, &["no NCCL", "libnccl2", "one process"]);
}

#[test]
fn ranks_with_other_flags_are_told_apart() {
    let Some(libraries) = Libraries::new() else { return };
    let (_folder, run) = place();
    let port = crate::port();
    let start = |rank: usize| {
        let mut command = libraries.rank(engine(), [rank, 2], port);
        command.args(RUN).args([
            "--device",
            "cuda",
            "--steps",
            "2",
            "--seed",
            if rank == 0 { "1" } else { "2" },
            "--out",
        ]);
        crate::Rank::start(command.arg(run("a")))
    };
    let ended = crate::Ranks { ranks: vec![start(0), start(1)], port }.end();
    // Whoever finds it first says so, and ends the other.
    assert!(ended.iter().any(|rank| rank.error.contains("rank 1 has another configuration than rank 0")), "{ended:#?}");
    for rank in &ended {
        assert!(rank.code == Some(3), "{ended:#?}");
    }
}

/// As it was before NCCL 2.22.
#[test]
fn an_nccl_whose_ids_differ_is_refused_before_anybody_waits() {
    let Some(libraries) = Libraries::new() else { return };
    let (_folder, run) = place();
    for rank in libraries.train(2, &run("a"), &["--steps", "1"], &[("NCCLSIM_OLD", "1")]).end() {
        let parts = ["gives every rank an id of its own", "2.22 or later", "--features mpi"];
        assert!(rank.code == Some(2) && parts.iter().all(|part| rank.error.contains(part)), "{rank:#?}");
    }
}
