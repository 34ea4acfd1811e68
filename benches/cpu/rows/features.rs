//! Features for a linear probe: the mean over the positions of what each block sees, at all depths.

use std::hint::black_box;

use anyhow::Result;
use igpt_engine::probe::{Shown, pooled_features};

use super::model::{TOKENS, device, forward_flops, small, tokens, with_weights};
use super::{Bound, Row, Work};

const IMAGES: usize = 8;

pub fn row() -> Row {
    Row {
        name: "features",
        what: "features of all depths, 8 × 256, 8 images",
        peer: Some("PyTorch"),
        uses_mkl: true,
        bound: Bound::Flops(forward_flops(&small(), IMAGES)),
        prepare,
    }
}

fn prepare() -> Result<Work> {
    let config = small();
    let (model, parameters) = with_weights(&config)?;
    let shown = Shown::autoregressive(&tokens(&config, IMAGES), TOKENS, config.vocabulary as u16);
    let depths: Vec<usize> = (0..=config.layers).collect();
    Ok(Box::new(move || {
        black_box(pooled_features(device(), &model, &parameters, &shown, TOKENS, &depths).expect("features"));
    }))
}
