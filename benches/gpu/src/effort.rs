//! How much is measured, and how long.

use clap::ValueEnum;
use igpt_engine::model::{ModelConfig, Preset};

/// Which shapes, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Size {
    /// Every row.
    Full,
    /// Fewer models and repeats.
    Quick,
    /// Shapes for the simulator, which takes a millisecond where a GPU takes a microsecond: that it all works, no times.
    Toy,
}

impl Size {
    /// As reports have it.
    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// What follows from a [`Size`].
pub struct Effort {
    /// Least milliseconds of a graph.
    pub graph_ms: f64,
    /// How often each graph is timed.
    pub repeats: usize,
    /// Most launches of a graph.
    pub most_launches: usize,
    /// Bytes of the buffers that are rotated, in all: past three times the second cache.
    pub rotated: f64,
    /// Bytes of the copy that says how fast memory is.
    pub copied: usize,
    /// Most blocks of the loops that fill the card.
    pub most_blocks: u32,
    /// Rounds of the loops in registers.
    pub rounds: i32,
    /// The models whose layers are measured.
    pub models: Vec<Model>,
    /// Heads' widths and tokens of the attention rows.
    pub attention: (Vec<usize>, Vec<usize>),
    /// Tokens of a batch in the attention rows, and heads.
    pub attention_batch: (usize, usize),
    /// Widths of the norm rows, and their rows.
    pub norms: (Vec<usize>, usize),
}

/// A model whose shapes are measured.
pub struct Model {
    pub name: &'static str,
    pub config: ModelConfig,
    /// Images of a batch.
    pub images: usize,
    /// Tokens of an image.
    pub tokens: usize,
}

impl Model {
    /// A preset at 32 × 32 pixels, with as many images as the review of the kernels has.
    fn preset(name: &'static str, preset: Preset, images: usize) -> Self {
        Self { name, config: ModelConfig::preset(preset, 32), images, tokens: 1024 }
    }

    fn toy() -> Self {
        let config = ModelConfig::preset(Preset::Tiny, 4);
        Self { name: "toy", config: ModelConfig { layers: 1, width: 64, heads: 2, ..config }, images: 2, tokens: 16 }
    }

    /// Rows of an activation.
    pub fn rows(&self) -> usize {
        self.images * self.tokens
    }
}

impl Effort {
    /// For a card with `l2` bytes of second cache.
    pub fn new(size: Size, l2: f64) -> Self {
        let all = || {
            vec![
                Model::preset("S", Preset::S, 32),
                Model::preset("M", Preset::M, 16),
                Model::preset("L", Preset::L, 16),
            ]
        };
        let full = Self {
            graph_ms: 20.0,
            repeats: 10,
            most_launches: 4000,
            rotated: 3.0 * l2,
            copied: 1 << 30,
            most_blocks: u32::MAX,
            rounds: 40_000,
            models: all(),
            attention: (vec![64, 96, 128, 192], vec![1024, 4096]),
            attention_batch: (16_384, 8),
            norms: (vec![512, 1024, 1536, 3072], 32_768),
        };
        match size {
            Size::Full => full,
            Size::Quick => Self {
                repeats: 5,
                models: all().into_iter().filter(|model| model.name != "M").collect(),
                attention: (vec![64, 96], vec![1024]),
                norms: (vec![512, 1536], 32_768),
                ..full
            },
            Size::Toy => Self {
                graph_ms: 0.0,
                repeats: 2,
                most_launches: 2,
                rotated: 0.0,
                copied: 1 << 14,
                most_blocks: 2,
                rounds: 2,
                models: vec![Model::toy()],
                attention: (vec![64], vec![16]),
                attention_batch: (32, 2),
                norms: (vec![64], 8),
            },
        }
    }

    /// How many sets of buffers of `bytes` are rotated, so that the cache holds nothing that the next launch wants.
    pub fn sets(&self, bytes: f64) -> usize {
        ((self.rotated / bytes).ceil() as usize).clamp(2, 256)
    }

    /// How many launches of `ms` make a graph that is long enough.
    pub fn launches(&self, ms: f64) -> usize {
        ((self.graph_ms / ms.max(1e-4)).ceil() as usize).clamp(2, self.most_launches)
    }
}
