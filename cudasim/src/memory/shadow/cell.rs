//! One access in 64 bits.

/// One access: its agent, its epoch, and which bytes of the word it touched. 0 stands for no access.
///
/// From the top: agent (24 bits), time of the agent's clock (15), whether the slot behind this one is used (1), bytes (4), strong (1),
/// lane (5), step (14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell(pub u64);

pub(super) const MORE: u64 = 1 << 24;
pub(super) const BYTES_SHIFT: u32 = 20;
pub(super) const STRONG: u64 = 1 << 19;
pub(super) const LANE_SHIFT: u32 = 14;
const UNKNOWN_STEP: u64 = (1 << LANE_SHIFT) - 1;

/// More agents than this do not fit.
pub const AGENTS: u64 = 1 << 24;

impl Cell {
    /// An access by lane 0, of no bytes yet; `None` where the time is past what fits.
    #[inline]
    pub fn new(agent: u64, time: u32, strong: bool, step: u32) -> Option<Self> {
        let step = u64::from(step).min(UNKNOWN_STEP);
        let strong = if strong { STRONG } else { 0 };
        (time < 1 << 15).then_some(Self(agent << 40 | u64::from(time) << 25 | strong | step))
    }

    /// Who.
    #[inline]
    pub fn agent(self) -> u64 {
        self.0 >> 40
    }

    /// When.
    #[inline]
    pub fn time(self) -> u32 {
        (self.0 >> 25) as u32 & 0x7fff
    }

    /// The epoch, as FastTrack calls it: agent and time as one number.
    #[inline]
    pub fn epoch(self) -> u64 {
        self.0 >> 25
    }

    /// Which lane.
    #[inline]
    pub fn lane(self) -> u32 {
        (self.0 >> LANE_SHIFT) as u32 & 31
    }

    /// Whether both are by lanes of one warp at one step in one epoch.
    #[inline]
    pub fn is_beside(self, other: Self) -> bool {
        self.epoch() == other.epoch() && self.step().is_some() && self.step() == other.step()
    }

    /// At which step of the kernel; `None` where it has more than fit.
    #[inline]
    pub fn step(self) -> Option<usize> {
        let step = self.0 & UNKNOWN_STEP;
        (step != UNKNOWN_STEP).then_some(step as usize)
    }

    /// Which bytes of the word: a bit each.
    #[inline]
    pub fn bytes(self) -> u64 {
        self.0 >> BYTES_SHIFT & 15
    }

    /// Whether both touch a byte and not both are atomic or the like.
    #[inline]
    pub(super) fn clashes(self, other: Self) -> bool {
        self.bytes() & other.bytes() != 0 && self.0 & other.0 & STRONG == 0
    }
}
