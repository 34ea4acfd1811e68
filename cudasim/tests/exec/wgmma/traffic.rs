//! What wgmma reads of shared memory, in the counts.

use super::{BF16, COMMIT, Case, Data, FENCE, Layout, READY, WAIT, k_major, kernel, mn_major};
use crate::support::Machine;
use cudasim::counters::Counts;
use cudasim::counters::asynchronous::Multiplicand;
use cudasim::exec::{Launch, run};
use cudasim::options::{Completion, Options};

/// The counts of `times` operations.
fn counts(case: &Case, times: usize, completion: Completion, seed: u64) -> Counts {
    let operations = case.instruction().repeat(times);
    let mut machine = Machine::new(&kernel(case, &format!("{READY} {FENCE} {operations} {COMMIT} {WAIT}")));
    machine.options = Options { counters: true, completion, seed, ..Options::default() };
    let block = Data::new(case, 0).parameters(&machine, case).iter().flat_map(|word| word.to_le_bytes()).collect();
    let launch = Launch::new([1; 3], [128, 1, 1], 0, block);
    let kernel = machine.program.kernel("k").unwrap();
    let counts = run(&kernel, &launch, &machine.memory.map(), &machine.options, 0);
    counts.unwrap_or_else(|report| panic!("{case}\n{report}")).expect("counts")
}

/// So many core matrices of 8 x 16 bytes without a bank conflict.
fn matrices(count: u64) -> Multiplicand {
    Multiplicand { matrices: count, wavefronts: count, bytes: 128 * count }
}

/// Eight rows have 32 bytes of k, two core matrices: A of 64 rows has 16, B of N columns N / 4. Its descriptor can give it no
/// layout whose core matrices conflict: without a swizzle they are 128 bytes in one piece, with one the swizzle parts them.
#[test]
fn each_core_matrix_is_one_wavefront_in_every_layout() {
    for width in [16, 32, 64, 128] {
        for n in [8, 64, 200] {
            let case = Case::new(n, BF16, Some(k_major(width, 0)), k_major(width, 0));
            let got = counts(&case, 1, Completion::Late, 0).wgmma;
            assert_eq!(got, [matrices(16), matrices(n as u64 / 4)], "{case}");
        }
        let case = Case::new(64, BF16, Some(mn_major(width, 64)), mn_major(width, 64));
        assert_eq!(counts(&case, 1, Completion::Late, 0).wgmma, [matrices(16), matrices(16)], "{case}");
    }
    // The third 32 bytes of k in rows of 128.
    let slice = k_major(128, 2);
    let case = Case::new(64, BF16, Some(slice), slice);
    assert_eq!(counts(&case, 1, Completion::Late, 0).wgmma, [matrices(16), matrices(16)]);
    // Eight rows that share what they read with all others: no stride.
    let narrow = Layout { stride: 0, ..k_major(16, 0) };
    let case = Case::new(64, BF16, Some(narrow), narrow);
    assert_eq!(counts(&case, 1, Completion::Late, 0).wgmma, [matrices(16), matrices(16)]);
}

#[test]
fn operations_add_up_whenever_they_land() {
    for (completion, seed) in [(Completion::Late, 1), (Completion::Early, 2), (Completion::Random, 3)] {
        let case = Case::new(32, BF16, None, k_major(128, 0));
        let counts = counts(&case, 3, completion, seed);
        assert_eq!(counts.wgmma, [matrices(0), matrices(24)], "A in registers is not read");
        assert_eq!((counts.bulk, counts.shared[0].bytes), Default::default());
    }
}
