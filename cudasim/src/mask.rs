//! Which lanes of a warp.

/// Which lanes: bit n for lane n.
pub type Mask = u32;

/// All 32 lanes.
pub const FULL: Mask = u32::MAX;

/// The lanes in `mask`, in order.
pub fn lanes(mask: Mask) -> impl Iterator<Item = usize> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        (rest != 0).then(|| {
            let lane = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            lane
        })
    })
}
