//! Which of a run's sample grids its page shows.

use std::path::PathBuf;

/// Grids shown at most.
const MAX_GRIDS: usize = 32;
/// Bytes of their files at most, where there are more than two.
const MAX_BYTES: u64 = 2 << 20;

/// Of the grids of a run, by step, those that its page shows: all if they are few and small, else some that are spread evenly,
/// the first and the last among them.
pub fn shown(grids: &[(u64, PathBuf)]) -> Vec<(u64, PathBuf)> {
    // A file that cannot be looked at says why when it is read.
    let size = |(_, path): &(u64, PathBuf)| std::fs::metadata(path).map_or(0, |file| file.len());
    let chosen = choice(grids.len(), |index| size(&grids[index]));
    chosen.into_iter().map(|index| grids[index].clone()).collect()
}

/// Numbers of the grids to show, of `total` with `size` bytes each.
fn choice(total: usize, size: impl Fn(usize) -> u64) -> Vec<usize> {
    let most = total.min(MAX_GRIDS);
    let fits =
        |chosen: &Vec<usize>| chosen.len() <= 2 || chosen.iter().map(|index| size(*index)).sum::<u64>() <= MAX_BYTES;
    (1..=most).rev().map(|count| evenly(total, count)).find(fits).unwrap_or_default()
}

/// `count` of the numbers below `total`, the first and the last among them.
fn evenly(total: usize, count: usize) -> Vec<usize> {
    (0..count).map(|index| index * (total - 1) / (count - 1).max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_grids_are_all_shown_and_many_evenly() {
        assert_eq!(choice(0, |_| 1), [0_usize; 0]);
        for total in [1, 2, MAX_GRIDS] {
            assert_eq!(choice(total, |_| 20_000), (0..total).collect::<Vec<_>>());
        }
        for total in [MAX_GRIDS + 1, 100, 10_000] {
            let chosen = choice(total, |_| 20_000);
            assert_eq!((chosen.len(), chosen[0], chosen[MAX_GRIDS - 1]), (MAX_GRIDS, 0, total - 1));
            let gaps: Vec<usize> = chosen.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(gaps.iter().max().unwrap() - gaps.iter().min().unwrap() <= 1, "{gaps:?}");
        }
    }

    #[test]
    fn large_grids_are_fewer_but_never_less_than_the_first_and_the_last() {
        let chosen = choice(500, |_| 400_000);
        assert_eq!(chosen, [0, 124, 249, 374, 499]);
        assert_eq!(choice(500, |_| 1 << 30), [0, 499]);
    }
}
