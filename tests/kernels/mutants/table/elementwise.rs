//! Of `add_assign` and the conversions.

use super::{Device, Found, Mutant, TWICE, WRONG, mutants};
use crate::ops::elementwise;

/// A vector of eight elements, and five beside it.
fn thirteen(device: &Device) {
    elementwise::check(device, 13);
}

pub const MUTANTS: &[Mutant] = mutants! {
    "add_assign: the rest is overwritten":
    "elementwise" "elementwise.cu" [], Bf16, thirteen, WRONG;
    "into[i] = from_float<T>(to_float(into[i]) + to_float(other[i]));" => "into[i] = other[i];"

    "add_assign: vectors are overwritten":
    "elementwise" "elementwise.cu" [], F32, thirteen, WRONG;
    "a[e] += b[e];" => "a[e] = b[e];"

    "elementwise: the very last element is forgotten":
    "elementwise" "elementwise.cu" [], F32, thirteen, WRONG;
    "if (thread < count % COUNT)" => "if (thread + 1 < count % COUNT)"

    "elementwise: blocks stride as if they were alone":
    "elementwise" "elementwise.cu" [], F32, |device| elementwise::check(device, 2049), TWICE;
    "i += threads" => "i += blockDim.x"

    "to_bf16: vectors are cut off":
    "elementwise" "elementwise.cu" [], Bf16, elementwise::conversions, WRONG;
    "pack_bf16(v[0], v[1])" => "__float_as_uint(v[0]) >> 16 | (__float_as_uint(v[1]) & 0xffff0000u)"

    "to_bf16: the rest is cut off":
    "elementwise" "elementwise.cu" [], Bf16, elementwise::conversions, WRONG;
    "to[i] = from_float<bf16>(from[i]);" => "to[i] = __float2bfloat16_rz(from[i]);"

    "to_f32: two elements change places":
    "elementwise" "elementwise.cu" [], Bf16, elementwise::conversions, WRONG;
    "low_bf16(raw.x), high_bf16(raw.x)" => "high_bf16(raw.x), low_bf16(raw.x)"

    "to_f32: the rest is forgotten":
    "elementwise" "elementwise.cu" [], Bf16, elementwise::conversions, WRONG;
    "to[i] = to_float(from[i]);" => ""

    "add_assign: operands are rounded once more":
    "elementwise" "elementwise.cu" [], Bf16,
    thirteen, Found::Equivalent("What is loaded as T is a number of T, which rounding does not change.");
    "a[e] += b[e];" => "a[e] = rounded<T>(a[e]) + rounded<T>(b[e]);"
};
