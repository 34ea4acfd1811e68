//! Whole steps: of training, replayed as `train` replays them, and of sampling, one token of each image.

use std::collections::BTreeMap;

use anyhow::Result;
use igpt_engine::device::prelude::*;
use igpt_engine::device::{CudaDevice, cuda::CudaTensor};
use igpt_engine::model::{Objective, Transformer, parameter_specs};
use igpt_engine::optim::{Adam, AdamConfig, Schedule, ScheduleKind};
use igpt_engine::sample::Decoder;
use igpt_engine::tape::Parameters;
use igpt_engine::train::Trainer;

use super::{Bench, Case};
use crate::check::Checked;
use crate::effort::Model;
use crate::report::Row;
use crate::stats::Spread;

/// Images that are sampled at once.
const IMAGES: usize = 16;

/// Kernels that are named.
const NAMED: usize = 10;

impl Bench<'_> {
    /// Of each model.
    pub fn steps(&mut self) {
        for model in &self.effort.models {
            let rows = model.rows();
            let flops = model.config.training_flops_per_token(model.tokens) * rows as f64;
            let shape = format!("{} images, {} tokens", model.images, model.tokens);
            let case = |op: &str, shape, flops, bytes| Case {
                op: op.to_owned(),
                model: model.name.to_owned(),
                shape,
                flops,
                bytes,
            };
            let (device, repeats, most) = (self.device, self.effort.repeats, self.ceilings.tensor());
            self.whole(case("training step", shape, flops, 0.0), |row| training(device, model, repeats, most, row));

            // Each weight once for each image, two operations each; weights in bf16 and the cache in f32, half full, once.
            let images = IMAGES.min(8 * model.images);
            let (layers, width) = (model.config.layers, model.config.width);
            let flops = 2.0 * (images * 12 * layers * width.pow(2)) as f64;
            let bytes = (2 * 12 * layers * width.pow(2) + 4 * images * model.tokens * layers * width) as f64;
            let shape = format!("{images} images");
            self.whole(case("sampled token", shape, flops, bytes), |row| sampling(device, model, images, repeats, row));
        }
    }

    /// A row that is no graph of launches of one op.
    fn whole(&mut self, case: Case, run: impl FnOnce(&mut Row) -> Result<()>) {
        let Some(mut row) = self.start(case) else { return };
        let outcome = run(&mut row);
        self.finish(row, outcome);
    }
}

fn parameters(device: &CudaDevice, model: &Model) -> Result<Parameters<CudaDevice>> {
    Ok(Parameters::init(device, parameter_specs(&model.config), 0)?)
}

/// Steps as `train` does them: the next is asked for while the one before computes.
fn training(device: &CudaDevice, model: &Model, repeats: usize, peak: f64, row: &mut Row) -> Result<()> {
    let parameters = parameters(device, model)?;
    let adam = Adam::new(device, &parameters, AdamConfig::default())?;
    let schedule = Schedule { kind: ScheduleKind::Constant, peak: 1e-4, warmup: 0, steps: u64::MAX, cooldown: 0 };
    let transformer = Transformer::new(model.config.clone())?;
    let tokens: Vec<u16> = (0..model.rows()).map(|i| (i * 7919 % model.config.vocabulary) as u16).collect();
    let batch = [tokens.into()];
    let mut trainer = Trainer::new(device, transformer, parameters, adam, schedule, Objective::Ar)?;

    // The first step launches kernel after kernel, each between two events; the second is captured.
    let (mut first, mut last) = (f64::NAN, f64::NAN);
    trainer = trainer.with_graphs(false);
    trainer.step(&batch, model.tokens)?;
    let launches = device.timed(|| trainer.step(&batch, model.tokens).map(|outcome| first = outcome.loss))?;
    trainer = trainer.with_graphs(true);
    for _ in 0..2 {
        trainer.step(&batch, model.tokens)?;
    }

    // Each sample is a few steps in a row, by the device's clock.
    const STEPS: usize = 4;
    let mut times = Vec::new();
    for _ in 0..repeats {
        let ms = device.elapsed(|| {
            let mut pending = trainer.start(&batch, model.tokens)?;
            for _ in 1..STEPS {
                let next = trainer.start(&batch, model.tokens)?;
                trainer.finish(pending)?;
                pending = next;
            }
            last = trainer.finish(pending)?.loss;
            Ok(())
        })?;
        times.push(f64::from(ms) * 1e3 / STEPS as f64);
    }

    // The same batch again and again: the loss must have fallen, from that of guessing.
    let guessing = (model.config.vocabulary as f64).ln();
    let learns = last < first && (first - guessing).abs() < 0.2 * guessing;
    row.checked = Some(Checked { error: if learns { 0.0 } else { f64::MAX }, tolerance: 0.0 });
    let time = Spread::of(&times);
    row.time_us = Some(time).filter(|_| learns);
    row.more = figures(model, time, peak, row.flops, &launches);
    row.more.push(("loss".to_owned(), format!("{first:.4} -> {last:.4}")));
    Ok(())
}

/// Milliseconds, tokens a second, MFU, nodes, and the kernels that take most.
fn figures(
    model: &Model,
    time: Spread,
    peak: f64,
    flops: f64,
    launches: &[(&'static str, f32)],
) -> Vec<(String, String)> {
    let seconds = time.median / 1e6;
    let kernels: f64 = launches.iter().map(|(_, ms)| f64::from(*ms)).sum();
    let mut figures = vec![
        ("ms".to_owned(), format!("{:.2}", seconds * 1e3)),
        ("tokens/s".to_owned(), format!("{:.0}", model.rows() as f64 / seconds)),
        ("TFLOP/s".to_owned(), format!("{:.1}", flops / seconds / 1e12)),
        ("of the measured tensor cores".to_owned(), format!("{:.1} %", 100.0 * flops / seconds / peak)),
        ("kernels a step".to_owned(), launches.len().to_string()),
        ("their sum, launched one by one".to_owned(), format!("{kernels:.2} ms")),
    ];

    let mut by_name: BTreeMap<&str, (f64, usize)> = BTreeMap::new();
    for (name, ms) in launches {
        let (sum, count) = by_name.entry(name).or_default();
        *sum += f64::from(*ms);
        *count += 1;
    }
    let mut by_time: Vec<_> = by_name.into_iter().collect();
    by_time.sort_by(|(_, (a, _)), (_, (b, _))| b.total_cmp(a));
    for (name, (ms, count)) in by_time.into_iter().take(NAMED) {
        figures.push((format!("{name} x {count}"), format!("{:.1} %", 100.0 * ms / kernels.max(1e-9))));
    }
    figures
}

/// Tokens in the middle of images, launched one by one as `sample` launches them.
fn sampling(device: &CudaDevice, model: &Model, images: usize, repeats: usize, row: &mut Row) -> Result<()> {
    let parameters = parameters(device, model)?;
    let transformer = Transformer::new(model.config.clone())?;
    let mut decoder = Decoder::new(device, &transformer, &parameters, images, model.tokens)?;
    let ids = vec![transformer.sos(); images];
    let mut logits: Option<std::rc::Rc<CudaTensor>> = None;
    for _ in 0..model.tokens / 2 {
        logits = Some(decoder.step(&ids)?);
    }

    // All images are given the same tokens, so their logits are the same bits.
    let values = logits.map(|logits| device.download(&logits)).transpose()?.unwrap_or_default();
    let colours = model.config.vocabulary;
    let same = values.chunks(colours).all(|image| image == &values[..colours] && image.iter().all(|v| v.is_finite()));
    row.checked = Some(Checked { error: if same && !values.is_empty() { 0.0 } else { f64::MAX }, tolerance: 0.0 });

    let mut times = Vec::new();
    let tokens = (model.tokens / 2 / repeats.max(1)).clamp(1, 16);
    for _ in 0..repeats {
        let ms = device.elapsed(|| {
            for _ in 0..tokens {
                decoder.step(&ids)?;
            }
            Ok(())
        })?;
        times.push(f64::from(ms) * 1e3 / tokens as f64);
    }
    let time = Spread::of(&times);
    row.time_us = Some(time).filter(|_| same);
    row.more = vec![(
        "images/s at this rate".to_owned(),
        format!("{:.2}", images as f64 * 1e6 / time.median / model.tokens as f64),
    )];
    Ok(())
}
