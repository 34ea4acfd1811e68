//! Loads and stores by the instructions of a warp, checked for bounds, alignment, missing values and races.
//!
//! ```text
//! lane         one access by one lane
//! warp         the accesses of all lanes at once, where they are regular
//! rows         rows of matrices in shared memory
//! shared       bytes of shared memory as a whole
//! checks       what no access may do
//! race_checks  what happens before an access, and what it releases and acquires
//! ```

pub mod checks;
pub mod lane;
mod race_checks;
mod rows;
mod shared;
mod warp;
