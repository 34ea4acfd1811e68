//! One program for all fuzz targets; `cargo xtask fuzz` builds it with coverage counters and runs it.
//!
//! `FUZZ_TARGET` names the target. With `FUZZ_SEEDS=FOLDER` it writes the target's seeds there, made by the engine's own writers,
//! and ends; without, libFuzzer feeds it inputs. An input fails if it panics, on any thread, or if more than
//! [`memory::ALLOWED`] bytes beyond its size are held at once while it is read.

#![no_main]

mod memory;
mod place;
mod seeds;
mod targets;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use place::Place;
use targets::Target;

static TARGET: OnceLock<(Target, Place)> = OnceLock::new();

/// Finds the target and, if asked, writes its seeds.
fn prepare() {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let Some(target) = targets::named(&name) else {
        let names: Vec<&str> = targets::TARGETS.iter().map(|target| target.name).collect();
        println!("{}", names.join("\n"));
        std::process::exit(if name == "list" { 0 } else { 1 });
    };
    let place = Place::new(target.name);
    (target.prepare)(&place);

    if let Some(folder) = std::env::var_os("FUZZ_SEEDS") {
        for (number, seed) in (target.seeds)(&place).into_iter().enumerate() {
            let path = std::path::Path::new(&folder).join(format!("seed-{number:03}"));
            std::fs::write(&path, seed).expect("a seed can be written");
        }
        std::process::exit(0);
    }
    TARGET.get_or_init(|| (target, place));
}

fuzz_target!(init: prepare(), |input: &[u8]| {
    let Some((target, place)) = TARGET.get() else { return };
    let guard = memory::Guard::start();
    (target.run)(place, input);
    guard.check(input.len(), target.name);
});
