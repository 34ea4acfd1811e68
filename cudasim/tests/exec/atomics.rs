//! `atom` and `red`: every operation and type, in global and shared memory.

use crate::support::Machine;

/// Each thread applies `instruction` to 32 bytes of its own: `{a}` is the address, `{d}` the old value, `{x}` and `{y}` the
/// operands. Memory holds `old`, then the operands; gives what memory holds afterwards and what came back.
fn apply(
    space: &str,
    instruction: &str,
    register: &str,
    ty: &str,
    old: &[u8],
    x: &[u8],
    y: &[u8],
) -> (Vec<u8>, Vec<u8>) {
    let text = kernel(space, instruction, register, ty);
    let machine = Machine::new(&text);
    let threads = 40;
    let mut one = [0; 96];
    for (place, bytes) in [(0, old), (32, x), (64, y)] {
        one[place..place + bytes.len()].copy_from_slice(bytes);
    }

    let memory = machine.memory.allocate(96 * threads, None).unwrap();
    machine.memory.write(memory, &one.repeat(threads as usize)).unwrap();
    let result = machine.memory.allocate(32 * threads, None).unwrap();
    machine.launch("k", 1, threads as u32, &[memory, result]).unwrap_or_else(|report| panic!("{report}\n{text}"));

    // Every thread gets the same.
    let (mut all, mut came) = (vec![0; 96 * threads as usize], vec![0; 32 * threads as usize]);
    machine.memory.read(memory, &mut all).unwrap();
    machine.memory.read(result, &mut came).unwrap();
    for thread in 1..threads as usize {
        assert_eq!(all[..96], all[thread * 96..][..96], "thread {thread}");
        assert_eq!(came[..32], came[thread * 32..][..32], "thread {thread}");
    }
    (all[..old.len()].to_vec(), came[..old.len()].to_vec())
}

/// A kernel whose threads apply `instruction` to 96 bytes of `memory` each, in global or shared memory, and give what came back
/// in 32 bytes of `result`.
fn kernel(space: &str, instruction: &str, register: &str, ty: &str) -> String {
    let count = [(".v2", 2), (".v4", 4), (".v8", 8)].iter().find(|(part, _)| instruction.contains(part));
    let count = count.map_or(1, |&(_, count)| count);

    let list = |name: &str| match count {
        1 => format!("%{register}{name}"),
        _ => format!("{{{}}}", (0..count).map(|i| format!("%{register}{name}{i}")).collect::<Vec<_>>().join(", ")),
    };

    // Each operand is loaded or stored register by register.
    let bits = ty.trim_start_matches(|c: char| c.is_alphabetic());
    let each = |op: &str, name: &str, base: &str| -> String {
        let size = bits.parse::<usize>().unwrap() / 8;
        let one = |i: usize, register: String| match op {
            "ld" => format!("ld.global.{ty} {register}, [{base}+{}];", i * size),
            _ => format!("st.global.{ty} [{base}+{}], {register};", i * size),
        };
        match count {
            1 => one(0, format!("%{register}{name}")),
            _ => (0..count).map(|i| one(i, format!("%{register}{name}{i}"))).collect(),
        }
    };

    let registers: String = ["d", "x", "y"]
        .iter()
        .map(|name| {
            format!(
                ".reg .{ty} %{register}{name}, {};",
                (0..8).map(|i| format!("%{register}{name}{i}")).collect::<Vec<_>>().join(", ")
            )
        })
        .collect();

    let address = if space == "global" { "%rd2" } else { "%r2" };
    let instruction = instruction
        .replace("{a}", &format!("[{address}]"))
        .replace("{d}", &list("d"))
        .replace("{x}", &list("x"))
        .replace("{y}", &list("y"));
    let (before, after) = match space {
        "global" => (String::new(), String::new()),
        _ => (copy(".global", ".shared"), copy(".shared", ".global")),
    };

    format!(
        ".visible .entry k(.param .u64 memory, .param .u64 result)
        {{
            .reg .b32 %r<9>; .reg .b64 %rd<12>; {registers} .shared .align 32 .b8 tile[2048];
            mov.u32 %r1, %tid.x; ld.param.u64 %rd1, [memory]; mul.wide.u32 %rd3, %r1, 96; add.u64 %rd2, %rd1, %rd3;
            ld.param.u64 %rd4, [result]; mul.wide.u32 %rd5, %r1, 32; add.u64 %rd4, %rd4, %rd5;
            mov.u32 %r3, tile; mad.lo.u32 %r2, %r1, 32, %r3; add.u64 %rd7, %rd2, 32; add.u64 %rd8, %rd2, 64;
            {} {} {before} {instruction} {after} {}
            ret;
        }}",
        each("ld", "x", "%rd7"),
        each("ld", "y", "%rd8"),
        if instruction.starts_with("atom") { each("st", "d", "%rd4") } else { String::new() },
    )
}

/// Copies the thread's 32 bytes from one space to the other.
fn copy(from: &str, to: &str) -> String {
    let address = |space: &str| if space == ".global" { "%rd2" } else { "%r2" };
    let (source, target) = (address(from), address(to));
    (0..4).map(|i| format!("ld{from}.u64 %rd9, [{source}+{}]; st{to}.u64 [{target}+{}], %rd9;", i * 8, i * 8)).collect()
}

/// Checks one operation on all pairs of values, as `atom` and as `red`, in both spaces and with an order.
fn check(op: &str, ty: &str, values: &[u64], expected: impl Fn(u64, u64) -> u64) {
    let bits: usize = ty.trim_start_matches(|c: char| c.is_alphabetic()).parse().unwrap();
    let bytes = |value: u64| value.to_le_bytes()[..bits / 8].to_vec();
    for &old in values {
        for &x in values {
            for space in ["global", "shared"] {
                for (instruction, comes) in [
                    (format!("atom.{space}.{op}.{ty} {{d}}, {{a}}, {{x}};"), true),
                    (format!("atom.acq_rel.gpu.{space}.{op}.{ty} {{d}}, {{a}}, {{x}};"), true),
                    (format!("red.relaxed.cta.{space}.{op}.{ty} {{a}}, {{x}};"), false),
                ] {
                    if op == "exch" && !comes {
                        continue;
                    }

                    let (now, came) = apply(space, &instruction, "v", ty, &bytes(old), &bytes(x), &[]);
                    assert_eq!(now, bytes(expected(old, x)), "{instruction} of {old:#x} and {x:#x}");
                    if comes {
                        assert_eq!(came, bytes(old), "{instruction} of {old:#x} and {x:#x}");
                    }
                }
            }
        }
    }
}

const WORDS: &[u64] = &[0, 1, 7, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe];
const LONGS: &[u64] = &[0, 5, 0x7fff_ffff_ffff_ffff, 0x8000_0000_0000_0001, u64::MAX];

#[test]
fn integers() {
    check("add", "u32", WORDS, |a, b| u64::from((a as u32).wrapping_add(b as u32)));
    check("add", "s32", WORDS, |a, b| u64::from((a as u32).wrapping_add(b as u32)));
    check("add", "u64", LONGS, u64::wrapping_add);
    check("min", "u32", WORDS, u64::min);
    check("max", "u32", WORDS, u64::max);
    check("min", "s32", WORDS, |a, b| (a as i32).min(b as i32) as u32 as u64);
    check("max", "s32", WORDS, |a, b| (a as i32).max(b as i32) as u32 as u64);
    check("min", "u64", LONGS, u64::min);
    check("max", "u64", LONGS, u64::max);
    check("min", "s64", LONGS, |a, b| (a as i64).min(b as i64) as u64);
    check("max", "s64", LONGS, |a, b| (a as i64).max(b as i64) as u64);
    check("inc", "u32", WORDS, |a, b| if a >= b { 0 } else { a + 1 });
    check("dec", "u32", WORDS, |a, b| if a == 0 || a > b { b } else { a - 1 });
}

#[test]
fn bits_and_exchanges() {
    for (ty, values) in [("b32", WORDS), ("b64", LONGS)] {
        check("and", ty, values, |a, b| a & b);
        check("or", ty, values, |a, b| a | b);
        check("xor", ty, values, |a, b| a ^ b);
        check("exch", ty, values, |_, b| b);
    }
}

#[test]
fn compare_and_swap() {
    for space in ["global", "shared"] {
        for (ty, size) in [("b16", 2), ("b32", 4), ("b64", 8), ("b128", 16)] {
            let value =
                |seed: u8| (0..size).map(|i| seed.wrapping_mul(37).wrapping_add(i as u8 * 11)).collect::<Vec<u8>>();
            let mut almost = value(1);
            almost[size - 1] ^= 0x40;
            for (x, swaps) in [(value(1), true), (almost, false)] {
                let instruction = format!("atom.{space}.cas.{ty} {{d}}, {{a}}, {{x}}, {{y}};");
                let (now, came) = apply(space, &instruction, "v", ty, &value(1), &x, &value(9));
                assert_eq!((now, came), (if swaps { value(9) } else { value(1) }, value(1)), "{instruction}");
            }
        }
        let (old, new) = ((0..16).collect::<Vec<u8>>(), (100..116).collect::<Vec<u8>>());
        let exchange = format!("atom.{space}.exch.b128 {{d}}, {{a}}, {{x}};");
        assert_eq!(apply(space, &exchange, "v", "b128", &old, &new, &[]), (new.clone(), old));
    }
}

#[test]
fn floats() {
    let values = [0.0_f32, -0.0, 1.5, -2.25, 3.0e38, f32::INFINITY, f32::NEG_INFINITY, 1.0e-7];
    let nan = |x: f32| u64::from(if x.is_nan() { 0x7fff_ffff } else { x.to_bits() });
    let bits = values.map(|value| u64::from(value.to_bits()));
    check("add", "f32", &bits, |a, b| nan(f32::from_bits(a as u32) + f32::from_bits(b as u32)));
    let doubles = [0.0_f64, -1.5, 1.0e300, 5e-324, f64::INFINITY].map(f64::to_bits);
    check("add", "f64", &doubles, |a, b| (f64::from_bits(a) + f64::from_bits(b)).to_bits());
}

#[test]
fn subnormal_sums_are_flushed_in_global_memory_only() {
    let tiny = 3_u32.to_le_bytes();
    for (space, expected) in [("global", 0_u32), ("shared", 6)] {
        let (now, _) = apply(space, &format!("red.{space}.add.f32 {{a}}, {{x}};"), "v", "f32", &tiny, &tiny, &[]);
        assert_eq!(now, expected.to_le_bytes(), "{space}");
    }
}

/// Of bf16 and f16 by f64: the sums here are exact in either format.
fn half(ty: &str, value: f32) -> u16 {
    match ty {
        "bf16" => (value.to_bits() >> 16) as u16,
        // Normal numbers alone, exactly representable.
        _ if value == 0.0 => 0,
        _ => {
            let bits = value.to_bits();
            ((bits >> 16 & 0x8000) | ((bits >> 23 & 255) + 15 - 127) << 10 | bits >> 13 & 0x3ff) as u16
        }
    }
}

#[test]
fn halves_and_vectors() {
    let (a, b) = ([1.5_f32, -2.0, 0.25, 96.0, 7.0, -8.5, 0.0, 3.0], [0.5_f32, 4.0, -1.25, 32.0, -7.5, 2.5, 1.0, -5.0]);
    let pack =
        |ty: &str, values: &[f32]| values.iter().flat_map(|&value| half(ty, value).to_le_bytes()).collect::<Vec<u8>>();

    type Op = fn(f32, f32) -> f32;
    for ty in ["f16", "bf16"] {
        for (op, f) in [("add", (|x, y| x + y) as Op), ("min", f32::min), ("max", f32::max)] {
            let expected: Vec<f32> = a.iter().zip(&b).map(|(&x, &y)| f(x, y)).collect();
            for (vector, packed, register, count) in [
                ("", "", "b16", 1),
                ("", "x2", "b32", 2),
                (".v2", "", "b16", 2),
                (".v4", "", "b16", 4),
                (".v8", "", "b16", 8),
                (".v2", "x2", "b32", 4),
                (".v4", "x2", "b32", 8),
            ] {
                if op != "add" && vector.is_empty() {
                    continue;
                }
                for space in ["global", "shared"] {
                    if space == "shared" && !vector.is_empty() {
                        continue;
                    }
                    for form in ["atom", "red"] {
                        let target = if form == "atom" { "{d}, " } else { "" };
                        let instruction =
                            format!("{form}.{space}{vector}.{op}.noftz.{ty}{packed} {target}{{a}}, {{x}};");
                        let instruction = if vector.is_empty() {
                            instruction
                        } else {
                            format!("{form}.global.{op}.noftz{vector}.{ty}{packed} {target}{{a}}, {{x}};")
                        };
                        let (now, came) = apply(
                            space,
                            &instruction,
                            "v",
                            register,
                            &pack(ty, &a[..count]),
                            &pack(ty, &b[..count]),
                            &[],
                        );
                        assert_eq!(now, pack(ty, &expected[..count]), "{instruction}");
                        if form == "atom" {
                            assert_eq!(came, pack(ty, &a[..count]), "{instruction}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn vectors_of_singles() {
    let (a, b) = ([1.5_f32, -2.0, 0.25, 96.0], [0.5_f32, 4.0, -1.25, 32.0]);
    let words = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    for vector in [2, 4] {
        let expected: Vec<f32> = a.iter().zip(&b).map(|(x, y)| x + y).collect();
        let instruction = format!("atom.global.add.v{vector}.f32 {{d}}, {{a}}, {{x}};");
        let (now, came) = apply("global", &instruction, "v", "f32", &words(&a[..vector]), &words(&b[..vector]), &[]);
        assert_eq!((now, came), (words(&expected[..vector]), words(&a[..vector])), "{instruction}");
    }
}

#[test]
fn nothing_is_lost_between_threads_of_the_host() {
    let text = ".visible .entry k(.param .u64 sums, .param .u64 tickets)
    {
        .reg .b32 %r<9>; .reg .b64 %rd<9>; .reg .f32 %f<3>;
        ld.param.u64 %rd1, [sums]; ld.param.u64 %rd2, [tickets];
        mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mad.lo.u32 %r4, %r2, %r3, %r1;
        red.global.add.u32 [%rd1], %r4; mov.f32 %f1, 0f3F800000; red.global.add.f32 [%rd1+4], %f1;
        atom.global.inc.u32 %r5, [%rd1+8], 0xffffffff;
        mul.wide.u32 %rd3, %r5, 4; add.u64 %rd3, %rd3, %rd2; st.global.u32 [%rd3], %r4;
        ret;
    }";
    for threads in [1, 2, 4] {
        let mut machine = Machine::new(text);
        machine.options.threads = threads;
        let n = 40 * 100;
        let (sums, tickets) = (machine.upload(&[0; 3]), machine.upload(&vec![u32::MAX; n]));
        machine.launch("k", 40, 100, &[sums, tickets]).unwrap();

        let count = n as u32;
        assert_eq!(machine.download(sums, 3), [count * (count - 1) / 2, (n as f32).to_bits(), count]);
        let mut order = machine.download(tickets, n);
        order.sort_unstable();
        assert!(order.iter().copied().eq(0..count), "each ticket once");
    }
}
