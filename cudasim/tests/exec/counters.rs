//! Exact counts of launches.

use cudasim::exec::{Launch, run, sample};

use crate::support::Machine;

const TEXT: &str = "
.visible .entry k(.param .u64 data)
{
    .reg .pred %p<9>; .reg .b32 %r<20>; .reg .b64 %rd<9>; .reg .f32 %f<9>;
    .shared .align 16 .b8 tile[4096];
    ld.param.u64 %rd1, [data]; mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x;
    mad.lo.u32 %r4, %r2, %r3, %r1; mul.wide.u32 %rd2, %r4, 4; add.u64 %rd2, %rd1, %rd2;
    ld.global.f32 %f1, [%rd2];
    mov.u32 %r5, tile; mad.lo.u32 %r6, %r1, 8, %r5; st.shared.f32 [%r6], %f1; bar.sync 0; ld.shared.f32 %f2, [%r6];
    and.b32 %r7, %r1, 3; setp.eq.u32 %p1, %r7, 0; @%p1 bra A;
    add.f32 %f2, %f2, %f1;
LOOP:
    add.f32 %f2, %f2, %f1; add.u32 %r7, %r7, -1; setp.ne.u32 %p2, %r7, 0; @%p2 bra LOOP;
A:
    st.global.f32 [%rd2], %f2;
    ret;
}";

/// The counts of 6 blocks of 64 threads, as JSON.
fn counts(seed: u64, threads: usize) -> String {
    let mut machine = Machine::new(TEXT);
    machine.options.seed = seed;
    machine.options.threads = threads;
    machine.options.counters = true;
    let data = machine.upload(&[1.5_f32.to_bits(); 384]);
    let kernel = machine.program.kernel("k").unwrap();
    let launch = Launch::new([6, 1, 1], [64, 1, 1], 0, data.to_le_bytes().to_vec());
    run(&kernel, &launch, &machine.memory.map(), &machine.options, 0).unwrap().expect("counts").json(&kernel)
}

#[test]
fn counts_are_exact() {
    let json = counts(0, 1);
    let warps = 12;

    // Lanes 4n leave at once, others go 1, 2 or 3 rounds of 4 instructions; a branch counts for the lanes that take it.
    let rounds = 3 * 4 - 1;
    let steps = 16 + 1 + rounds + 2;

    for expected in [
        format!("\"warp_instructions\":{}", warps * steps),
        format!("\"thread_instructions\":{}", warps * (32 * 18 - 24 + 24 + 8 * (1 + 2 + 3) * 4 - 24)),
        format!("\"float\":{{\"warps\":{},\"threads\":{}}}", warps * 4, warps * (24 + 48)),
        format!("\"load\":{{\"requests\":{warps},\"sectors\":{},\"bytes\":{}}}", warps * 4, warps * 128),
        format!(
            "\"load\":{{\"requests\":{warps},\"wavefronts\":{},\"conflicts\":{warps},\"bytes\":{}}}",
            warps * 2,
            warps * 128
        ),
        format!("\"barriers\":{warps}"),
        "\"tensor\":{\"operations\":0,\"flops\":0}".into(),
        format!("\"divergences\":{}", warps * 3),
    ] {
        assert!(json.contains(&expected), "{expected} in {json}");
    }
}

#[test]
fn counts_do_not_depend_on_seed_or_threads() {
    let first = counts(0, 1);
    for seed in 1..20 {
        assert_eq!(counts(seed, 1 + seed as usize % 3), first, "seed {seed}");
    }
}

#[test]
fn a_sample_is_spread_evenly_and_counts_in_proportion() {
    let launch = |grid| Launch::new(grid, [64, 1, 1], 0, Vec::new());
    for grid in [[8, 12, 32], [16, 1, 1], [1, 1, 5], [7, 3, 2]] {
        let (launch, width) = (launch(grid), u64::from(grid[0]));
        let whole = sample(&launch, 0);
        assert_eq!(whole, (0..launch.clusters()).collect::<Vec<_>>());

        // As many as the grid is wide: each place along x once.
        let mut along_x: Vec<u64> = sample(&launch, width).iter().map(|cluster| cluster % width).collect();
        along_x.sort_unstable();
        assert_eq!(along_x, (0..width).collect::<Vec<_>>(), "{grid:?}");
        let different: std::collections::BTreeSet<u64> = sample(&launch, launch.clusters() - 1).into_iter().collect();
        assert_eq!(different.len() as u64, (launch.clusters() - 1).max(1), "{grid:?}");
    }

    // Blocks that do the same count the same.
    let run = |blocks| {
        let mut machine = Machine::new(TEXT);
        machine.options.counters = true;
        machine.options.blocks = blocks;
        let data = machine.upload(&[1.5_f32.to_bits(); 384]);
        let kernel = machine.program.kernel("k").unwrap();
        let launch = Launch::new([6, 1, 1], [64, 1, 1], 0, data.to_le_bytes().to_vec());
        run(&kernel, &launch, &machine.memory.map(), &machine.options, 0).unwrap().expect("counts")
    };
    let (whole, half) = (run(0), run(3));
    assert_eq!(whole.warp_instructions, 2 * half.warp_instructions);
    assert_eq!(whole.global[0].sectors, 2 * half.global[0].sectors);
    assert_eq!(whole.shared[1].wavefronts, 2 * half.shared[1].wavefronts);
}
