//! Races in shared and global memory: racing kernels with their reports, and kernels that synchronise their accesses.

use cudasim::report::{FaultKind, Report};

use crate::support::Machine;

fn kernel(body: &str) -> String {
    format!(
        ".visible .entry k(.param .u64 data, .param .u64 flags)
        {{
            .reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<30>; .reg .b64 %rd<20>;
            .shared .align 16 .b8 tile[1024];
            ld.param.u64 %rd1, [data]; ld.param.u64 %rd2, [flags];
            mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mad.lo.u32 %r4, %r2, %r3, %r1;
            mov.u32 %r19, tile; mad.lo.u32 %r5, %r1, 4, %r19; mul.wide.u32 %rd3, %r4, 4; add.u64 %rd3, %rd1, %rd3;
            {body}
            ret;
        }}"
    )
}

/// Runs a body by `blocks` of 64 threads; what `data` holds afterwards.
fn run(body: &str, blocks: u32, seed: u64, threads: usize, lane_races: bool) -> Result<Vec<u32>, Box<Report>> {
    let mut machine = Machine::new(&kernel(body));
    machine.options.seed = seed;
    machine.options.threads = threads;
    machine.options.lane_races = lane_races;
    let (data, flags) = (machine.upload(&[5; 1024]), machine.upload(&[0; 64]));
    machine.launch("k", blocks, 64, &[data, flags])?;
    Ok(machine.download(data, 1024))
}

#[track_caller]
fn clean(body: &str, blocks: u32) -> Vec<u32> {
    let mut results = (0..20).map(|seed| {
        run(body, blocks, seed, 1 + seed as usize % 3, false).unwrap_or_else(|report| panic!("seed {seed}: {report}"))
    });
    let first = results.next().unwrap();
    assert!(results.all(|result| result == first), "every seed gives the same");
    first
}

#[track_caller]
fn races(body: &str, blocks: u32, kind: FaultKind) -> Box<Report> {
    let mut last = None;
    for seed in 0..20 {
        let report = run(body, blocks, seed, 1, false).expect_err("a race");
        assert_eq!(report.fault.kind, kind, "{report}");
        assert!(report.fault.message.ends_with("with nothing that orders the two"), "{report}");
        assert!(report.fault.message.contains("(PTX line "), "{report}");
        last = Some(report);
    }
    last.unwrap()
}

/// Each thread reads what the thread 32 away has written.
const EXCHANGE: &str = "st.shared.u32 [%r5], %r4; BARRIER xor.b32 %r6, %r1, 32; mad.lo.u32 %r7, %r6, 4, %r19;
    ld.shared.u32 %r8, [%r7]; st.global.u32 [%rd3], %r8;";

/// All of it written, before every access of the kernel.
const CLEARED: &str = "mov.u32 %r10, 0; st.shared.u32 [%r5], %r10; bar.sync 0;";

#[test]
fn shared_memory_between_warps() {
    let report = races(&format!("{CLEARED} {}", EXCHANGE.replace("BARRIER", "")), 1, FaultKind::SharedRace);
    let own = report.thread[0];
    let other = format!("thread ({}, 0, 0) of block (0, 0, 0)", own ^ 32);
    assert!(report.fault.message.contains(&other), "{report}");
    let data = clean(&EXCHANGE.replace("BARRIER", "bar.sync 0;"), 3);
    assert!((0..192).all(|i| data[i] == i as u32 ^ 32));
    // The second round writes what the first may still read.
    let body = format!("{} st.shared.u32 [%r5], %r1;", EXCHANGE.replace("BARRIER", "bar.sync 0;"));
    races(&body, 1, FaultKind::SharedRace);
    clean(&format!("{} bar.sync 0; st.shared.u32 [%r5], %r1;", EXCHANGE.replace("BARRIER", "bar.sync 0;")), 1);
}

#[test]
fn shared_bytes_are_told_apart() {
    // Threads 0 and 32 write neighbouring bytes of the same word.
    let bytes = "and.b32 %r6, %r1, 31; shl.b32 %r7, %r6, 2; shr.u32 %r8, %r1, 5; add.u32 %r7, %r7, %r8; add.u32 %r7, %r7, %r19;";
    let bytes = format!("{CLEARED} {bytes}");
    clean(&format!("{bytes} st.shared.u8 [%r7], %r1; ld.shared.u8 %r9, [%r7];"), 1);
    races(
        &format!("{bytes} st.shared.u8 [%r7], %r1; and.b32 %r7, %r7, 0xfffffffc; ld.shared.u32 %r9, [%r7];"),
        1,
        FaultKind::SharedRace,
    );
}

#[test]
fn lanes_of_a_warp_where_the_option_asks() {
    let body =
        "st.shared.u32 [%r5], %r1; SYNC xor.b32 %r6, %r1, 1; mad.lo.u32 %r7, %r6, 4, %r19; ld.shared.u32 %r8, [%r7];
        st.global.u32 [%rd3], %r8;";
    let body = format!("{CLEARED} {body}");
    let without = body.replace("SYNC", "");
    assert!(run(&without, 1, 0, 1, false).is_ok(), "lanes that run together are not told apart");
    let report = run(&without, 1, 0, 1, true).expect_err("a race");
    assert_eq!(report.fault.kind, FaultKind::SharedRace);
    let own = report.thread[0];
    assert!(report.fault.message.contains(&format!("thread ({}, 0, 0)", own ^ 1)), "{report}");
    for seed in 0..20 {
        run(&body.replace("SYNC", "bar.warp.sync 0xffffffff;"), 1, seed, 1, true)
            .unwrap_or_else(|report| panic!("{report}"));
    }
}

#[test]
fn blocks_are_not_ordered() {
    let report = races(
        "mul.wide.u32 %rd4, %r1, 4; add.u64 %rd4, %rd1, %rd4; st.global.u32 [%rd4], %r4;",
        2,
        FaultKind::GlobalRace,
    );
    assert!(report.fault.message.starts_with("written here and written by"), "{report}");
    assert!(report.nearest.as_deref().unwrap().contains("of allocation 0 of 4096 bytes"), "{report}");
    let other = if report.block[0] == 0 { "block (1, 0, 0)" } else { "block (0, 0, 0)" };
    assert!(report.fault.message.contains(other), "{report}");
    // In place, with a neighbour's element.
    races("ld.global.u32 %r6, [%rd3+4]; st.global.u32 [%rd3], %r6;", 2, FaultKind::GlobalRace);
    // A warp reads what another one of its block has written.
    let exchange = "st.global.u32 [%rd3], %r4; BARRIER xor.b32 %r6, %r4, 32; mul.wide.u32 %rd4, %r6, 4;
        add.u64 %rd4, %rd1, %rd4; ld.global.u32 %r7, [%rd4];";
    races(&exchange.replace("BARRIER", ""), 1, FaultKind::GlobalRace);
    clean(&exchange.replace("BARRIER", "bar.sync 0;"), 4);
    clean("ld.global.u32 %r6, [%rd3]; add.u32 %r6, %r6, %r4; st.global.u32 [%rd3], %r6;", 8);
}

#[test]
fn atomics_do_not_race_with_one_another() {
    let data = clean("red.global.add.u32 [%rd1], 1; ld.volatile.global.u32 %r6, [%rd1];", 4);
    assert_eq!(data[0], 5 + 256);
    races("red.global.add.u32 [%rd1], 1; ld.global.u32 %r6, [%rd1];", 4, FaultKind::GlobalRace);
}

/// CUDA's threadFenceReduction: the block that counts last adds up what all have written.
const LAST_BLOCK: &str = "setp.ne.u32 %p1, %r1, 0; @%p1 bra WAIT;
    mul.wide.u32 %rd4, %r2, 4; add.u64 %rd5, %rd1, %rd4; add.u32 %r6, %r2, 100; st.global.u32 [%rd5], %r6;
    FENCE
    atom.global.inc.u32 %r7, [%rd2], 7; st.shared.u32 [%r19], %r7;
    WAIT: bar.sync 0; ld.shared.u32 %r8, [%r19]; setp.ne.u32 %p2, %r8, 7; @%p2 ret;
    setp.gt.u32 %p3, %r1, 7; @%p3 ret;
    mul.wide.u32 %rd4, %r1, 4; add.u64 %rd5, %rd1, %rd4; ld.global.u32 %r9, [%rd5];
    red.global.add.u32 [%rd1+512], %r9;";

#[test]
fn the_last_block_sums() {
    let data = clean(&LAST_BLOCK.replace("FENCE", "membar.gl;"), 8);
    assert_eq!(data[128], 5 + (100..108).sum::<u32>());
    races(&LAST_BLOCK.replace("FENCE", ""), 8, FaultKind::GlobalRace);
}

/// Each block waits for the one before it and adds to what that has written.
const CHAIN: &str = "setp.ne.u32 %p1, %r1, 0; @%p1 ret;
    mul.wide.u32 %rd4, %r2, 4; add.u64 %rd5, %rd1, %rd4; add.u64 %rd6, %rd2, %rd4; mov.u32 %r6, 1;
    setp.eq.u32 %p2, %r2, 0; @%p2 bra FIRST;
    SPIN: ld.ACQUIRE.gpu.global.u32 %r7, [%rd6+-4]; setp.eq.u32 %p3, %r7, 0; @%p3 bra SPIN;
    ld.global.u32 %r8, [%rd5+-4]; add.u32 %r6, %r6, %r8;
    FIRST: st.global.u32 [%rd5], %r6; mov.u32 %r9, 1; st.RELEASE.gpu.global.u32 [%rd6], %r9;";

#[test]
fn values_are_published_by_flags() {
    for (acquire, release, fences) in [("acquire", "release", false), ("relaxed", "relaxed", true)] {
        let body = CHAIN.replace("ACQUIRE", acquire).replace("RELEASE", release);
        let body = match fences {
            true => body.replace("mov.u32 %r9, 1;", "fence.acq_rel.gpu; mov.u32 %r9, 1;"),
            false => body,
        };
        let data = clean(&body, 12);
        assert!((0..12).all(|i| data[i] == i as u32 + 1));
    }
    races(&CHAIN.replace("ACQUIRE", "relaxed").replace("RELEASE", "relaxed"), 12, FaultKind::GlobalRace);
}

#[test]
fn a_status_and_its_value_travel_together() {
    // As a scan's tiles: 16 bytes in one piece say both that a value is there and which; no fence is needed.
    let body =
        "setp.ne.u32 %p1, %r1, 0; @%p1 ret; mul.wide.u32 %rd4, %r2, 16; add.u64 %rd5, %rd1, %rd4; mov.u64 %rd7, 0;
        setp.eq.u32 %p2, %r2, 0; @%p2 bra FIRST;
        SPIN: ld.relaxed.gpu.global.v2.u64 {%rd6, %rd7}, [%rd5+-16]; setp.ne.u64 %p3, %rd6, 77; @%p3 bra SPIN;
        FIRST: add.u64 %rd7, %rd7, 3; mov.u64 %rd6, 77; st.relaxed.gpu.global.v2.u64 [%rd5], {%rd6, %rd7};";
    let data = clean(body, 16);
    assert!((0..16).all(|i| data[4 * i] == 77 && data[4 * i + 2] == 3 * (i as u32 + 1)));
}

#[test]
fn locks_in_shared_memory() {
    // One lane of each warp adds to a word that a lock guards.
    let body = "setp.ne.u32 %p1, %r1, 0; @%p1 bra READY; mov.u32 %r6, 0; st.shared.u32 [%r19], %r6; st.shared.u32 [%r19+4], %r6;
        READY: bar.sync 0; and.b32 %r7, %r1, 31; setp.ne.u32 %p2, %r7, 0; @%p2 bra DONE;
        SPIN: atom.shared.cas.b32 %r8, [%r19], 0, 1; setp.ne.u32 %p3, %r8, 0; @%p3 bra SPIN; FENCE
        ld.shared.u32 %r9, [%r19+4]; add.u32 %r9, %r9, 1; st.shared.u32 [%r19+4], %r9;
        FENCE atom.shared.exch.b32 %r8, [%r19], 0;
        DONE: bar.sync 0; ld.shared.u32 %r9, [%r19+4]; st.global.u32 [%rd3], %r9;";
    assert_eq!(clean(&body.replace("FENCE", "membar.cta;"), 2)[0], 2);
    races(&body.replace("FENCE", ""), 1, FaultKind::SharedRace);
}

#[test]
fn launches_follow_one_another() {
    let machine = Machine::new(&kernel("st.global.u32 [%rd3], %r4;"));
    let (data, flags) = (machine.upload(&[5; 1024]), machine.upload(&[0; 64]));
    for blocks in [1, 2, 4] {
        machine.launch("k", blocks, 64, &[data, flags]).unwrap();
        machine.launch("k", 1, 128, &[data, flags]).unwrap();
    }
}

/// The second block reads what the first one's bulk copy has written.
const COPIED: &str = "setp.eq.u32 %p1, %r2, 1; @%p1 bra READ;
    st.shared.u32 [%r5], %r4; fence.proxy.async.shared::cta; bar.sync 0; setp.ne.u32 %p2, %r1, 0; @%p2 bra END;
    cp.async.bulk.global.shared::cta.bulk_group [%rd1], [tile], 256; cp.async.bulk.commit_group;
    cp.async.bulk.wait_group 0; fence.acq_rel.gpu; atom.global.exch.b32 %r6, [%rd2], 1; bra LAST;
    READ: ld.acquire.gpu.global.u32 %r6, [%rd2]; setp.eq.u32 %p3, %r6, 0; @%p3 bra READ;
    mul.wide.u32 %rd4, %r1, 4; add.u64 %rd4, %rd1, %rd4; ld.global.u32 %r7, [%rd4]; st.global.u32 [%rd3+1024], %r7;
    bra END; LAST: cp.async.bulk.wait_group.read 0; END:";

#[test]
fn what_a_copy_has_written_is_there_for_another_block_after_a_wait_and_a_fence() {
    let got = clean(COPIED, 2);
    assert_eq!(got[256 + 64..256 + 128], std::array::from_fn::<u32, 64, _>(|index| index as u32));
    for missing in ["cp.async.bulk.wait_group 0;", "fence.acq_rel.gpu;"] {
        races(&COPIED.replace(missing, ""), 2, FaultKind::GlobalRace);
    }
    races(&COPIED.replace("wait_group 0;", "wait_group.read 0;"), 2, FaultKind::GlobalRace);
    let unread = "ld.acquire.gpu.global.u32 %r6, [%rd2]; setp.eq.u32 %p3, %r6, 0; @%p3 bra READ;";
    races(&COPIED.replace(unread, ""), 2, FaultKind::GlobalRace);
    let report = races(&COPIED.replace("fence.acq_rel.gpu;", ""), 2, FaultKind::GlobalRace);
    assert!(report.fault.message.contains("an asynchronous operation of warp 0"), "{report}");
}
