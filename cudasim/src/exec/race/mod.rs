//! Happens-before: clocks, sync locations, and the detector of races.

pub mod clocks;
pub mod detector;
pub mod sync_locations;
