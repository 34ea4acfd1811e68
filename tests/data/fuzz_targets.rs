//! Every fuzz target on its own seeds: whole, cut off, and with a byte that is another. `cargo xtask fuzz` goes on from there.

use crate::place::Place;
use crate::targets::{TARGETS, named};

#[test]
fn every_target_reads_its_seeds_and_what_is_left_of_them() {
    for target in TARGETS {
        assert_eq!(named(target.name).map(|found| found.name), Some(target.name));
        let place = Place::new(target.name);
        (target.prepare)(&place);
        let seeds = (target.seeds)(&place);
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        for seed in &seeds {
            for cut in [seed.len(), seed.len().saturating_sub(1), seed.len() / 2, 0] {
                (target.run)(&place, &seed[..cut]);
            }
            let mut other = seed.clone();
            if let Some(byte) = other.get_mut(seed.len() / 3) {
                *byte ^= 0x40;
                (target.run)(&place, &other);
            }
        }
        std::fs::remove_dir_all(place.path()).unwrap();
    }
}
