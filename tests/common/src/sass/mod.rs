//! Machine code as `cuobjdump -sass` prints it: its instructions, its control flow, and what a kernel's loops cost.
//!
//! Takes the listing's text; who runs `cuobjdump` is the caller's affair.

mod calls;
mod cost;
mod flow;
mod listing;

pub use cost::{Cost, Mix, cost};
pub use listing::{Function, functions as listings};

/// The functions of a listing. Calls of what never returns are branches here.
pub fn functions(listing: &str) -> Vec<Function> {
    let mut functions = listing::functions(listing);
    functions.iter_mut().for_each(|function| calls::to_branches(&mut function.instructions));
    functions
}
