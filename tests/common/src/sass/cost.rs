//! What a kernel costs by its machine code: the mix of instructions of a trip of its main loop, and the branches behind it.

use std::collections::BTreeSet;
use std::ops::{Add, Sub};

use super::flow::{Flow, Loop};
use super::listing::{Function, Instruction};

/// Numbers of instructions that a warp issues.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mix {
    /// All of them.
    pub issue: u32,
    /// On tensor cores, those of a warpgroup too.
    pub hmma: u32,
    /// `ldmatrix`.
    pub ldsm: u32,
    /// `cp.async`.
    pub ldgsts: u32,
    /// Integers and addresses, those of a warp's uniform registers too.
    pub integer: u32,
    /// Branches.
    pub branches: u32,
    /// Regions in which the lanes of a warp may part (`BSSY` to `BSYNC`).
    pub regions: u32,
    /// Calls.
    pub calls: u32,
}

impl Mix {
    fn of(instructions: &[Instruction]) -> Self {
        let mut mix = Self::default();
        for instruction in instructions {
            let name = instruction.name();
            mix.issue += u32::from(name != "NOP");
            mix.hmma += u32::from(name == "HMMA" || name == "HGMMA");
            mix.ldsm += u32::from(name == "LDSM");
            mix.ldgsts += u32::from(name == "LDGSTS");
            mix.integer += u32::from(is_integer(instruction));
            mix.branches += u32::from(name == "BRA");
            mix.regions += u32::from(name == "BSSY");
            mix.calls += u32::from(name == "CALL");
        }
        mix
    }

    fn each(self, other: Self, f: impl Fn(u32, u32) -> u32) -> Self {
        Self {
            issue: f(self.issue, other.issue),
            hmma: f(self.hmma, other.hmma),
            ldsm: f(self.ldsm, other.ldsm),
            ldgsts: f(self.ldgsts, other.ldgsts),
            integer: f(self.integer, other.integer),
            branches: f(self.branches, other.branches),
            regions: f(self.regions, other.regions),
            calls: f(self.calls, other.calls),
        }
    }

    /// Which of two ways is the usual one: that with the work (tensor cores, then copies), and then the shorter one. Tails that
    /// copy element by element, and masks that most tiles do without, are not on it.
    fn rank(&self) -> (u32, u32, std::cmp::Reverse<u32>) {
        (self.hmma, self.ldgsts, std::cmp::Reverse(self.issue))
    }
}

impl Add for Mix {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.each(other, |a, b| a + b)
    }
}

impl Sub for Mix {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.each(other, u32::saturating_sub)
    }
}

/// Not `IMAD.MOV`, which moves.
fn is_integer(instruction: &Instruction) -> bool {
    const NAMES: [&str; 20] = [
        "IMAD",
        "IADD3",
        "VIADD",
        "VIADDMNMX",
        "LEA",
        "LOP3",
        "SHF",
        "ISETP",
        "SEL",
        "IMNMX",
        "VIMNMX",
        "VIMNMX3",
        "PRMT",
        "IABS",
        "POPC",
        "PLOP3",
        "P2R",
        "R2P",
        "BMSK",
        "SGXT",
    ];
    let name = instruction.name();
    let plain = name.strip_prefix('U').unwrap_or(name);
    NAMES.contains(&plain) && !instruction.has("MOV")
}

/// What the machine code says of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// A trip of the main loop: the loop that holds the most tensor-core instructions, of several the inner one, and among its ways the
    /// usual one. Nothing for kernels without tensor cores.
    pub trip: Mix,
    /// A trip of the loop around it, without the main loop's.
    pub around: Mix,
    /// Everything that may run after the main loop; for kernels without tensor cores everything, and for those of warpgroups, whose other
    /// loops run beside the main loop and around it, everything else.
    pub rest: Mix,
}

/// The cost of a kernel.
pub fn cost(function: &Function) -> Cost {
    let flow = Flow::of(function);
    let mixes: Vec<Mix> =
        flow.blocks.iter().map(|block| Mix::of(&function.instructions[block.instructions.clone()])).collect();
    let sum = |blocks: &BTreeSet<usize>| blocks.iter().fold(Mix::default(), |sum, &block| sum + mixes[block]);

    // Tensor-core instructions of a loop that none of its inner loops has.
    let own = |of: &Loop| {
        let inner = flow.loops.iter().filter(|inner| inner.header != of.header && of.body.contains(&inner.header));
        let inner: BTreeSet<usize> = inner.flat_map(|inner| &inner.body).copied().collect();
        sum(&of.body.difference(&inner).copied().collect()).hmma
    };
    let most = |of: &&Loop| (own(of), std::cmp::Reverse(of.body.len()));
    let all = || sum(&(0..mixes.len()).collect());
    let Some(main) = flow.loops.iter().max_by_key(most).filter(|of| own(of) > 0) else {
        return Cost { trip: Mix::default(), around: Mix::default(), rest: all() };
    };

    // The loops around it, the smallest first.
    let mut outer: Vec<&Loop> =
        flow.loops.iter().filter(|outer| outer.header != main.header && outer.body.contains(&main.header)).collect();
    outer.sort_by_key(|outer| outer.body.len());
    let trip = usual(&flow, &mixes, main);
    let of_warpgroups = function.instructions.iter().any(|instruction| instruction.name() == "HGMMA");
    Cost {
        trip,
        around: outer.first().map_or_else(Mix::default, |outer| usual(&flow, &mixes, outer) - trip),
        rest: if of_warpgroups { all() - trip } else { sum(&flow.after(&outer.last().unwrap_or(&main).body)) },
    }
}

/// The usual way through a loop, from its header back to it; inner loops run once.
fn usual(flow: &Flow, mixes: &[Mix], of: &Loop) -> Mix {
    let mut best: Vec<Option<Mix>> = vec![None; mixes.len()];
    best[of.header] = Some(mixes[of.header]);
    let mut trip: Option<Mix> = None;

    // Blocks stand behind those that lead to them, so the best way to each is known when its turn comes.
    for &block in &of.body {
        let Some(so_far) = best[block] else { continue };
        for &next in &flow.blocks[block].next {
            let better = |old: &Option<Mix>, new: Mix| old.is_none_or(|old| new.rank() > old.rank());
            if next == of.header && better(&trip, so_far) {
                trip = Some(so_far);
            } else if next > block && of.body.contains(&next) {
                let way = so_far + mixes[next];
                if better(&best[next], way) {
                    best[next] = Some(way);
                }
            }
        }
    }
    trip.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sass::functions;

    fn cost_of(text: &[&str]) -> Cost {
        let lines = text.iter().enumerate().map(|(index, text)| format!("/*{:04x}*/ {text} ;\n", index * 16));
        let listing: String = ["arch = sm_80\nFunction : f\n".to_owned()].into_iter().chain(lines).collect();
        cost(&functions(&listing)[0])
    }

    #[test]
    fn a_trip_takes_the_way_with_copies_and_without_the_mask() {
        let Cost { trip, around, rest } = cost_of(&[
            /* 00 */ "IMAD R1, R2, R3, R4",
            /* 10 */ "IADD3 R1, R1, 0x1, RZ", // the loop
            /* 20 */ "@P1 BRA 0x60",
            /* 30 */ "LDGSTS.E.128 [R1], [R2.64]",
            /* 40 */ "UIADD3 UR4, UR4, 0x1, URZ",
            /* 50 */ "BRA 0x80",
            /* 60 */ "LDG.E R4, [R2.64]", // copies that are not aligned
            /* 70 */ "STS [R1], R4",
            /* 80 */ "LDSM.16.M88.4 R8, [R1]",
            /* 90 */ "HMMA.16816.F32.BF16 R12, R8, R4, R12",
            /* a0 */ "HFMA2.MMA R4, -RZ, RZ, 0, 0",
            /* b0 */ "@!P2 BRA 0xd0",
            /* c0 */ "SEL R12, R12, RZ, P0", // the mask
            /* d0 */ "IMAD.MOV.U32 R1, RZ, RZ, R5",
            /* e0 */ "@P3 BRA 0x10",
            /* f0 */ "BSSY B0, 0x120",
            /* 100 */ "@P4 BRA 0x120",
            /* 110 */ "CALL.REL.NOINC 0x140",
            /* 120 */ "BSYNC B0",
            /* 130 */ "EXIT",
            /* 140 */ "BRA 0x150",
            /* 150 */ "RET.REL.NODEC R6 0x0",
        ]);
        // IADD3, BRA, LDGSTS, UIADD3, BRA, LDSM, HMMA, HFMA2, BRA, IMAD.MOV, BRA
        let expected = Mix { issue: 11, hmma: 1, ldsm: 1, ldgsts: 1, integer: 2, branches: 4, regions: 0, calls: 0 };
        assert_eq!((trip, around), (expected, Mix::default()));
        assert_eq!((rest.branches, rest.regions, rest.calls, rest.issue), (1, 1, 1, 5));
    }

    #[test]
    fn the_loop_around_the_main_loop_is_counted_apart() {
        let Cost { trip, around, rest } = cost_of(&[
            /* 00 */ "MOV R1, R2",
            /* 10 */ "LDGSTS.E.128 [R1], [R2.64]", // stages
            /* 20 */ "LEA R1, R2, R3, 0x4",
            /* 30 */ "HMMA.16816.F32.BF16 R12, R8, R4, R12", // chunks of one
            /* 40 */ "@P0 BRA 0x30",
            /* 50 */ "BAR.SYNC 0x0",
            /* 60 */ "@P1 BRA 0x10",
            /* 70 */ "HMMA.16816.F32.BF16 R12, R8, R4, R12",
            /* 80 */ "EXIT",
        ]);
        assert_eq!((trip.issue, trip.hmma, trip.integer), (2, 1, 0));
        assert_eq!((around.issue, around.hmma, around.ldgsts, around.integer), (4, 0, 1, 1));
        assert_eq!((rest.issue, rest.hmma), (2, 1));
    }

    #[test]
    fn of_equal_loops_of_warpgroups_the_inner_one_is_the_main_loop_and_all_others_are_the_rest() {
        let Cost { trip, rest, .. } = cost_of(&[
            /* 00 */ "SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [R2], R3", // the producer's
            /* 10 */ "@!P0 BRA 0x0",
            /* 20 */ "HGMMA.64x64x16.F32.BF16 R24, gdesc[UR4], R24", // a tile with a mask
            /* 30 */ "HGMMA.64x64x16.F32.BF16 R24, gdesc[UR4], R24",
            /* 40 */ "UIADD3 UR4, UR4, 0x2, URZ",
            /* 50 */ "@P1 BRA 0x30",
            /* 60 */ "@P2 BRA 0x20",
            /* 70 */ "EXIT",
        ]);
        assert_eq!((trip.issue, trip.hmma, trip.integer), (3, 1, 1));
        assert_eq!((rest.issue, rest.hmma, rest.branches), (5, 1, 2));
    }

    #[test]
    fn without_tensor_cores_everything_is_the_rest() {
        let Cost { trip, rest, .. } = cost_of(&["FADD R0, R0, R0", "@P0 BRA 0x0", "EXIT", "NOP"]);
        assert_eq!((trip, rest.issue, rest.branches), (Mix::default(), 3, 1));
    }
}
