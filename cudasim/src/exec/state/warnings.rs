//! Which warnings a launch has given.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::report::FaultKind;

/// The warnings that a launch has given already: one of a kind at a step.
#[derive(Default)]
pub struct Given(Mutex<HashSet<(FaultKind, u32)>>);

impl Given {
    /// Whether this one is new.
    pub fn first(&self, kind: FaultKind, pc: u32) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((kind, pc))
    }
}
