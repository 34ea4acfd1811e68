//! Named cards: what of them a kernel or its host can see.
//!
//! Limits by compute capability are those of the CUDA C++ programming guide 13.0, "Technical specifications per compute
//! capability"; blocks and shared memory of a multiprocessor are in `cuda_occupancy.h` of toolkit 13.0 too. What a card has is from
//! the paper of NVIDIA's that is named at its line. Of these figures only multiprocessors and memory steer anything; L2 cache,
//! clock and bus are told to a host that asks.

/// What a launch may use on a compute capability, beyond what all of them allow.
#[derive(Debug, PartialEq, Eq)]
pub struct Limits {
    /// Major and minor compute capability.
    pub capability: (u32, u32),
    /// Threads of a multiprocessor.
    pub threads_per_multiprocessor: u32,
    /// Blocks of a multiprocessor.
    pub blocks_per_multiprocessor: u32,
    /// Shared memory of a multiprocessor.
    pub shared_per_multiprocessor: u32,
    /// Shared memory of a block at most, where the host opts in.
    pub shared_opt_in: u32,
    /// Blocks of a cluster at most, portably and where the host allows what is not; 0 where there are no clusters.
    pub clusters: [u32; 2],
    /// How many times slower f64 is than f32.
    pub double_ratio: u32,
}

const fn limits(capability: (u32, u32), threads: u32, blocks: u32, shared_kib: u32, clusters: [u32; 2]) -> Limits {
    Limits {
        capability,
        threads_per_multiprocessor: threads,
        blocks_per_multiprocessor: blocks,
        shared_per_multiprocessor: shared_kib << 10,
        // All but what the system takes of each block.
        shared_opt_in: (shared_kib - 1) << 10,
        clusters,
        double_ratio: if capability.1 == 0 && capability.0 < 12 { 2 } else { 64 },
    }
}

static CC_80: Limits = limits((8, 0), 2048, 32, 164, [0, 0]);
static CC_86: Limits = limits((8, 6), 1536, 16, 100, [0, 0]);
static CC_89: Limits = limits((8, 9), 1536, 24, 100, [0, 0]);
static CC_90: Limits = limits((9, 0), 2048, 32, 228, [8, 16]);
static CC_100: Limits = limits((10, 0), 2048, 32, 228, [8, 16]);
static CC_120: Limits = limits((12, 0), 1536, 24, 100, [8, 8]);

/// A card.
#[derive(Debug, PartialEq, Eq)]
pub struct Card {
    /// As the option `card` has it.
    pub key: &'static str,
    /// As people have it.
    pub model: &'static str,
    /// By its compute capability.
    pub limits: &'static Limits,
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of L2 cache.
    pub l2: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// Boost clock in MHz.
    pub clock: u32,
    /// Width of its memory's bus in bits, and the data rate of one line in Mbit/s.
    pub bus: [u32; 2],
}

const fn card(
    key: &'static str,
    model: &'static str,
    limits: &'static Limits,
    multiprocessors: u32,
    [l2_mib, memory_gib, clock]: [u32; 3],
    bus: [u32; 2],
) -> Card {
    Card { key, model, limits, multiprocessors, l2: l2_mib << 20, memory: (memory_gib as u64) << 30, clock, bus }
}

/// The cards that are known.
pub static CARDS: [Card; 12] = [
    // White paper "NVIDIA A100 Tensor Core GPU Architecture", 2020; the 80 GB card: data sheet of 2021 (HBM2e, 2039 GB/s).
    card("a100", "A100 SXM 80 GB", &CC_80, 108, [40, 80, 1410], [5120, 3186]),
    card("a100-40", "A100 SXM 40 GB", &CC_80, 108, [40, 40, 1410], [5120, 2430]),
    // White paper "NVIDIA Ampere GA102 GPU Architecture" 2.1; A10: data sheet of 2021 (600 GB/s).
    card("a10", "A10", &CC_86, 72, [6, 24, 1695], [384, 12_500]),
    card("rtx3090", "GeForce RTX 3090", &CC_86, 82, [6, 24, 1695], [384, 19_500]),
    // White paper "NVIDIA Ada GPU Architecture" 2.1; L40S: data sheet of 2023 (864 GB/s).
    card("rtx4090", "GeForce RTX 4090", &CC_89, 128, [72, 24, 2520], [384, 21_000]),
    card("l40s", "L40S", &CC_89, 142, [96, 48, 2520], [384, 18_000]),
    // White paper "NVIDIA H100 Tensor Core GPU Architecture" 1.04 (3.35 and 2.04 TB/s); H200: data sheet of 2024 (4.8 TB/s).
    card("h100", "H100 SXM", &CC_90, 132, [50, 80, 1980], [5120, 5238]),
    card("h100-pcie", "H100 PCIe", &CC_90, 114, [50, 80, 1755], [5120, 3188]),
    card("h200", "H200 SXM", &CC_90, 132, [50, 141, 1980], [6144, 6250]),
    // "NVIDIA Blackwell Architecture Technical Brief", 2024, and the data sheet of DGX B200 (180 GB, 8 TB/s). Neither gives
    // multiprocessors, L2 cache or clock: these are as owners report them, and sources differ on the cache.
    card("b200", "B200", &CC_100, 148, [126, 180, 1965], [8192, 7800]),
    // White papers "NVIDIA RTX Blackwell GPU Architecture" and "NVIDIA RTX PRO Blackwell GPU Architecture", 2025 (1792 GB/s).
    card("rtx5090", "GeForce RTX 5090", &CC_120, 170, [96, 32, 2407], [512, 28_000]),
    card("rtx-pro-6000", "RTX PRO 6000 Blackwell", &CC_120, 188, [128, 96, 2617], [512, 28_000]),
];

impl Card {
    /// The card of an option's name.
    pub fn named(key: &str) -> Option<&'static Self> {
        CARDS.iter().find(|card| card.key == key)
    }

    /// What a device is where no card is named: in its limits an H100.
    pub fn default_card() -> &'static Self {
        &CARDS[6]
    }

    /// The number of its architecture: 90 for compute capability 9.0.
    pub fn architecture(&self) -> u32 {
        let (major, minor) = self.limits.capability;
        major * 10 + minor
    }

    /// Whether it runs PTX for a target (`sm_80`, `sm_90a`): what is specific to an architecture must be its own, what is
    /// specific to a family of its major version and no later.
    pub fn runs_ptx(&self, target: &str) -> bool {
        let Some(number) = number_of(target) else { return false };
        match target.chars().last() {
            Some('a') => number == self.architecture(),
            Some('f') => number / 10 == self.limits.capability.0 && number <= self.architecture(),
            _ => number <= self.architecture(),
        }
    }

    /// Whether it runs machine code for an architecture: of its major version and no later.
    pub fn runs_machine_code(&self, architecture: u32) -> bool {
        architecture / 10 == self.limits.capability.0 && architecture <= self.architecture()
    }
}

/// The number in a target's name.
pub fn number_of(target: &str) -> Option<u32> {
    let digits: String = target.chars().filter(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_run_what_is_older_and_their_own() {
        let [a100, h100, b200, rtx5090] = ["a100", "h100", "b200", "rtx5090"].map(|key| Card::named(key).unwrap());
        assert!(h100.runs_ptx("sm_90a") && h100.runs_ptx("sm_90") && h100.runs_ptx("sm_52"));
        assert!(!h100.runs_ptx("sm_100") && !h100.runs_ptx("sm_100a") && !h100.runs_ptx("sm_89a"));
        assert!(!a100.runs_ptx("sm_86") && !a100.runs_ptx("sm_90a") && !rtx5090.runs_ptx("sm_100f"));
        assert!(b200.runs_ptx("sm_100f") && b200.runs_ptx("sm_90") && !b200.runs_ptx("sm_90a"));
        assert!(a100.runs_machine_code(80) && Card::named("rtx4090").unwrap().runs_machine_code(80));
        assert!(!h100.runs_machine_code(80) && !rtx5090.runs_machine_code(100));
    }

    #[test]
    fn the_limits_are_those_of_the_programming_guide() {
        let of = |key: &str| {
            let limits = Card::named(key).unwrap().limits;
            (limits.capability, limits.shared_opt_in >> 10, limits.shared_per_multiprocessor >> 10)
        };
        assert_eq!(of("a100"), ((8, 0), 163, 164));
        assert_eq!(of("rtx3090"), ((8, 6), 99, 100));
        assert_eq!(of("rtx4090"), ((8, 9), 99, 100));
        assert_eq!(of("h100-pcie"), ((9, 0), 227, 228));
        assert_eq!(of("rtx5090"), ((12, 0), 99, 100));
        assert_eq!(Card::default_card().key, "h100");
        // HBM3 at 3.35 TB/s.
        let [width, rate] = Card::default_card().bus;
        assert_eq!(width / 8 * rate / 1000, 3352);
    }
}
