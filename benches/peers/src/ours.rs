//! The engine's own kernels beside those of others at the same shape: exact counts of what each does for its products.

use std::path::Path;

use anyhow::{Context, Result};
use igpt_engine::device::Precision;
use igpt_engine::model::{ModelConfig, Preset};
use igpt_engine::plan::{Load, Work};
use igpt_engine::profile::{Card, Row, profile};
use serde::Serialize;

use crate::case::{OfLaunch, predicted};

/// An op of a training step of one of the paper's models, and the cases that do the same.
struct Pairing {
    what: &'static str,
    card: &'static str,
    preset: Preset,
    images: usize,
    /// What the names of our kernels that do it begin with.
    ours: &'static str,
    peers: &'static [&'static str],
}

const PAIRINGS: [Pairing; 3] = [
    Pairing {
        what: "M, 16 images: up-projection of the MLP",
        card: "h100",
        preset: Preset::M,
        images: 16,
        ours: "linear_activate_sm90",
        peers: &["gluon/pipelined/model-m-up", "cutlass/cooperative/model-m-up"],
    },
    Pairing {
        what: "M, 16 images: up-projection of the MLP",
        card: "a100",
        preset: Preset::M,
        images: 16,
        ours: "linear_activate_bf16",
        peers: &["triton/matmul/model-m-up"],
    },
    Pairing {
        what: "M, 16 images: attention, head dimension 128",
        card: "h100",
        preset: Preset::M,
        images: 16,
        ours: "attention_sm90",
        peers: &["flash2/forward/model-m", "triton/attention/model-m"],
    },
];

/// What a kernel does for a product of 16 x 8 x 16, which is 4,096 multiplications and additions, and what it takes of a multiprocessor.
#[derive(Clone, Debug, Serialize)]
pub struct Counts {
    /// The kernel of ours, or the case.
    pub kernel: String,
    pub issued: f64,
    pub ldmatrix: f64,
    pub wavefronts: f64,
    pub l2_bytes: f64,
    pub dram_bytes: f64,
    pub registers: u32,
    pub blocks_per_multiprocessor: u32,
    pub predicted_us: f64,
}

/// Ours, then others.
#[derive(Clone, Debug, Serialize)]
pub struct SideBySide {
    pub what: String,
    pub card: String,
    pub ours: Counts,
    pub peers: Vec<Counts>,
}

const PRODUCT: f64 = 2.0 * 16.0 * 8.0 * 16.0;

/// All pairings whose cases were written down.
///
/// # Errors
/// When a case cannot be read or counted, or the engine launches no such kernel.
pub fn all(launches: &Path) -> Result<Vec<SideBySide>> {
    PAIRINGS.iter().map(|pairing| pairing.counted(launches)).collect()
}

impl Pairing {
    fn counted(&self, launches: &Path) -> Result<SideBySide> {
        let card = Card::named(self.card)?;
        let config = ModelConfig { layers: 1, ..ModelConfig::preset(self.preset, 32) };
        let load = Load::new(&config, Work::Training, self.images, config.positions, Precision::Bf16);
        let step = profile(&card, load)?;
        let is_it = |row: &&Row| row.name.starts_with(self.ours);
        let row = step.rows.iter().find(is_it).with_context(|| {
            let names: Vec<&str> = step.rows.iter().map(|row| row.name.as_str()).collect();
            format!("{} on {}: no {} among {}", self.what, self.card, self.ours, names.join(", "))
        })?;

        let peer = |name: &&str| {
            let case = predicted(launches, name, self.card).with_context(|| (*name).to_owned())?;
            let launch = case.launches.first().context("no launch")?;
            Ok(of_peer(format!("{name} ({})", case.variant), launch))
        };
        let peers = self.peers.iter().map(peer).collect::<Result<_>>()?;
        Ok(SideBySide { what: self.what.to_owned(), card: self.card.to_owned(), ours: of_ours(row), peers })
    }
}

fn of_ours(row: &Row) -> Counts {
    let products = row.tensor_flops / PRODUCT;
    let bytes = row.bytes;
    Counts {
        kernel: row.name.clone(),
        issued: row.issued / products,
        ldmatrix: row.ldmatrix / products,
        wavefronts: row.wavefronts / products,
        l2_bytes: (bytes.l2_read + bytes.l2_written) / products,
        dram_bytes: (bytes.dram_read + bytes.dram_written) / products,
        registers: row.registers,
        blocks_per_multiprocessor: row.blocks_per_multiprocessor,
        predicted_us: row.predicted_us,
    }
}

fn of_peer(kernel: String, launch: &OfLaunch) -> Counts {
    let products = launch.tensor_flops / PRODUCT;
    Counts {
        kernel,
        issued: launch.issued / products,
        ldmatrix: launch.ldmatrix / products,
        wavefronts: launch.wavefronts / products,
        l2_bytes: launch.l2_bytes / products,
        dram_bytes: launch.dram_bytes / products,
        registers: launch.registers,
        blocks_per_multiprocessor: launch.blocks_per_multiprocessor,
        predicted_us: launch.microseconds,
    }
}
