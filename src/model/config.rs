//! What a model is made of, the paper's presets, and what both imply: parameter counts and FLOPs.

use serde::{Deserialize, Serialize};

use crate::device::{Activation, Norm};
use crate::model::{Objective, Order};
use crate::named::named;

/// Most colours that a model knows: as many as a palette can have.
pub const MAX_VOCABULARY: usize = 4096;

named! {
    /// A named size.
    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Preset {
        /// 4 layers × 128, 4 heads: for trying things out on a CPU.
        #[default]
        Tiny = "tiny",
        /// iGPT-S: 24 layers × 512, 8 heads.
        S = "s",
        /// iGPT-M: 36 layers × 1024, 8 heads (head dimension 128).
        M = "m",
        /// iGPT-L: 48 layers × 1536, 16 heads (head dimension 96).
        L = "l",
        /// iGPT-XL: 60 layers × 3072; the paper does not give the heads, 32 keeps L's head dimension of 96.
        Xl = "xl",
    }
}

impl Preset {
    /// `(layers, width, heads)`.
    pub fn shape(self) -> (usize, usize, usize) {
        match self {
            Preset::Tiny => (4, 128, 4),
            Preset::S => (24, 512, 8),
            Preset::M => (36, 1024, 8),
            Preset::L => (48, 1536, 16),
            Preset::Xl => (60, 3072, 32),
        }
    }

    /// The peak learning rate of pre-training: the paper's.
    pub fn learning_rate(self, objective: Objective) -> f64 {
        match (self, objective) {
            (Preset::S, Objective::Bert) => 0.01,
            (Preset::Tiny | Preset::S | Preset::M, _) => 0.003,
            (Preset::L, _) => 0.001,
            (Preset::Xl, _) => 0.0003,
        }
    }
}

/// The shape of an Image GPT. Everything needed to allocate its parameters and run it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Transformer blocks, `L`.
    pub layers: usize,
    /// Width of the residual stream, `d`.
    pub width: usize,
    /// Attention heads; divides `width`.
    pub heads: usize,
    /// Longest sequence: resolution squared.
    pub positions: usize,
    /// Colours of the palette (512 in the paper, here up to [`MAX_VOCABULARY`]) = rows of the token head.
    pub vocabulary: usize,
    /// Whether the embedding has a row for the start-of-sequence token (autoregressive models do, BERT models do not).
    pub sos: bool,
    /// Normalisation.
    pub norm: Norm,
    /// Activation of the MLP.
    pub activation: Activation,
    /// Whether the four linear layers of a block and the norms have biases; the official models have none.
    pub bias: bool,
    /// The order in which an autoregressive model reads the pixels of an image.
    pub order: Order,
    /// Names of the class head's classes, in the order of their labels; empty for a model without that head.
    pub classes: Vec<String>,
}

/// Why a model configuration is not valid.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A dimension is zero or past what the engine takes.
    #[error("model {name} is {value}; it must be between 1 and {max}")]
    OutOfRange {
        /// Which dimension.
        name: &'static str,
        /// Its value.
        value: usize,
        /// The largest value taken.
        max: usize,
    },
    /// Heads must divide the width.
    #[error("{heads} heads do not divide the width {width}; choose --heads from its divisors")]
    HeadsDoNotDivide {
        /// Heads asked for.
        heads: usize,
        /// Width asked for.
        width: usize,
    },
    /// An order that sequences of this length do not have, or a model that reads all pixels at once.
    #[error("{problem}; leave --order out for raster order")]
    Order {
        /// What does not fit.
        problem: String,
    },
}

impl ModelConfig {
    /// A preset at `resolution`² positions over 512 colours, as the official code has it.
    pub fn preset(preset: Preset, resolution: usize) -> Self {
        let (layers, width, heads) = preset.shape();
        Self {
            layers,
            width,
            heads,
            positions: resolution * resolution,
            vocabulary: 512,
            sos: true,
            norm: Norm::Rms,
            activation: Activation::QuickGelu,
            bias: false,
            order: Order::Raster,
            classes: Vec::new(),
        }
    }

    /// Checks every dimension; call it on anything that came from outside.
    pub fn validate(&self) -> Result<(), ConfigError> {
        // No dimension is zero or past what the engine takes.
        for (name, value, max) in [
            ("layers", self.layers, 1024),
            ("width", self.width, 65_536),
            ("heads", self.heads, 1024),
            ("positions", self.positions, 65_536),
            ("vocabulary", self.vocabulary, MAX_VOCABULARY),
        ] {
            if value == 0 || value > max {
                return Err(ConfigError::OutOfRange { name, value, max });
            }
        }

        // Heads divide the width.
        if !self.width.is_multiple_of(self.heads) {
            return Err(ConfigError::HeadsDoNotDivide { heads: self.heads, width: self.width });
        }

        // Class labels are tokens to the device, and the largest token means none.
        if self.classes.len() >= usize::from(u16::MAX) {
            return Err(ConfigError::OutOfRange {
                name: "classes",
                value: self.classes.len(),
                max: usize::from(u16::MAX) - 1,
            });
        }

        // The order fits the model and its images.
        if self.order != Order::Raster && !self.sos {
            let problem = "a BERT model reads all pixels at once, so it has no order".to_owned();
            return Err(ConfigError::Order { problem });
        }
        self.order.permutation(self.positions).map(drop).map_err(|problem| ConfigError::Order { problem })
    }

    /// What the model was made to predict: a start of sequence belongs to autoregressive models alone.
    pub fn objective(&self) -> Objective {
        if self.sos { Objective::Ar } else { Objective::Bert }
    }

    /// Width of one head.
    pub fn head_dim(&self) -> usize {
        self.width / self.heads
    }

    /// Rows of the token embedding: the colours, then `sos` where there is one.
    pub fn embedding_rows(&self) -> usize {
        self.vocabulary + usize::from(self.sos)
    }

    /// Useful FLOPs of a forward and backward pass, per token of a sequence of `length` tokens: 6 for each
    /// matmul weight, and attention: over the causal half only, or of a BERT model over all positions.
    pub fn training_flops_per_token(&self, length: usize) -> f64 {
        let (layers, width) = (self.layers as f64, self.width as f64);
        let attention = if self.sos { 6.0 } else { 12.0 };
        let weights = 12.0 * layers * width * width + self.vocabulary as f64 * width;
        6.0 * weights + attention * layers * length as f64 * width
    }
}
