//! What a rank takes that shares every step with others: of what one process has, its parts, and what buckets are exchanged in.
//!
//! Ranks exchange the matrices of each block at once, the heads, and all else (`train::buckets`). A bucket of E elements is cut into W
//! equal parts, each rounded up to whole blocks of the norm's sums ([`NORM_BLOCK`]). With P the sum of all parts of a rank, and e the
//! bytes of an element in the device's precision:
//!
//! | ZeRO | weights | gradients | moments | average | exchange |
//! |---|---|---|---|---|---|
//! | 0 | as alone | as alone | as alone | as alone | each size of a bucket in f32 |
//! | 1 | those that are computed with; 4 P of master weights | as alone; 4 P of their sum | 8 P | 4 P | also in bf16, whole and a part |
//! | 2 | the same | of one block, the heads and all else; 4 P | 8 P | 4 P | also a part as it comes |
//!
//! `exact` receives a bucket of each size beside the one that it sends, and without ZeRO has 4 P of the sum. With the optimiser on the host,
//! master weights and moments of levels 1 and 2 lie there, and a part of each size of a bucket is staged on the device.

use crate::comm::Reduction;
use crate::device::{NORM_BLOCK, Precision};
use crate::model::{CLASS_HEAD, ModelConfig, TOKEN_HEAD, parameter_specs};

use super::memory::Memory;

/// How the ranks of a run share its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// How many there are.
    pub ranks: usize,
    /// Level of ZeRO.
    pub zero: u8,
    /// How gradients are added up.
    pub reduction: Reduction,
}

/// Elements of a model's buckets: of one block's matrices, of the heads, and of all else.
struct Sizes {
    blocks: usize,
    block: usize,
    heads: usize,
    rest: usize,
}

impl Sizes {
    fn of(config: &ModelConfig) -> Self {
        let (mut matrices, mut heads, mut rest) = (0, 0, 0);
        for spec in parameter_specs(config) {
            let elements = spec.elements();
            match spec.name.as_str() {
                TOKEN_HEAD | CLASS_HEAD => heads += elements,
                name if name.starts_with("transformer.h.") && spec.shape.len() == 2 => matrices += elements,
                _ => rest += elements,
            }
        }
        Self { blocks: config.layers, block: matrices / config.layers.max(1), heads, rest }
    }

    /// Elements of a part of a bucket.
    fn part(elements: usize, ranks: usize) -> usize {
        elements.div_ceil(ranks).next_multiple_of(NORM_BLOCK)
    }

    /// Elements of all parts of a rank.
    fn parts(&self, ranks: usize) -> usize {
        let [block, heads, rest] = [self.block, self.heads, self.rest].map(|elements| Self::part(elements, ranks));
        self.blocks * block + heads + rest
    }
}

impl Shares {
    /// One process that shares nothing.
    pub const ALONE: Self = Self { ranks: 1, zero: 0, reduction: Reduction::Repeatable };

    /// Whether gradients go through no buckets. One rank has buckets too where its sums are to be those of several.
    fn is_alone(self) -> bool {
        self.ranks == 1 && self.reduction != Reduction::Exact
    }

    /// What each rank takes of a training that takes `alone` in one process; `offload` puts what ranks have parts of on the host.
    pub(super) fn of(self, alone: Memory, offload: bool, config: &ModelConfig, precision: Precision) -> Memory {
        if self.is_alone() {
            return alone;
        }
        let sizes = Sizes::of(config);
        let parts = 4.0 * sizes.parts(self.ranks) as f64;
        let exchange = self.exchange(&sizes, precision);
        if self.zero == 0 {
            let sum = if self.reduction == Reduction::Exact { parts } else { 0.0 };
            return Memory { exchange: exchange + sum, ..alone };
        }

        // Weights that are computed with are in the device's precision where GEMMs alone read them; their masters lie beside them.
        let floats = 4.0 * config.parameter_count() as f64;
        let computed_with = match precision {
            Precision::F32 => alone.weights,
            Precision::Bf16 => alone.weights - floats + 4.0 * sizes.rest as f64,
        };
        let taken = match self.zero {
            1 => alone.gradients,
            _ => 4.0 * (sizes.block + sizes.heads + sizes.rest) as f64,
        };
        let [on_device, on_host] = if offload { [0.0, 3.0 * parts] } else { [parts, 0.0] };
        let staged = if offload { self.staged(&sizes) } else { 0.0 };
        Memory {
            weights: computed_with + on_device,
            gradients: taken + parts,
            moments: 2.0 * on_device,
            average: if alone.average > 0.0 { parts } else { 0.0 },
            exchange: exchange + staged,
            host: on_host,
            ..alone
        }
    }

    /// Bytes that buckets are exchanged in: memory for one of each size.
    fn exchange(self, sizes: &Sizes, precision: Precision) -> f64 {
        let Self { ranks, zero, reduction } = self;
        let mut known = Vec::new();
        let mut bytes = 0;
        for (elements, is_matrices) in [(sizes.block, true), (sizes.heads, true), (sizes.rest, false)] {
            if elements == 0 || known.contains(&elements) {
                continue;
            }
            known.push(elements);
            let part = Sizes::part(elements, ranks);
            let whole = ranks * part;
            let received = match (reduction, zero) {
                (Reduction::Exact, _) => whole,
                (_, 2) => part,
                _ => 0,
            };
            let is_narrow = zero > 0 && is_matrices && precision != Precision::F32;
            bytes += 4 * (whole + received) + if is_narrow { 2 * (part + whole) } else { 0 };
        }
        bytes as f64
    }

    /// Bytes of the parts that come from the host to be sent on: one of each size of a bucket.
    fn staged(self, sizes: &Sizes) -> f64 {
        let mut parts = vec![sizes.block, sizes.heads, sizes.rest];
        parts.sort_unstable();
        parts.dedup();
        parts.into_iter().map(|elements| 4.0 * Sizes::part(elements, self.ranks) as f64).sum()
    }

    /// Bytes of the host that a rank copies a checkpoint to, to write it while training goes on: its part of weights, average and moments.
    pub fn snapshot(self, config: &ModelConfig, ema: bool) -> f64 {
        let tensors = if ema { 4.0 } else { 3.0 };
        4.0 * tensors * config.parameter_count() as f64 / self.ranks as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;
    use crate::plan::Work;

    #[test]
    fn what_stays_is_what_the_formulae_say() {
        let config = ModelConfig::preset(Preset::L, 32);
        let p = config.parameter_count() as f64;
        for (precision, formulae) in [
            (Precision::Bf16, [[18.0, 0.0], [6.0, 16.0], [2.0, 16.0]]),
            (Precision::F32, [[16.0, 0.0], [8.0, 16.0], [4.0, 16.0]]),
        ] {
            let alone = Memory::of(&config, Work::Training, 1024.0, precision);
            for (zero, [whole, shared]) in (0..).zip(formulae) {
                let shares = Shares { ranks: 8, zero, reduction: Reduction::Repeatable };
                let got = shares.of(alone, false, &config, precision);
                let got = got.weights + got.gradients + got.moments;
                // Of ZeRO-2 the gradients of a block, and in bf16 embeddings that stay in f32, come on top.
                let expected = p * (whole + shared / 8.0);
                let more = if zero == 0 { 1e-9 } else { 0.03 };
                assert!(
                    (-1e-9..=more).contains(&(got / expected - 1.0)),
                    "ZeRO-{zero} {precision}: {got}, not {expected}"
                );

                // An average is whole without ZeRO, and in parts with it.
                let averaged = shares.of(Memory { average: 4.0 * p, ..alone }, false, &config, precision);
                let share = if zero == 0 { 4.0 } else { 0.5 };
                assert!((averaged.average / (share * p) - 1.0).abs() < 1e-3, "ZeRO-{zero} {precision}: {averaged:?}");
                assert_eq!(averaged.moments, shares.of(alone, false, &config, precision).moments);

                // On the host: 12 P of each rank's share.
                if zero > 0 {
                    let host = shares.of(alone, true, &config, precision);
                    assert_eq!(host.moments, 0.0);
                    assert!((host.host / (1.5 * p) - 1.0).abs() < 1e-3, "ZeRO-{zero} {precision}: {host:?}");
                    let stays = |memory: Memory| memory.total() - memory.exchange;
                    let moved = stays(shares.of(alone, false, &config, precision)) - stays(host);
                    assert!((moved / host.host - 1.0).abs() < 1e-9, "ZeRO-{zero} {precision}: {moved}");
                }
            }
        }
    }

    /// Buckets of iGPT-L on 8 ranks: a block of 28.3 M parameters, heads of 0.8 M, 2.5 M others; parts of whole blocks of 16,384.
    #[test]
    fn buckets_of_each_size_are_exchanged_once() {
        let config = ModelConfig::preset(Preset::L, 32);
        let sizes = Sizes::of(&config);
        assert_eq!((sizes.block, sizes.heads), (12 * 1536 * 1536, 512 * 1536));
        assert_eq!(sizes.blocks * sizes.block + sizes.heads + sizes.rest, config.parameter_count());
        let whole = |elements: usize| 8.0 * Sizes::part(elements, 8) as f64;
        let [block, heads, rest] = [sizes.block, sizes.heads, sizes.rest].map(whole);
        let of = |precision, reduction, zero| Shares { ranks: 8, zero, reduction }.exchange(&sizes, precision);
        let fast = of(Precision::Bf16, Reduction::Fast, 0);
        assert_eq!(fast, 4.0 * (block + heads + rest));
        assert_eq!(of(Precision::Bf16, Reduction::Exact, 0), 2.0 * fast);
        // Matrices in bf16 on their way, parts and whole; what is received of a second micro-batch.
        assert_eq!(of(Precision::Bf16, Reduction::Fast, 1), fast + 2.0 * 1.125 * (block + heads));
        assert_eq!(of(Precision::F32, Reduction::Fast, 2), fast * 1.125);

        let alone = Memory::of(&config, Work::Training, 1024.0, Precision::Bf16);
        assert_eq!(Shares::ALONE.of(alone, false, &config, Precision::Bf16), alone);
    }
}
