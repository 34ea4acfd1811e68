//! `trap`, `setmaxnreg`, `printf`, `assert` and the like.

use super::Case;
use cudasim::exec::Program;
use cudasim::memory::GlobalMemory;
use cudasim::options::{Options, Output};
use cudasim::report::FaultKind;
use std::sync::{Arc, Mutex};

#[test]
fn traps_name_the_thread() {
    let body = "setp.eq.u32 %p0, %thread, 37; @%p0 trap;";
    let report = Case { body, threads: 64, ..Case::default() }.fails(FaultKind::Trap, "trap");
    assert_eq!(report.thread, [37, 0, 0]);
    Case { body: "brkpt;", ..Case::default() }.fails(FaultKind::Trap, "breakpoint");
    let quiet = "pmevent 3; pmevent.mask 5; nanosleep.u32 20; griddepcontrol.launch_dependents; griddepcontrol.wait;
        membar.gl; fence.sc.sys; fence.acq_rel.gpu; fence.proxy.alias; fence.proxy.async.shared::cta;";
    assert!(Case { body: quiet, ..Case::default() }.run().is_ok());
}

#[test]
fn warpgroups_change_their_registers_together() {
    let good = "setp.lt.u32 %p0, %thread, 128; @%p0 bra A; setmaxnreg.inc.sync.aligned.u32 232; bra B;
        A: setmaxnreg.dec.sync.aligned.u32 40; B:";
    assert!(Case { body: good, threads: 256, ..Case::default() }.run().is_ok());
    let one = "setp.lt.u32 %p0, %thread, 32; @%p0 setmaxnreg.dec.sync.aligned.u32 40;";
    Case { body: one, threads: 128, ..Case::default() }.fails(FaultKind::InvalidUse, "1 of the 4 warps");
    let mixed = "setp.lt.u32 %p0, %thread, 32; @%p0 setmaxnreg.dec.sync.aligned.u32 40; @!%p0 setmaxnreg.dec.sync.aligned.u32 48;";
    Case { body: mixed, threads: 128, ..Case::default() }.fails(FaultKind::InvalidUse, "different numbers");
    let up = "setmaxnreg.dec.sync.aligned.u32 40; setmaxnreg.inc.sync.aligned.u32 32;";
    Case { body: up, threads: 128, ..Case::default() }.fails(FaultKind::InvalidUse, "from 40 registers to 32");
    // Three warpgroups begin with 168 each.
    let three = |fewer: u32, more: u32| {
        format!(
            "setp.lt.u32 %p0, %thread, 128; @%p0 bra A; setmaxnreg.inc.sync.aligned.u32 {more}; bra B;
            A: setmaxnreg.dec.sync.aligned.u32 {fewer}; B:"
        )
    };
    assert!(Case { body: &three(40, 232), threads: 384, ..Case::default() }.run().is_ok());
    let body = &three(48, 232);
    Case { body, threads: 384, ..Case::default() }
        .fails(FaultKind::InvalidUse, "65536 registers; the block begins with 64512");
}

fn load(body: &str) -> String {
    let text = format!(
        ".version 9.0\n.target sm_90a\n.address_size 64\n.extern .func (.param .b64 p) malloc (.param .b64 n);
         .visible .entry k() {{ .reg .b64 %rd<4>; .param .b64 a; .param .b64 b; {body} ret; }}"
    );
    match Program::load(&text, &GlobalMemory::new(1 << 20)) {
        Err(error) => error.to_string(),
        Ok(_) => String::from("accepted"),
    }
}

#[test]
fn what_cannot_be_is_refused_at_load() {
    assert!(load("setmaxnreg.inc.sync.aligned.u32 30;").contains("multiple of 8"));
    assert!(load("setmaxnreg.inc.sync.aligned.u32 264;").contains("24 to 256"));
    assert!(load("st.param.b64 [a], 8; call (b), malloc, (a);").contains("malloc"));
}

/// What `printf` of a format with values (their bits and sizes) writes.
fn printed(format: &str, values: &[(u64, u32)]) -> String {
    let mut bytes: Vec<String> = format.bytes().map(|byte| byte.to_string()).collect();
    bytes.push("0".into());
    let mut at = 0_u32;
    let mut stores = String::new();

    for &(value, size) in values {
        at = at.next_multiple_of(size);
        stores += &format!("mov.u64 %rd3, {value}; st.local.b{} [depot+{at}], %rd3;\n", size * 8);
        at += size;
    }

    let text = format!(
        ".version 9.0\n.target sm_90a\n.address_size 64
         .extern .func (.param .b32 result) vprintf (.param .b64 format, .param .b64 values);
         .global .align 1 .b8 format[{}] = {{{}}};
         .global .align 1 .b8 word[6] = {{104, 101, 108, 108, 111, 0}};
         .visible .entry k(.param .u64 out) {{
            .local .align 8 .b8 depot[256]; .reg .b64 %rd<9>; .reg .b32 %r<5>;
            .param .b64 a; .param .b64 b; .param .b32 c;
            mov.u64 %rd4, word; cvta.global.u64 %rd4, %rd4;
            {}
            mov.u64 %rd1, format; cvta.global.u64 %rd1, %rd1; mov.u64 %rd2, depot; cvta.local.u64 %rd2, %rd2;
            st.param.b64 [a], %rd1; st.param.b64 [b], %rd2;
            call.uni (c), vprintf, (a, b);
            ld.param.b32 %r1, [c]; ld.param.u64 %rd5, [out]; st.global.u32 [%rd5], %r1;
            ret;
         }}",
        bytes.len(),
        bytes.join(", "),
        stores.replace("mov.u64 %rd3, 3735928559;", "mov.u64 %rd3, %rd4;")
    );

    let memory = GlobalMemory::new(1 << 20);
    let program = Program::load(&text, &memory).unwrap_or_else(|error| panic!("{error}"));
    let written = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&written);
    let output = Output::to(move |text| into.lock().unwrap().push_str(text));
    let options = Options { output, ..Options::default() };
    let out = memory.allocate(4, None).unwrap();
    let launch = cudasim::exec::Launch::new([1; 3], [1; 3], 0, out.to_le_bytes().to_vec());
    cudasim::exec::run(&program.kernel("k").unwrap(), &launch, &memory.map(), &options, 0)
        .unwrap_or_else(|r| panic!("{r}"));
    let mut count = [0; 4];
    memory.read(out, &mut count).unwrap();
    assert_eq!(u32::from_le_bytes(count) as usize, values.len(), "{format}");
    written.lock().unwrap().clone()
}

/// Stands for the address of the string `hello`.
const WORD: u64 = 3_735_928_559;

#[test]
fn printf_writes_as_c_does() {
    let int = |value: i32| (u64::from(value as u32), 4);
    let float = |value: f64| (value.to_bits(), 8);

    // The expected text is that of C's printf.
    for (format, values, expected) in [
        ("plain 100%%\n", vec![], "plain 100%\n"),
        ("%d|%5d|%-5d|%05d|%+d|% d", [-7, 42, 42, -42, 42, 42].map(int).to_vec(), "-7|   42|42   |-0042|+42| 42"),
        ("%u %x %X %#x %o %08x", [-1, 255, 255, 255, 8, 48879].map(int).to_vec(), "4294967295 ff FF 0xff 10 0000beef"),
        ("%llu %lld %lx", vec![(u64::MAX, 8), (u64::MAX, 8), (1 << 40, 8)], "18446744073709551615 -1 10000000000"),
        ("%d then %lld", vec![int(1), (2, 8)], "1 then 2"),
        ("%.3d|%5.3d|%.0d|%hd|%hhd", [7, 7, 0, 65537, 257].map(int).to_vec(), "007|  007||1|1"),
        (
            "%f %.2f %8.3f %-8.1f| %.0f %+.1f",
            [1.5, 4.14159, -2.5, 2.25, 2.5, 0.05].map(float).to_vec(),
            "1.500000 4.14   -2.500 2.2     | 2 +0.1",
        ),
        ("%e %.2E %.0e", [12345.678, 0.00012, 1.0].map(float).to_vec(), "1.234568e+04 1.20E-04 1e+00"),
        (
            "%g %g %g %g %G %#g",
            [100000.0, 1e6, 0.0001, 1e-5, 1e-10, 1.0].map(float).to_vec(),
            "100000 1e+06 0.0001 1e-05 1E-10 1.00000",
        ),
        ("%g %.3g %g", [0.1, 1234.0, 0.0].map(float).to_vec(), "0.1 1.23e+03 0"),
        ("%f %5.1e %F", [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(float).to_vec(), "nan   inf -INF"),
        ("%a %a %.1a", [1.0, -0.5, 1.999].map(float).to_vec(), "0x1p+0 -0x1p-1 0x2.0p+0"),
        ("%c%c|%3c", ['a' as i32, 'b' as i32, 'c' as i32].map(int).to_vec(), "ab|  c"),
        ("[%s] [%8s] [%-8s] [%.2s]", vec![(WORD, 8); 4], "[hello] [   hello] [hello   ] [he]"),
        ("%p", vec![(0x1000, 8)], "0x1000"),
        ("%*d|%.*f", vec![int(4), int(7), int(1), float(2.55)], "   7|2.5"),
    ] {
        assert_eq!(printed(format, &values), expected, "{format}");
    }
}

#[test]
fn assertions_name_what_failed_where() {
    let string = |text: &str| {
        let bytes: Vec<String> = text.bytes().chain([0]).map(|byte| byte.to_string()).collect();
        (bytes.len(), bytes.join(", "))
    };

    let (m, mb) = string("i < n");
    let (f, fb) = string("kernel.cu");
    let (n, nb) = string("void k()");
    let text = format!(
        ".version 9.0\n.target sm_90a\n.address_size 64
         .extern .func __assertfail (.param .b64 m, .param .b64 f, .param .b32 l, .param .b64 n, .param .b64 c);
         .global .align 1 .b8 m[{m}] = {{{mb}}}; .global .align 1 .b8 f[{f}] = {{{fb}}}; .global .align 1 .b8 n[{n}] = {{{nb}}};
         .visible .entry k() {{
            .reg .b64 %rd<9>; .reg .pred %p; .reg .b32 %r; .param .b64 a; .param .b64 b; .param .b32 c; .param .b64 d; .param .b64 e;
            mov.u64 %rd1, m; mov.u64 %rd2, f; mov.u64 %rd3, n; mov.u64 %rd4, 1;
            st.param.b64 [a], %rd1; st.param.b64 [b], %rd2; st.param.b32 [c], 77; st.param.b64 [d], %rd3; st.param.b64 [e], %rd4;
            mov.u32 %r, %tid.x; setp.eq.u32 %p, %r, 5;
            @%p call.uni __assertfail, (a, b, c, d, e);
            ret; }}"
    );

    let memory = GlobalMemory::new(1 << 20);
    let program = Program::load(&text, &memory).unwrap_or_else(|error| panic!("{error}"));
    let launch = cudasim::exec::Launch::new([1; 3], [32, 1, 1], 0, Vec::new());
    let report =
        cudasim::exec::run(&program.kernel("k").unwrap(), &launch, &memory.map(), &Options::default(), 0).unwrap_err();
    assert_eq!((report.fault.kind, report.thread), (FaultKind::Assert, [5, 0, 0]));
    assert_eq!(report.fault.message, "kernel.cu:77: void k(): assertion `i < n` failed");
}
