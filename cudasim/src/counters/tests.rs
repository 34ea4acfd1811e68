use super::*;

fn shared(addresses: impl Fn(u64) -> u64, mask: Mask, bytes: u64) -> (u64, u64) {
    let mut counts = Counts::default();
    counts.shared(Direction::Load, &std::array::from_fn(|lane| addresses(lane as u64)), mask, bytes);
    (counts.shared[0].wavefronts, counts.shared[0].conflicts)
}

#[test]
fn bank_conflicts() {
    assert_eq!(shared(|lane| 4 * lane, u32::MAX, 4), (1, 0));
    assert_eq!(shared(|_| 64, u32::MAX, 4), (1, 0), "a broadcast");
    assert_eq!(shared(|lane| 8 * lane, u32::MAX, 4), (2, 1));
    assert_eq!(shared(|lane| 128 * lane, u32::MAX, 4), (32, 31));
    assert_eq!(shared(|lane| 132 * lane, u32::MAX, 4), (1, 0), "padded columns");
    assert_eq!(shared(|lane| 2 * lane, u32::MAX, 2), (1, 0));
    assert_eq!(shared(|lane| 8 * lane, u32::MAX, 8), (2, 0));
    assert_eq!(shared(|lane| 16 * lane, u32::MAX, 16), (4, 0));
    assert_eq!(shared(|lane| 128 * lane, u32::MAX, 16), (32, 28), "rows of ldmatrix without swizzle");
    assert_eq!(shared(|lane| 128 * lane + 16 * (lane % 8), u32::MAX, 16), (4, 0), "with swizzle");
    assert_eq!(shared(|lane| 16 * lane, 0xff, 16), (1, 0));
}

#[test]
fn sectors() {
    let mut counts = Counts::default();
    counts.global(Direction::Load, &std::array::from_fn(|lane| 4096 + 4 * lane as u64), u32::MAX, 4);
    assert_eq!(counts.global[0], GlobalTraffic { requests: 1, sectors: 4, bytes: 128 });
    counts.global(Direction::Store, &std::array::from_fn(|lane| 4100 + 4 * lane as u64), u32::MAX, 4);
    assert_eq!(counts.global[1].sectors, 5, "not aligned");
    counts.global(Direction::Atomic, &std::array::from_fn(|lane| 64 * (lane as u64 % 4)), 0xf0f, 8);
    assert_eq!(counts.global[2], GlobalTraffic { requests: 1, sectors: 4, bytes: 64 });
}
