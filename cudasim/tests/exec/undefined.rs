//! Values that are missing, bit by bit: what never reaches a result is no fault, the nearest kernel in which it does is one.

use cudasim::report::{FaultKind, Level, Report};

use crate::support::{Machine, lenient};

/// A kernel `k(data, out)`: `%r1` is the lane, `%rd2` points to a word of `out` for each; `%r7`, `%h7`, `%f7` and `%p7` are never
/// written.
fn kernel(body: &str) -> String {
    format!(
        ".visible .entry k(.param .u64 data, .param .u64 out)
        {{
            .reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<30>; .reg .b64 %rd<20>; .reg .f32 %f<9>;
            .shared .align 16 .b8 tile[512]; .local .align 16 .b8 own[16];
            ld.param.u64 %rd1, [data]; ld.param.u64 %rd3, [out]; mov.u32 %r1, %tid.x; mad.wide.u32 %rd2, %r1, 4, %rd3;
            mov.u32 %r19, tile; mad.lo.u32 %r20, %r1, 4, %r19;
            {body}
            ret;
        }}"
    )
}

/// What 32 lanes leave in `out`. Of the 64 words of `data` the first 16 are 7, of the next 16 the first byte is 9, and of the
/// last 32 nothing is written.
fn run(body: &str) -> Result<Vec<u32>, Box<Report>> {
    let machine = Machine::new(&kernel(body));
    let data = machine.memory.allocate(256, None).unwrap();
    machine.memory.write(data, &[7, 0, 0, 0].repeat(16)).unwrap();
    for word in 16..32 {
        machine.memory.write(data + 4 * word, &[9]).unwrap();
    }
    let out = machine.upload(&[0; 32]);
    machine.launch("k", 1, 32, &[data, out])?;
    Ok(machine.download(out, 32))
}

/// Every lane stores `expected`; with the second text in place of the first one, a value without bits counts.
#[track_caller]
fn counts(body: &str, expected: u32, right: &str, wrong: &str, kind: FaultKind) -> Box<Report> {
    assert_eq!(run(body).unwrap_or_else(|report| panic!("{report}")), [expected; 32]);
    assert!(body.contains(right), "{right}");
    let report = run(&body.replacen(right, wrong, 1)).expect_err("a value is missing");
    assert_eq!(report.fault.kind, kind, "{report}");
    report
}

use FaultKind::{UninitialisedMemory, UninitialisedRegister};

#[test]
fn bytes_that_are_packed_and_cut_off_again() {
    // As the fp8 conversions of Triton: a pair of which one half is never written.
    let pack = "mov.u16 %h1, 5; mov.b32 %r8, {%h1, %h7}; cvt.u32.u16 %r9, %h1; and.b32 %r8, %r8, 0xffff; st.global.u32 [%rd2], %r8;";
    counts(pack, 5, "0xffff;", "0xffffff;", UninitialisedRegister);
    let permute = "mov.u32 %r3, 0x01020304; prmt.b32 %r8, %r7, %r3, 0x5476; st.global.u32 [%rd2], %r8;";
    counts(permute, 0x0304_0102, "0x5476", "0x5436", UninitialisedRegister);
    let insert = "mov.u32 %r3, 6; bfi.b32 %r8, %r3, %r7, 0, 16; bfe.u32 %r9, %r8, 0, 16; st.global.u32 [%rd2], %r9;";
    counts(insert, 6, "%r8, 0, 16", "%r8, 1, 16", UninitialisedRegister);
    let shifted = "shl.b32 %r8, %r7, 24; mov.u32 %r3, 0x12; or.b32 %r8, %r8, %r3; shl.b32 %r8, %r8, 8; st.global.u32 [%rd2], %r8;";
    counts(shifted, 0x1200, "%r8, 8; st", "%r8, 7; st", UninitialisedRegister);
    let narrow =
        "mov.u16 %h1, 3; mov.b32 %r8, {%h1, %h7}; mov.u32 %r9, 0; st.global.u32 [%rd2], %r9; st.global.u8 [%rd2], %r8;";
    counts(narrow, 3, "u8 [%rd2], %r8", "u32 [%rd2], %r8", UninitialisedRegister);
}

#[test]
fn conversions_keep_halves_apart() {
    let fp8 = "mov.f32 %f1, 0f3F800000; cvt.rn.satfinite.e4m3x2.f32 %h1, %f7, %f1; cvt.u32.u16 %r8, %h1; and.b32 %r8, %r8, 0xff;
        st.global.u32 [%rd2], %r8;";
    counts(fp8, 0x38, "0xff;", "0x1ff;", UninitialisedRegister);
    let half = "mov.f32 %f1, 0f3F800000; cvt.rn.f16x2.f32 %r8, %f7, %f1; add.f16x2 %r8, %r8, %r8; cvt.u16.u32 %h2, %r8;
        cvt.u32.u16 %r9, %h2; st.global.u32 [%rd2], %r9;";
    counts(half, 0x4000, "cvt.u32.u16 %r9, %h2", "shr.u32 %r9, %r8, 16", UninitialisedRegister);
}

#[test]
fn sums_lack_what_lies_above_the_lowest_missing_bit() {
    let sum =
        "and.b32 %r8, %r7, 0xffff0000; add.u32 %r8, %r8, 12; and.b32 %r8, %r8, 0xffff; st.global.u32 [%rd2], %r8;";
    counts(sum, 12, "0xffff;", "0x1ffff;", UninitialisedRegister);
    let carry = "and.b32 %r8, %r7, 0xff; add.cc.u32 %r8, %r8, 5; addc.u32 %r9, 0, 0; mov.u32 %r9, 4; st.global.u32 [%rd2], %r9;";
    counts(carry, 4, "mov.u32 %r9, 4;", "", UninitialisedRegister);
    let product = "and.b32 %r8, %r7, 0; mul.lo.u32 %r8, %r8, 3; st.global.u32 [%rd2], %r8;";
    counts(product, 0, "%r7, 0;", "%r7, 1;", UninitialisedRegister);
}

#[test]
fn what_a_choice_leaves_out() {
    let select = "setp.lt.u32 %p1, %r1, 32; mov.u32 %r3, 4; selp.u32 %r8, %r3, %r7, %p1; st.global.u32 [%rd2], %r8;";
    counts(select, 4, "%r1, 32", "%r1, 31", UninitialisedRegister);
    let predicate = "setp.gt.u32 %p1, %r1, 99; setp.eq.u32 %p2, %r7, 3; and.pred %p3, %p1, %p2; mov.u32 %r8, 1; @%p3 mov.u32 %r8, 2;
        st.global.u32 [%rd2], %r8;";
    counts(predicate, 1, "and.pred", "or.pred", UninitialisedRegister);
    // A comparison of something missing decides nothing, whatever it happens to be.
    let branch = "setp.eq.u32 %p1, %r1, 77; mov.u32 %r8, 1; @%p1 bra OUT; st.global.u32 [%rd2], %r8; OUT:";
    counts(branch, 1, "%r1, 77", "%r7, 77", UninitialisedRegister);
}

#[test]
fn padding_is_read_and_thrown_away() {
    // Eight bytes of which five are written: a byte, its padding, a word.
    let padding = "add.u64 %rd5, %rd1, 64; ld.global.v2.u32 {%r8, %r9}, [%rd5]; and.b32 %r8, %r8, 0xff; st.global.u32 [%rd2], %r8;";
    let report = counts(padding, 9, "0xff;", "0xfff;", UninitialisedMemory);
    assert_eq!(report.instruction, "ld.global.v2.u32", "the load is named: {report}");
    assert_eq!(report.fault.message, "global memory is read that nothing was written to");
    assert!(report.nearest.as_deref().unwrap().starts_with("byte 64 of allocation 0 of 256 bytes"), "{report}");
    assert!(report.to_string().contains("its value is used at PTX line"), "{report}");
    assert!(report.shows.as_deref().unwrap().ends_with("st.global.u32"), "and the use: {report}");

    // Past the end of what is there, as the last items of a reduction.
    let past = "ld.global.u32 %r8, [%rd1+132]; setp.lt.u32 %p1, %r1, 32; mov.u32 %r3, 8; selp.u32 %r8, %r3, %r8, %p1; st.global.u32 [%rd2], %r8;";
    counts(past, 8, "%r1, 32", "%r1, 20", UninitialisedMemory);
    let shared = "mov.u32 %r3, 8; setp.lt.u32 %p1, %r1, 30; @%p1 st.shared.u32 [%r20], %r3; bar.warp.sync 0xffffffff; ld.shared.u32 %r8, [%r20];
        add.u32 %r9, %r8, 1; @!%p1 mov.u32 %r9, 9; st.global.u32 [%rd2], %r9;";
    counts(shared, 9, "@!%p1 mov.u32 %r9, 9;", "", UninitialisedMemory);
    // One that is loaded and never used at all.
    assert_eq!(run("ld.global.u32 %r8, [%rd1+200]; ld.local.u32 %r9, [own];").unwrap(), [0; 32]);
    let sign = "st.local.u8 [own], 255; ld.local.s8 %r8, [own]; st.global.u32 [%rd2], %r8;";
    counts(sign, u32::MAX, "ld.local.s8 %r8, [own]", "ld.local.s8 %r8, [own+1]", UninitialisedMemory);
}

#[test]
fn addresses_and_branches_count() {
    let fails = |body: &str| run(body).expect_err("a value is missing").fault.kind;
    assert_eq!(
        fails("ld.global.u32 %r8, [%rd1+200]; mad.wide.u32 %rd6, %r8, 4, %rd1; ld.global.u32 %r9, [%rd6];"),
        UninitialisedMemory
    );
    assert_eq!(
        fails("ld.global.u32 %r8, [%rd1+200]; setp.eq.u32 %p1, %r8, 3; @%p1 bra OUT; OUT:"),
        UninitialisedMemory
    );
    assert_eq!(fails("ld.global.u32 %r8, [%rd1+200]; red.global.add.u32 [%rd2], %r8;"), UninitialisedMemory);
    assert_eq!(fails("ld.global.u32 %r8, [%rd1+200]; vote.sync.any.pred %p1, %p7, 0xffffffff;"), UninitialisedRegister);
    assert_eq!(fails("red.global.add.u32 [%rd1+200], 1;"), UninitialisedMemory, "which reads it and writes a result");
}

#[test]
fn a_branch_on_something_missing_is_a_warning() {
    // As in epilogues of CUTLASS, which compute rows past the end of a matrix and store them nowhere.
    let text = |stored: &str| {
        kernel(&format!(
            "ld.global.u32 %r8, [%rd1+200]; mov.u32 %r9, 5; setp.eq.u32 %p1, %r8, 3; @%p1 bra OUT; add.u32 %r8, %r8, 1;
            OUT: st.global.u32 [%rd2], {stored};"
        ))
    };
    let launch = |stored: &str| {
        let (options, warnings) = lenient();
        let mut machine = Machine::new(&text(stored));
        machine.options = options;
        let data = machine.memory.allocate(256, None).unwrap();
        let out = machine.upload(&[0; 32]);
        (machine.launch("k", 1, 32, &[data, out]), warnings)
    };
    let (outcome, warnings) = launch("%r9");
    outcome.unwrap_or_else(|report| panic!("{report}"));
    let warnings = warnings.lock().unwrap();
    assert_eq!(warnings.len(), 1);
    assert_eq!((warnings[0].fault.kind, warnings[0].fault.level), (UninitialisedMemory, Level::Warning));
    assert!(warnings[0].shows.as_deref().unwrap().ends_with("bra"), "{}", warnings[0]);
    // What is stored counts as before.
    let report = launch("%r8").0.unwrap_err();
    assert_eq!((report.fault.kind, report.fault.level), (UninitialisedMemory, Level::Error), "{report}");
}

#[test]
fn shuffles_and_memory_hand_it_on() {
    // Lanes from 20 on have nothing, and nobody uses what comes from there.
    let shuffle =
        "setp.lt.u32 %p1, %r1, 20; mov.u32 %r3, 2; @%p1 mov.u32 %r7, 2; shfl.sync.down.b32 %r8, %r7, 4, 31, 0xffffffff;
        setp.lt.u32 %p2, %r1, 16; selp.u32 %r8, %r8, %r3, %p2; st.global.u32 [%rd2], %r8;";
    counts(shuffle, 2, "%r1, 16", "%r1, 17", UninitialisedRegister);
    // Items past the end go through shared memory, as in an exchange between a guarded load and a guarded store.
    let exchange = "setp.lt.u32 %p1, %r1, 20; mov.u32 %r3, 2; @%p1 mov.u32 %r7, 2; st.shared.u32 [%r20], %r7; bar.warp.sync 0xffffffff;
        xor.b32 %r4, %r1, 1; mad.lo.u32 %r5, %r4, 4, %r19; ld.shared.u32 %r8, [%r5]; selp.u32 %r8, %r8, %r3, %p1; st.global.u32 [%rd2], %r8;";
    counts(exchange, 2, "selp.u32 %r8, %r8, %r3, %p1;", "", UninitialisedMemory);
    let spilled = "mov.u16 %h1, 3; mov.b32 %r8, {%h1, %h7}; st.local.u32 [own], %r8; ld.local.u32 %r9, [own]; and.b32 %r9, %r9, 0xffff; st.global.u32 [%rd2], %r9;";
    counts(spilled, 3, "0xffff;", "0x1ffff;", UninitialisedMemory);
    // Written over, it is whole again.
    let again = "st.shared.u32 [%r20], %r7; mov.u32 %r3, 2; st.shared.u32 [%r20], %r3; ld.shared.u32 %r8, [%r20]; st.global.u32 [%rd2], %r8;";
    counts(again, 2, "st.shared.u32 [%r20], %r3;", "", UninitialisedMemory);
}

#[test]
fn registers_that_wgmma_names_are_no_exception() {
    // An epilogue scales what it did not load, and does not store it.
    let text = "setp.eq.u32 %p1, %r1, 77; @!%p1 bra OVER; wgmma.fence.sync.aligned;
        wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%f1, %f2, %f3, %f4}, %rd8, %rd9, %p1, 1, 1, 0, 0;
        OVER: mov.f32 %f2, 0f40000000; mul.f32 %f1, %f7, %f2; fma.rn.f32 %f1, %f1, %f2, %f2;
        setp.lt.u32 %p2, %r1, 32; mov.f32 %f3, 0f3F800000; selp.f32 %f4, %f3, %f1, %p2; mov.b32 %r8, %f4; st.global.u32 [%rd2], %r8;";
    counts(text, 0x3f80_0000, "%r1, 32; mov", "%r1, 31; mov", UninitialisedRegister);
}

#[test]
fn products_of_matrices_lack_whole_rows_and_columns() {
    // Lanes up to 15 store their first word of D (rows 0 to 3, even columns).
    let product = |prepare: &str, stored: &str| {
        format!(
            "mov.u32 %r2, 0; mov.u32 %r3, 0; mov.u32 %r4, 0; mov.u32 %r5, 0; mov.u32 %r8, 0; mov.u32 %r9, 0;
            mov.f32 %f1, 0f3F800000; mov.f32 %f2, %f1; mov.f32 %f3, %f1; mov.f32 %f4, %f1; {prepare}
            mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {{%f1, %f2, %f3, %f4}}, {{%r2, %r3, %r4, %r5}}, {{%r8, %r9}}, {{%f1, %f2, %f3, %f4}};
            setp.lt.u32 %p1, %r1, 16; mov.b32 %r11, {stored}; @!%p1 mov.u32 %r11, 0x3f800000; st.global.u32 [%rd2], %r11;"
        )
    };
    const ONE: u32 = 0x3f80_0000;
    // Rows 4 to 7 of A are never written (lanes from 16 on), or rows 8 to 15.
    let late = product("setp.lt.u32 %p2, %r1, 16; @!%p2 mov.u32 %r2, %r7;", "%f1");
    counts(&late, ONE, "%r1, 16; @", "%r1, 12; @", UninitialisedRegister);
    let lower = product("mov.u32 %r3, %r7;", "%f2");
    counts(&lower, ONE, "mov.b32 %r11, %f2", "mov.b32 %r11, %f3", UninitialisedRegister);
    // Column 7 of B: the last lane of a group has columns 6 and 7.
    let column = product("setp.lt.u32 %p2, %r1, 28; @!%p2 mov.u32 %r9, %r7;", "%f1");
    counts(&column, ONE, "mov.b32 %r11, %f1", "mov.b32 %r11, %f2", UninitialisedRegister);
    // An accumulator on its own.
    let own = product("mov.f32 %f2, %f7;", "%f1");
    counts(&own, ONE, "mov.b32 %r11, %f1", "mov.b32 %r11, %f2", UninitialisedRegister);

    // Two f16 in a register.
    let halves = "mov.u32 %r2, 0; mov.u32 %r3, 0; mov.u32 %r8, 0; mov.u32 %r4, 0x3c003c00; mov.u32 %r5, %r4;
        setp.lt.u32 %p2, %r1, 28; @!%p2 mov.u32 %r8, %r7;
        mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16 {%r4, %r5}, {%r2, %r3}, {%r8}, {%r4, %r5};
        and.b32 %r5, %r5, 0xffff; st.global.u32 [%rd2], %r5;";
    counts(halves, 0x3c00, "%r5, 0xffff;", "%r5, 0x1ffff;", UninitialisedRegister);
}
