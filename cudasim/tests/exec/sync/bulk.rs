//! Bulk copies, `st.async` and `red.async`.

use super::{Case, bytes, completion, each, every_way};
use cudasim::options::{Completion, Options};
use cudasim::report::FaultKind;

use crate::support::strict;

const SHARED: &str =
    ".shared .align 8 .b64 bar; .shared .align 128 .b32 buffer[256]; .shared .align 128 .b32 second[256];
    .reg .b32 %to; .reg .b64 %state;";

fn case<'a>(body: &'a str, threads: u32, options: Options) -> Case<'a> {
    Case {
        body,
        declarations: SHARED,
        threads,
        input: bytes(&each(256, |index| index * 5 + 2)),
        options,
        ..Case::default()
    }
}

/// Thread 0 makes an mbarrier for one arrival.
const START: &str = "mov.u32 %r0, buffer; mad.lo.u32 %to, %thread, 4, %r0; setp.eq.u32 %p9, %thread, 0;
    @%p9 mbarrier.init.shared::cta.b64 [bar], 1; @%p9 fence.mbarrier_init.release.cluster; bar.sync 0;\n";
const WAIT: &str = "W: mbarrier.try_wait.parity.shared::cta.b64 %p0, [bar], 0; @!%p0 bra W;\n";
const COPY: &str = "@%p9 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 512;
    @%p9 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [buffer], [%in], 512, [bar];\n";

#[test]
fn global_memory_comes_and_the_mbarrier_hears_of_it() {
    let body = format!("{START}{COPY}{WAIT} ld.shared.u32 %r1, [%to]; st.global.u32 [%place], %r1;");
    for options in every_way() {
        assert_eq!(case(&body, 128, options).run().unwrap(), each(128, |thread| thread * 5 + 2));
    }
    let unfenced = body.replace("@%p9 fence.mbarrier_init.release.cluster;", "");
    case(&unfenced, 128, strict()).fails(FaultKind::MissingFence, "mbarrier");
    let unwaited = format!("{START}{COPY} bar.sync 0; ld.shared.u32 %r1, [%to]; {WAIT}");
    case(&unwaited, 128, completion(Completion::Late)).fails(FaultKind::MissingWait, "not waited for");
    let left = format!("{START}{COPY}");
    case(&left, 128, completion(Completion::Late)).fails(FaultKind::MissingWait, "last thread leaves");
    let gone = format!("{START}{COPY} @%p9 mbarrier.inval.shared::cta.b64 [bar]; {WAIT}");
    case(&gone, 128, completion(Completion::Late)).fails(FaultKind::InvalidUse, "invalidated");
    let again = COPY.split_once('\n').unwrap().1;
    let twice = format!("{START}{COPY}{again}{WAIT}");
    case(&twice, 128, completion(Completion::Late)).fails(FaultKind::MissingWait, "on its way");
    let few = body.replace("[bar], 512;", "[bar], 528;").replacen("], 528", "], 512", 0);
    case(&few, 128, strict()).fails(FaultKind::Deadlock, "16 bytes");
}

/// A store may take effect after a later copy, unless a proxy fence stands between them; a read may not.
#[test]
fn what_a_copy_overwrites_is_fenced_where_it_was_written_and_not_where_it_was_read() {
    let store = "st.shared.u32 [%to], 77;";
    let fenced = format!(
        "{START} {store} fence.proxy.async.shared::cta; bar.sync 0; {COPY}{WAIT} ld.shared.u32 %r1, [%to]; st.global.u32 [%place], %r1;"
    );

    for options in every_way() {
        assert_eq!(case(&fenced, 128, options).run().unwrap(), each(128, |thread| thread * 5 + 2));
    }

    let unfenced = fenced.replace("fence.proxy.async.shared::cta;", "");
    for options in every_way() {
        let report = case(&unfenced, 128, options).fails(FaultKind::MissingFence, "overwrites");
        assert_eq!(report.thread, [0, 0, 0], "of the copy");
    }
    // Only warp 3 has not fenced: its words, and no others.
    let some = fenced.replace("fence.proxy", "setp.lt.u32 %p1, %thread, 96; @%p1 fence.proxy");
    case(&some, 128, strict()).fails(FaultKind::MissingFence, "thread of warp 3");

    let by_who_copies = unfenced.replace(COPY, &format!("@%p9 fence.proxy.async; {COPY}"));
    assert!(case(&by_who_copies, 128, strict()).run().is_ok(), "a fence by the thread that copies is enough");
    let too_early = unfenced.replace(store, &format!("fence.proxy.async; {store}"));
    case(&too_early, 128, strict()).fails(FaultKind::MissingFence, "overwrites");

    // What nothing orders is a race.
    let (before, _) = unfenced.split_once("bar.sync 0; @%p9 mbarrier.arrive").unwrap();
    let rest = "@%p9 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 512; @%p9 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [buffer+128], [%in], 256, [bar];";
    for options in every_way() {
        let report = case(&format!("{before} {rest} {WAIT}"), 128, options).fault();
        assert!(matches!(report.fault.kind, FaultKind::SharedRace | FaultKind::MissingWait), "{report}");
    }

    // Read, then overwritten by the next copy into the same place: the barrier is enough.
    let again =
        COPY.replace("[%in]", "[%rd1]").replace("mbarrier.arrive", "add.u64 %rd1, %in, 256; @%p9 mbarrier.arrive");
    let read = format!(
        "{START}{COPY}{WAIT} ld.shared.u32 %r1, [%to]; bar.sync 0; {again} {} ld.shared.u32 %r2, [%to]; add.u32 %r1, %r1, %r2; st.global.u32 [%place], %r1;",
        WAIT.replace("W", "V").replace("[bar], 0", "[bar], 1")
    );
    for options in every_way() {
        let got = case(&read, 128, options).run().unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(got, each(128, |thread| 2 * (thread * 5 + 2) + 64 * 5));
    }
}

#[test]
fn shared_memory_goes_in_groups() {
    let start = "mov.u32 %r0, buffer; mad.lo.u32 %to, %thread, 4, %r0; setp.eq.u32 %p9, %thread, 0;
        mul.lo.u32 %r1, %thread, 9; st.shared.u32 [%to], %r1; fence.proxy.async.shared::cta; bar.sync 0;\n";
    let store =
        "@%p9 cp.async.bulk.global.shared::cta.bulk_group [%out], [buffer], 256; @%p9 cp.async.bulk.commit_group;\n";

    let good = format!("{start}{store} @%p9 cp.async.bulk.wait_group.read 0; bar.sync 0; st.shared.u32 [%to], 0;");
    for options in every_way() {
        assert_eq!(case(&good, 64, options).run().unwrap(), each(64, |thread| thread * 9));
    }

    let unfenced = good.replace("fence.proxy.async.shared::cta;", "");
    let report = case(&unfenced, 64, strict()).fails(FaultKind::MissingFence, "ordinary store");
    assert_eq!(report.thread, [0, 0, 0]);
    let late = good.replace("bar.sync 0;\n", "bar.sync 0; @%p9 fence.proxy.async;\n").replacen(
        "fence.proxy.async.shared::cta;",
        "",
        1,
    );
    assert!(case(&late, 64, strict()).run().is_ok(), "a fence by the thread that copies is enough");

    let overwritten = format!("{start}{store} bar.sync 0; st.shared.u32 [%to], 0; @%p9 cp.async.bulk.wait_group 0;");
    case(&overwritten, 64, completion(Completion::Late)).fails(FaultKind::MissingWait, "may still read");
    let left = format!("{start}{store}");
    case(&left, 64, completion(Completion::Late)).fails(FaultKind::MissingWait, "wait_group.read");
    let one = format!("{start}{store}{store} @%p9 cp.async.bulk.wait_group 1;");
    case(&one, 64, completion(Completion::Late)).fails(FaultKind::MissingWait, "wait_group.read");

    // Without `.read` the thread sees what it has written; with it, it need not.
    let seen = |read: &str| {
        format!(
            "{start}{store} @%p9 cp.async.bulk.wait_group{read} 0; @%p9 ld.global.u32 %r2, [%out+4]; @%p9 st.global.u32 [%out+1024], %r2;"
        )
    };
    let late = |global_races| Options { global_races, ..completion(Completion::Late) };
    for (read, expected) in [("", 9), (".read", 0)] {
        let got = Case { output: vec![0; 1028], ..case(&seen(read), 64, late(false)) }.run().unwrap();
        assert_eq!(got[256], expected);
    }
    assert!(Case { output: vec![0; 1028], ..case(&seen(""), 64, late(true)) }.run().is_ok());
    case(&seen(".read"), 64, late(true)).fails(FaultKind::GlobalRace, "an asynchronous operation of warp 0");
}

type Words = [u32; 4];

/// Operation, old values, operands and results; a value is two words.
fn reductions_of_double_words() -> [(&'static str, Words, Words, Words); 6] {
    let wide = |x: u64| [x as u32, (x >> 32) as u32];
    type Doubles = [u64; 2];
    let halves: [(&'static str, Doubles, Doubles, Doubles); 6] = [
        ("and.b64", [12, 5 << 40], [10, 4 << 40], [8, 4 << 40]),
        ("add.u64", [u64::MAX, 5 << 40], [3, 4 << 40], [2, 9 << 40]),
        ("min.s64", [u64::MAX, 5], [3, 4], [u64::MAX, 4]),
        ("max.u64", [u64::MAX, 5], [3, 4], [u64::MAX, 5]),
        ("max.s64", [u64::MAX, 5], [3, 4], [3, 5]),
        ("add.f64", [1.5f64.to_bits(), 0], [2.25f64.to_bits(), 1f64.to_bits()], [3.75f64.to_bits(), 1f64.to_bits()]),
    ];

    let both = |pair: [u64; 2]| [wide(pair[0]), wide(pair[1])].concat().try_into().unwrap();
    halves.map(|(op, old, new, expected)| (op, both(old), both(new), both(expected)))
}

#[test]
fn reductions_of_every_operation_and_type() {
    // Old values are those of `output`, operands those in shared memory: four words, or eight halves.
    let f = |x: f32| x.to_bits();
    let cases: &[(&str, Words, Words, Words)] = &[
        ("and.b32", [12, 5, u32::MAX, 0], [10, 3, 7, 9], [8, 1, 7, 0]),
        ("or.b32", [12, 5, 0, 1], [10, 3, 7, 9], [14, 7, 7, 9]),
        ("xor.b32", [12, 5, 0, 1], [10, 3, 7, 9], [6, 6, 7, 8]),
        ("add.u32", [u32::MAX, 5, 0, 1], [2, 3, 7, 9], [1, 8, 7, 10]),
        ("add.s32", [u32::MAX, 5, 0, 1], [2, 3, 7, 9], [1, 8, 7, 10]),
        ("inc.u32", [0, 5, 9, 10], [9, 9, 9, 9], [1, 6, 0, 0]),
        ("dec.u32", [0, 5, 9, 10], [9, 9, 9, 9], [9, 4, 8, 9]),
        ("min.u32", [u32::MAX, 5, 0, 1], [2, 3, 7, 9], [2, 3, 0, 1]),
        ("max.u32", [u32::MAX, 5, 0, 1], [2, 3, 7, 9], [u32::MAX, 5, 7, 9]),
        ("min.s32", [u32::MAX, 5, 0, 1], [2, 3, 7, 9], [u32::MAX, 3, 0, 1]),
        ("max.s32", [u32::MAX, 5, 0, 1], [2, 3, 7, 9], [2, 5, 7, 9]),
        (
            "add.f32",
            [f(1.5), f(-0.0), f(1e10), f(3.0)],
            [f(2.25), f(0.0), f(1.0), f(-3.0)],
            [f(3.75), f(0.0), f(1e10), f(0.0)],
        ),
        (
            "add.noftz.f16",
            [0x3c00_3c00, 0, 0x4000_0001, 0],
            [0x3c00_4000, 0x3c00_0000, 0x0000_0001, 0],
            [0x4000_4200, 0x3c00_0000, 0x4000_0002, 0],
        ),
        (
            "add.noftz.bf16",
            [0x3f80_3f80, 0, 0x4000_0000, 0],
            [0x3f80_4000, 0x3f80_0000, 0, 0],
            [0x4000_4040, 0x3f80_0000, 0x4000_0000, 0],
        ),
        ("min.f16", [0x3c00_bc00, 0, 0, 0], [0x4000_3c00, 0, 0, 0], [0x3c00_bc00, 0, 0, 0]),
        ("max.bf16", [0x3f80_bf80, 0, 0, 0], [0x4000_3f80, 0, 0, 0], [0x4000_3f80, 0, 0, 0]),
    ];

    for &(op, old, new, expected) in cases.iter().chain(&reductions_of_double_words()) {
        let body = format!(
            "st.shared.v4.u32 [buffer], {{{}, {}, {}, {}}}; fence.proxy.async;
             cp.reduce.async.bulk.global.shared::cta.bulk_group.{op} [%out], [buffer], 16;
             cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;",
            new[0], new[1], new[2], new[3]
        );
        let got = Case { output: bytes(&old), ..case(&body, 1, strict()) }.run().unwrap();
        assert_eq!(got, expected, "{op}");
    }
}

const PEER: &str = "mov.u32 %r7, %cluster_ctarank; xor.b32 %r8, %r7, 1; add.u32 %r8, %r8, 1; shl.b32 %r8, %r8, 24;
    barrier.cluster.arrive; barrier.cluster.wait;\n";
const BYE: &str = "barrier.cluster.arrive; barrier.cluster.wait;\n";

#[test]
fn blocks_of_a_cluster_copy_to_one_another() {
    let body = format!(
        "{START} add.u32 %r1, %index, 3; mov.u32 %r2, second; mad.lo.u32 %r9, %thread, 4, %r2; st.shared.u32 [%r9], %r1; fence.proxy.async; {PEER}
         add.u32 %r3, %r0, %r8; mov.u32 %r4, bar; add.u32 %r5, %r4, %r8;
         @%p9 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 256;
         @%p9 cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r3], [%r2], 256, [%r5];
         {WAIT} ld.shared.u32 %r6, [%to]; st.global.u32 [%place], %r6; {BYE}"
    );
    for options in every_way() {
        let got = Case { blocks: 2, cluster: 2, ..case(&body, 64, options) }.run().unwrap();
        assert_eq!(got, each(128, |index| (index ^ 64) + 3));
    }
}

#[test]
fn a_multicast_reaches_the_blocks_of_its_mask() {
    let body = format!(
        "{START} {PEER} @%p9 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 128;
         barrier.cluster.arrive; barrier.cluster.wait;
         setp.eq.and.u32 %p1, %r7, 1, %p9; mov.u16 %h0, 3;
         @%p1 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [buffer], [%in], 128, [bar], %h0;
         {WAIT} ld.shared.u32 %r6, [%to]; st.global.u32 [%place], %r6; {BYE}"
    );
    for options in every_way() {
        let got = Case { blocks: 2, cluster: 2, ..case(&body, 32, options) }.run().unwrap();
        assert_eq!(got, each(64, |index| index % 32 * 5 + 2));
    }
    let absent = body.replace("mov.u16 %h0, 3", "mov.u16 %h0, 5");
    Case { blocks: 2, cluster: 2, ..case(&absent, 32, strict()) }.fails(FaultKind::InvalidUse, "block 2");
}

#[test]
fn words_are_stored_and_reduced_in_another_block() {
    let body = format!(
        "{START} st.shared.u32 [%to], 100; {PEER}
         add.u32 %r3, %to, %r8; mov.u32 %r4, bar; add.u32 %r5, %r4, %r8; add.u32 %r6, %index, 1;
         @%p9 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 640;
         red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%r3], %r6, [%r5];
         mad.lo.u32 %r9, %thread, 12, %r3; add.u32 %r9, %r9, 128; mov.u32 %r10, 7;
         st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%r9], {{%r6, %r10, %thread, %r6}}, [%r5];
         {WAIT} ld.shared.u32 %r11, [%to]; mad.lo.u32 %r9, %thread, 12, %to; ld.shared.v4.u32 {{%r12, %r13, %r14, %r15}}, [%r9+128];
         add.u32 %r11, %r11, %r12; add.u32 %r11, %r11, %r13; add.u32 %r11, %r11, %r14;
         st.global.u32 [%place], %r11; {BYE}"
    );
    for options in every_way() {
        let got = Case { blocks: 2, cluster: 2, ..case(&body, 32, options) }
            .run()
            .unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(got, each(64, |index| 100 + 2 * ((index ^ 32) + 1) + 7 + index % 32));
    }
}

#[test]
fn wrong_bulk_copies_are_reported() {
    let check = |rest: &str, kind, part: &str| {
        let body = format!("{START}{rest}");
        case(&body, 32, strict()).fails(kind, part)
    };

    let load = |to: &str, from: &str, size: u32| {
        format!(
            "@%p9 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [{to}], [{from}], {size}, [bar];"
        )
    };

    check(&load("buffer", "%in", 24), FaultKind::Misaligned, "24 bytes");
    check(&load("buffer+8", "%in", 16), FaultKind::Misaligned, "multiple of 16");
    check(&load("buffer", "%in+4", 16), FaultKind::Misaligned, "multiple of 16");
    check(&load("buffer", "%in+1008", 32), FaultKind::OutOfBounds, "no allocation");
    check(&load("buffer+2032", "%in", 32), FaultKind::OutOfBounds, "shared");
    check(&load("buffer", "%in", 16).replace("[bar]", "[second]"), FaultKind::InvalidUse, "not initialised");
    check(
        "@%p9 cp.async.bulk.global.shared::cta.bulk_group [%out], [buffer], 16;",
        FaultKind::UninitialisedMemory,
        "shared",
    );

    let remote = format!("{} ", load("%r1", "%in", 16));
    let body = format!("{START}{PEER} add.u32 %r1, %r0, %r8; {remote} {BYE}");
    Case { blocks: 2, cluster: 2, ..case(&body, 32, strict()) }.fails(FaultKind::InvalidUse, "different blocks");
}
