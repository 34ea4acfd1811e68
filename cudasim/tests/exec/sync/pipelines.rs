//! Warp-specialised pipelines, without a report under every completion, and with mutants.

use super::{Case, bytes, completion, each, every_way};
use cudasim::options::{Completion, Options};
use cudasim::report::FaultKind;

/// Warp 0 copies 8 pieces of 256 bytes through 2 stages; warps 1 and 2 read them. `full` counts the producer's arrival and
/// bytes, `empty` one arrival of each consumer warp's lane 0.
const PIPELINE: &str = "
    setp.eq.u32 %p9, %thread, 0;
    @%p9 mbarrier.init.shared::cta.b64 [full], 1; @%p9 mbarrier.init.shared::cta.b64 [full+8], 1;
    @%p9 mbarrier.init.shared::cta.b64 [empty], 2; @%p9 mbarrier.init.shared::cta.b64 [empty+8], 2;
    @%p9 fence.mbarrier_init.release.cluster;
    bar.sync 0;
    mov.u32 %r0, 0; mov.u32 %r20, full; mov.u32 %r21, empty; mov.u32 %r22, stages; mov.u32 %r9, 0;
    setp.ge.u32 %p8, %thread, 32; @%p8 bra CONSUMER;
    setp.ne.u32 %p7, %lane, 0; @%p7 bra END;
    PRODUCER:
    and.b32 %r1, %r0, 1; shr.u32 %r2, %r0, 1; and.b32 %r2, %r2, 1; xor.b32 %r3, %r2, 1;
    mad.lo.u32 %r4, %r1, 8, %r20; mad.lo.u32 %r5, %r1, 8, %r21; mad.lo.u32 %r6, %r1, 256, %r22;
    WAIT_EMPTY: mbarrier.try_wait.parity.shared::cta.b64 %p0, [%r5], %r3; @!%p0 bra WAIT_EMPTY;
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], 256;
    mad.wide.u32 %rd0, %r0, 256, %in;
    cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r6], [%rd0], 256, [%r4];
    add.u32 %r0, %r0, 1; setp.lt.u32 %p1, %r0, 8; @%p1 bra PRODUCER;
    bra END;
    CONSUMER:
    and.b32 %r1, %r0, 1; shr.u32 %r2, %r0, 1; and.b32 %r2, %r2, 1;
    mad.lo.u32 %r4, %r1, 8, %r20; mad.lo.u32 %r5, %r1, 8, %r21; mad.lo.u32 %r6, %r1, 256, %r22;
    WAIT_FULL: mbarrier.try_wait.parity.shared::cta.b64 %p0, [%r4], %r2; @!%p0 bra WAIT_FULL;
    sub.u32 %r7, %thread, 32; mad.lo.u32 %r7, %r7, 4, %r6; ld.shared.u32 %r8, [%r7]; mad.lo.u32 %r9, %r9, 3, %r8;
    bar.warp.sync 0xffffffff;
    setp.eq.u32 %p6, %lane, 0; @%p6 mbarrier.arrive.shared::cta.b64 _, [%r5];
    add.u32 %r0, %r0, 1; setp.lt.u32 %p1, %r0, 8; @%p1 bra CONSUMER;
    END: st.global.u32 [%place], %r9;";

const SHARED: &str =
    ".shared .align 8 .b64 full[2]; .shared .align 8 .b64 empty[2]; .shared .align 128 .b8 stages[512];";

fn case(body: &str, options: Options) -> Case<'_> {
    let input = bytes(&each(512, |index| index * 11 + 1));
    Case { body, declarations: SHARED, threads: 96, blocks: 2, input, options, ..Case::default() }
}

fn expected(thread: u32) -> u32 {
    let words = (0..8).map(|piece| (piece * 64 + thread) * 11 + 1);
    words.fold(0, |sum: u32, word| sum.wrapping_mul(3).wrapping_add(word))
}

#[test]
fn a_pipeline_of_bulk_copies_is_clean() {
    for options in every_way() {
        let got = case(PIPELINE, options).run().unwrap_or_else(|report| panic!("{report}"));
        for block in [0, 96] {
            assert_eq!(got[block + 32..block + 96], each(64, expected));
        }
    }
}

/// What a mutant does over all seeds and completions: kinds of reports, and how often the result was merely wrong.
fn reports(body: &str) -> (Vec<FaultKind>, u32) {
    let (mut kinds, mut wrong) = (Vec::new(), 0);
    for options in every_way() {
        match case(body, options).run() {
            Err(report) => kinds.push(report.fault.kind),
            Ok(got) => wrong += u32::from(got[32..96] != each(64, expected)),
        }
    }
    (kinds, wrong)
}

#[test]
fn mutants_of_the_pipeline_are_reported() {
    use FaultKind::{Deadlock, InvalidUse, MissingFence, MissingWait, SharedRace};
    let mutant = |from: &str, to: &str| {
        assert!(PIPELINE.contains(from), "{from}");
        PIPELINE.replace(from, to)
    };
    let no_full =
        mutant("WAIT_FULL: mbarrier.try_wait.parity.shared::cta.b64 %p0, [%r4], %r2; @!%p0 bra WAIT_FULL;", "");

    let (kinds, _) = reports(&no_full);
    assert!(kinds.iter().any(|kind| matches!(kind, MissingWait)), "{kinds:?}");
    let no_empty =
        mutant("WAIT_EMPTY: mbarrier.try_wait.parity.shared::cta.b64 %p0, [%r5], %r3; @!%p0 bra WAIT_EMPTY;", "");
    let (kinds, wrong) = reports(&no_empty);
    assert!(kinds.iter().any(|kind| matches!(kind, MissingWait | InvalidUse | SharedRace)) || wrong > 0, "{kinds:?}");

    let no_fence = mutant("@%p9 fence.mbarrier_init.release.cluster;", "");
    let (kinds, _) = reports(&no_fence);
    assert!(kinds.len() == 60 && kinds.iter().all(|&kind| kind == MissingFence), "{kinds:?}");

    let no_barrier = mutant("bar.sync 0;", "");
    let (kinds, _) = reports(&no_barrier);
    assert!(
        kinds.iter().all(|kind| matches!(kind, SharedRace | InvalidUse)) && kinds.contains(&SharedRace),
        "{kinds:?}"
    );

    let parity = mutant("xor.b32 %r3, %r2, 1;", "mov.u32 %r3, %r2;");
    let (kinds, _) = reports(&parity);
    assert!(kinds.len() == 60 && kinds.iter().all(|&kind| kind == Deadlock), "{kinds:?}");

    let bytes = mutant("[%r4], 256;", "[%r4], 272;");
    let report = case(&bytes, completion(Completion::Late)).fails(Deadlock, "16 bytes");
    assert!(report.to_string().contains("threads at the mbarrier"), "{report}");

    let arrivals =
        mutant("@%p9 mbarrier.init.shared::cta.b64 [empty], 2;", "@%p9 mbarrier.init.shared::cta.b64 [empty], 3;");
    case(&arrivals, completion(Completion::Late)).fails(Deadlock, "lacks 1 of 3 arrivals");
}
