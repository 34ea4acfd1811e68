//! How a device stores numbers.

/// How numbers are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// float32 throughout, GEMMs in full f32, as the paper's models were trained.
    F32,
    /// bfloat16 activations and matmul weights beside float32 accumulators, master weights, gradients and moments.
    #[default]
    Bf16,
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
