//! The driver API as host code calls it, through cudarc.

#[path = "../nvcc/compile.rs"]
mod compile;
mod support;

mod basics;
mod faults;
mod graphs;
mod launches;
mod loading;
mod modules;
mod streams;
