//! How a device stores numbers.

use serde::{Deserialize, Serialize};

use crate::named::named;

named! {
    /// How numbers are stored.
    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Precision {
        /// float32 throughout, GEMMs in full f32, as the paper's models were trained.
        F32 = "f32",
        /// bfloat16 activations and matmul weights beside float32 accumulators, master weights, gradients and moments.
        #[default]
        Bf16 = "bf16",
    }
}

impl Precision {
    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    /// Elements of 16 bytes, the widest access.
    pub fn vector(self) -> usize {
        16 / self.bytes()
    }
}
