//! An instruction of 128 bits, compute capability 8.0 to 9.0: what it is, where it goes, and what its control bits say.
//!
//! NVIDIA does not document the encoding. That of the control bits is from Jia, Maggioni, Staiger and Scarpazza, "Dissecting the
//! NVIDIA Volta GPU architecture via microbenchmarking" (arXiv 1804.06826, section 2.1); opcodes and branches were read off
//! `nvdisasm`, and a test compares every kernel of ours with it.
//!
//! ```text
//! bits   0..9  opcode   9..12 form   12..15 guard, of which 15 negates   105..109 stall   109 yield   110..113 write barrier
//!      113..116 read barrier   116..122 barriers waited for
//! ```
//!
//! Read off `nvdisasm` too: bits 84..87 of HGMMA are 0 where it ends a group (`gsb0`); of WARPGROUP.DEPBAR (bit 47) bits 72..80 are how many
//! groups may be in flight; of BAR bit 77 is `.ARV`.

/// Bytes of an instruction.
pub const BYTES: usize = 16;

/// An instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What `nvdisasm` calls it, without modifiers.
    pub name: &'static str,
    /// Whether it runs under a condition.
    pub is_guarded: bool,
    /// Whether that is never met: it is issued and does nothing.
    pub is_idle: bool,
    /// Where a branch goes: the number of an instruction.
    pub target: Option<usize>,
    /// Whether the next instruction may follow.
    pub falls_through: bool,
    /// Clocks until the warp may issue its next instruction.
    pub stall: u8,
    /// The barrier (0 to 5) that is released when its result is there.
    pub write_barrier: Option<u8>,
    /// The barriers that it waits for, a bit each.
    pub waits: u8,
    /// What it says of the order of work that goes on beside the warp.
    pub order: Order,
}

/// What an instruction says of the order of work that goes on beside its warp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Nothing.
    #[default]
    None,
    /// It is a warpgroup's matrix product, the last one of a group.
    EndsGroup,
    /// The warp waits until at most so many groups of products are in flight.
    Leaves(u8),
    /// It arrives at a barrier of the block without waiting there: another warp's turn.
    Arrives,
}

/// The name of an opcode that is in no table here.
pub const UNKNOWN: &str = "?";

/// Opcodes: the low 9 bits, and the name.
#[rustfmt::skip]
const NAMES: &[(u16, &str)] = &[
    // Moves and predicates.
    (0x002, "MOV"), (0x003, "P2R"), (0x004, "R2P"), (0x005, "CS2R"), (0x006, "VOTE"), (0x007, "SEL"), (0x01c, "PLOP3"), (0x02f, "ELECT"),
    // f32.
    (0x008, "FSEL"), (0x009, "FMNMX"), (0x00a, "FSET"), (0x00b, "FSETP"), (0x020, "FMUL"), (0x021, "FADD"), (0x023, "FFMA"), (0x102, "FCHK"),
    // Integers.
    (0x00c, "ISETP"), (0x00f, "VIMNMX3"), (0x010, "IADD3"), (0x011, "LEA"), (0x012, "LOP3"), (0x013, "IABS"), (0x016, "PRMT"),
    (0x017, "IMNMX"), (0x019, "SHF"), (0x01b, "BMSK"), (0x024, "IMAD"), (0x025, "IMAD"), (0x027, "IMAD"), (0x036, "VIADD"),
    (0x046, "VIADDMNMX"), (0x048, "VIMNMX"), (0x109, "POPC"),
    // Halves, doubles, conversions, special functions.
    (0x030, "HADD2"), (0x031, "HFMA2"), (0x032, "HMUL2"), (0x035, "HFMA2"), (0x03e, "F2FP"), (0x045, "I2FP"),
    (0x028, "DMUL"), (0x029, "DADD"), (0x02a, "DSETP"), (0x02b, "DFMA"),
    (0x104, "F2F"), (0x105, "F2I"), (0x106, "I2F"), (0x107, "FRND"), (0x108, "MUFU"), (0x110, "F2F"), (0x111, "F2I"), (0x112, "I2F"), (0x113, "FRND"),
    // Tensor cores.
    (0x037, "IMMA"), (0x03c, "HMMA"), (0x03f, "DMMA"), (0x1f0, "HGMMA"), (0x1f1, "IGMMA"), (0x1f3, "QGMMA"), (0x1c5, "WARPGROUP"),
    // A warp's own registers.
    (0x080, "UP2UR"), (0x082, "UMOV"), (0x086, "VOTEU"), (0x087, "USEL"), (0x08c, "UISETP"), (0x090, "UIADD3"), (0x091, "ULEA"), (0x092, "ULOP3"),
    (0x099, "USHF"), (0x09c, "UPLOP3"), (0x0a4, "UIMAD"), (0x0a5, "UIMAD"), (0x0b9, "ULDC"), (0x0bb, "ULDC"), (0x0ca, "R2UR"), (0x1c2, "R2UR"), (0x1c3, "S2UR"),
    // Memory.
    (0x03b, "LDSM"), (0x044, "STSM"), (0x181, "LDG"), (0x182, "LDC"), (0x183, "LDL"), (0x184, "LDS"), (0x186, "STG"), (0x187, "STL"),
    (0x188, "STS"), (0x189, "SHFL"), (0x192, "MEMBAR"), (0x1ae, "LDGSTS"), (0x1af, "LDGDEPBAR"), (0x11a, "DEPBAR"),
    (0x1a7, "SYNCS"), (0x1b2, "SYNCS"), (0x1b4, "UTMALDG"), (0x1b5, "UTMASTG"), (0x1b7, "UTMACMDFLUSH"), (0x1c6, "FENCE"),
    (0x18f, "CCTL"), (0x1a8, "ATOMG"),
    // Control.
    (0x118, "NOP"), (0x119, "S2R"), (0x11b, "ENDCOLLECTIVE"), (0x11d, "BAR"), (0x141, "BSYNC"), (0x142, "BREAK"), (0x144, "CALL"), (0x145, "BSSY"),
    (0x146, "YIELD"), (0x147, "BRA"), (0x148, "WARPSYNC"), (0x14d, "EXIT"), (0x150, "RET"), (0x15d, "NANOSLEEP"), (0x1c8, "USETMAXREG"),
];

/// Opcodes that are two instructions, which the form tells apart: the low 12 bits, and the name. Of all others the form says where
/// operands lie. These are what makes the barriers of a cluster, and the fences before them.
#[rustfmt::skip]
const FORMS: &[(u16, &str)] = &[(0x5ab, "CGAERRBAR"), (0x9ab, "ERRBAR"), (0x9c7, "UCGABAR_ARV"), (0xdc7, "UCGABAR_WAIT")];

/// The predicate that is always true, and its opposite.
const TRUE: u64 = 7;
const NEVER: u64 = 15;

impl Instruction {
    /// The instruction of number `index` in code for an architecture (80, 90), of its 16 bytes.
    pub fn decode(architecture: u32, index: usize, bytes: [u8; BYTES]) -> Self {
        let word = u128::from_le_bytes(bytes);
        let bits = |from: u32, count: u32| (word >> from) as u64 & ((1 << count) - 1);
        let (opcode, with_form) = (bits(0, 9) as u16, bits(0, 12) as u16);
        let by_form = FORMS.iter().find(|(of, _)| *of == with_form);
        let known = by_form.or_else(|| NAMES.iter().find(|(of, _)| *of == opcode));
        let name = known.map_or(UNKNOWN, |(_, name)| name);
        let is_guarded = bits(12, 4) != TRUE;

        let target = match name {
            "BRA" | "CALL" => branch_target(architecture, index, word),
            _ => None,
        };
        // `BRA P0`, `BRA.U.ANY` and `BRA.DIV` have their condition among the operands.
        let is_conditional = name == "BRA" && (bits(87, 4) != TRUE || bits(84, 3) != 0 || bits(91, 2) != 0);
        let ends = matches!(name, "BRA" | "EXIT" | "RET" | "CALL") && !is_guarded && !is_conditional;
        Self {
            name,
            is_guarded,
            is_idle: bits(12, 4) == NEVER,
            target,
            falls_through: !ends,
            stall: bits(105, 4) as u8,
            write_barrier: Some(bits(110, 3) as u8).filter(|barrier| *barrier < 6),
            waits: bits(116, 6) as u8,
            order: match name {
                "HGMMA" | "IGMMA" | "QGMMA" if bits(84, 3) == 0 => Order::EndsGroup,
                "WARPGROUP" if bits(47, 1) == 1 => Order::Leaves(bits(72, 8) as u8),
                "BAR" if bits(77, 1) == 1 => Order::Arrives,
                _ => Order::None,
            },
        }
    }
}

/// The number of the instruction that a branch at `index` goes to. The distance from the next one is in words of 4 bytes: 48 bits from
/// 34 on, and on 9.0 eight more below them, at 16.
fn branch_target(architecture: u32, index: usize, word: u128) -> Option<usize> {
    let high = (word >> 34) as i64 & ((1 << 48) - 1);
    let high = high << 16 >> 16;
    let distance = if architecture < 90 { high } else { high << 8 | (word >> 16) as i64 & 0xff };
    usize::try_from(index as i64 + 1 + distance / 4).ok()
}

/// The instructions of a kernel's code for an architecture.
pub fn decode(architecture: u32, code: &[u8]) -> Vec<Instruction> {
    let words = code.chunks_exact(BYTES).enumerate();
    words
        .map(|(index, word)| Instruction::decode(architecture, index, std::array::from_fn(|byte| word[byte])))
        .collect()
}
