//! Whole training steps in f32, as `train` takes them: forward, cross-entropy over all positions, backward, norm, Adam.

use std::hint::black_box;

use anyhow::Result;
use igpt_engine::model::{ModelConfig, Objective};
use igpt_engine::optim::{Adam, AdamConfig, Schedule, ScheduleKind};
use igpt_engine::train::Trainer;

use super::model::{TOKENS, device, forward_flops, s, small, tiny, tokens, with_weights};
use super::{Bound, Row, Work};

pub fn rows() -> [Row; 3] {
    let row = |name, what, config: ModelConfig, images, prepare| Row {
        name,
        what,
        peer: Some("PyTorch"),
        uses_mkl: true,
        bound: Bound::Flops(3.0 * forward_flops(&config, images)),
        prepare,
    };
    [
        row("step-tiny", "training step, tiny (4 × 128), 4 images", tiny(), 4, || step(tiny(), 4)),
        row("step-small", "training step, 8 × 256, 4 images", small(), 4, || step(small(), 4)),
        row("step-s", "training step, S (24 × 512), 1 image", s(), 1, || step(s(), 1)),
    ]
}

fn step(config: ModelConfig, images: usize) -> Result<Work> {
    let (model, parameters) = with_weights(&config)?;
    let adam = Adam::new(device(), &parameters, AdamConfig::default())?;
    let schedule = Schedule { kind: ScheduleKind::Constant, peak: 1e-4, warmup: 0, steps: u64::MAX, cooldown: 0 };
    let mut trainer = Trainer::new(device(), model, parameters, adam, schedule, Objective::Ar)?;
    let micro_batches = [tokens(&config, images).into()];
    Ok(Box::new(move || {
        black_box(trainer.step(&micro_batches, TOKENS).expect("a step"));
    }))
}
