//! Happens-before.
//!
//! ```text
//! sync_locations  what was released at words of global memory, for other clusters
//! clocks          vector clocks of the agents of a cluster
//! detector        what the shadow memory asks of them: does one access happen before another?
//! ```

pub mod clocks;
pub mod detector;
pub mod sync_locations;
