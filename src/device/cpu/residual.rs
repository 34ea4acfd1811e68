//! What is added to the residual stream: one op after the other.

use super::CpuDevice;
use crate::device::ops::residual::ResidualOps;

impl ResidualOps for CpuDevice {}
