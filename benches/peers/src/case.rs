//! A case in the simulator and in the model.

use std::path::Path;

use anyhow::{Result, anyhow};
use igpt_engine::profile::Card;
use igpt_engine::profile::card::GAP;
use igpt_engine::profile::counting::{LaunchCounts, Subject};
use igpt_engine::profile::model::{Bound, Input, Prediction, predict};
use serde::Serialize;

use crate::launches::{Case, Ready, Written};

/// What is predicted of a case.
#[derive(Clone, Debug, Serialize)]
pub struct Predicted {
    /// The configuration: of those that the author chose from the one that is predicted to be the fastest.
    pub variant: String,
    /// Seconds of all its launches.
    pub seconds: f64,
    /// What the longest of them is bound by.
    pub bound: Bound,
    /// Its launches.
    pub launches: Vec<OfLaunch>,
}

/// What is predicted and counted of a launch.
#[derive(Clone, Debug, Serialize)]
pub struct OfLaunch {
    pub microseconds: f64,
    pub bound: Bound,
    pub terms_us: Vec<(Bound, f64)>,
    pub registers: u32,
    pub blocks_per_multiprocessor: u32,
    pub issued: f64,
    pub ldmatrix: f64,
    pub wavefronts: f64,
    pub tensor_flops: f64,
    pub l2_bytes: f64,
    pub dram_bytes: f64,
}

/// Predicts a case on a card.
///
/// # Errors
/// When its launches cannot be read, or the simulator refuses one.
pub fn predicted(folder: &Path, name: &str, card: &str) -> Result<Predicted> {
    let card = Card::named(card)?;
    let case = Case::read(folder, name)?;
    let mut best: Option<Predicted> = None;
    for variant in &case.variants {
        let of = |launch: &Written| of_launch(&case, launch, &card);
        let launches = variant.launches.iter().map(of).collect::<Result<Vec<_>>>()?;
        let seconds =
            launches.iter().map(|launch| launch.microseconds * 1e-6).sum::<f64>() + GAP * (launches.len() - 1) as f64;
        let longest = launches.iter().max_by(|a, b| a.microseconds.total_cmp(&b.microseconds));
        let bound = longest.map(|launch| launch.bound).unwrap_or_default();
        if best.as_ref().is_none_or(|best| seconds < best.seconds) {
            best = Some(Predicted { variant: variant.name.clone(), seconds, bound, launches });
        }
    }
    best.ok_or_else(|| anyhow!("no configuration"))
}

fn of_launch(case: &Case, launch: &Written, card: &Card) -> Result<OfLaunch> {
    let ready = case.ready(launch, card.machine_code())?;
    let Ready { kernel, shape, memory, code, registers, shared } = &ready;
    let subject = Subject { kernel, shape, memory };
    let (counts, pages) = subject.count(false).map_err(|why| anyhow!(why))?;

    // Each buffer passes once between memory and L2, which holds nothing of it before.
    let touched = |(address, bytes): &(u64, u64)| (pages.touched(*address, *bytes), *bytes as f64);
    let mut dram = [0.0; 2];
    for ((read, written), bytes) in case.buffers.iter().map(touched) {
        dram[0] += if read { bytes } else { 0.0 };
        dram[1] += if written { bytes } else { 0.0 };
    }
    let dram = [dram[0].min(counts.l2_read), dram[1].min(counts.l2_written)];

    let LaunchCounts { tensor_flops, wavefronts, l2_read, l2_written, .. } = counts;
    let (threads, registers, shared) = (shape.threads(), *registers, *shared);
    let input = Input { counts: &counts, code, threads, registers, shared, dram };
    let Prediction { seconds, bound, terms, blocks_per_multiprocessor, issued, .. } = predict(card, input);
    Ok(OfLaunch {
        microseconds: seconds * 1e6,
        bound,
        terms_us: terms.into_iter().map(|(bound, seconds)| (bound, seconds * 1e6)).collect(),
        registers,
        blocks_per_multiprocessor,
        issued,
        ldmatrix: counts.ldmatrix,
        wavefronts,
        tensor_flops,
        l2_bytes: l2_read + l2_written,
        dram_bytes: dram.iter().sum(),
    })
}
