//! The arithmetic of PTX against references that share no code with it: exact big-integer signs, field-by-field
//! decoding, and tables written from the PTX ISA.

mod approx;
mod approx_error;
mod bits;
mod convert;
mod exact;
mod formats;
mod half;
mod minmax;
mod rounding;
