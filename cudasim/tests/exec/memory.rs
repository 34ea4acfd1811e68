//! `ld` and `st`: spaces, types, vectors, extension, operators.

use crate::support::Machine;

/// A kernel `k(in, out)` with these instructions: `%rd1` and `%rd2` point to 64 bytes a thread of either, `%r1` is the thread.
fn kernel(body: &str) -> String {
    format!(
        ".visible .entry k(.param .u64 in, .param .u64 out)
        {{
            .reg .b8 %c<9>; .reg .b16 %h<9>; .reg .b32 %r<20>; .reg .b64 %rd<20>; .reg .f32 %f<9>; .reg .f64 %d<9>;
            .reg .b128 %q<5>;
            ld.param.u64 %rd18, [in]; ld.param.u64 %rd19, [out]; mov.u32 %r1, %tid.x; mul.wide.u32 %rd17, %r1, 64;
            add.u64 %rd1, %rd18, %rd17; add.u64 %rd2, %rd19, %rd17;
            {body}
            ret;
        }}"
    )
}

fn input(threads: usize) -> Vec<u32> {
    (0..threads as u32 * 16).map(|i| i.wrapping_mul(0x9e37_79b9) ^ 0x80_8f_00_f1).collect()
}

/// Runs the body with 40 threads; returns what each thread finds and leaves, in bytes.
fn run(body: &str) -> Vec<([u8; 64], [u8; 64])> {
    let machine = Machine::new(&kernel(body));
    let threads = 40;
    let words = input(threads);
    let (a, b) = (machine.upload(&words), machine.upload(&vec![0xcdcd_cdcd; threads * 16]));
    machine.launch("k", 1, threads as u32, &[a, b]).unwrap_or_else(|report| panic!("{body}: {report}"));
    let bytes = |words: &[u32]| -> [u8; 64] {
        let mut bytes = [0; 64];
        words
            .iter()
            .zip(bytes.chunks_exact_mut(4))
            .for_each(|(word, place)| place.copy_from_slice(&word.to_le_bytes()));
        bytes
    };
    let out = machine.download(b, threads * 16);
    words.chunks_exact(16).zip(out.chunks_exact(16)).map(|(a, b)| (bytes(a), bytes(b))).collect()
}

#[test]
fn registers_may_be_wider_than_the_type() {
    for (ty, bytes, signed) in [
        ("b8", 1, false),
        ("u8", 1, false),
        ("s8", 1, true),
        ("b16", 2, false),
        ("u16", 2, false),
        ("s16", 2, true),
        ("b32", 4, false),
        ("u32", 4, false),
        ("s32", 4, true),
        ("u64", 8, false),
        ("s64", 8, true),
    ] {
        for (register, width) in [("%h1", 2), ("%r2", 4), ("%rd3", 8)] {
            if bytes > width {
                continue;
            }

            for (input, output) in
                run(&format!("ld.global.{ty} {register}, [%rd1+8]; st.global.b{} [%rd2], {register};", width * 8))
            {
                let fill = if signed && input[8 + bytes - 1] >= 0x80 { 0xff } else { 0 };
                let mut expected = [0xcd; 64];
                expected[..width].fill(fill);
                expected[..bytes].copy_from_slice(&input[8..8 + bytes]);
                assert_eq!(output, expected, "{ty} into {register}");
            }

            // Stores take the low bits of wide registers.
            let body = format!("ld.global.b{} {register}, [%rd1]; st.global.{ty} [%rd2+16], {register};", width * 8);
            for (input, output) in run(&body) {
                let mut expected = [0xcd; 64];
                expected[16..16 + bytes].copy_from_slice(&input[..bytes]);
                assert_eq!(output, expected, "{ty} from {register}");
            }
        }
    }
}

#[test]
fn vectors_go_through_every_space() {
    for (ty, register, bytes, vector) in [
        ("u8", "%h", 1, 2),
        ("s8", "%r", 1, 4),
        ("b16", "%h", 2, 2),
        ("u16", "%h", 2, 4),
        ("f32", "%f", 4, 2),
        ("u32", "%r", 4, 4),
        ("b64", "%rd", 8, 2),
        ("f64", "%d", 8, 2),
    ] {
        // Numbered from 4: the first ones are the kernel's.
        let list = |first: usize| -> String {
            let names: Vec<_> = (first..first + vector).map(|i| format!("{register}{i}")).collect();
            format!("{{{}}}", names.join(", "))
        };
        let through = |space: &str, address: &str| {
            format!("st.{space}.v{vector}.{ty} [{address}], {0}; ld.{space}.v{vector}.{ty} {0}, [{address}];", list(4))
        };
        let generic = format!("st.v{vector}.{ty} [%rd11], {0}; ld.v{vector}.{ty} {0}, [%rd11];", list(4));

        let body = format!(
            ".shared .align 16 .b8 tile[1024]; .local .align 16 .b8 own[32];
            mov.u32 %r10, tile; mad.lo.u32 %r11, %r1, 16, %r10; mov.u64 %rd12, own;
            ld.global.v{vector}.{ty} {}, [%rd1+16];
            {} {}
            cvta.local.u64 %rd11, %rd12; {generic}
            add.u64 %rd11, %rd2, 32; {generic}
            st.global.v{vector}.{ty} [%rd2], {};",
            list(4),
            through("shared", "%r11"),
            through("local", "own+16"),
            list(4),
        );

        for (input, output) in run(&body) {
            let bytes = bytes * vector;
            let mut expected = [0xcd; 64];
            expected[..bytes].copy_from_slice(&input[16..16 + bytes]);
            expected[32..32 + bytes].copy_from_slice(&input[16..16 + bytes]);
            assert_eq!(output, expected, "v{vector}.{ty}");
        }
    }
}

#[test]
fn values_of_128_bits() {
    let body = "ld.global.b128 %q1, [%rd1]; ld.global.v2.b128 {%q2, %q3}, [%rd1+32];
        st.global.b128 [%rd2+16], %q1; st.global.v2.b128 [%rd2+32], {%q3, %q2};";
    for (input, output) in run(body) {
        assert_eq!(output[..16], [0xcd; 16]);
        assert_eq!(output[16..32], input[..16]);
        assert_eq!(output[32..48], input[48..]);
        assert_eq!(output[48..], input[32..48]);
    }
}

#[test]
fn operators_and_hints_change_nothing() {
    let loads = [
        "ld.weak.global",
        "ld.global.ca",
        "ld.global.cg",
        "ld.global.cs",
        "ld.global.lu",
        "ld.global.cv",
        "ld.volatile.global",
        "ld.relaxed.gpu.global",
        "ld.acquire.sys.global",
        "ld.relaxed.cta.global.L1::no_allocate",
        "ld.global.nc",
        "ld.global.L1::evict_last.L2::128B",
        "ld.global.nc.L1::no_allocate.L2::256B",
        "ld.global.cg.nc",
        "ldu.global",
        "ldu",
        "ld",
        "ld.mmio.relaxed.sys.global",
    ];
    let stores = [
        "st.weak.global",
        "st.global.wb",
        "st.global.cg",
        "st.global.cs",
        "st.global.wt",
        "st.volatile.global",
        "st.relaxed.gpu.global",
        "st.release.cta.global",
        "st.global.L1::no_allocate",
        "st.mmio.relaxed.sys.global",
        "st",
    ];

    let pairs = (0..loads.len()).map(|i| (loads[i], stores[i % stores.len()]));
    for (load, store) in pairs {
        for (input, output) in run(&format!("{load}.u32 %r2, [%rd1+4]; {store}.u32 [%rd2], %r2;")) {
            assert_eq!(output[..4], input[4..8], "{load} {store}");
        }
    }

    let policy = "mov.u64 %rd5, 1; ld.global.L2::cache_hint.v2.u32 {%r2, _}, [%rd1], %rd5;
        st.global.L2::cache_hint.u32 [%rd2], %r2, %rd5;";
    for (input, output) in run(policy) {
        assert_eq!(output[..4], input[..4]);
    }
}

#[test]
fn scattered_lanes_and_partial_warps() {
    // Lane i takes word 15 - i % 16 of thread i ^ 5, and only odd threads store.
    let body = ".reg .pred %p<3>; xor.b32 %r2, %r1, 5; mul.wide.u32 %rd3, %r2, 64; add.u64 %rd3, %rd3, %rd18;
        and.b32 %r3, %r1, 15; sub.u32 %r4, 15, %r3; mul.wide.u32 %rd4, %r4, 4; add.u64 %rd3, %rd3, %rd4;
        ld.global.u32 %r5, [%rd3]; and.b32 %r6, %r1, 1; setp.ne.u32 %p1, %r6, 0; @%p1 st.global.u32 [%rd2], %r5;";
    let results = run(body);
    for (thread, (_, output)) in results.iter().enumerate() {
        let (other, place) = (thread ^ 5, (15 - thread % 16) * 4);
        if other >= results.len() {
            continue;
        }
        let expected = if thread % 2 == 1 { results[other].0[place..place + 4].to_vec() } else { vec![0xcd; 4] };
        assert_eq!(output[..4], expected, "thread {thread}");
    }
}

#[test]
fn constants_and_parameters() {
    let text = ".const .align 8 .u32 table[4] = {7, 8, 9, 10};
    .visible .entry k(.param .u64 in, .param .u64 out, .param .align 8 .b8 pair[16])
    {
        .reg .b32 %r<9>; .reg .b64 %rd<9>;
        ld.param.u64 %rd1, [out]; ld.param.v2.u32 {%r1, %r2}, [pair+8]; ld.const.u32 %r3, [table+8];
        mov.b64 %rd2, pair; cvta.param.u64 %rd2, %rd2; ld.u32 %r4, [%rd2+4]; ld.param.s32 %rd3, [pair];
        st.global.v4.u32 [%rd1], {%r1, %r2, %r3, %r4}; st.global.u64 [%rd1+16], %rd3;
        ret;
    }";
    let machine = Machine::new(text);
    let out = machine.upload(&[0; 6]);
    machine.launch("k", 1, 1, &[0, out, 5 << 32 | 0xffff_fff0, 12 << 32 | 11]).unwrap();
    assert_eq!(machine.download(out, 6), [11, 12, 9, 5, 0xffff_fff0, 0xffff_ffff]);
}
