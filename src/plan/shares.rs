//! What a rank takes that shares every step with others: of what one process has, its parts, and what buckets are exchanged in.
//!
//! Ranks exchange the parameters of each [`Bucket`] at once: the matrices of each block, the heads, and all else. Each is cut into W equal
//! parts. With P the sum of all parts of a rank, and e the bytes of an element in the device's precision:
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
use crate::device::Precision;
use crate::model::{Bucket, ModelConfig, parameter_specs};

use super::memory::Memory;

/// How the ranks of a run share its steps, and where what they update with lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// How many there are.
    pub ranks: usize,
    /// Level of ZeRO.
    pub zero: u8,
    /// How gradients are added up.
    pub reduction: Reduction,
    /// On a GPU: whether moments and master weights lie in the host's memory.
    pub offload: bool,
}

impl Shares {
    /// One process that shares nothing, with all of it on its device.
    pub const ALONE: Self = Self { ranks: 1, zero: 0, reduction: Reduction::Repeatable, offload: false };

    /// The process whose memory ranks have parts of: alone, and with the optimiser on the host where no rank has parts of it. What ranks
    /// have parts of is shared out first, and then moves.
    pub(super) fn alone(self) -> Self {
        Self { offload: self.offload && self.zero == 0, ..Self::ALONE }
    }

    /// Whether gradients go through no buckets. One rank has buckets too where its sums are to be those of several.
    fn is_alone(self) -> bool {
        self.ranks == 1 && self.reduction != Reduction::Exact
    }

    /// What each rank takes of a training that takes `alone` in one process, which at level 0 has on the host what ranks have there.
    pub(super) fn of(self, alone: Memory, config: &ModelConfig, precision: Precision) -> Memory {
        if self.is_alone() {
            return alone;
        }
        let buckets = Bucket::all(&parameter_specs(config), self.ranks);
        let parts = 4.0 * buckets.iter().map(|bucket| bucket.part).sum::<usize>() as f64;
        let exchange = self.exchange(&buckets, precision);
        if self.zero == 0 {
            let sum = if self.reduction == Reduction::Exact { parts } else { 0.0 };
            return Memory { exchange: exchange + sum, ..alone };
        }

        // Weights that are computed with are in the device's precision where GEMMs alone read them; their masters lie beside them.
        let floats = |is_counted: &dyn Fn(&Bucket) -> bool| {
            4.0 * buckets.iter().filter(|bucket| is_counted(bucket)).map(|bucket| bucket.elements).sum::<usize>() as f64
        };
        let computed_with = match precision {
            Precision::F32 => alone.weights,
            Precision::Bf16 => alone.weights - floats(&|bucket| bucket.is_matrices),
        };
        let taken = match self.zero {
            1 => alone.gradients,
            _ => floats(&|bucket| !bucket.is_block() || *bucket == buckets[0]),
        };
        let [on_device, on_host] = if self.offload { [0.0, 3.0 * parts] } else { [parts, 0.0] };
        Memory {
            weights: computed_with + on_device,
            gradients: taken + parts,
            moments: 2.0 * on_device,
            average: if alone.average > 0.0 { parts } else { 0.0 },
            exchange,
            host: on_host,
            ..alone
        }
    }

    /// Bytes that buckets are exchanged in: memory for one of each size.
    fn exchange(self, buckets: &[Bucket], precision: Precision) -> f64 {
        let Self { ranks, zero, reduction, offload } = self;
        let mut known = Vec::new();
        let mut bytes = 0;
        for Bucket { elements, part, is_matrices, .. } in buckets {
            if known.contains(elements) {
                continue;
            }
            known.push(*elements);
            let whole = ranks * part;
            let received = match (reduction, zero) {
                (Reduction::Exact, _) => whole,
                (_, 2) => *part,
                _ => 0,
            };
            let is_narrow = zero > 0 && *is_matrices && precision != Precision::F32;
            let narrow = if is_narrow { part + whole } else { 0 };
            // A part that comes from the host's memory, to be sent on.
            let staged = if offload && zero > 0 { *part } else { 0 };
            bytes += 4 * (whole + received + staged) + 2 * narrow;
        }
        bytes as f64
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
                let shares = Shares { ranks: 8, zero, reduction: Reduction::Repeatable, offload: false };
                let kept = shares.of(alone, &config, precision);
                let got = kept.weights + kept.gradients + kept.moments;
                // Of ZeRO-2 the gradients of a block, and in bf16 embeddings that stay in f32, come on top.
                let expected = p * (whole + shared / 8.0);
                let more = if zero == 0 { 1e-9 } else { 0.03 };
                assert!(
                    (-1e-9..=more).contains(&(got / expected - 1.0)),
                    "ZeRO-{zero} {precision}: {got}, not {expected}"
                );

                // An average is whole without ZeRO, and in parts with it.
                let averaged = shares.of(Memory { average: 4.0 * p, ..alone }, &config, precision);
                let share = if zero == 0 { 4.0 } else { 0.5 };
                assert!((averaged.average / (share * p) - 1.0).abs() < 1e-3, "ZeRO-{zero} {precision}: {averaged:?}");
                assert_eq!(averaged.moments, kept.moments);

                // On the host: 12 P of each rank's share.
                if zero > 0 {
                    let host = Shares { offload: true, ..shares }.of(alone, &config, precision);
                    assert_eq!(host.moments, 0.0);
                    assert!((host.host / (1.5 * p) - 1.0).abs() < 1e-3, "ZeRO-{zero} {precision}: {host:?}");
                    let stays = |memory: Memory| memory.total() - memory.exchange;
                    let moved = stays(kept) - stays(host);
                    assert!((moved / host.host - 1.0).abs() < 1e-9, "ZeRO-{zero} {precision}: {moved}");
                }
            }
        }
    }

    #[test]
    fn buckets_of_each_size_are_exchanged_once() {
        let config = ModelConfig::preset(Preset::L, 32);
        let buckets = Bucket::all(&parameter_specs(&config), 8);
        // Of 48 blocks that are alike, the heads, and all else.
        let [block, heads, rest] = [0, 48, 49].map(|bucket| 8.0 * buckets[bucket].part as f64);
        let of = |precision, reduction, zero, offload| {
            Shares { ranks: 8, zero, reduction, offload }.exchange(&buckets, precision)
        };
        let fast = of(Precision::Bf16, Reduction::Fast, 0, false);
        assert_eq!(fast, 4.0 * (block + heads + rest));
        assert_eq!(of(Precision::Bf16, Reduction::Exact, 0, false), 2.0 * fast);
        // Matrices in bf16 on their way, parts and whole; what is received of a second micro-batch; what comes from the host.
        let first = of(Precision::Bf16, Reduction::Fast, 1, false);
        assert_eq!(first, fast + 2.0 * 1.125 * (block + heads));
        assert_eq!(of(Precision::F32, Reduction::Fast, 2, false), fast * 1.125);
        assert_eq!(of(Precision::Bf16, Reduction::Fast, 1, true), first + fast / 8.0);
        assert_eq!(of(Precision::Bf16, Reduction::Fast, 0, true), fast);

        let alone = Memory::of(&config, Work::Training, 1024.0, Precision::Bf16);
        assert_eq!(Shares::ALONE.of(alone, &config, Precision::Bf16), alone);
    }
}
