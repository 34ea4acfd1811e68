//! Linear probes: the solvers against optima computed elsewhere, the features against Hugging Face's model, and files that
//! are not what they should be.

mod features;
mod files;
mod optima;
mod support;
