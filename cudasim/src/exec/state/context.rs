//! The context of an effect: what it sees of its warp, the blocks of its cluster and the grid.

use crate::exec::program;
use crate::exec::program::address::{Window, window};
use crate::exec::program::definedness::Undefined;
use crate::exec::program::registers::{Registers, Slot};
use crate::exec::program::step::Flow;
use crate::exec::race::clocks::ClockSet;
use crate::exec::race::sync_locations::SyncLocations;
use crate::exec::state::block::Block;
use crate::exec::state::launch::Launch;
use crate::exec::state::warnings::Given;
use crate::exec::state::warp::Warp;
use crate::exec::state::worker::Worker;
use crate::mask::Mask;
use crate::memory::AddressMap;
use crate::options::Options;
use crate::report::{Fault, FaultKind};

/// Everything that an instruction does outside the registers: memory, tensor cores, what lanes say to one another. The
/// closure holds its operands.
pub struct Effect(Run);

type Run = Box<dyn Fn(&mut Context<'_>, Mask) -> Result<Flow, Fault> + Send + Sync>;

impl Effect {
    /// Of what it does.
    pub fn new(run: impl Fn(&mut Context<'_>, Mask) -> Result<Flow, Fault> + Send + Sync + 'static) -> Self {
        Self(Box::new(run))
    }

    /// Runs it for the lanes of a mask.
    ///
    /// # Errors
    /// The fault of the instruction.
    #[inline(always)]
    pub fn run(&self, context: &mut Context<'_>, mask: Mask) -> Result<Flow, Fault> {
        (self.0)(context, mask)
    }
}

/// A kernel whose effects run in a [`Context`].
pub type Kernel = program::kernel::Kernel<Effect>;

/// A step of a [`Kernel`].
pub type Step = program::step::Step<Effect>;

/// What a [`Step`] does.
pub type Action = program::step::Action<Effect>;

/// A launch that runs.
pub struct Grid<'a> {
    /// The code.
    pub kernel: &'a Kernel,
    /// The launch.
    pub launch: &'a Launch,
    /// Global memory as it was at the launch.
    pub memory: &'a AddressMap,
    /// Checks and seed.
    pub options: &'a Options,
    /// Number of the launch in its process.
    pub number: u64,
    /// Registers of a warp with the constants in place.
    pub template: Registers,
    /// Which of them hold no value.
    pub undefined: Undefined,
    /// Number of the first agent of this launch; 0 where races in global memory are not looked for.
    pub first_agent: u64,
    /// What atomics release to other clusters.
    pub sync_locations: SyncLocations,
    /// The warnings that were given.
    pub warned: Given,
}

impl Grid<'_> {
    /// Index of a block from the number of its cluster and its rank there.
    pub fn block_index(&self, cluster: u64, rank: u32) -> [u32; 3] {
        let [cx, cy, _] = self.launch.cluster;
        let [gx, gy] = [0, 1].map(|axis| u64::from(self.launch.grid[axis] / self.launch.cluster[axis]));
        let place = [cluster % gx, cluster / gx % gy, cluster / gx / gy];
        let inside = [rank % cx, rank / cx % cy, rank / cx / cy];
        std::array::from_fn(|axis| place[axis] as u32 * self.launch.cluster[axis] + inside[axis])
    }

    /// Index of a thread from its number in the block.
    pub fn thread_index(&self, thread: u32) -> [u32; 3] {
        let [x, y, _] = self.launch.block;
        [thread % x, thread / x % y, thread / x / y]
    }

    /// What is at or near an address, for reports.
    pub fn describe(&self, address: u64) -> Option<String> {
        let (space, inside) = window(address);
        match space {
            Window::Global => self.memory.describe(address),
            Window::Shared => {
                let within = |(_, start, bytes): &&(String, u64, u64)| (*start..start + bytes).contains(&inside);
                let dynamic = self.kernel.dynamic_shared;
                Some(match self.kernel.shared_variables.iter().find(within) {
                    Some((name, start, bytes)) => format!("byte {} of shared {name} of {bytes} bytes", inside - start),
                    None if inside >= dynamic => {
                        format!("byte {} of {} of dynamic shared memory", inside - dynamic, self.launch.dynamic_shared)
                    }
                    None => format!("shared address {inside:#x}"),
                })
            }
            Window::Local => Some(format!("byte {inside} of {} of local memory", self.kernel.local_bytes)),
            Window::Parameter => Some(format!("byte {inside} of {} of the parameters", self.kernel.parameter_bytes)),
        }
    }
}

/// Where an instruction runs.
pub struct Context<'a> {
    /// The launch.
    pub grid: &'a Grid<'a>,
    /// The host thread.
    pub worker: &'a mut Worker,
    /// The blocks of the cluster, by rank.
    pub blocks: &'a mut [Block],
    /// What happened before what in the cluster.
    pub clocks: &'a mut ClockSet,
    /// Rank of the warp's own block.
    pub rank: usize,
    /// The warp.
    pub warp: &'a mut Warp,
    /// Index of the step that runs.
    pub pc: u32,
}

impl Context<'_> {
    /// The warp's registers.
    #[inline(always)]
    pub fn registers(&mut self) -> &mut Registers {
        &mut self.warp.registers
    }

    /// The warp's block.
    #[inline(always)]
    pub fn block(&mut self) -> &mut Block {
        &mut self.blocks[self.rank]
    }

    /// Which lanes of `mask` may go on with an instruction that the members named in a 32-bit slot run together, and each
    /// lane's members among them. Lanes may name different masks, as the tiles of cooperative groups do; those whose
    /// members are not all there yet wait. Members that have left are not waited for (ISA: "all non-exited threads").
    ///
    /// # Errors
    /// A lane runs it that is not a member of its own mask.
    pub fn converge(&self, mask: Mask, members: Slot) -> Result<(Mask, [Mask; 32]), Fault> {
        let named = self.warp.registers.get::<u32>(members);
        let first = named[mask.trailing_zeros() as usize & 31];
        let live = self.warp.live();

        let skipping = self.skipping(mask);
        if let Some(lane) = crate::mask::lanes(mask).find(|&lane| named[lane] & skipping != 0) {
            let (members, skipping) = (named[lane], named[lane] & skipping);
            let message = format!("the member mask {members:#010x} names lanes that skip it: {skipping:#010x}");
            return Err(Fault::new(FaultKind::DivergentBarrier, message).lane(lane));
        }

        if crate::mask::lanes(mask).all(|lane| named[lane] == first) {
            if mask & !first != 0 {
                return Err(no_member((mask & !first).trailing_zeros() as usize, mask, first));
            }
            let group = first & live;
            return Ok((if group & !mask == 0 { mask } else { 0 }, [group; 32]));
        }

        let mut ready = 0;
        for lane in crate::mask::lanes(mask) {
            if named[lane] >> lane & 1 == 0 {
                return Err(no_member(lane, mask, named[lane]));
            }
            let group = named[lane] & live;
            let together = crate::mask::lanes(group & mask).all(|other| named[other] == named[lane]);
            if group & !mask == 0 && together {
                ready |= 1 << lane;
            }
        }

        Ok((ready, named.map(|members| members & live)))
    }

    /// Whether the whole warp, less lanes that have left, is there to run an `.aligned` instruction: it waits for lanes
    /// that are still on their way.
    ///
    /// # Errors
    /// Some lanes are here as well and skip it.
    pub fn whole_warp(&self, mask: Mask) -> Result<Flow, Fault> {
        if mask == self.warp.live() {
            return Ok(Flow::Next);
        }
        let skipping = self.skipping(mask);
        if skipping != 0 {
            let message =
                format!("an .aligned instruction is run by lanes {mask:#010x} and skipped by {skipping:#010x}");
            return Err(Fault::new(FaultKind::DivergentBarrier, message));
        }
        Ok(Flow::Wait)
    }

    /// The lanes that are at the instruction as those of `mask` are, but whose guard is false.
    fn skipping(&self, mask: Mask) -> Mask {
        self.warp.splits().last().map_or(0, |split| split.mask & !mask)
    }

    /// Says that something happened that a waiting warp may wait for.
    pub fn progress(&mut self) {
        self.worker.events += 1;
    }
}

fn no_member(lane: usize, mask: Mask, members: Mask) -> Fault {
    let message = format!("run by lanes {mask:#010x}, but the member mask is {members:#010x}");
    Fault::new(FaultKind::DivergentBarrier, message).lane(lane)
}
