//! What a rank calls: an operation on so many elements of a type; and NCCL's numbers.

use std::ffi::c_int;
use std::fmt;

/// `ncclResult_t`.
pub type Code = c_int;
/// All is well.
pub const SUCCESS: Code = 0;
/// A call of CUDA failed.
pub const CUDA: Code = 1;
/// A call of the system failed.
pub const SYSTEM: Code = 2;
/// An argument is none.
pub const ARGUMENT: Code = 4;
/// The ranks do not fit each other.
pub const USAGE: Code = 5;
/// Another rank is gone.
pub const REMOTE: Code = 6;

/// The text of a code.
pub fn text(code: Code) -> &'static std::ffi::CStr {
    match code {
        SUCCESS => c"no error",
        CUDA => c"unhandled cuda error",
        SYSTEM => c"unhandled system error",
        ARGUMENT => c"invalid argument",
        USAGE => c"invalid usage: the ranks called different collectives",
        REMOTE => c"remote process exited or there was a network error",
        _ => c"unknown error",
    }
}

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Operation {
    /// `ncclAllReduce`.
    AllReduce = 1,
    /// `ncclReduceScatter`.
    ReduceScatter = 2,
    /// `ncclAllGather`.
    AllGather = 3,
    /// `ncclBroadcast`.
    Broadcast = 4,
    /// A group of `ncclSend` and `ncclRecv` between all ranks, the same count between any two.
    AllToAll = 5,
}

impl Operation {
    fn name(number: u64) -> &'static str {
        ["nothing", "all-reduce", "reduce-scatter", "all-gather", "broadcast", "all-to-all"]
            .get(number as usize)
            .copied()
            .unwrap_or("an unknown operation")
    }
}

/// Types that are moved; of these [`Call::adds`] are added up.
fn width(datatype: c_int) -> Option<usize> {
    Some(match datatype {
        0 | 1 => 1,
        6 | 9 => 2,
        2 | 3 | 7 => 4,
        4 | 5 | 8 => 8,
        _ => return None,
    })
}

/// `ncclFloat32`.
pub const FLOAT32: c_int = 7;
/// `ncclFloat64`.
pub const FLOAT64: c_int = 8;
/// `ncclSum`.
pub const SUM: c_int = 0;
/// `ncclMax`.
pub const MAX: c_int = 2;

/// A collective as a rank calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// What.
    pub operation: Operation,
    /// Elements: of an all-reduce or broadcast all of them, of the others those of one part.
    pub count: usize,
    /// `ncclDataType_t`.
    pub datatype: c_int,
    /// `ncclRedOp_t`; 0 where nothing is reduced.
    pub reduction: c_int,
    /// The rank that a broadcast is from; 0 elsewhere.
    pub root: c_int,
}

impl Call {
    /// A call, if its type is one, and one that can be reduced where it is.
    pub fn new(operation: Operation, count: usize, datatype: c_int, reduction: c_int, root: c_int) -> Option<Self> {
        let reduces = matches!(operation, Operation::AllReduce | Operation::ReduceScatter);
        let adds = [FLOAT32, FLOAT64].contains(&datatype) && [SUM, MAX].contains(&reduction);
        width(datatype)?;
        (!reduces || adds).then_some(Self { operation, count, datatype, reduction, root })
    }

    /// Bytes of an element.
    pub fn width(&self) -> usize {
        width(self.datatype).unwrap_or(1)
    }

    /// The parts that a rank sends and receives, of `ranks`.
    pub fn parts(&self, ranks: usize) -> [usize; 2] {
        match self.operation {
            Operation::AllReduce | Operation::Broadcast => [1, 1],
            Operation::ReduceScatter => [ranks, 1],
            Operation::AllGather => [1, ranks],
            Operation::AllToAll => [ranks, ranks],
        }
    }

    /// As it lies in shared memory.
    pub fn words(&self) -> [u64; 3] {
        let small = |value: c_int| u64::from(value as u32 & 0xffff);
        let rest = small(self.datatype) | small(self.reduction) << 16 | small(self.root) << 32;
        [self.operation as u64, self.count as u64, rest]
    }
}

/// A call as another rank has written it.
pub struct Written(pub [u64; 3]);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([operation, count, rest]) = self;
        write!(f, "{} of {count} elements of type {}", Operation::name(*operation), rest & 0xffff)?;
        let (reduction, root) = (rest >> 16 & 0xffff, rest >> 32 & 0xffff);
        if reduction != 0 {
            write!(f, ", reduction {reduction}")?;
        }
        if root != 0 { write!(f, ", root {root}") } else { Ok(()) }
    }
}
