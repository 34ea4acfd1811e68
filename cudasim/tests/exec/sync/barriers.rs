//! `bar`, `barrier`, `bar.warp.sync` and `barrier.cluster`.

use super::{Case, each, every_way};
use cudasim::report::FaultKind;

const BUFFER: &str = ".shared .align 16 .b32 buffer[256]; .reg .b64 %slot; .reg .b32 %at;";

#[test]
fn what_is_written_before_a_barrier_is_read_after_it() {
    let body = "
        mov.u32 %r0, buffer; mad.lo.u32 %r1, %thread, 4, %r0;
        mul.lo.u32 %r2, %thread, 3; st.shared.u32 [%r1], %r2;
        bar.sync 0;
        xor.b32 %r3, %thread, 127; mad.lo.u32 %r4, %r3, 4, %r0; ld.shared.u32 %r5, [%r4];
        barrier.sync 3, 128;
        st.global.u32 [%place], %r5;";
    for options in every_way() {
        let got = Case { body, declarations: BUFFER, threads: 128, options, ..Case::default() }.run().unwrap();
        assert_eq!(got, each(128, |thread| (thread ^ 127) * 3));
    }
}

#[test]
fn reductions_count_the_predicates_of_all_threads() {
    let body = "
        rem.u32 %r0, %thread, 3; setp.eq.u32 %p0, %r0, 1;
        bar.red.popc.u32 %r1, 1, %p0;
        setp.lt.u32 %p1, %thread, 100; bar.red.and.pred %p2, 1, %p1; bar.red.or.pred %p3, 1, 96, !%p1;
        setp.lt.u32 %p4, %thread, 96; barrier.red.and.aligned.pred %p5, 2, %p4;
        selp.u32 %r2, 1, 0, %p2; selp.u32 %r3, 2, 0, %p3; selp.u32 %r4, 4, 0, %p5;
        shl.b32 %r1, %r1, 8; add.u32 %r1, %r1, %r2; add.u32 %r1, %r1, %r3; add.u32 %r1, %r1, %r4;
        st.global.u32 [%place], %r1;";
    let popc = (0..96).filter(|thread| thread % 3 == 1).count() as u32;
    for options in every_way() {
        let got = Case { body, threads: 96, options, ..Case::default() }.run().unwrap();
        assert_eq!(got, vec![popc << 8 | 1 | 4; 96]);
    }
}

#[test]
fn producers_arrive_and_consumers_wait_at_named_barriers() {
    // Warp 0 fills, warp 1 reads; barrier 1 says full, barrier 2 says empty.
    let body = "
        mov.u32 %r0, buffer; mad.lo.u32 %r1, %lane, 4, %r0; mov.u32 %r9, 0; mov.u32 %r8, 0;
        setp.ge.u32 %p0, %thread, 32; @%p0 bra CONSUMER;
        PRODUCER:
        bar.sync 2, 64;
        add.u32 %r2, %r9, %lane; st.shared.u32 [%r1], %r2;
        bar.arrive 1, 64;
        add.u32 %r9, %r9, 1; setp.lt.u32 %p1, %r9, 5; @%p1 bra PRODUCER;
        ret;
        CONSUMER:
        bar.arrive 2, 64;
        bar.sync 1, 64;
        xor.b32 %r3, %lane, 31; mad.lo.u32 %r4, %r3, 4, %r0; ld.shared.u32 %r5, [%r4]; add.u32 %r8, %r8, %r5;
        add.u32 %r9, %r9, 1; setp.lt.u32 %p1, %r9, 5; @%p1 bra CONSUMER;
        st.global.u32 [%place], %r8;";
    for options in every_way() {
        let got = Case { body, declarations: BUFFER, threads: 64, options, ..Case::default() }.run().unwrap();
        assert_eq!(got[32..], each(32, |lane| 5 * (lane ^ 31) + 10));
    }
}

#[test]
fn threads_that_left_count_as_arrived() {
    let body = "
        setp.ge.u32 %p0, %thread, 70; @%p0 exit;
        bar.sync 0; mov.u32 %r0, 1; st.global.u32 [%place], %r0; bar.sync 0;";
    for options in every_way() {
        let got = Case { body, threads: 128, options, ..Case::default() }.run().unwrap();
        assert_eq!(got, each(128, |thread| u32::from(thread < 70)));
    }
}

#[test]
fn a_barrier_that_is_not_aligned_takes_lanes_one_by_one() {
    let body = "
        setp.lt.u32 %p0, %lane, 10; mov.u32 %r0, 1;
        @%p0 bra FEW;
        barrier.sync 1; mov.u32 %r0, 2; bra JOIN;
        FEW: barrier.sync 1; mov.u32 %r0, 3;
        JOIN: st.global.u32 [%place], %r0;";
    for options in every_way() {
        let got = Case { body, threads: 64, options, ..Case::default() }.run().unwrap();
        assert_eq!(got, each(64, |thread| if thread % 32 < 10 { 3 } else { 2 }));
    }
}

#[test]
fn lanes_meet_at_different_warp_barriers() {
    let body = "
        mov.u32 %r0, buffer; mad.lo.u32 %r1, %lane, 4, %r0;
        setp.eq.u32 %p0, %lane, 0; @%p0 bra ONE;
        add.u32 %r2, %lane, 50; st.shared.u32 [%r1], %r2;
        bar.warp.sync 0xffffffff;
        bra JOIN;
        ONE: bar.warp.sync 0xffffffff;
        ld.shared.u32 %r3, [buffer+124]; st.global.u32 [%place], %r3;
        JOIN: bar.warp.sync 0xffffffff;";
    for options in every_way() {
        let got = Case { body, declarations: BUFFER, options, ..Case::default() }.run().unwrap();
        assert_eq!(got[0], 81);
    }
}

#[test]
fn clusters_meet_and_see_one_anothers_memory() {
    let body = "
        mov.u32 %r0, buffer; mad.lo.u32 %r1, %thread, 4, %r0; mov.u32 %r7, %cluster_ctarank;
        mad.lo.u32 %r2, %r7, 1000, %thread; st.shared.u32 [%r1], %r2;
        barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;
        xor.b32 %r3, %r7, 1; add.u32 %r3, %r3, 1; shl.b32 %r3, %r3, 24; add.u32 %r4, %r1, %r3; ld.shared::cluster.u32 %r5, [%r4];
        st.global.u32 [%place], %r5;
        barrier.cluster.arrive; barrier.cluster.wait;";
    for options in every_way() {
        let case = Case { body, declarations: BUFFER, threads: 64, blocks: 4, cluster: 2, options, ..Case::default() };
        let expected = each(256, |index| ((index / 64 % 2) ^ 1) * 1000 + index % 64);
        assert_eq!(case.run().unwrap(), expected);
    }
}

#[test]
fn memory_of_a_block_that_has_ended_is_not_there() {
    let body = "
        mov.u32 %r0, buffer; mov.u32 %r7, %cluster_ctarank; st.shared.u32 [%r0], 5;
        barrier.cluster.arrive; barrier.cluster.wait;
        setp.eq.u32 %p0, %r7, 0; @!%p0 exit;
        mov.u32 %r1, 0;
        LOOP: nanosleep.u32 100; add.u32 %r1, %r1, 1; setp.lt.u32 %p1, %r1, 100; @%p1 bra LOOP;
        add.u32 %r4, %r0, 0x2000000; ld.shared::cluster.u32 %r5, [%r4];";
    let case = Case { body, declarations: BUFFER, threads: 32, blocks: 2, cluster: 2, ..Case::default() };
    case.fails(FaultKind::InvalidUse, "all of whose threads have left");
}

#[test]
fn wrong_barriers_are_reported() {
    let check = |body: &str, threads, kind, part: &str| {
        Case { body, threads, declarations: BUFFER, ..Case::default() }.fails(kind, part)
    };

    let half = "setp.lt.u32 %p0, %thread, 16; @%p0 bar.sync 0;";
    check(half, 64, FaultKind::DivergentBarrier, "skipped by 0xffff0000");
    let both = "setp.lt.u32 %p0, %thread, 16; @%p0 bra A; bar.sync 0; bra B; A: bar.sync 0; B:";
    check(both, 64, FaultKind::DivergentBarrier, "PTX line");
    let other = "setp.lt.u32 %p0, %thread, 64; @%p0 bar.sync 1; @!%p0 bar.sync 2;";
    check(other, 128, FaultKind::Deadlock, "64 of 128 threads at barrier 1, 64 of 128 threads at barrier 2");
    let missing = "setp.lt.u32 %p0, %thread, 32; @%p0 bar.sync 1, 64;";
    check(missing, 64, FaultKind::Deadlock, "32 of 64 threads at barrier 1");
    check("bar.sync 0, 33;", 64, FaultKind::InvalidUse, "33 threads");
    check("bar.sync 0, 128;", 64, FaultKind::InvalidUse, "128 threads");
    check("mov.u32 %r0, 16; bar.sync %r0;", 64, FaultKind::InvalidUse, "barrier 16");
    let counts = "setp.lt.u32 %p0, %thread, 32; @%p0 bar.sync 1, 64; @!%p0 bar.sync 1, 96;";
    check(counts, 96, FaultKind::InvalidUse, "wait for");
    let mixed = "setp.lt.u32 %p0, %thread, 32; @%p0 bar.sync 1, 64; @!%p0 bar.red.popc.u32 %r0, 1, 64, %p0;";
    check(mixed, 64, FaultKind::InvalidUse, "reduction");
    check("barrier.cluster.wait;", 64, FaultKind::InvalidUse, "without having arrived");
    check("barrier.cluster.arrive; barrier.cluster.arrive;", 64, FaultKind::InvalidUse, "again");
    let lonely =
        "mov.u32 %r1, %ctaid.x; setp.eq.u32 %p0, %r1, 0; @%p0 barrier.cluster.arrive; @%p0 barrier.cluster.wait;
        @%p0 exit; WAIT: nanosleep.u32 10; bra WAIT;";
    let case = Case { body: lonely, blocks: 2, cluster: 2, ..Case::default() };
    case.fails(FaultKind::Deadlock, "");
}

/// However many warps look, and however much they compute between two looks.
#[test]
fn waits_that_nothing_ends_are_seen() {
    let thinking = "mad.lo.u32 %r1, %r1, %r1, %r2; ".repeat(100);
    let waits = [
        "mbarrier.try_wait.parity.shared::cta.b64 %p1, [bar], 0; @!%p1 bra WAIT;",
        "ld.volatile.shared.u32 %r3, [buffer]; setp.ne.u32 %p1, %r3, 0; @!%p1 bra WAIT;",
        "nanosleep.u32 10; bra WAIT;",
    ];
    for (wait, options) in waits.iter().flat_map(|wait| every_way().map(move |options| (wait, options))) {
        let body = format!(
            "setp.eq.u32 %p0, %thread, 0; @%p0 mbarrier.init.shared::cta.b64 [bar], 1; @%p0 st.shared.u32 [buffer], 0;
             bar.sync 0; mov.u32 %r1, %thread; mov.u32 %r2, 7;
             WAIT: {thinking} {wait}"
        );
        let declarations = ".shared .align 8 .b64 bar; .shared .align 16 .b32 buffer[4];";
        Case { body: &body, declarations, threads: 512, options, ..Case::default() }.fails(FaultKind::Deadlock, "");
    }
}

#[test]
fn a_time_that_is_waited_for_comes() {
    let body = "
        .reg .b64 %end; mov.u64 %end, %globaltimer; add.u64 %end, %end, 20000000;
        WAIT: nanosleep.u32 100; mov.u64 %rd0, %globaltimer; setp.lt.u64 %p0, %rd0, %end; @%p0 bra WAIT;
        st.global.u32 [%place], 5;";
    assert_eq!(Case { body, ..Case::default() }.run().unwrap()[0], 5);
}
