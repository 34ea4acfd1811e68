//! Calls that are none: on sm_80 the compiler leaves some loops by a `CALL` of code that ends the kernel.

use std::collections::{BTreeMap, BTreeSet};

use super::listing::Instruction;

/// Makes branches of calls of code that never returns.
pub fn to_branches(instructions: &mut [Instruction]) {
    let index: BTreeMap<u32, usize> =
        instructions.iter().enumerate().map(|(index, instruction)| (instruction.offset, index)).collect();
    let called: BTreeSet<u32> = instructions.iter().filter_map(Instruction::callee).collect();

    // Code returns if a `RET` is reached, past calls of what is known to return.
    let mut returning = BTreeSet::new();
    loop {
        let reaches = |start: &&u32| returns(instructions, &index, **start, &returning);
        let found: BTreeSet<u32> = called.difference(&returning).filter(reaches).copied().collect();
        if found.is_empty() {
            break;
        }
        returning.extend(found);
    }

    for instruction in instructions {
        if instruction.callee().is_some_and(|callee| !returning.contains(&callee)) {
            "BRA".clone_into(&mut instruction.opcode);
        }
    }
}

/// Whether a `RET` is reached from `start`.
fn returns(instructions: &[Instruction], index: &BTreeMap<u32, usize>, start: u32, returning: &BTreeSet<u32>) -> bool {
    let (mut todo, mut seen): (Vec<usize>, _) = (index.get(&start).copied().into_iter().collect(), BTreeSet::new());
    while let Some(at) = todo.pop() {
        let Some(instruction) = instructions.get(at).filter(|_| seen.insert(at)) else { continue };
        if instruction.name() == "RET" {
            return true;
        }
        todo.extend(instruction.target().and_then(|target| index.get(&target)));
        let comes_back = instruction.callee().is_none_or(|callee| returning.contains(&callee));
        if instruction.falls_through() && (comes_back || instruction.predicate.is_some()) {
            todo.push(at + 1);
        }
    }
    false
}

#[test]
fn only_calls_that_return_stay_calls() {
    let listing = "Function : f\n\
                   /*0000*/ @P0 CALL.REL.NOINC 0x20 ;\n/*0010*/ BRA 0x0 ;\n\
                   /*0020*/ CALL.REL.NOINC 0x40 ;\n/*0030*/ EXIT ;\n\
                   /*0040*/ MUFU.RCP R0, R0 ;\n/*0050*/ RET.REL.NODEC R6 0x0 ;\n";
    let functions = super::functions(listing);
    let opcodes: Vec<_> =
        functions[0].instructions.iter().take(3).map(|instruction| instruction.opcode.as_str()).collect();
    assert_eq!(opcodes, ["BRA", "BRA", "CALL.REL.NOINC"]);
    assert!(functions[0].instructions[0].falls_through());
}
