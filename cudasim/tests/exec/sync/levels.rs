//! Missing fences that every GPU so far forgives are warnings; the nearest kernels that hardware does not forgive are errors.

use super::{Case, bytes, each};
use cudasim::options::{Completion, Options};
use cudasim::report::{FaultKind, Level, Report};

use crate::support::{lenient, strict};

const SHARED: &str = ".shared .align 8 .b64 bar; .shared .align 128 .b32 buffer[256]; .reg .b32 %to;";
const START: &str = "mov.u32 %r0, buffer; mad.lo.u32 %to, %thread, 4, %r0; setp.eq.u32 %p9, %thread, 0;";
const COPY: &str = "@%p9 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 512;
    @%p9 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [buffer], [%in], 512, [bar];";
const WAIT: &str = "W: mbarrier.try_wait.parity.shared::cta.b64 %p0, [bar], 0; @!%p0 bra W;
    ld.shared.u32 %r1, [%to]; st.global.u32 [%place], %r1;";

fn run(body: &str, threads: u32, options: Options) -> Result<Vec<u32>, Box<Report>> {
    let input = bytes(&each(256, |index| index * 5 + 2));
    Case { body, declarations: SHARED, threads, input, options, ..Case::default() }.run()
}

/// The one warning of a body that gives right results, however its copies complete.
#[track_caller]
fn warns(body: &str, threads: u32, expected: &[u32]) -> Report {
    let mut last = None;
    for completion in [Completion::Late, Completion::Early, Completion::Random] {
        let (options, kept) = lenient();
        let options = Options { completion, threads: 1, ..options };
        let got = run(body, threads, options).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(got, expected);
        let mut reports = kept.lock().unwrap();
        assert_eq!(reports.len(), 1, "one for each kind and line: {reports:?}");
        last = reports.pop();
    }

    // The same, where warnings stop, and where nobody asks for them.
    let stopped = run(body, threads, strict()).unwrap_err();
    assert_eq!(stopped.fault.level, Level::Warning);
    let (options, kept) = lenient();
    run(body, threads, Options { warnings: false, ..options }).unwrap();
    assert!(kept.lock().unwrap().is_empty());

    let report = last.unwrap();
    assert_eq!((report.fault.level, report.ptx_line), (Level::Warning, stopped.ptx_line));
    assert!(report.to_string().starts_with("warning: "), "{report}");
    report
}

/// The error of a body, which stops it although warnings do not.
#[track_caller]
fn fails(body: &str, threads: u32) -> Box<Report> {
    let report = run(body, threads, Options { threads: 1, ..Options::default() }).unwrap_err();
    assert_eq!(report.fault.level, Level::Error, "{report}");
    assert!(!report.to_string().starts_with("warning"), "{report}");
    report
}

#[test]
fn an_mbarrier_that_no_fence_shows_to_copies() {
    let init = "@%p9 mbarrier.init.shared::cta.b64 [bar], 1;";
    let report = warns(&format!("{START} {init} bar.sync 0; {COPY} {WAIT}"), 128, &each(128, |thread| thread * 5 + 2));
    assert_eq!(report.fault.kind, FaultKind::MissingFence);
    assert!(report.nearest.unwrap().contains("of shared bar of 8 bytes"));
    // Another warp may find no mbarrier at all: no GPU forgives that.
    let other = format!("{START} {init} setp.eq.u32 %p9, %thread, 64; {COPY} {WAIT}");
    let kind = fails(&other, 128).fault.kind;
    assert!(matches!(kind, FaultKind::SharedRace | FaultKind::InvalidUse), "{kind:?}");
}

#[test]
fn a_store_that_no_fence_shows_to_a_copy_out() {
    let out = "@%p9 cp.async.bulk.global.shared::cta.bulk_group [%out], [buffer], 256; @%p9 cp.async.bulk.commit_group;
        @%p9 cp.async.bulk.wait_group 0;";
    let store = "mul.lo.u32 %r1, %thread, 9; st.shared.u32 [%to], %r1;";
    let report = warns(&format!("{START} {store} bar.sync 0; {out}"), 64, &each(64, |thread| thread * 9));
    assert_eq!(report.fault.kind, FaultKind::MissingFence);
    assert!(report.fault.message.contains("fence.proxy.async"), "{report}");

    // With nothing at all between the two the copy may come first.
    let alone = format!(
        "{START} @%p9 st.shared.u32 [buffer], 3; @%p9 st.shared.v2.u32 [buffer+8], {{4, 5}}; @%p9 st.shared.u32 [buffer+4], 6; {}",
        out.replace("256", "16")
    );
    let report = fails(&alone, 32);
    assert_eq!(report.fault.kind, FaultKind::MissingFence, "{report}");
    run(&alone.replace("6; ", "6; fence.proxy.async;"), 32, strict()).unwrap_or_else(|report| panic!("{report}"));
}

#[test]
fn a_store_before_a_copy_that_overwrites_it() {
    let init = "@%p9 mbarrier.init.shared::cta.b64 [bar], 1; @%p9 fence.mbarrier_init.release.cluster;";
    let body = format!("{START} {init} st.shared.u32 [%to], 77; bar.sync 0; {COPY} {WAIT}");
    let report = warns(&body, 128, &each(128, |thread| thread * 5 + 2));
    assert!(report.fault.message.contains("overwrites"), "{report}");

    // Nothing, not even an arrival, between the store and the copy of the same thread.
    let (arrival, copy) = COPY.split_once('\n').unwrap();
    let late = format!("{START} {init} bar.sync 0; {arrival} @%p9 st.shared.u32 [buffer], 77; {copy} {WAIT}");
    assert_eq!(fails(&late, 128).fault.kind, FaultKind::MissingFence);
}

#[test]
fn a_parity_with_all_bits_set() {
    // As Triton waits for a slot that is empty from the start.
    let init = "@%p9 mbarrier.init.shared::cta.b64 [bar], 128; bar.sync 0; mov.u32 %r2, -1;";
    let wait =
        "E: mbarrier.try_wait.parity.shared::cta.b64 %p0, [bar], %r2; @!%p0 bra E; st.global.u32 [%place], %thread;";
    let report = warns(&format!("{START} {init} {wait}"), 128, &each(128, |thread| thread));
    assert_eq!(report.fault.kind, FaultKind::InvalidUse);
    assert!(report.fault.message.contains("4294967295"), "{report}");
    // Its lowest bit is that of a phase that is not over.
    let report = fails(&format!("{START} {init} {}", wait.replace("%p0, [bar], %r2", "%p0, [bar], 0")), 128);
    assert_eq!(report.fault.kind, FaultKind::Deadlock, "{report}");
}
