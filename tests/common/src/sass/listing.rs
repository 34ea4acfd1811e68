//! The listing: functions, and their instructions one by one.

/// A kernel's machine code for one architecture.
#[derive(Debug)]
pub struct Function {
    /// The kernel.
    pub name: String,
    /// `sm_80`, `sm_90a`.
    pub arch: String,
    /// In order of their offsets.
    pub instructions: Vec<Instruction>,
}

/// `@!P0 BRA 0x1b0`.
#[derive(Debug, PartialEq)]
pub struct Instruction {
    /// Bytes from the function's start.
    pub offset: u32,
    /// `!P0`, if there is a condition.
    pub predicate: Option<String>,
    /// With its modifiers: `LDG.E.128`.
    pub opcode: String,
    /// `R44, [R2.64]`.
    pub operands: String,
}

impl Instruction {
    /// The opcode without its modifiers: `LDG`.
    pub fn name(&self) -> &str {
        self.opcode.split('.').next().unwrap_or_default()
    }

    /// Whether the opcode has this modifier.
    pub fn has(&self, modifier: &str) -> bool {
        self.opcode.split('.').skip(1).any(|part| part == modifier)
    }

    /// Where a branch goes to.
    pub fn target(&self) -> Option<u32> {
        self.address().filter(|_| self.name() == "BRA")
    }

    /// What is called.
    pub fn callee(&self) -> Option<u32> {
        self.address().filter(|_| self.name() == "CALL")
    }

    /// The last operand, if it is a number.
    fn address(&self) -> Option<u32> {
        let last = self.operands.rsplit([' ', ',']).next()?;
        u32::from_str_radix(last.strip_prefix("0x")?, 16).ok()
    }

    /// Whether the next instruction may follow.
    pub fn falls_through(&self) -> bool {
        let ends = match self.name() {
            // `BRA P0, 0x10` and `BRA.DIV UR4, 0x10` have their condition among the operands.
            "BRA" => !self.operands.contains(','),
            "EXIT" | "RET" | "BRX" | "JMP" | "JMX" => true,
            _ => false,
        };
        !ends || self.predicate.is_some()
    }
}

/// The functions of a listing: `arch = sm_90a`, `Function : name`, and lines of
/// `/*0170*/ @!P0 LDG.E.128 R44, [R2.64] ; /* encoding */`.
pub fn functions(listing: &str) -> Vec<Function> {
    let (mut arch, mut functions) = ("", Vec::<Function>::new());
    for line in listing.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("arch = ") {
            arch = name;
        } else if let Some(name) = line.strip_prefix("Function : ") {
            functions.push(Function { name: name.to_owned(), arch: arch.to_owned(), instructions: Vec::new() });
        } else if let (Some(function), Some(instruction)) = (functions.last_mut(), instruction(line)) {
            function.instructions.push(instruction);
        }
    }
    functions
}

/// The instruction of a line; the second line of an encoding has none.
fn instruction(line: &str) -> Option<Instruction> {
    let (offset, rest) = line.strip_prefix("/*")?.split_once("*/")?;
    let offset = u32::from_str_radix(offset, 16).ok()?;
    let text = rest.split(';').next()?.trim();

    let (predicate, text) = match text.strip_prefix('@') {
        Some(text) => text.split_once(' ').map(|(predicate, text)| (Some(predicate.to_owned()), text.trim()))?,
        None => (None, text),
    };
    let (opcode, operands) = text.split_once(' ').unwrap_or((text, ""));
    if opcode.is_empty() {
        return None;
    }
    Some(Instruction { offset, predicate, opcode: opcode.to_owned(), operands: operands.trim().to_owned() })
}

#[test]
fn a_listing_is_cut_into_functions_and_instructions() {
    let listing = "arch = sm_80\n\t\tFunction : f\n\t.headerflags\t@\"x\"\n /*0000*/ @!P0 LDG.E.128 R4, [R2.64] ; /* 0x1 */\n \
                   /* 0x2 */\n /*0010*/ EXIT ;\n arch = sm_90a\n Function : g\n /*0000*/ NOP;";
    let found = functions(listing);
    let names: Vec<_> = found.iter().map(|function| (function.name.as_str(), function.arch.as_str())).collect();
    assert_eq!(names, [("f", "sm_80"), ("g", "sm_90a")]);
    let load = Instruction {
        offset: 0,
        predicate: Some("!P0".to_owned()),
        opcode: "LDG.E.128".to_owned(),
        operands: "R4, [R2.64]".to_owned(),
    };
    assert_eq!(found[0].instructions[0], load);
    assert!(load.name() == "LDG" && load.has("128") && !load.has("LDG") && load.target().is_none());
    assert_eq!((found[0].instructions.len(), found[1].instructions[0].opcode.as_str()), (2, "NOP"));
}

#[test]
fn branches_say_where_they_go_and_whether_they_may_not() {
    let targets = |text: &str| {
        let instruction = instruction(&format!("/*0010*/ {text} ;")).unwrap();
        (instruction.target(), instruction.falls_through())
    };
    assert_eq!(targets("BRA 0x1b0"), (Some(0x1b0), false));
    assert_eq!(targets("@!P1 BRA 0x1b0"), (Some(0x1b0), true));
    assert_eq!(targets("BRA P0, 0x20"), (Some(0x20), true));
    assert_eq!(targets("BRA.DIV ~URZ, 0x20"), (Some(0x20), true));
    assert_eq!(targets("CALL.REL.NOINC 0x40"), (None, true));
    assert_eq!(targets("BSSY B0, 0x40"), (None, true));
    assert_eq!(targets("RET.REL.NODEC R6 0x0"), (None, false));
    assert_eq!([targets("EXIT"), targets("@P0 EXIT")], [(None, false), (None, true)]);
}
