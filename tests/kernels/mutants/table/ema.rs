//! Of the moving average.

use super::{Mutant, UNEQUAL, WRONG, mutants};
use crate::ops::ema;

pub const MUTANTS: &[Mutant] = mutants! {
    "ema: a norm that is NaN moves the average":
    "ema" "ema.cu" [], F32, ema::norms_that_are_not_finite_change_nothing, UNEQUAL;
    "!isfinite(*norm)" => "isinf(*norm)"

    "ema: the rest stays where it is":
    "ema" "ema.cu" [], Bf16, ema::approaches_the_parameter, WRONG;
    "average[i] = approach(average[i], parameter[i], rate);" => "average[i] = approach(average[i], average[i], rate);"
};
