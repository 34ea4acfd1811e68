//! The rules of the house, read off the source: arrows between rooms point down, and nowhere else.
//!
//! Each crate is a list of floors, lowest first. A room may use rooms of the floors below it; rooms on one floor do not know
//! each other. There are no exceptions: a new arrow goes down, or what it points at moves.

mod arrows;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use arrows::{Arrow, Arrows, Module};

/// Rooms of one parent, floor by floor, lowest first.
struct Floors {
    parent: &'static str,
    floors: &'static [&'static [&'static str]],
}

/// The rooms of the engine.
const ENGINE: &[Floors] = &[
    Floors {
        parent: "",
        floors: &[
            &["random", "fs", "named"],
            &["device"],
            &["tape", "comm"],
            &["optim"],
            &["model", "data"],
            &["checkpoint"],
            &["run"],
            &["eval", "sample", "report"],
            &["recipe"],
            &["plan"],
            &["profile", "train", "probe", "results"],
            &["demo", "serve"],
            &["cli"],
            &["main"],
        ],
    },
    Floors {
        parent: "device",
        floors: &[
            &["shape_check", "precision", "memory_use", "gemm_rate", "nvml"],
            &["shape", "error", "beta"],
            &["tensors"],
            &["ops", "capture", "beside"],
            &["tokens"],
            &["cpu", "cuda"],
            &["select"],
        ],
    },
];

/// The rooms of the simulator.
const CUDASIM: &[Floors] = &[
    Floors {
        parent: "",
        floors: &[
            &["card", "swizzle", "numerics", "report", "mask", "fatbin"],
            &["options"],
            &["ptx", "memory"],
            &["tensor_map"],
            &["counters"],
            &["exec"],
            &["driver"],
        ],
    },
    Floors {
        parent: "exec",
        floors: &[
            &["rng"],
            &["program"],
            &["tensor", "race"],
            &["state"],
            &["access"],
            &["operands"],
            &["ops"],
            &["decode"],
            &["schedule"],
        ],
    },
];

/// Crates that one room alone may use.
const OWNED: &[(&str, &str)] = &[
    ("clap", "cli"),
    ("anyhow", "cli"),
    ("cudarc", "device::cuda"),
    ("nvml_wrapper", "device::nvml"),
    ("libloading", "comm::nccl"),
    ("mpi", "comm::mpi"),
    ("cudasim", "profile"),
];

/// Pairs that no floor tells apart.
const STRANGERS: &[(&str, &str)] = &[("data", "device"), ("data", "tape"), ("data", "optim")];

#[test]
fn rooms_of_the_engine_use_only_what_is_below_them() {
    let arrows = Arrows::read(&root().join("src"));
    let mut faults = upward(&arrows, ENGINE);
    faults.extend(strangers(&arrows, STRANGERS));
    faults.extend(trespassers(&arrows, OWNED));
    assert_none(&faults);
}

#[test]
fn rooms_of_the_simulator_use_only_what_is_below_them() {
    let arrows = Arrows::read(&root().join("cudasim/src"));
    assert_none(&upward(&arrows, CUDASIM));
}

#[test]
fn files_of_one_folder_of_the_engine_point_one_way() {
    assert_none(&circles("src"));
}

#[test]
fn files_of_one_folder_of_the_simulator_point_one_way() {
    assert_none(&circles("cudasim/src"));
}

#[test]
fn the_checker_finds_each_kind_of_fault_and_nothing_else() {
    const RULES: &[Floors] = &[Floors { parent: "", floors: &[&["low"], &["middle"], &["high", "other"]] }];
    let sound = [
        ("lib.rs", "pub mod high; pub mod low; pub mod middle; pub mod other;"),
        (
            "low.rs",
            "//! crate::high is only mentioned here.\npub struct Thing;\npub const TEXT: &str = \"crate::high\";",
        ),
        ("middle/mod.rs", "mod part;\npub use part::Part;\npub use crate::low::Thing;"),
        ("middle/part.rs", "use super::super::low;\npub struct Part(low::Thing);"),
        ("high.rs", "use crate::{low::Thing, middle::{self, Part}};\nuse clap::Args;"),
        ("other.rs", "fn f() -> crate::middle::Thing { todo() }"),
    ];
    let check = |changed: &[(&str, &str)]| {
        let place = tempfile::tempdir().unwrap();
        for (name, text) in sound.iter().chain(changed) {
            let file = place.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let arrows = Arrows::read(place.path());
        let mut faults = upward(&arrows, RULES);
        faults.extend(trespassers(&arrows, &[("clap", "high")]));
        faults.extend(strangers(&arrows, &[("other", "low")]));
        faults.extend(arrows.circle(&["middle".to_owned()]).map(|circle| format!("circle of {}", circle.len())));
        faults.iter().map(|fault| fault.rsplit('/').next().unwrap().to_owned()).collect::<Vec<_>>()
    };

    // `other` reaches `low` through what `middle` re-exports.
    let known = "other.rs:1: other uses low; they must not know each other";
    assert_eq!(check(&[]), [known]);

    let up = "low.rs:2: low uses high; `high` is not below `low`";
    assert_eq!(check(&[("low.rs", "\nuse crate::high;")]), [up, known]);
    assert_eq!(check(&[("low.rs", "pub struct Thing;\nfn f() { assert!(super::high::X) }")]), [up, known]);
    let beside = "high.rs:1: high uses other; `other` is not below `high`";
    assert_eq!(check(&[("high.rs", "use crate::{low::Thing, other::f as g};")]), [beside, known]);
    let floorless = "`new` stands on no floor; give it one in the lists of this test";
    assert_eq!(check(&[("new.rs", "")]), [floorless, known]);
    let trespass = "low.rs:1: low uses clap; only `high` may";
    assert_eq!(check(&[("low.rs", "#[derive(clap::Args)] pub struct Thing;")]), [trespass, known]);
    let circle = [
        ("middle/part.rs", "use super::rest::Rest;\npub struct Part(Rest);"),
        ("middle/rest.rs", "use super::Part;\npub struct Rest;"),
    ];
    assert_eq!(check(&circle), [known, "circle of 2"]);
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn assert_none(faults: &[String]) {
    let faults: BTreeSet<&str> = faults.iter().map(String::as_str).collect();
    let faults: Vec<&str> = faults.into_iter().collect();
    assert!(faults.is_empty(), "{} forbidden:\n{}", faults.len(), faults.join("\n"));
}

fn path_of(text: &str) -> Module {
    text.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// A circle of each folder that has one.
fn circles(source: &str) -> Vec<String> {
    let arrows = Arrows::read(&root().join(source));
    let prefixes = |module: &Module| (0..module.len()).map(|length| module[..length].to_vec()).collect::<Vec<_>>();
    let parents: BTreeSet<Module> = arrows.modules.iter().flat_map(prefixes).collect();

    let mut faults = Vec::new();
    for parent in parents {
        if let Some(circle) = arrows.circle(&parent) {
            let mut text = format!("a circle among the files of {source}/{}:", parent.join("/"));
            for arrow in circle {
                write!(text, "\n    {arrow}").unwrap();
            }
            faults.push(text);
        }
    }
    faults
}

/// Arrows that do not lead to a lower floor, and rooms that stand on none.
fn upward(arrows: &Arrows, crates: &[Floors]) -> Vec<String> {
    let mut faults = Vec::new();
    for Floors { parent, floors } in crates {
        let parent = path_of(parent);
        let room = |module: &Module| {
            let inside = module.len() > parent.len() && module.starts_with(&parent);
            inside.then(|| module[parent.len()].clone())
        };
        let floor = |room: &str| floors.iter().position(|rooms| rooms.contains(&room));

        let rooms: BTreeSet<String> = arrows.modules.iter().filter_map(room).collect();
        for room in rooms.iter().filter(|room| floor(room).is_none()) {
            faults.push(format!("`{room}` stands on no floor; give it one in the lists of this test"));
        }
        for arrow in &arrows.inside {
            let (Some(from), Some(to)) = (room(&arrow.from), room(&arrow.to)) else { continue };
            let (Some(above), Some(below)) = (floor(&from), floor(&to)) else { continue };
            if from != to && below >= above {
                faults.push(format!("{arrow}; `{to}` is not below `{from}`"));
            }
        }
    }
    faults
}

/// Arrows from the first room of a pair to the second.
fn strangers(arrows: &Arrows, pairs: &[(&str, &str)]) -> Vec<String> {
    let between = |arrow: &&Arrow| {
        pairs.iter().any(|(from, to)| arrow.from.starts_with(&path_of(from)) && arrow.to.starts_with(&path_of(to)))
    };
    arrows.inside.iter().filter(between).map(|arrow| format!("{arrow}; they must not know each other")).collect()
}

/// Uses of a crate outside the room that owns it.
fn trespassers(arrows: &Arrows, owned: &[(&str, &str)]) -> Vec<String> {
    let mut faults = Vec::new();
    for arrow in &arrows.outside {
        for (name, owner) in owned {
            if arrow.to[0] == *name && !arrow.from.starts_with(&path_of(owner)) {
                let mut arrow = arrow.clone();
                arrow.to.truncate(1);
                faults.push(format!("{arrow}; only `{owner}` may"));
            }
        }
    }
    faults
}
