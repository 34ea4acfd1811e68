//! The ops, one file each: the trait that a device implements, its results, and the check of its shapes.

pub mod adam;
pub mod attention;
pub mod attention_decode;
pub mod attention_prefill;
pub mod cross_entropy;
pub mod elementwise;
pub mod ema;
pub mod embedding;
pub mod global_norm;
pub mod lap;
pub mod layernorm;
pub mod linear;
pub mod mean_pool;
pub mod mlp;
pub mod residual;
pub mod sample;
pub mod spike;
