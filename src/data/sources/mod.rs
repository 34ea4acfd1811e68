//! Where images and tokens come from: one file per format.

pub(crate) mod builtin;
pub(crate) mod cifar;
pub(crate) mod folder;
pub mod imagenet;
pub(crate) mod shard;
pub(crate) mod stl;
pub(crate) mod tokens;
