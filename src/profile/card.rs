//! Cards, and what of their data sheets' figures kernels reach.
//!
//! What a card has (multiprocessors, caches, clock, bus) has its home in the simulator's table, its peaks in that of `plan`; here
//! stand the ceilings that neither data sheet gives, each with its source.

use cudasim::card::Card as Shape;
use serde::Serialize;

use crate::device::cuda::{SHARED_LIMITS, TracedCard};
use crate::plan::{DeviceModel, device_model};

/// A card that steps are predicted for.
#[derive(Clone, Copy, Debug)]
pub struct Card {
    /// What it has.
    pub shape: &'static Shape,
    /// What its maker says it reaches.
    pub peaks: &'static DeviceModel,
    /// What kernels reach.
    pub ceilings: &'static Ceilings,
}

/// Figures of a generation of cards. Fractions are of the data sheet's figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ceilings {
    /// Multiplications and additions of bf16 that the tensor cores of a multiprocessor do in a clock.
    pub tensor_flops_per_clock: f64,
    /// Fraction of the peak that `mma.sync` reaches.
    pub mma: f64,
    /// Fraction of the peak that `wgmma` reaches; nothing where there is none.
    pub wgmma: f64,
    /// Lanes of f32 arithmetic that a multiprocessor does in a clock.
    pub fma_lanes: f64,
    /// The same of f64.
    pub double_lanes: f64,
    /// Fraction of the memory's bandwidth that a copy reaches.
    pub dram: f64,
    /// Bytes that all of L2 gives in a clock.
    pub l2_bytes_per_clock: f64,
    /// Clocks until a load from L2 is there.
    pub l2_latency: f64,
    /// Clocks until a load from memory is there.
    pub dram_latency: f64,
}

/// Lanes of integer arithmetic, and of special functions, that a multiprocessor does in a clock, on all cards from compute capability
/// 8.0 to 9.0: CUDA C++ programming guide 13.0, "Arithmetic instructions".
pub const ALU_LANES: f64 = 64.0;
/// See [`ALU_LANES`].
pub const SPECIAL_LANES: f64 = 16.0;
/// Lanes whose addresses a multiprocessor's loads and stores hand over in a clock (A100 white paper: 32 units in 4 parts).
pub const MEMORY_LANES: f64 = 32.0;
/// Instructions that a multiprocessor issues in a clock: one for each of its four schedulers.
pub const SCHEDULERS: f64 = 4.0;
/// Registers of a multiprocessor; a warp takes them by 256 (same guide, "Technical specifications per compute capability").
pub const REGISTERS: u32 = 65_536;
/// Bytes between a multiprocessor and L2 in a clock (A100 white paper: 64 bytes per clock and multiprocessor).
pub const PORT: f64 = 64.0;
/// Seconds between two nodes of a graph: 0.58 µs of each of a chain of empty kernels (ahrefs/ocannl issue 488, on an RTX 5070 Ti).
pub const GAP: f64 = 0.58e-6;

// Tensor cores and f32 lanes: the white papers of the architectures. `mma` of 9.0, and latencies: Luo et al., arXiv 2402.13499 (mma.sync
// reaches 62.9 % of an H100's peak on average; table 4). The other fractions are the best that is published of real products, so that
// they hold the clock that the card's power allows: cuBLAS 261.8 of 312 TFLOP/s on an A100 (learn-cuda, 02b_matmul_sm80) and 177 of
// 209.5 on GeForce (the same); fast.cu 808 of 989 on an H100. Memory: 3.01 of 3.35 TB/s (quack, "Getting memory-bound kernels to
// speed-of-light"). L2: 5120 bytes per clock is the nominal rate of A100 and H100 (PMC10448217, table 3); the fraction of it is assumed,
// within the 5 to 10 TB/s of quack's page, and so is all of Ada's.
static CC_80: Ceilings = Ceilings {
    tensor_flops_per_clock: 2048.0,
    mma: 0.84,
    wgmma: 0.0,
    fma_lanes: 64.0,
    double_lanes: 32.0,
    dram: 0.90,
    l2_bytes_per_clock: 0.85 * 5120.0,
    l2_latency: 261.5,
    dram_latency: 466.3,
};
static CC_89: Ceilings = Ceilings {
    tensor_flops_per_clock: 512.0,
    mma: 0.845,
    wgmma: 0.0,
    fma_lanes: 128.0,
    double_lanes: 2.0,
    dram: 0.90,
    l2_bytes_per_clock: 2_000.0,
    l2_latency: 273.0,
    dram_latency: 541.5,
};
static CC_89_PRO: Ceilings = Ceilings { tensor_flops_per_clock: 1024.0, ..CC_89 };
static CC_90: Ceilings = Ceilings {
    tensor_flops_per_clock: 4096.0,
    mma: 0.62,
    wgmma: 0.82,
    fma_lanes: 128.0,
    double_lanes: 64.0,
    dram: 0.90,
    l2_bytes_per_clock: 0.85 * 5120.0,
    l2_latency: 263.0,
    dram_latency: 478.8,
};

/// The cards that steps are predicted for, by the names of both tables.
pub const CARDS: [&str; 7] = ["a100", "a100-40", "rtx4090", "l40s", "h100", "h100-pcie", "h200"];

/// A card that is not in [`CARDS`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown --card '{0}'; choose one of {names}", names = CARDS.join(", "))]
pub struct UnknownCard(pub String);

impl Card {
    /// The card of this name.
    ///
    /// # Errors
    /// [`UnknownCard`].
    pub fn named(name: &str) -> Result<Self, UnknownCard> {
        let known = || {
            let shape = CARDS.contains(&name).then(|| Shape::named(name))??;
            let ceilings = match shape.limits.capability {
                (8, 0) => &CC_80,
                (8, 9) if name == "l40s" => &CC_89_PRO,
                (8, 9) => &CC_89,
                (9, 0) => &CC_90,
                _ => return None,
            };
            Some(Self { shape, peaks: device_model(name)?, ceilings })
        };
        known().ok_or_else(|| UnknownCard(name.to_owned()))
    }

    /// What decides which kernels are launched on it.
    pub fn traced(&self) -> TracedCard {
        let (major, minor) = self.shape.limits.capability;
        let capability = (major as i32, minor as i32);
        let limit = SHARED_LIMITS.iter().find(|(of, _)| *of == capability).map_or(0, |(_, bytes)| *bytes);
        TracedCard { capability, multiprocessors: self.shape.multiprocessors as usize, shared_limit: limit }
    }

    /// The architecture whose machine code it runs, among those that kernels are compiled for.
    pub fn machine_code(&self) -> u32 {
        if self.shape.architecture() < 90 { 80 } else { 90 }
    }

    /// Clocks per second at which the peak of its data sheet holds.
    pub fn clock(&self) -> f64 {
        let per_clock = self.ceilings.tensor_flops_per_clock * f64::from(self.shape.multiprocessors);
        self.peaks.bf16.map_or(f64::from(self.shape.clock) * 1e6, |peak| peak / per_clock)
    }

    /// Clocks per second that its multiprocessors run at unless power holds them back. The peak of an H100 is of a lower clock than that.
    pub fn boost(&self) -> f64 {
        (f64::from(self.shape.clock) * 1e6).max(self.clock())
    }

    /// Bytes per second of its memory, by the data sheet.
    pub fn memory_bandwidth(&self) -> f64 {
        let [width, rate] = self.shape.bus.map(f64::from);
        width / 8.0 * rate * 1e6
    }

    /// Peak of its tensor cores in bf16, FLOP/s.
    pub fn peak(&self) -> f64 {
        self.peaks.bf16.unwrap_or(self.peaks.f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_card_is_known_to_both_tables_and_its_clock_is_its_own() {
        for name in CARDS {
            let card = Card::named(name).unwrap();
            let ratio = card.clock() / (f64::from(card.shape.clock) * 1e6);
            assert!((0.9..1.01).contains(&ratio), "{name}: {ratio}");
            assert!(card.traced().shared_limit > 0 && card.memory_bandwidth() > 5e11, "{name}");
        }
        assert!(Card::named("h1000").unwrap_err().to_string().contains("h100-pcie"));
        assert!(Card::named("v100").is_err(), "no kernels run there");
    }
}
