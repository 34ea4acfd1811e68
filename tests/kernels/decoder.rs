//! The decoder of machine code: it knows every instruction of every kernel, and reads it as `cuobjdump` does: names, conditions,
//! branches.

use std::collections::BTreeMap;

use cudasim::fatbin::{self, Entry};
use igpt_engine::device::cuda::kernel::{KERNELS, MODULES};
use igpt_engine::profile::machine_code::flow::blocks;
use igpt_engine::profile::machine_code::instruction::{BYTES, Instruction, Order, UNKNOWN, decode};
use test_support::sass::listings;
use test_support::{has_turn, in_turn, skipped, tries_all};

use crate::budget::machine_code::listing_of;

/// A run compares one module of so many.
const PARTS: usize = 3;

/// An opcode without its modifiers.
fn name(listed: &str) -> &str {
    listed.split('.').next().unwrap_or_default()
}

/// What an instruction says of the order of others' work, by its text.
fn order(opcode: &str, operands: &str) -> Order {
    match name(opcode) {
        "HGMMA" if operands.ends_with("gsb0") => Order::EndsGroup,
        "WARPGROUP" if opcode.contains("DEPBAR") => {
            let count = operands.rsplit("0x").next().and_then(|count| u8::from_str_radix(count, 16).ok());
            Order::Leaves(count.unwrap_or_else(|| panic!("{opcode} {operands}")))
        }
        "BAR" if opcode.contains("ARV") => Order::Arrives,
        _ => Order::None,
    }
}

/// Of all modules in every run, other than the comparison below: a kernel's new instruction is new to the decoder as well.
#[test]
fn every_instruction_has_a_name() {
    let mut unknown: BTreeMap<(&str, u32), usize> = BTreeMap::new();
    for kernel in KERNELS {
        for used in kernel.resources {
            let code = code_of(MODULES[kernel.module].image, used.arch, kernel.name);
            let nameless = code.iter().filter(|instruction| instruction.name == UNKNOWN).count();
            if nameless > 0 {
                unknown.insert((kernel.name, used.arch), nameless);
            }
        }
    }
    assert!(unknown.is_empty(), "instructions without a name, by kernel and architecture: {unknown:?}");
}

#[test]
fn machine_code_is_read_as_cuobjdump_reads_it() {
    if !has_turn(0, 2) {
        return;
    }
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(nvcc) = nvcc::find(root, |_, _| ()).unwrap().filter(|_| !KERNELS.is_empty()) else {
        skipped("the decoder of machine code: this build has no kernels; `cargo xtask toolkit` gets the compiler");
        return;
    };
    let mut compared: BTreeMap<&str, usize> = BTreeMap::new();
    // cuobjdump takes its time.
    for module in in_turn(MODULES, PARTS) {
        let listed = listings(&listing_of(&nvcc, module).unwrap());
        for kernel in KERNELS.iter().filter(|kernel| MODULES[kernel.module].name == module.name) {
            for used in kernel.resources {
                let code = code_of(module.image, used.arch, kernel.name);
                let wanted = listed.iter().find(|function| {
                    function.name == kernel.name && function.arch.trim_end_matches('a') == format!("sm_{}", used.arch)
                });
                let wanted = wanted.unwrap_or_else(|| panic!("{} is not listed", kernel.name));
                assert_eq!(code.len(), wanted.instructions.len(), "{}", kernel.name);

                for (index, (ours, theirs)) in code.iter().zip(&wanted.instructions).enumerate() {
                    let place = format!("{} on {} at {:#x}: {theirs:?}", kernel.name, used.arch, index * BYTES);
                    assert_eq!(ours.name, name(&theirs.opcode), "{place}");
                    assert_ne!(ours.name, UNKNOWN, "{place}");
                    assert_eq!(ours.is_guarded, theirs.predicate.is_some(), "{place}");
                    let target = theirs.target().or(theirs.callee()).map(|target| target as usize / BYTES);
                    assert_eq!(ours.target, target, "{place}");
                    // A call goes on behind itself only where it is not taken.
                    let falls_through = theirs.falls_through() && (theirs.callee().is_none() || ours.is_guarded);
                    assert_eq!(ours.falls_through, falls_through, "{place}");
                    assert_eq!(ours.order, order(&theirs.opcode, &theirs.operands), "{place}");
                    *compared.entry(ours.name).or_default() += 1;
                }
                let reached = blocks(&code);
                assert!(reached.iter().any(|block| block.ends), "{}: it never ends", kernel.name);
            }
        }
    }
    let [instructions, names] = if tries_all() { [100_000, 70] } else { [20_000, 40] };
    assert!(compared.values().sum::<usize>() > instructions && compared.len() > names, "{compared:?}");
}

fn code_of(image: &[u8], architecture: u32, kernel: &str) -> Vec<Instruction> {
    let code = fatbin::entries(image).unwrap().into_iter().find_map(|entry| match entry {
        Entry::MachineCode(of, elf) if of == architecture => fatbin::code_of(elf, kernel),
        _ => None,
    });
    decode(architecture, code.unwrap_or_else(|| panic!("{kernel} has no code for {architecture}")))
}
