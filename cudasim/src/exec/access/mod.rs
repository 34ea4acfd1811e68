//! Loads and stores, checked.

pub mod lane;
mod race_checks;
mod warp;
