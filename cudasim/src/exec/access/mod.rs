//! Loads and stores, checked.

pub mod lane;
mod warp;
