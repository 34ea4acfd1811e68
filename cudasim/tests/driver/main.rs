//! The driver API as host code calls it, through cudarc.

mod support;

mod basics;
mod graphs;
mod streams;
