//! How a GEMM is cut into tiles and splits of k: by its shape alone, never by the card, so that the same numbers give the same
//! bits on every card.

use crate::device::Precision;

/// The unit of k that costs are counted in: the tile of k of `gemm/bf16.cuh`. Splits in bf16 are cut at multiples of twice that (`SPLIT_K` of
/// `gemm/tiles.cuh`), those in f32 at multiples of half.
pub(super) const TILE_K: usize = 32;

/// Cards that a cut is chosen for, by their multiprocessors: those of an A100 and of an H100. A cut that is good on both is
/// good on the cards between them.
const NOMINAL: [usize; 2] = [108, 132];

/// The most splits, and the fewest tiles of k of one: a partial sum must be worth its traffic.
const MAX_SPLITS: usize = 64;
const MIN_TILES: usize = 8;

/// GEMMs of weights that one launch takes at most: the four of a block.
pub(super) const GROUP: usize = 4;

/// Side of the tiles that [`cut`] counts: of a cluster of compute capability 9.0 (`CUT_TILE` of `gemm/group.cuh`).
pub(super) const CUT_TILE: usize = 256;

/// Sizes of a GEMM: `[m, k] · [k, n]`.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

/// Side of the output tile in bf16. The large tile moves half as many bytes per FLOP; the small one fills a card when there is
/// little to do.
pub(super) fn tile(Sizes { m, n, .. }: Sizes, splits: usize) -> usize {
    let large = m.div_ceil(128) * n.div_ceil(128) * splits;
    if m >= 128 && n >= 128 && 2 * large >= NOMINAL[0] { 128 } else { 64 }
}

/// Splits of k for a sum over many rows with few tiles: those of the least cost, the fewest where several cost the same.
///
/// The cost is a time, in multiply-adds of one multiprocessor: waves of tiles, each as long as a split, and for more than one
/// split a partial sum written and read (8 bytes per element). While a multiprocessor does a multiply-add on tensor cores
/// (about 1270 a clock), the card moves 1.4 bytes (1830 a clock); in f32 (77 a clock) it moves 24.
pub(super) fn splits(precision: Precision, sizes: Sizes) -> usize {
    let Sizes { m, n, k } = sizes;
    let edge = if precision == Precision::Bf16 && m >= 128 && n >= 128 { 128 } else { 64 };
    let tiles = m.div_ceil(edge) * n.div_ceil(edge);
    cheapest(precision, edge, tiles, m * n, k)
}

/// Whether the gradients of several weights are one launch, without splits: if they have the large tile's shapes and tiles enough for
/// every multiprocessor, or sums so short that splits would cost more. A last wave that is not full is the price: nobody has measured
/// yet what it is beside that of partial sums.
pub(super) fn go_together(sizes: &[Sizes]) -> bool {
    let Some(first) = sizes.first() else { return false };
    let fits =
        |Sizes { m, n, k }: &Sizes| *k == first.k && m.min(n) >= &128 && m.is_multiple_of(8) && n.is_multiple_of(8);
    let tiles: usize = sizes.iter().map(|Sizes { m, n, .. }| m.div_ceil(128) * n.div_ceil(128)).sum();
    let elements = sizes.iter().map(|Sizes { m, n, .. }| m * n).sum();
    (2..=GROUP).contains(&sizes.len())
        && sizes.iter().all(fits)
        && 2 * tiles >= NOMINAL[0]
        && (tiles >= NOMINAL[1] || cheapest(Precision::Bf16, 128, tiles, elements, first.k) == 1)
}

/// How the tiles of a group of GEMMs are cut along k: the first `whole` are not, each of the others has one sum over all but the last of
/// `parts` parts of k, and one over that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub whole: usize,
    pub parts: usize,
    /// Tiles that are cut.
    pub count: usize,
}

/// The cut of GEMMs that go together: where the last wave of tiles on an H100 leaves multiprocessors without one, these take the last parts of
/// the others' sums, as many as take no longer than the others do without them. S's 48 tiles of 66 clusters take three quarters of a tile's
/// time. What it saves must be worth the traffic of the parts, which are written and read (8 bytes per element), by the measure of
/// [`splits`]. Other cards cut at the same k's, so that they have the same bits.
pub(super) fn cut(sizes: &[Sizes]) -> Cut {
    const CLUSTERS: usize = NOMINAL[1] / 2;
    let k = sizes.first().map_or(0, |sizes| sizes.k);
    let tiles: usize = sizes.iter().map(|Sizes { m, n, .. }| m.div_ceil(CUT_TILE) * n.div_ceil(CUT_TILE)).sum();
    let count = tiles % CLUSTERS;
    let parts = 1 + count.div_ceil(CLUSTERS - count);

    // Of one multiprocessor, which has half of a tile.
    let tile = (CUT_TILE * CUT_TILE) as u128;
    let saved = (k / parts) as u128 * tile / 2;
    let cost = count as u128 * tile * 8 * TRAFFIC_BF16 / 10_000;
    match count > 0 && saved > cost {
        true => Cut { whole: tiles - count, parts, count },
        false => Cut { whole: tiles, parts: 1, count: 0 },
    }
}

/// Multiply-adds in bf16 per 10,000 bytes of traffic.
const TRAFFIC_BF16: u128 = 6940;

/// Splits of the least cost of `tiles` of `edge`² that are `elements` together.
fn cheapest(precision: Precision, edge: usize, tiles: usize, elements: usize, k: usize) -> usize {
    let tiles_of_k = k.div_ceil(TILE_K);
    let traffic = match precision {
        Precision::Bf16 => TRAFFIC_BF16,
        Precision::F32 => 420,
    };

    let cost = |splits: usize| {
        let split = (tiles_of_k.div_ceil(splits) * TILE_K * edge * edge) as u128;
        let waves: usize = NOMINAL.iter().map(|multiprocessors| (tiles * splits).div_ceil(*multiprocessors)).sum();
        let partial_sums = if splits > 1 { NOMINAL.len() * splits * elements * 8 } else { 0 };
        waves as u128 * split * 10_000 + partial_sums as u128 * traffic
    };
    let most = (k / (MIN_TILES * TILE_K)).clamp(1, MAX_SPLITS);
    (1..=most).min_by_key(|splits| cost(*splits)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waves of tiles, in units of what one wave without splits takes, and how much of the card works in them.
    fn efficiency(sizes: Sizes, multiprocessors: usize) -> f64 {
        let splits = splits(Precision::Bf16, sizes);
        let blocks = sizes.m.div_ceil(128) * sizes.n.div_ceil(128) * splits;
        blocks as f64 / (blocks.div_ceil(multiprocessors) * multiprocessors) as f64
    }

    #[test]
    fn weights_of_the_papers_models_fill_cards_of_108_to_132_multiprocessors() {
        // Width, and rows of a micro-batch.
        for (width, rows) in [(512, 32_768), (1024, 16_384), (1536, 16_384)] {
            for outputs in [width, 3 * width, 4 * width] {
                let sizes = Sizes { m: width, n: outputs, k: rows };
                for multiprocessors in [108, 114, 132] {
                    let efficiency = efficiency(sizes, multiprocessors);
                    assert!(efficiency >= 0.7, "{width} x {outputs} on {multiprocessors}: {efficiency}");
                }
            }
        }
    }

    #[test]
    fn the_weights_of_a_block_go_together_where_they_fill_a_card() {
        let block = |width: usize, k| {
            [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)].map(|(m, n)| Sizes { m, n, k })
        };
        for (width, rows) in [(512, 32_768), (1024, 16_384), (1536, 16_384)] {
            assert!(go_together(&block(width, rows)), "{width}");
        }
        // 72 tiles fill no card, and are split unless their sums are short.
        let small = |k| go_together(&[Sizes { m: 768, n: 768, k }; 2]);
        assert_eq!([32_768, 256].map(small), [false, true]);
        // A small tile, rows that are not aligned, another number of rows, too many, and one alone.
        let large = Sizes { m: 2048, n: 2048, k: 512 };
        assert!(go_together(&[large; 4]));
        for other in [Sizes { m: 120, ..large }, Sizes { n: 2052, ..large }, Sizes { k: 520, ..large }] {
            assert!(!go_together(&[large, other]));
        }
        assert!(!go_together(&[large; 5]) && !go_together(&[large]) && !go_together(&[]));
    }

    #[test]
    fn tiles_are_cut_where_a_last_wave_would_leave_clusters_without_one() {
        let block = |width: usize, k| {
            [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)].map(|(m, n)| Sizes { m, n, k })
        };
        let of = |width, rows| cut(&block(width, rows));
        assert_eq!(of(512, 32_768), Cut { whole: 0, parts: 4, count: 48 });
        assert_eq!(of(1024, 16_384), Cut { whole: 132, parts: 11, count: 60 });
        assert_eq!(of(1536, 16_384), Cut { whole: 396, parts: 3, count: 36 });
        // Sums too short to be worth it, and a last wave that is full.
        assert_eq!(of(512, 1024), Cut { whole: 48, parts: 1, count: 0 });
        assert_eq!(cut(&[Sizes { m: 66 * 256, n: 256, k: 100_000 }]), Cut { whole: 66, parts: 1, count: 0 });
        assert_eq!(cut(&[]), Cut { whole: 0, parts: 1, count: 0 });
    }

    #[test]
    fn a_split_has_eight_tiles_of_k_or_more_and_short_sums_are_not_split() {
        let splits = |m, n, k| splits(Precision::Bf16, Sizes { m, n, k });
        assert_eq!([splits(64, 64, 1), splits(64, 64, 255), splits(64, 64, 256), splits(4096, 4096, 512)], [1; 4]);
        for k in [511, 512, 5000, 100_000] {
            let splits = splits(64, 64, k);
            assert!(splits <= 64 && k / splits >= 256, "{splits} of {k}");
        }
        assert!(splits(64, 64, 100_000) > 16);
    }
}
