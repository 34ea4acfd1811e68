//! What becomes of a gradient that is there already.

/// The β of a sum `total = β · total + terms`, as BLAS has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beta {
    /// The total is written over, whatever it held (`=`): the first terms of a step, before which nobody has to zero it.
    Zero,
    /// The terms are added to it (`+=`).
    One,
}

impl Beta {
    /// Whether the total's values count.
    pub const fn adds(self) -> bool {
        matches!(self, Self::One)
    }
}
