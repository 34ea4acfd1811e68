//! Which unit of a multiprocessor an instruction keeps busy.

/// A unit, by what is sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pipe {
    /// f32 and products of integers.
    Fma,
    /// Integers, logic, comparisons.
    Alu,
    /// Special functions, conversions between floats and integers.
    Special,
    /// f64.
    Double,
    /// Loads, stores, shuffles: one warp at a time hands over its addresses.
    Memory,
    /// Matrix products.
    Tensor,
    /// What only takes its turn to be issued: branches, barriers, registers of the whole warp.
    Control,
}

/// Every unit.
pub const PIPES: [Pipe; 7] =
    [Pipe::Fma, Pipe::Alu, Pipe::Special, Pipe::Double, Pipe::Memory, Pipe::Tensor, Pipe::Control];

/// The unit of an instruction of this name.
pub fn pipe(name: &str) -> Pipe {
    match name {
        "FMUL" | "FADD" | "FFMA" | "IMAD" | "HADD2" | "HFMA2" | "HMUL2" => Pipe::Fma,
        "MUFU" | "F2F" | "F2I" | "I2F" | "FRND" | "POPC" | "FCHK" => Pipe::Special,
        "DMUL" | "DADD" | "DSETP" | "DFMA" => Pipe::Double,
        "HMMA" | "IMMA" | "DMMA" | "HGMMA" | "IGMMA" | "QGMMA" => Pipe::Tensor,
        "LDSM" | "STSM" | "LDG" | "LDC" | "LDL" | "LDS" | "STG" | "STL" | "STS" | "SHFL" | "LDGSTS" | "SYNCS"
        | "ATOMG" => Pipe::Memory,
        "MOV" | "P2R" | "R2P" | "CS2R" | "SEL" | "PLOP3" | "FSEL" | "FMNMX" | "FSET" | "FSETP" | "ISETP"
        | "VIMNMX3" | "IADD3" | "LEA" | "LOP3" | "IABS" | "PRMT" | "IMNMX" | "SHF" | "BMSK" | "VIADD" | "VIADDMNMX"
        | "VIMNMX" | "F2FP" | "I2FP" | "VOTE" => Pipe::Alu,
        _ => Pipe::Control,
    }
}

/// Clocks from the issue of an instruction whose time is not fixed until its result is there. `global`: of memory that is not in
/// the multiprocessor.
///
/// Shared memory and tables of constants: Luo et al., "Benchmarking and dissecting the NVIDIA Hopper GPU architecture via
/// microbenchmarking" (arXiv 2402.13499), table 4; special functions and shuffles: Abdelkhalik et al., "Demystifying the NVIDIA Ampere
/// architecture through microbenchmarking" (arXiv 2208.11174), table 5.
pub fn latency(name: &str, global: f64) -> f64 {
    match name {
        "LDG" | "LDL" | "ATOMG" => global,
        "LDS" | "LDSM" | "LDC" | "S2R" | "S2UR" => 30.0,
        "MUFU" | "F2F" | "F2I" | "I2F" | "FRND" | "POPC" => 23.0,
        "SHFL" => 24.0,
        "DMUL" | "DADD" | "DFMA" | "DSETP" => 48.0,
        "BAR" => 30.0,
        _ => 20.0,
    }
}
