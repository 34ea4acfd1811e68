//! Scoring images: nats of every pixel, without a gradient.

use std::hint::black_box;

use anyhow::Result;
use igpt_engine::eval::score;

use super::model::{TOKENS, device, forward_flops, small, tokens, with_weights};
use super::{Bound, Row, Work};

const IMAGES: usize = 8;

pub fn row() -> Row {
    Row {
        name: "evaluation",
        what: "evaluation, 8 × 256, 8 images",
        peer: Some("PyTorch"),
        uses_mkl: true,
        bound: Bound::Flops(forward_flops(&small(), IMAGES)),
        prepare,
    }
}

fn prepare() -> Result<Work> {
    let (model, parameters) = with_weights(&small())?;
    let tokens = tokens(&small(), IMAGES);
    Ok(Box::new(move || {
        black_box(score(device(), &model, &parameters, &tokens, TOKENS).expect("scores"));
    }))
}
