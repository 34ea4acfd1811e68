//! Refusals: each names the line and quotes what is wrong.

use cudasim::ptx;

/// A kernel with some registers and this body, which begins on line 8.
fn kernel(body: &str) -> String {
    format!(
        ".version 8.3\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 k_a)\n{{\n\
         .reg .pred %p<4>; .reg .b16 %rs<4>; .reg .b32 %r<8>; .reg .b64 %rd<8>;\n.reg .f32 %f<8>; .reg .f64 %fd<4>;\n\
         {body}\n}}\n"
    )
}

/// The message for a body that must be refused.
fn refusal(body: &str) -> String {
    match ptx::parse(&kernel(body)) {
        Ok(_) => panic!("accepted: {body}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn instructions_that_are_none() {
    for (body, expected) in [
        ("ret;\nfrobnicate.b32 %r1, %r2;", "PTX line 9, column 1: unknown instruction `frobnicate.b32`"),
        (
            "tex.2d.v4.f32.f32 {%f1,%f2,%f3,%f4}, [a, {%f1,%f2}];",
            "line 8, column 1: unknown instruction `tex.2d.v4.f32.f32`",
        ),
        ("add.rx.f32 %f1, %f2, %f3;", "`add.rx.f32` does not take `.rx` here"),
        ("ftz.add.f32 %f1, %f2, %f3;", "unknown instruction `ftz.add.f32`"),
        ("mul.s32.wide %rd1, %r1, %r2;", "`mul.s32.wide` does not take `.s32` here"),
        ("cvt.f16.f32.up %rs1, %f1;", "`cvt.f16.f32.up` does not take `.up` here"),
        ("ld.global %r1, [%rd1];", "`ld.global` lacks a modifier or type at its end"),
        ("wgmma.mma_async.sync.aligned.m64n12k16.f32.bf16.bf16 %r1;", "`m64n12k16` is not a shape"),
    ] {
        let message = refusal(body);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn operands_that_do_not_fit() {
    for (body, expected) in [
        ("add.s32 %r1, %r2, %rd3;", "`add.s32`: operand 3: `%rd3` is a .b64 register where a .s32 is wanted"),
        ("add.s32 %r1, %r2;", "`add.s32`: takes 3 operands, not 2"),
        ("add.s32 1, %r2, %r1;", "operand 1: must be a register"),
        ("add.s32 %r1, %r2, [%rd1];", "operand 3: must be a register or a constant"),
        ("add.s32 %p1, %r2, 1;", "`%p1` is a .pred register where a .s32 is wanted"),
        ("ld.global.f64 %f1, [%rd1];", "`%f1` is a .f32 register where a .f64 is wanted"),
        ("ld.global.v2.f32 {%f1, %f2, %f3}, [%rd1];", "must be a vector of 2, not of 3"),
        ("ld.global.v2.f32 %f1, [%rd1];", "must be a vector in braces"),
        ("ld.global.f32 %f1, %rd1;", "operand 2: must be an address in brackets"),
        ("ld.global.f32 %f1, [%rs1];", "register of 32 or 64 bits"),
        ("setp.eq.and.s32 %p1, %r1, %r2, %r3;", "operand 4: `%r3` is a .b32 register where a .pred is wanted"),
        ("lop3.b32 %r1, %r2, %r3, %r4, %r5;", "operand 5: must be an integer constant"),
        ("ld.global.L2::cache_hint.f32 %f1, [%rd1];", "takes 3 operands, not 2"),
        (
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1,%f2,%f3,%f4}, {%r1,%r2}, {%r1,%r2}, {%f1,%f2,%f3,%f4};",
            "operand 2: must be a vector of 4, not of 2",
        ),
        ("@%r1 ret;", "`%r1` is not a predicate"),
        ("cp.async.bulk.tensor.1d.global.shared::cta.bulk_group [%rd1], [%r1];", "operand 1: must be a tensor map"),
    ] {
        let message = refusal(body);
        assert!(message.contains("PTX line 8") && message.contains(expected), "{message}");
    }
}

#[test]
fn names_that_mean_nothing() {
    for (body, expected) in [
        ("mov.b32 %r1, %r8;", "unknown name `%r8`"),
        ("mov.b32 %r1, missing;", "unknown name `missing`"),
        ("mov.u32 %r1, %tid.w;", "unknown name `%tid`"),
        ("st.shared.b32 [smem], %r1;", "unknown name `smem` in an address"),
        ("bra nowhere;", "no label `nowhere` can be seen from here"),
        ("{ inner: }\nbra inner;", "PTX line 9, column 5: no label `inner`"),
        ("bra %r1;", "no label `%r1`"),
        ("brx.idx %r1, k_a;", "no label `k_a`"),
        ("{ .reg .b32 t; }\nmov.b32 %r1, t;", "PTX line 9, column 14: unknown name `t`"),
        ("call.uni missing;", "unknown name `missing`"),
        ("L: L: ret;", "`L` is declared twice in one scope"),
        (".reg .b32 %r<2>;", "`%r` is declared twice in one scope"),
        (".reg .bf16 x;", "`.bf16` is not the type of a register"),
        (".reg .b32 %q<2000000>;", "more than 1048576 registers"),
        (".shared .b32 x[99999999999999999999];", "is not a dimension"),
        (".shared .b32 x[9999999999][9999999999];", "`x` is too large"),
        (".shared .align 3 .b32 x;", "3 is not an alignment"),
        (".tex .u64 t;", "unknown or unsupported directive `.tex`"),
        ("bar.sync 0\nret;", "PTX line 9, column 1: expected `;`, found `ret`"),
    ] {
        let message = refusal(body);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn calls_are_compared_with_the_function() {
    let text = ".version 8.0\n.target sm_80\n.func (.param .b32 r) f(.param .b32 a);\n.entry k()\n{\n\
                .param .b32 x;\n.param .b32 y;\ncall (x), f, (y, y);\n}";
    let message = ptx::parse(text).unwrap_err().to_string();
    assert_eq!(message, "PTX line 8, column 1: this call has 1 results and 2 arguments; `f` has 1 and 1");
}

#[test]
fn texts_that_are_not_modules() {
    let header = ".version 8.0\n.target sm_80\n.address_size 64\n";
    for (text, expected) in [
        ("", "line 1, column 1: expected `.version`"),
        ("\u{7f}ELF", "unexpected character `\\u{7f}`"),
        (".version 8\n", "a version is written as 9.0"),
        (".version 8.0\n.entry k() {}", "line 2, column 1: expected `.target`"),
        (".version 8.0\n.target sm_80\n.address_size 16", "it is 32 or 64"),
        (&format!("{header}.global .texref t;"), "`.texref` is not the type of a variable"),
        (&format!("{header}.global .b32 x = {{1, 2}};"), "the variable has fewer dimensions"),
        (&format!("{header}.global .b32 x[1] = {{1, 2}};"), "the initial value of `x` is too long"),
        (&format!("{header}.global .b64 x[1] = {{y}};"), "unknown name `y` in an initial value"),
        (&format!("{header}.global .b32 x[] = {{}}, x;"), "`x` is declared twice"),
        (&format!("{header}.func f() {{}}\n.func f() {{}}"), "line 5, column 7: `f` is defined twice"),
        (&format!("{header}.func f(.param .b32 a);\n.func f() {{}}"), "`f` was declared with other parameters"),
        (&format!("{header}.entry k() {{ ret;"), "expected a statement or `}`, found the end of the text"),
        (&format!("{header}.section .debug_info {{ {{ }}"), "the end of a section"),
    ] {
        let message = ptx::parse(text).map(|_| ()).unwrap_err().to_string();
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn debugging_sections_are_skipped() {
    let text = ".version 8.0\n.target sm_80\n.section .debug_info\n{\n$a:\n.b32 $x-$y+4\n.b8 1\n}\n.entry k() { ret; }";
    assert_eq!(ptx::parse(text).unwrap().functions.len(), 1);
}
