//! What went wrong in a kernel, for people and for the driver's error codes.

use std::fmt;

/// Kinds of faults: errors that a GPU raises as well, and bugs that only a checker sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// An address outside every live allocation, or outside the block's shared or the thread's local memory.
    OutOfBounds,
    /// An address that is not a multiple of the access's size.
    Misaligned,
    /// An operand that an instruction does not take, seen only when it ran.
    IllegalInstruction,
    /// An address of the wrong state space.
    InvalidAddressSpace,
    /// A call through a register that holds no function, or a recursive call.
    InvalidCall,
    /// `trap`.
    Trap,
    /// `__assertfail`.
    Assert,
    /// Memory that nothing was written to was read.
    UninitialisedMemory,
    /// A register that nothing was written to was used.
    UninitialisedRegister,
    /// Two threads touched the same shared memory, one writing, with nothing that orders them.
    SharedRace,
    /// Two threads touched the same global memory, one writing, with nothing that orders them.
    GlobalRace,
    /// Not all threads of a warp or block reached a barrier, or a member mask names lanes that are not there.
    DivergentBarrier,
    /// Memory was touched while an asynchronous copy or wgmma still used it.
    MissingWait,
    /// A fence is missing between accesses by different proxies.
    MissingFence,
    /// All threads wait, for something that cannot come.
    Deadlock,
    /// More instructions than the options allow.
    Timeout,
    /// An mbarrier, barrier, cluster or matrix descriptor was used against its rules.
    InvalidUse,
}

impl FaultKind {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            // Accesses and instructions that the hardware refuses.
            Self::OutOfBounds => "out of bounds",
            Self::Misaligned => "misaligned address",
            Self::IllegalInstruction => "illegal instruction",
            Self::InvalidAddressSpace => "wrong address space",
            Self::InvalidCall => "invalid call",

            // Faults that the kernel raises itself.
            Self::Trap => "trap",
            Self::Assert => "assertion failed",

            // Reads before any write.
            Self::UninitialisedMemory => "uninitialised memory",
            Self::UninitialisedRegister => "uninitialised register",

            // Synchronisation.
            Self::SharedRace => "race in shared memory",
            Self::GlobalRace => "race in global memory",
            Self::DivergentBarrier => "divergent barrier",
            Self::MissingWait => "missing wait",
            Self::MissingFence => "missing fence",

            // The launch as a whole, and whatever else is against the rules.
            Self::Deadlock => "deadlock",
            Self::Timeout => "timeout",
            Self::InvalidUse => "invalid use",
        }
    }
}

/// How bad a fault is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Undefined by the ISA, but known to work on every GPU so far.
    Warning,
    /// Wrong on hardware.
    #[default]
    Error,
}

/// A fault as an instruction knows it; who ran it where is added by [`Report`].
#[derive(Clone, Debug)]
pub struct Fault {
    /// What kind.
    pub kind: FaultKind,
    /// How bad.
    pub level: Level,
    /// The lane that it is about; `None` for the warp as a whole.
    pub lane: Option<usize>,
    /// The address that it is about.
    pub address: Option<u64>,
    /// The step where it began, if that is not the one that shows it.
    pub begun: Option<u32>,
    /// What happened, in a sentence without a full stop.
    pub message: String,
}

impl Fault {
    /// A fault of the warp as a whole.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, level: Level::Error, lane: None, address: None, begun: None, message: message.into() }
    }

    /// The same as a warning.
    pub fn warning(mut self) -> Self {
        self.level = Level::Warning;
        self
    }

    /// The same, of a lane.
    pub fn lane(mut self, lane: usize) -> Self {
        self.lane = Some(lane);
        self
    }

    /// The same, of something that began at another step, which the report names; the one that shows it is named beside.
    pub fn begun_at(mut self, step: u32) -> Self {
        self.begun = Some(step);
        self
    }

    /// The same, at an address.
    pub fn at(mut self, address: u64) -> Self {
        self.address = Some(address);
        self
    }
}

/// A place in a source file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLine {
    /// Path, as the compiler wrote it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
}

/// A fault with all that is known of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// The fault.
    pub fault: Fault,
    /// Name of the kernel.
    pub kernel: String,
    /// Index of the block in the grid.
    pub block: [u32; 3],
    /// Index of the thread in its block: that of the fault's lane, else of the warp's first lane.
    pub thread: [u32; 3],
    /// The instruction as PTX spells it.
    pub instruction: String,
    /// Its line in the PTX text.
    pub ptx_line: u32,
    /// Where it comes from (`-lineinfo`), innermost first: inlined functions are followed by where they were inlined.
    pub source: Vec<SourceLine>,
    /// The allocation nearest to the fault's address.
    pub nearest: Option<String>,
    /// Where what is wrong with it shows, if that is at another instruction.
    pub shows: Option<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, kernel, block, thread, .. } = self;
        let level = if fault.level == Level::Warning { "warning: " } else { "" };
        writeln!(f, "{level}{}: {}", fault.kind.name(), fault.message)?;
        let who = |[x, y, z]: [u32; 3]| format!("({x}, {y}, {z})");
        writeln!(f, "  kernel {kernel}, block {}, thread {}", who(*block), who(*thread))?;
        if let Some(address) = fault.address {
            writeln!(f, "  address {address:#x}")?;
        }
        if let Some(nearest) = &self.nearest {
            writeln!(f, "  nearest: {nearest}")?;
        }
        for (depth, SourceLine { file, line }) in self.source.iter().enumerate() {
            writeln!(f, "  {} {file}:{line}", if depth == 0 { "at" } else { "inlined at" })?;
        }
        write!(f, "  PTX line {}: {}", self.ptx_line, self.instruction)?;
        self.shows.as_ref().map_or(Ok(()), |shows| write!(f, "\n  its value is used at {shows}"))
    }
}
