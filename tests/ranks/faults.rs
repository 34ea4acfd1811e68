//! Ranks that die, hang, or call the wrong thing: all ranks end within the time-out, one of them says who and where.

use test_support::has_turn;

use crate::{Ended, Libraries, place, state};

/// A first step, in which kernels are loaded, may take long on a busy machine; those after it take a fraction of a second.
const FLAGS: [&str; 6] = ["--steps", "4", "--collective-timeout", "15", "--meeting-timeout", "50"];

/// A collective of the third step, which is a replayed graph: seven come before the first, three of which gather weights, and eight in
/// each: of three buckets an all-gather of weights and a reduce-scatter, of norms, and of losses.
const IN_STEP_3: &str = "at=26";

/// Two ranks, one with a fault.
#[track_caller]
fn with_fault(fault: &str, flags: &[&str]) -> Option<Vec<Ended>> {
    let libraries = Libraries::new()?;
    let (_folder, run) = place();
    let flags = [&FLAGS[..], flags].concat();
    Some(libraries.train(2, &run("run"), &flags, &[("NCCLSIM_FAULT", fault)]).end())
}

/// The survivors end with code 3, and exactly one message, which has these parts.
#[track_caller]
fn assert_told(ended: &[Ended], survivors: &[usize], parts: &[&str]) {
    let told: String =
        ended.iter().flat_map(|rank| rank.error.lines()).filter(|line| line.starts_with("error")).collect();
    assert!(survivors.iter().all(|rank| ended[*rank].code == Some(3)), "{ended:#?}");
    assert_eq!(told.matches("error: ").count(), 1, "not one message: {ended:#?}");
    assert!(parts.iter().all(|part| told.contains(part)), "{parts:?} are not all in: {told}");
}

#[test]
fn a_late_rank_changes_nothing() {
    let Some(libraries) = Libraries::new() else { return };
    let (_folder, run) = place();
    let flags = ["--reduction", "exact", "--steps", "2"];
    libraries.train(1, &run("alone"), &flags, &[]).succeed();
    // Streams that run when they are waited for and no earlier: what is exchanged beside computing is then waited for, not hidden.
    let late = [("NCCLSIM_FAULT", "rank=1,at=9,kind=late,ms=900"), ("CUDASIM", "stop=warning,streams=late")];
    libraries.train(2, &run("late"), &flags, &late).succeed();
    assert!(state(&run("late"), 2) == state(&run("alone"), 2));

    // It is seen where the time of the step went.
    let text = std::fs::read_to_string(run("late").join("metrics.jsonl")).unwrap();
    let steps: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |step: &serde_json::Value, name: &str| step[name].as_f64().unwrap_or_else(|| panic!("no {name}: {text}"));
    let trained: Vec<_> = steps.iter().filter(|step| step.get("grad_norm").is_some()).collect();
    assert!(trained.iter().any(|step| of(step, "exchange_ms") >= 899.0), "{text}");
    for step in trained {
        assert!(of(step, "skew_ms") >= 0.0 && of(step, "slowest_rank") < 2.0, "{text}");
        let each = of(step, "tokens_per_second_per_rank");
        assert!((2.0 * each / of(step, "tokens_per_second") - 1.0).abs() < 1e-9, "{text}");
    }
}

#[test]
fn a_rank_that_dies_between_collectives_is_named() {
    if !has_turn(0, 3) {
        return;
    }
    let Some(ended) = with_fault(&format!("rank=1,{IN_STEP_3},kind=die"), &[]) else { return };
    assert_eq!(ended[1].code, Some(9));
    let parts =
        ["rank 0 of 2 has waited 15 s for step 3", "rank 1 is gone: it was last seen at", "its last collective is"];
    assert_told(&ended, &[0], &parts);
}

#[test]
fn rank_0_that_dies_inside_of_one_is_named() {
    if !has_turn(1, 3) {
        return;
    }
    let Some(ended) = with_fault(&format!("rank=0,{IN_STEP_3},kind=die-inside"), &[]) else { return };
    assert_eq!(ended[0].code, Some(9));
    assert_told(&ended, &[1], &["rank 1 of 2", "rank 0 is gone"]);
}

#[test]
fn a_rank_that_hangs_ends_too() {
    if !has_turn(2, 3) {
        return;
    }
    let Some(ended) = with_fault(&format!("rank=1,{IN_STEP_3},kind=hang"), &[]) else { return };
    assert_told(&ended, &[0, 1], &["has waited 15 s for step 3", "its last collective is number"]);
}

#[test]
fn a_rank_that_never_meets_the_others_is_missed() {
    let Some(ended) = with_fault("rank=1,kind=die-joining", &["--meeting-timeout", "4"]) else { return };
    assert_eq!(ended[1].code, Some(9));
    assert_told(&ended, &[0], &["rank 0 of 2 has waited 4 s for all ranks to meet"]);
}

/// As they are called, not as they run: the seventeenth is the second of the second step, which is captured.
#[test]
fn ranks_that_call_different_things_are_told_apart() {
    for (kind, said) in [
        ("count", "elements of type 7"),
        ("kind", "rank 1 called broadcast"),
        ("order", "the ranks disagree at collective"),
    ] {
        let Some(ended) = with_fault(&format!("rank=1,at=17,kind={kind}"), &[]) else { return };
        assert!(ended[0].error.contains("ncclsim: the ranks disagree at collective 17"), "{kind}: {ended:#?}");
        assert!(ended[0].error.contains(said), "{kind}: {ended:#?}");
        assert!(ended.iter().all(|rank| rank.code == Some(3)), "{kind}: {ended:#?}");
    }
}
