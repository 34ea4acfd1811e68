//! `mbarrier` in all its forms.

use super::{Case, each, every_way};
use cudasim::report::FaultKind;

const BAR: &str =
    ".shared .align 8 .b64 bar; .shared .align 8 .b64 other; .shared .align 16 .b32 buffer[256]; .reg .b64 %state;";

fn run(body: &str, threads: u32) -> Vec<u32> {
    Case { body, declarations: BAR, threads, ..Case::default() }.run().unwrap_or_else(|report| panic!("{report}"))
}

fn fails(body: &str, threads: u32, kind: FaultKind, part: &str) {
    Case { body, declarations: BAR, threads, ..Case::default() }.fails(kind, part);
}

const INIT: &str = "setp.eq.u32 %p9, %thread, 0; @%p9 mbarrier.init.shared::cta.b64 [bar], ";

#[test]
fn threads_meet_by_state_and_by_parity() {
    let body = format!(
        "{INIT} 64; bar.sync 0;
         mov.u32 %r0, buffer; mad.lo.u32 %r1, %thread, 4, %r0; add.u32 %r2, %thread, 7; st.shared.u32 [%r1], %r2;
         mbarrier.arrive.shared::cta.b64 %state, [bar];
         A: mbarrier.test_wait.shared::cta.b64 %p0, [bar], %state; @!%p0 bra A;
         xor.b32 %r3, %thread, 63; mad.lo.u32 %r4, %r3, 4, %r0; ld.shared.u32 %r5, [%r4];
         mbarrier.arrive.release.cta.shared::cta.b64 _, [bar], 1;
         B: mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 %p0, [bar], 1, 1000; @!%p0 bra B;
         st.shared.u32 [%r1], 0;
         st.global.u32 [%place], %r5;"
    );
    for options in every_way() {
        let got = Case { body: &body, declarations: BAR, threads: 64, options, ..Case::default() }.run().unwrap();
        assert_eq!(got, each(64, |thread| (thread ^ 63) + 7));
    }
}

#[test]
fn a_phase_waits_for_arrivals_and_bytes() {
    let body = format!(
        "{INIT} 2;
         mbarrier.arrive.expect_tx.shared::cta.b64 %state, [bar], 100;
         mbarrier.pending_count.b64 %r0, %state;             // 2 before the arrival
         mbarrier.arrive.shared::cta.b64 %state, [bar];
         mbarrier.pending_count.b64 %r1, %state;             // 1 before it
         mbarrier.test_wait.parity.shared::cta.b64 %p0, [bar], 0; selp.u32 %r2, 1, 0, %p0;   // bytes are missing
         mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [bar], 28;
         mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [bar], 127;
         mbarrier.test_wait.parity.shared::cta.b64 %p0, [bar], 0; selp.u32 %r3, 1, 0, %p0;
         mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [bar], 1;
         mbarrier.test_wait.shared::cta.b64 %p0, [bar], %state; selp.u32 %r4, 1, 0, %p0;
         mbarrier.test_wait.parity.shared::cta.b64 %p0, [bar], 1; selp.u32 %r5, 1, 0, %p0;
         mad.lo.u32 %r0, %r0, 10, %r1; mad.lo.u32 %r0, %r0, 10, %r2; mad.lo.u32 %r0, %r0, 10, %r3;
         mad.lo.u32 %r0, %r0, 10, %r4; mad.lo.u32 %r0, %r0, 10, %r5; st.global.u32 [%place], %r0;"
    );
    assert_eq!(run(&body, 1), [210_010]);
}

#[test]
fn drops_and_several_arrivals_at_once() {
    let body = format!(
        "{INIT} 5;
         mbarrier.arrive.noComplete.release.cta.shared::cta.b64 %state, [bar], 3;
         mbarrier.arrive_drop.shared::cta.b64 %state, [bar], 2;     // phase 0 ends, phase 1 expects 3
         mbarrier.arrive_drop.noComplete.shared::cta.b64 %state, [bar], 1;
         mbarrier.pending_count.b64 %r0, %state;                    // 3
         mbarrier.arrive_drop.expect_tx.shared::cta.b64 %state, [bar], 16;
         mbarrier.complete_tx.shared::cta.b64 [bar], 16;
         mbarrier.arrive.shared::cta.b64 %state, [bar];             // phase 1 ends, phase 2 expects 1
         mbarrier.arrive.shared::cta.b64 %state, [bar];
         mbarrier.pending_count.b64 %r1, %state;                    // 1
         mbarrier.test_wait.shared::cta.b64 %p0, [bar], %state; selp.u32 %r2, 100, 0, %p0;
         mad.lo.u32 %r0, %r0, 10, %r1; add.u32 %r0, %r0, %r2;
         mbarrier.inval.shared::cta.b64 [bar]; mbarrier.init.shared::cta.b64 [bar], 1;
         st.global.u32 [%place], %r0;"
    );
    assert_eq!(run(&body, 1), [131]);
}

#[test]
fn blocks_of_a_cluster_arrive_at_one_anothers_mbarriers() {
    let body = format!(
        "{INIT} 32; fence.mbarrier_init.release.cluster; barrier.cluster.arrive; barrier.cluster.wait;
         mov.u32 %r7, %cluster_ctarank; xor.b32 %r7, %r7, 1; add.u32 %r7, %r7, 1; shl.b32 %r7, %r7, 24;
         mov.u32 %r0, buffer; mad.lo.u32 %r1, %thread, 4, %r0; add.u32 %r2, %r1, %r7;
         add.u32 %r3, %index, 5; st.shared::cluster.u32 [%r2], %r3;
         mov.u32 %r4, bar; add.u32 %r4, %r4, %r7;
         mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r4];
         A: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p0, [bar], 0; @!%p0 bra A;
         ld.shared.u32 %r5, [%r1]; st.global.u32 [%place], %r5;
         barrier.cluster.arrive; barrier.cluster.wait;"
    );
    for options in every_way() {
        let case = Case { body: &body, declarations: BAR, blocks: 2, cluster: 2, options, ..Case::default() };
        assert_eq!(case.run().unwrap(), each(64, |index| (index ^ 32) + 5));
    }
}

#[test]
fn a_fence_before_a_relaxed_arrival_is_a_release() {
    // As CUTLASS makes its mbarriers known to a cluster.
    let body = |fence: &str| {
        format!(
            "{INIT} 2; {fence} barrier.cluster.arrive.relaxed.aligned; barrier.cluster.wait.acquire.aligned;
             mov.u32 %r4, bar; add.u32 %r4, %r4, 0x1000000; setp.eq.u32 %p1, %lane, 0;
             @%p1 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r4];
             barrier.cluster.arrive; barrier.cluster.wait;"
        )
    };
    for options in every_way() {
        let run = |body: &str| {
            Case { body, declarations: BAR, blocks: 2, cluster: 2, options: options.clone(), ..Case::default() }.run()
        };
        let good = body("@%p9 fence.mbarrier_init.release.cluster;");
        run(&good).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(run(&body("")).unwrap_err().fault.kind, FaultKind::SharedRace);
    }
}

#[test]
fn wrong_mbarriers_are_reported() {
    use FaultKind::{Deadlock, InvalidUse, Misaligned, SharedRace};
    fails("mbarrier.arrive.shared::cta.b64 %state, [bar];", 1, InvalidUse, "not initialised");
    fails("mbarrier.init.shared::cta.b64 [bar], 0;", 1, InvalidUse, "0 arrivals");
    fails("mbarrier.init.shared::cta.b64 [bar], 1048576;", 1, InvalidUse, "1048576 arrivals");
    fails("mbarrier.init.shared::cta.b64 [bar], 1; mbarrier.init.shared::cta.b64 [bar], 1;", 1, InvalidUse, "live");
    fails("mbarrier.init.shared::cta.b64 [bar+4], 1;", 1, Misaligned, "multiple of 8");
    let init = "mbarrier.init.shared::cta.b64 [bar], 2; ";
    let after = |rest: &str, kind, part: &str| fails(&format!("{init}{rest}"), 1, kind, part);
    after(
        "mov.u64 %rd0, 7; st.shared.u64 [bar], %rd0; mbarrier.arrive.shared::cta.b64 %state, [bar];",
        InvalidUse,
        "overwritten",
    );

    after("mbarrier.arrive.shared::cta.b64 %state, [bar], 3;", InvalidUse, "only 2 are pending");
    after("mbarrier.arrive.noComplete.shared::cta.b64 %state, [bar], 2;", InvalidUse, "completes");
    after(
        "mbarrier.expect_tx.shared::cta.b64 [bar], 1048575; mbarrier.expect_tx.shared::cta.b64 [bar], 1;",
        InvalidUse,
        "expect",
    );

    after("mbarrier.complete_tx.shared::cta.b64 [bar], 1048576;", InvalidUse, "counts down");
    after("mbarrier.test_wait.parity.shared::cta.b64 %p0, [bar], 2;", InvalidUse, "parity 2");
    after(
        "mbarrier.arrive.shared::cta.b64 %state, [bar]; mbarrier.arrive.shared::cta.b64 _, [bar];
         mbarrier.arrive.shared::cta.b64 _, [bar], 2; mbarrier.test_wait.shared::cta.b64 %p0, [bar], %state;",
        InvalidUse,
        "phase 0 is waited for in phase 2",
    );

    after(
        "mbarrier.arrive.expect_tx.shared::cta.b64 %state, [bar], 48;
         A: mbarrier.try_wait.parity.shared::cta.b64 %p0, [bar], 0; @!%p0 bra A;",
        Deadlock,
        "1 threads at the mbarrier at shared address 0x400, whose phase 0 lacks 1 of 2 arrivals and 48 bytes",
    );

    // Nothing orders the second warp after the initialisation by the first.
    let body = format!("{INIT} 64; A: @%p9 bra B; nanosleep.u32 1; B: mbarrier.arrive.shared::cta.b64 %state, [bar];");
    let mut races = 0;

    for options in every_way() {
        let report = Case { body: &body, declarations: BAR, threads: 64, options, ..Case::default() }.fault();
        races += u32::from(report.fault.kind == SharedRace);
        assert!(matches!(report.fault.kind, SharedRace | InvalidUse), "{report}");
    }

    assert!(races > 0);
}
