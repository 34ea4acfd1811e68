//! Of spikes.

use super::{Mutant, UNEQUAL, WRONG, mutants};
use crate::ops::spike;

pub const MUTANTS: &[Mutant] = mutants! {
    "spike: the losses of one warp's width count":
    "spike" "spike.cu" [], F32, spike::as_on_the_host, WRONG;
    "i += WARP" => "i += count"

    "spike: a spike joins the recent steps":
    "spike" "spike.cu" [], F32, spike::as_on_the_host, WRONG;
    "} else { recent[2] += 1.0f;" => "} { recent[2] += 1.0f;"

    "spike: a norm that is not finite does too":
    "spike" "spike.cu" [], F32, spike::as_on_the_host, UNEQUAL;
    "if (isfinite(norm))" => "if (!isnan(norm))"

    "spike: skipped steps of the other kind are not in the row":
    "spike" "spike.cu" [], F32, spike::as_on_the_host, WRONG;
    "recent[0] = verdict[2];" => "recent[0] = isfinite(norm) ? verdict[2] : 0.0f;"

    "spike: before enough steps are known":
    "spike" "spike.cu" [], F32, spike::as_on_the_host, UNEQUAL;
    "above && recent[2] >= static_cast<float>(known)" => "above && recent[2] >= 2.0f"

    "spike: the variance has all of the square":
    "spike" "spike.cu" [], F32, spike::as_on_the_host, WRONG;
    "(of[1] + rate * off * off)" => "of[1] + rate * off * off"
};
