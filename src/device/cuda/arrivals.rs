//! Where blocks of a launch meet: integers that count who has come, zero between launches.

use super::CudaDevice;
use super::linear_layernorm_sm90::MOST_PANELS;
use super::linear_sm90::MOST_PARTS;
use super::pointer::Pointer;
use crate::device::Result;

/// Of each tile that is cut, where the parts of each warp's sums meet; or of each panel of rows, where all of its tiles do. Launches of one
/// stream have them one after the other.
const COUNT: usize = if MOST_PANELS > MOST_PARTS { MOST_PANELS } else { MOST_PARTS };

impl CudaDevice {
    /// The integers, from the first launch that needs them on.
    pub(super) fn arrivals(&self) -> Result<Pointer> {
        let mut slot = self.arrivals.borrow_mut();
        if let Some(arrivals) = slot.as_ref() {
            return Ok(arrivals.pointer());
        }
        let mut arrivals = self.memory.take_lasting(COUNT * size_of::<i32>())?;
        arrivals.fill(0)?;
        Ok(slot.insert(arrivals).pointer())
    }
}
