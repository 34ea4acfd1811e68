//! Files as data sets need them: read by position, hashed, out of an archive, or a pickle.

pub(crate) mod archive;
pub(crate) mod bytes;
pub(crate) mod hash;
pub(crate) mod pickle;
pub(crate) mod regular;
