//! `cp.async` and its groups.

use super::{Case, bytes, completion, each, every_way};
use cudasim::options::Completion;
use cudasim::report::FaultKind;

const BUFFER: &str = ".shared .align 8 .b64 bar; .shared .align 128 .b32 buffer[512];
    .reg .b64 %from; .reg .b32 %to; .reg .b64 %state;";

fn input() -> Vec<u8> {
    bytes(&each(512, |index| index * 3 + 1))
}

fn case<'a>(body: &'a str, threads: u32) -> Case<'a> {
    Case { body, declarations: BUFFER, threads, input: input(), ..Case::default() }
}

#[test]
fn each_size_with_zeros_and_ignored_sources() {
    for (size, cache) in [(4, "ca"), (8, "ca"), (16, "ca"), (16, "cg")] {
        let words = size / 4;
        let body = format!(
            "mad.wide.u32 %from, %thread, {size}, %in; mov.u32 %r0, buffer; mad.lo.u32 %to, %thread, {size}, %r0;
             rem.u32 %r1, %thread, {}; setp.ge.u32 %p0, %thread, 16;
             cp.async.{cache}.shared.global [%to], [%from], {size}, %r1;
             cp.async.wait_all;
             ld.shared.u32 %r2, [%to]; ld.shared.u32 %r3, [%to+{}];
             cp.async.{cache}.shared::cta.global.L2::128B [%to], [%from], {size}, %p0;
             cp.async.commit_group; cp.async.wait_group 0;
             ld.shared.u32 %r4, [%to];
             mad.lo.u32 %r2, %r3, 100, %r2; mad.lo.u32 %r2, %r4, 10000, %r2; st.global.u32 [%place], %r2;",
            size + 1,
            size - 4
        );
        for options in every_way() {
            let got = Case { options, ..case(&body, 32) }.run().unwrap();
            let expected = each(32, |thread| {
                let word = |nth: u32| thread * words + nth;
                let read = thread % (size + 1);
                let value = |nth: u32| {
                    let all = (word(nth) * 3 + 1).to_le_bytes();
                    let kept = std::array::from_fn(|byte| if nth * 4 + (byte as u32) < read { all[byte] } else { 0 });
                    u32::from_le_bytes(kept)
                };

                let later = if thread >= 16 { 0 } else { word(0) * 3 + 1 };
                value(0) + value(words - 1) * 100 + later * 10000
            });
            assert_eq!(got, expected, "{size} {cache}");
        }
    }
}

#[test]
fn groups_complete_in_order_and_only_as_many_as_are_waited_for() {
    let copy = |nth: u32| {
        format!("cp.async.ca.shared.global [%to+{}], [%from+{}], 4; cp.async.commit_group;\n", nth * 512, nth * 128)
    };

    let start = "mad.wide.u32 %from, %thread, 4, %in; mov.u32 %r0, buffer; mad.lo.u32 %to, %thread, 4, %r0;\n";
    let three = [start.to_owned(), copy(0), copy(1), copy(2)].concat();
    let good = format!(
        "{three} cp.async.wait_group 1; ld.shared.u32 %r1, [%to]; ld.shared.u32 %r2, [%to+512];
        add.u32 %r1, %r1, %r2; st.global.u32 [%place], %r1;"
    );

    for options in every_way() {
        let got = Case { options, ..case(&good, 32) }.run().unwrap();
        assert_eq!(got, each(32, |thread| thread * 3 + 1 + (thread + 32) * 3 + 1));
    }

    let early = format!("{three} cp.async.wait_group 1; ld.shared.u32 %r1, [%to+1024];");
    case(&early, 32).fails(FaultKind::MissingWait, "not waited for");
    assert!(Case { options: completion(Completion::Early), ..case(&early, 32) }.run().is_ok());
    let uncommitted = format!(
        "{start} cp.async.ca.shared.global [%to], [%from], 4; cp.async.wait_group 0; ld.shared.u32 %r1, [%to];"
    );

    case(&uncommitted, 32).fails(FaultKind::MissingWait, "not waited for");
    let written = format!("{three} st.shared.u32 [%to], 0;");
    case(&written, 32).fails(FaultKind::MissingWait, "is written while");
    let twice = format!("{three} cp.async.ca.shared.global [%to], [%from], 4;");
    case(&twice, 32).fails(FaultKind::MissingWait, "on its way");
}

#[test]
fn mbarriers_hear_of_copies() {
    for (noinc, count) in [(".noinc", 64), ("", 64)] {
        let arrives = if noinc.is_empty() { "mbarrier.arrive.shared::cta.b64 _, [bar];" } else { "" };
        let body = format!(
            "setp.eq.u32 %p9, %thread, 0; @%p9 mbarrier.init.shared::cta.b64 [bar], {count}; bar.sync 0;
             mad.wide.u32 %from, %thread, 16, %in; mov.u32 %r0, buffer; mad.lo.u32 %to, %thread, 16, %r0;
             cp.async.cg.shared.global [%to], [%from], 16;
             cp.async.mbarrier.arrive{noinc}.shared::cta.b64 [bar]; {arrives}
             A: mbarrier.try_wait.parity.shared::cta.b64 %p0, [bar], 0; @!%p0 bra A;
             xor.b32 %r1, %thread, 63; mad.lo.u32 %r2, %r1, 16, %r0; ld.shared.u32 %r3, [%r2+12]; st.global.u32 [%place], %r3;"
        );
        for options in every_way() {
            let got = Case { options, ..case(&body, 64) }.run().unwrap_or_else(|report| panic!("{report}"));
            assert_eq!(got, each(64, |thread| ((thread ^ 63) * 4 + 3) * 3 + 1), "{noinc}");
        }
    }
}

#[test]
fn wrong_copies_are_reported() {
    let start = "mad.wide.u32 %from, %thread, 4, %in; mov.u32 %r0, buffer; mad.lo.u32 %to, %thread, 4, %r0;\n";
    let check = |rest: &str, kind, part: &str| case(&format!("{start}{rest}"), 32).fails(kind, part);
    let report = check("cp.async.ca.shared.global [%to], [%from+1924], 4;", FaultKind::OutOfBounds, "no allocation");
    assert_eq!(report.thread, [31, 0, 0]);
    check("cp.async.ca.shared.global [%to], [%from+2], 4;", FaultKind::Misaligned, "multiple of 4");
    check("cp.async.ca.shared.global [%to], [%from], 8;", FaultKind::Misaligned, "multiple of 8");
    check("mov.u32 %r1, 5; cp.async.ca.shared.global [%to], [%from], 4, %r1;", FaultKind::InvalidUse, "read 5");
    check("cp.async.ca.shared.global [%to+4096], [%from], 4;", FaultKind::OutOfBounds, "shared");
}
