//! Files as data sets need them: memory-mapped, and hashed.

pub(crate) mod bytes;
pub(crate) mod hash;
