//! Of the stopwatch.

use super::{Found, Mutant, mutants};
use crate::ops::lap;

const WITHIN: Found = Found::Values("within");

pub const MUTANTS: &[Mutant] = mutants! {
    "lap: the next total is written to":
    "lap" "lap.cu" [], F32, lap::totals_add_up, WITHIN;
    "watch[2 + total] +=" => "watch[3 + total] +="

    "lap: of several laps the last counts":
    "lap" "lap.cu" [], F32, lap::totals_add_up, WITHIN;
    "watch[2 + total] +=" => "watch[2 + total] ="

    "lap: microseconds for milliseconds":
    "lap" "lap.cu" [], F32, lap::totals_add_up, WITHIN;
    "* 1e-6f" => "* 1e-3f"

    "lap: one total starts where it was":
    "lap" "lap.cu" [], F32, lap::totals_add_up, WITHIN;
    "i < totals" => "i < totals - 1"
};
