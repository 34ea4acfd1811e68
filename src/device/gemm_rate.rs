//! The rate of a device's own matrix multiplication.

/// What a square GEMM reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GemmRate {
    /// Rows, inputs and outputs.
    pub side: usize,
    /// FLOP/s, 2 for each multiply-add.
    pub flops: f64,
}
