//! Mutants, one for each check of memory and registers, each with its report; and code that looks like them but is correct.

use cudasim::report::{FaultKind, Report};

use crate::support::Machine;

/// A kernel `k(in, out)` of these instructions, which come from line 1 of `sample.cu`, then from line 2 and so on.
/// `%rd1` and `%rd2` point to a word of each thread in either, `%r1` is the thread.
fn kernel(lines: &[&str]) -> String {
    let body: String = lines.iter().enumerate().map(|(i, line)| format!(".loc 1 {} 1\n{line}\n", i + 1)).collect();
    format!(
        ".file 1 \"sample.cu\"
        .visible .entry k(.param .u64 in, .param .u64 out)
        {{
            .reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<20>; .reg .b64 %rd<20>; .reg .f32 %f<9>;
            .shared .align 16 .b8 tile[256]; .local .align 16 .b8 own[16];
            ld.param.u64 %rd18, [in]; ld.param.u64 %rd19, [out]; mov.u32 %r1, %tid.x; mul.wide.u32 %rd17, %r1, 4;
            add.u64 %rd1, %rd18, %rd17; add.u64 %rd2, %rd19, %rd17; mov.u32 %r19, tile;
            {body}
            ret;
        }}"
    )
}

/// The other threads leave: lanes take their turns at atomics in any order.
const ALONE: &str = "setp.ne.u32 %p1, %r1, 0; @%p1 ret;";

/// What was loaded reaches a result: without that it is no fault that it was never written.
const USE: &str = "st.global.u32 [%rd2], %r2;";

/// Runs the lines by some threads on 32 words of input, all 7, and room for 40 words that nobody has written.
fn run(lines: &[&str], threads: u32) -> Result<(), Box<Report>> {
    let machine = Machine::new(&kernel(lines));
    let input = machine.upload(&[7; 32]);
    let output = machine.memory.allocate(160, None).unwrap();
    machine.launch("k", 1, threads, &[input, output])
}

/// Runs lines that have a bug: its report's kind, `.cu` line, thread and nearest allocation.
#[track_caller]
fn fails(lines: &[&str], kind: FaultKind, line: u32, thread: u32, nearest: Option<&str>) -> String {
    let report = run(lines, if thread < 32 { 32 } else { 40 }).expect_err("a bug");
    assert_eq!(report.fault.kind, kind, "{report}");
    assert_eq!(report.kernel, "k");
    assert_eq!((report.block, report.thread), ([0, 0, 0], [thread, 0, 0]), "{report}");
    assert_eq!((report.source[0].file.as_str(), report.source[0].line), ("sample.cu", line), "{report}");
    if let Some(nearest) = nearest {
        let found = report.nearest.as_deref().unwrap_or_default();
        assert!(found.starts_with(nearest), "{report}");
    }
    report.fault.message
}

#[test]
fn out_of_bounds() {
    let load = ["mov.u32 %r2, 0;", "ld.global.u32 %r3, [%rd1];"];
    let message =
        fails(&load, FaultKind::OutOfBounds, 2, 32, Some("0 bytes past the end of allocation 0 of 128 bytes"));
    assert_eq!(message, "4 bytes of global memory that are in no allocation");
    let before = ["st.global.u32 [%rd18+-8], %r1;"];
    fails(&before, FaultKind::OutOfBounds, 1, 0, Some("8 bytes before allocation 0"));
    let across = ["add.u64 %rd3, %rd18, 112;", "ld.global.v4.u32 {%r2, %r3, %r4, %r5}, [%rd3+16];"];
    fails(&across, FaultKind::OutOfBounds, 2, 0, Some("0 bytes past the end"));
    fails(&["st.shared.u32 [%r19+256], %r1;"], FaultKind::OutOfBounds, 1, 0, None);
    fails(&["ld.local.u32 %r2, [own+16];"], FaultKind::OutOfBounds, 1, 0, None);
    fails(&["mov.u64 %rd3, 0;", "ld.u32 %r2, [%rd3];"], FaultKind::OutOfBounds, 2, 0, None);
    fails(
        &[ALONE, "red.global.add.u32 [%rd19+160], %r1;"],
        FaultKind::OutOfBounds,
        2,
        0,
        Some("0 bytes past the end of allocation 1"),
    );
}

#[test]
fn misaligned() {
    let message =
        fails(&["add.u64 %rd3, %rd18, %rd17; ", "ld.global.u32 %r2, [%rd3+2];"], FaultKind::Misaligned, 2, 0, None);
    assert!(message.ends_with("is not a multiple of 4"), "{message}");
    fails(&["ld.global.v2.u32 {%r2, %r3}, [%rd18+4];"], FaultKind::Misaligned, 1, 0, None);
    fails(&["st.shared.u64 [%r19+4], %rd1;"], FaultKind::Misaligned, 1, 0, None);
    fails(&[ALONE, "red.global.add.u32 [%rd18+2], %r1;"], FaultKind::Misaligned, 2, 0, None);
}

#[test]
fn freed_memory_is_named() {
    let machine = Machine::new(&kernel(&["ld.global.u32 %r2, [%rd18+8];"]));
    let (input, output) = (machine.upload(&[1; 8]), machine.upload(&[1; 8]));
    machine.memory.free(input).unwrap();
    let report = machine.launch("k", 1, 1, &[input, output]).unwrap_err();
    assert_eq!(report.fault.kind, FaultKind::OutOfBounds);
    assert_eq!(report.fault.address, Some(input + 8));
    let expected = format!("byte 8 of allocation 0 of 32 bytes at {input:#x}, freed since");
    assert_eq!(report.nearest.as_deref(), Some(expected.as_str()));
}

#[test]
fn uninitialised_memory() {
    let kind = FaultKind::UninitialisedMemory;
    let read = ["setp.lt.u32 %p1, %r1, 5;", "@%p1 st.global.u32 [%rd2], %r1;", "ld.global.u32 %r2, [%rd2];", USE];
    let message = fails(&read, kind, 3, 5, Some("byte 20 of allocation 1 of 160 bytes"));

    assert_eq!(message, "global memory is read that nothing was written to");
    assert!(fails(&[ALONE, "red.global.add.u32 [%rd2], 1;"], kind, 2, 0, None).contains("global"));
    assert!(fails(&["ld.shared.u32 %r2, [%r19+8];", USE], kind, 1, 0, None).contains("shared"));

    // One byte of the word is missing.
    let holes = [
        "st.local.u16 [own], %h1;",
        "st.local.u8 [own+2], %r1;",
        "ld.local.u16 %h2, [own];",
        "ld.local.u32 %r2, [own];",
        USE,
    ];

    assert!(fails(&[&["mov.u16 %h1, 3;"], &holes[..]].concat(), kind, 5, 0, None).contains("local"));
    let line = [
        "mov.u32 %r4, 0;",
        "st.global.u32 [%rd18], %r4;",
        "discard.global.L2 [%rd18], 128;",
        "ld.global.u32 %r2, [%rd18];",
        USE,
    ];

    fails(&[&[ALONE], &line[..]].concat(), kind, 5, 0, Some("byte 0 of allocation 0"));
}

#[test]
fn uninitialised_registers() {
    let kind = FaultKind::UninitialisedRegister;
    let message = fails(&["st.global.u32 [%rd2], %r7;"], kind, 1, 0, None);
    assert_eq!(message, "register %r7 is used, but nothing was written to it");
    // Through arithmetic, into an address.
    let address = ["add.u32 %r8, %r7, 4;", "mul.wide.u32 %rd5, %r8, 4;", "st.global.u32 [%rd5], %r1;"];
    assert!(fails(&address, kind, 3, 0, None).contains("%rd5"));
    // In some lanes only.
    let lanes = ["setp.lt.u32 %p1, %r1, 9;", "@%p1 mov.u32 %r7, 1;", "mov.u32 %r8, %r7;", "st.global.u32 [%rd2], %r8;"];
    fails(&lanes, kind, 4, 9, None);
    fails(&["@%p3 st.global.u32 [%rd2], %r1;"], kind, 1, 0, None);
    let taken = ["setp.lt.u32 %p1, %r1, 39;", "selp.u32 %r8, %r1, %r7, %p1;", "st.global.u32 [%rd2], %r8;"];
    fails(&taken, kind, 3, 39, None);
}

#[test]
fn what_compilers_do_with_unwritten_registers_is_no_bug() {
    let fine: &[&[&str]] = &[
        // Written and used under the same predicate.
        &["setp.lt.u32 %p1, %r1, 9;", "@%p1 mov.u32 %r7, 1;", "@%p1 st.global.u32 [%rd2], %r7;"],
        // Moved in front of the choice.
        &[
            "add.u32 %r8, %r7, 1;",
            "setp.lt.u32 %p1, %r1, 99;",
            "selp.u32 %r9, %r1, %r8, %p1;",
            "st.global.u32 [%rd2], %r9;",
        ],
        // A loop carries a value that its first round does not use.
        &[
            "mov.u32 %r5, 0;",
            "LOOP: mov.u32 %r8, %r7; setp.eq.u32 %p1, %r5, 0; @%p1 bra FIRST;",
            "st.global.u32 [%rd2], %r8;",
            "FIRST: mov.u32 %r7, %r5; add.u32 %r5, %r5, 1; setp.lt.u32 %p2, %r5, 4; @%p2 bra LOOP;",
        ],
        // Both ways write it.
        &[
            "setp.lt.u32 %p1, %r1, 9; @%p1 bra A;",
            "mov.u32 %r7, 1; bra B;",
            "A: mov.u32 %r7, 2;",
            "B: st.global.u32 [%rd2], %r7;",
        ],
    ];
    for lines in fine {
        run(lines, 40).unwrap_or_else(|report| panic!("{lines:?}: {report}"));
    }
}

#[test]
fn spaces() {
    let local = [
        ALONE,
        "mov.u64 %rd5, own; cvta.local.u64 %rd5, %rd5;",
        "mov.u32 %r4, 0; st.u32 [%rd5], %r4;",
        "atom.add.u32 %r2, [%rd5], 1;",
    ];

    fails(&local, FaultKind::InvalidAddressSpace, 4, 0, None);
    let questions = [
        "cvta.shared.u64 %rd5, %rd17; mov.u64 %rd6, own; cvta.local.u64 %rd6, %rd6; mov.u32 %r10, 0;",
        "isspacep.shared %p1, %rd5; @%p1 or.b32 %r10, %r10, 1; isspacep.shared::cluster %p1, %rd5; @%p1 or.b32 %r10, %r10, 2;",
        "isspacep.global %p1, %rd5; @%p1 or.b32 %r10, %r10, 4; isspacep.global %p1, %rd1; @%p1 or.b32 %r10, %r10, 8;",
        "isspacep.local %p1, %rd6; @%p1 or.b32 %r10, %r10, 16; isspacep.local %p1, %rd1; @%p1 or.b32 %r10, %r10, 32;",
        "isspacep.const %p1, %rd1; @%p1 or.b32 %r10, %r10, 64;",
        "st.global.u32 [%rd2], %r10;",
    ];

    let machine = Machine::new(&kernel(&questions));
    let output = machine.upload(&[0; 8]);
    machine.launch("k", 1, 8, &[output, output]).unwrap();
    assert_eq!(machine.download(output, 8), [1 | 2 | 8 | 16; 8]);
}
