//! What `mma` and `wgmma` share: element types, how matrices lie in the registers of a warp, and the product itself.

pub mod element;
pub mod fragment;
pub mod product;
