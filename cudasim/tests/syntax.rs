//! What the front end makes of each syntactic form, on `tests/ptx/syntax.ptx`.

use cudasim::ptx::module::{Guard, LabelId, Linkage, RegisterId, Source, SourceId, Symbol};
use cudasim::ptx::operand::{Address, AddressBase, Axis, Immediate, SpecialRegister};
use cudasim::ptx::{self, Access, Body, Function, Instruction, Module, Opcode, Operand, ScalarType, StateSpace};

const TEXT: &str = include_str!("ptx/syntax.ptx");

fn module() -> Module {
    ptx::parse(TEXT).unwrap_or_else(|error| panic!("{error}"))
}

fn entry(module: &Module) -> (&Function, &Body) {
    let function = module.function("syntax").unwrap();
    (function, function.body.as_ref().unwrap())
}

/// The nth instruction of this mnemonic.
fn nth<'m>(body: &'m Body, mnemonic: &str, n: usize) -> &'m Instruction {
    body.instructions.iter().filter(|i| i.form.mnemonic == mnemonic).nth(n).unwrap()
}

fn register(body: &Body, operand: &Operand) -> String {
    match operand {
        Operand::Register(id) => body.register_name(*id).unwrap(),
        other => panic!("{other:?} is not a register"),
    }
}

#[test]
fn header_and_files() {
    let module = module();
    assert_eq!(module.version, (8, 3));
    assert_eq!(module.targets, ["sm_90a", "debug"]);
    assert_eq!(module.address_size, 64);
    assert_eq!(module.file(2), Some("kernels/common.cuh"));
    assert_eq!(module.file(3), None);
}

#[test]
fn variables_of_the_module() {
    let module = module();
    let variable = |name: &str| module.variables.iter().find(|v| v.name == name).unwrap();
    let dynamic = variable("dynamic");
    assert_eq!((dynamic.size, dynamic.align, dynamic.linkage), (0, 128, Linkage::Extern));
    assert_eq!(dynamic.space, StateSpace::Shared);
    let doubles: Vec<u8> = [1.0f64, 2.0, 3.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(variable("doubles").initial, doubles);
    // The second row is short: its last element stays zero.
    let table: Vec<u8> = [1i32, 2, 3, -1, 5].iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!((variable("table").size, &variable("table").initial), (24, &table));
    assert_eq!((variable("text").size, variable("text").initial.as_slice()), (4, b"Hi!\0".as_slice()));
    assert_eq!((variable("quad").size, variable("quad").align), (16, 16));
    assert_eq!(variable("nothing").linkage, Linkage::Weak);

    let pointers = variable("pointers");
    let index = |name: &str| Symbol::Global(module.variables.iter().position(|v| v.name == name).unwrap() as u32);
    let found: Vec<_> = pointers.relocations.iter().map(|r| (r.at, r.width, r.symbol, r.addend, r.generic)).collect();
    let expected =
        [(0, 8, index("counter"), 0, false), (8, 8, index("table"), 4, false), (16, 8, index("text"), 1, true)];
    assert_eq!(found, expected);
    let square = module.functions.iter().position(|f| f.name == "square").unwrap() as u32;
    assert_eq!(variable("functions").relocations[0].symbol, Symbol::Function(square));
}

#[test]
fn functions_and_parameters() {
    let module = module();
    let names: Vec<_> = module.functions.iter().map(|f| (f.name.as_str(), f.is_entry, f.body.is_some())).collect();
    let expected = [("vprintf", false, false), ("__assertfail", false, false), ("square", false, true)];
    assert_eq!(names[..3], expected);
    assert!(module.function("__assertfail").unwrap().no_return);
    assert_eq!(module.function("square").unwrap().results.len(), 1);

    let (entry, _) = entry(&module);
    assert_eq!((entry.is_entry, entry.linkage), (true, Linkage::Visible));
    let parameters: Vec<_> = entry.parameters.iter().map(|p| (p.offset, p.size, p.align)).collect();
    assert_eq!(parameters, [(0, 8, 8), (8, 4, 4), (64, 128, 64)]);
    assert_eq!(entry.parameter_bytes(), 192);
    assert_eq!(entry.launch.max_threads, Some([256, 2, 1]));
    assert_eq!((entry.launch.min_blocks, entry.launch.max_registers), (Some(2), Some(64)));
    assert_eq!((entry.launch.explicit_cluster, entry.launch.required_cluster), (true, Some([2, 1, 1])));
}

#[test]
fn registers_have_names_and_types() {
    let module = module();
    let (_, body) = entry(&module);
    assert_eq!(body.register_count(), 4 + 3 + 10 + 1 + 8 + 5 + 1 + 1 + 2);
    assert_eq!(body.register_name(RegisterId(17)).as_deref(), Some("x"));
    assert_eq!(body.register_name(RegisterId(6)).as_deref(), Some("%rs2"));
    assert_eq!(body.register_type(RegisterId(0)), Some(ScalarType::Pred));
    assert_eq!(body.register_type(RegisterId(25)), Some(ScalarType::B64));
    assert_eq!(body.register_type(RegisterId(1000)), None);
}

#[test]
fn guards_and_operands() {
    let module = module();
    let (_, body) = entry(&module);
    let bra = nth(body, "bra", 0);
    assert_eq!(bra.guard, Some(Guard { register: RegisterId(1), negated: false }));
    assert_eq!(nth(body, "bra.uni", 0).guard, Some(Guard { register: RegisterId(2), negated: true }));

    let Operand::Vector(halves) = &nth(body, "mov.b32", 0).operands[0] else { panic!("no vector") };
    assert_eq!(halves.iter().map(|o| register(body, o)).collect::<Vec<_>>(), ["%rs1", "%rs2"]);
    let load = &nth(body, "ld.global.v4.f32", 0).operands[1];
    let Operand::Address(Address { base: AddressBase::Register(base), offset: -16 }) = load else { panic!("{load:?}") };
    assert_eq!(body.register_name(*base).as_deref(), Some("%rd2"));
    let Operand::Vector(elements) = &nth(body, "ld.global.v2.f32", 0).operands[0] else { panic!("no vector") };
    assert_eq!(elements[0], Operand::Sink);
    assert_eq!(
        nth(body, "st.local.f32", 0).operands,
        [
            Operand::Address(Address { base: AddressBase::Absolute, offset: 16 }),
            Operand::Immediate(Immediate::F32(0x3f80_0000))
        ]
    );
    assert_eq!(nth(body, "atom.global.add.u32", 0).operands[0], Operand::Sink);
    assert_eq!(nth(body, "setp.lt.s32", 0).operands[0], Operand::Pair(Some(RegisterId(1)), Some(RegisterId(2))));
    assert_eq!(nth(body, "setp.eq.and.s32", 0).operands[3], Operand::Not(RegisterId(1)));
    assert_eq!(nth(body, "elect.sync", 0).operands[0], Operand::Pair(None, Some(RegisterId(1))));
    assert_eq!(nth(body, "mov.u32", 0).operands[1], Operand::Special(SpecialRegister::Tid(Axis::X)));
    assert_eq!(nth(body, "mov.u32", 1).operands[1], Operand::Special(SpecialRegister::WarpSize));
    assert_eq!(nth(body, "mov.u64", 0).operands[1], Operand::Symbol(Symbol::Parameter(2), 0));
    assert_eq!(nth(body, "mov.b64", 0).operands[1], Operand::Symbol(Symbol::Local(1), 0));
    let tensor = body.instructions.iter().find(|i| i.form.opcode == Opcode::Cp).unwrap();
    assert!(matches!(&tensor.operands[1], Operand::Tensor(_, coordinates) if coordinates.len() == 2));
    assert_eq!(tensor.form.spaces, [StateSpace::SharedCluster, StateSpace::Global]);
}

#[test]
fn rules_say_what_is_read_and_written() {
    let module = module();
    let (_, body) = entry(&module);
    let accesses = |mnemonic| nth(body, mnemonic, 0).rules().iter().map(|rule| rule.access).collect::<Vec<_>>();
    assert_eq!(accesses("ld.global.v4.f32"), [Access::Write, Access::Read]);
    assert_eq!(accesses("st.shared.v2.b32"), [Access::Read, Access::Read]);
    assert!(body.instructions.iter().all(|i| i.form.opcode == Opcode::Call || i.operands.len() <= i.rules().len()));
}

#[test]
fn labels_and_registers_are_scoped() {
    let module = module();
    let (_, body) = entry(&module);

    // `bra` in order: $done, then WAIT and DONE of the first scope and of the second.
    let targets: Vec<usize> = body
        .instructions
        .iter()
        .filter(|i| i.form.mnemonic == "bra")
        .map(|i| match i.operands[0] {
            Operand::Label(LabelId(label)) => body.labels[label as usize].target,
            _ => panic!("{i:?}"),
        })
        .collect();
    let wait = |n| {
        let line = nth(body, "setp.ne.b32", n).line;
        body.instructions.iter().position(|i| i.line == line).unwrap()
    };

    assert_eq!(targets[1..], [wait(0), wait(0) + 3, wait(1), wait(1) + 3]);
    assert_eq!(targets[0], body.instructions.len() - 1);
    // %r1 is the function's in the first scope, the scope's own in the second.
    let compared = |n: usize| nth(body, "setp.ne.b32", n).operands[1].clone();

    assert_ne!(compared(0), compared(1));
    assert_eq!(register(body, &compared(0)), register(body, &compared(1)));
    assert_eq!(body.branch_tables.len(), 1);
    assert_eq!(body.branch_tables[0].len(), 2);
}

#[test]
fn calls() {
    let module = module();
    let (_, body) = entry(&module);
    let direct = &nth(body, "call.uni", 0).operands;
    assert!(matches!(direct[1], Operand::Symbol(Symbol::Function(2), 0)));
    let [Operand::List(results), _, Operand::List(arguments)] = direct.as_slice() else { panic!("{direct:?}") };
    assert_eq!((results.len(), arguments.len()), (1, 1));
    assert_ne!(results, arguments);
    let indirect = &nth(body, "call", 0).operands;
    assert_eq!(indirect[3], Operand::Prototype(0));
    assert_eq!(body.prototypes[0].parameters[0].size, 4);
}

#[test]
fn positions_with_their_inlining() {
    let module = module();
    let (_, body) = entry(&module);
    let chain = |mnemonic: &str| {
        let mut chain = Vec::new();
        let mut next = nth(body, mnemonic, 0).source;
        while let Some(SourceId(id)) = next {
            let Source { file, line, column, inlined_at } = body.sources[id as usize];
            chain.push((file, line, column));
            next = inlined_at;
        }
        chain
    };
    assert_eq!(chain("ld.param.u64"), [(1, 10, 3)]);
    assert_eq!(chain("mov.b64"), [(2, 5, 7), (1, 11, 9)]);
    assert_eq!(chain("mov.u64"), [(2, 20, 1), (2, 5, 7), (1, 11, 9)]);
}
