//! Of stamps of time.

use super::{Found, Mutant, mutants};
use crate::ops::stamp;

const WITHIN: Found = Found::Values("within");

pub const MUTANTS: &[Mutant] = mutants! {
    "stamp: one is written where another has its place":
    "stamp" "stamp.cu" [], F32, stamp::times_pass, WITHIN;
    "times[1 + stamp]" => "times[stamp]"

    "stamp: microseconds for milliseconds":
    "stamp" "stamp.cu" [], F32, stamp::times_pass, WITHIN;
    "* 1e-6f" => "* 1e-3f"
};
