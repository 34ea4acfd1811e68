//! Every arithmetic instruction, by type and modifier, against values computed here with Rust's own operators (in wider
//! types where rounding or overflow matters), over edge cases and random bits.

mod compare;
mod convert;
mod float;
mod half;
mod integer;
mod logic;
mod moves;
mod video;
mod wide;

use crate::support::Machine;

/// A result that an instruction should have, from the bits of its operands.
pub type Expected = fn(u64, u64, u64) -> u64;

/// Checks instructions of the same operand widths on the same inputs: `text` with `{d}`, `{a}`, `{b}`, `{c}` (and `{p}`,
/// `{q}`, predicates: `{p}` is true where the lowest bit of c is set), beside what it should give.
///
/// `widths` are the bits of d, a, b and c.
pub fn check(widths: [u32; 4], inputs: &[[u64; 3]], rows: &[(&str, Expected)]) {
    let machine = Machine::new(&kernels(widths, rows));
    let words: Vec<u32> = inputs.iter().flatten().flat_map(|&value| [value as u32, (value >> 32) as u32]).collect();
    let from = machine.upload(&words);
    let cut = |value: u64, width: u32| if width == 64 { value } else { value & ((1 << width) - 1) };

    for (number, (instruction, expected)) in rows.iter().enumerate() {
        let to = machine.upload(&vec![0x5a5a_5a5a; 2 * inputs.len()]);
        // 128 threads at a time, the last warp of them not full.
        for start in (0..inputs.len()).step_by(100) {
            let count = (inputs.len() - start).min(100) as u64;
            let parameters = [from + 24 * start as u64, to + 8 * start as u64, count];
            machine.launch(&format!("k{number}"), 1, 128, &parameters).unwrap_or_else(|report| panic!("{report}"));
        }

        let results = machine.download(to, 2 * inputs.len());
        for (input, result) in inputs.iter().zip(results.chunks_exact(2)) {
            let result = u64::from(result[1]) << 32 | u64::from(result[0]);
            let [a, b, c]: [u64; 3] = std::array::from_fn(|place| cut(input[place], widths[place + 1]));
            let expected = cut(expected(a, b, c), widths[0]);
            assert_eq!(result, expected, "{instruction} of {a:#x}, {b:#x}, {c:#x}: {result:#x}, not {expected:#x}");
        }
    }
}

/// A kernel `k0`, `k1`, ... for each instruction: thread n loads operands a, b and c from `from`, and stores d to `to`.
fn kernels(widths: [u32; 4], rows: &[(&str, Expected)]) -> String {
    let register = |name: char, width: u32| match width {
        16 => format!("%{name}h"),
        32 => format!("%{name}w"),
        _ => format!("%{name}l"),
    };
    let names: Vec<String> = "dabc".chars().zip(widths).map(|(name, width)| register(name, width)).collect();

    let mut text = String::new();
    for (number, (instruction, _)) in rows.iter().enumerate() {
        let mut instruction = (*instruction).to_owned();
        for (place, name) in ["{d}", "{a}", "{b}", "{c}"].iter().zip(&names) {
            instruction = instruction.replace(place, name);
        }
        let instruction = instruction.replace("{p}", "%p").replace("{q}", "%q");

        let load = |name: char, offset: u32, width: u32| {
            let cut = match width {
                64 => String::new(),
                bits => format!("cvt.u{bits}.u64 {}, %{name}l;", register(name, bits)),
            };
            format!("ld.global.u64 %{name}l, [%at+{offset}]; {cut}\n")
        };
        let store = match widths[0] {
            64 => String::new(),
            bits => format!("cvt.u64.u{bits} %dl, {};", register('d', bits)),
        };

        text += &format!(
            ".visible .entry k{number}(.param .u64 from, .param .u64 to, .param .u64 count)
            {{
                .reg .pred %p, %q, %beyond;
                .reg .b16 %dh, %ah, %bh, %ch; .reg .b32 %dw, %aw, %bw, %cw, %i, %n; .reg .b64 %dl, %al, %bl, %cl, %at, %to;
                ld.param.u32 %n, [count]; mov.u32 %i, %tid.x; setp.ge.u32 %beyond, %i, %n;
                @%beyond bra END;
                ld.param.u64 %at, [from]; mad.wide.u32 %at, %i, 24, %at;
                ld.param.u64 %to, [to]; mad.wide.u32 %to, %i, 8, %to;
                {}{}{}
                {{ .reg .b64 %t; and.b64 %t, %cl, 1; setp.ne.u64 %p, %t, 0; }}
                mov.b16 %dh, 0; mov.b32 %dw, 0; mov.b64 %dl, 0;
                {instruction}
                {store}
                st.global.u64 [%to], %dl;
            END: ret;
            }}\n",
            load('a', 0, widths[1]),
            load('b', 8, widths[2]),
            load('c', 16, widths[3]),
        );
    }
    text
}

/// Triples of integers: edge cases of every width against one another, and random bits.
pub fn integers() -> Vec<[u64; 3]> {
    let edges = [
        0,
        1,
        2,
        3,
        31,
        32,
        33,
        63,
        64,
        65,
        0x7f,
        0x80,
        0xff,
        0x7fff,
        0x8000,
        0xffff,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        0x1_0000_0000,
        i64::MAX as u64,
        i64::MIN as u64,
        u64::MAX,
        u64::MAX - 1,
    ];
    triples(&edges, |random| random)
}

/// Triples of the bits of f32: edge cases and random bits.
pub fn singles() -> Vec<[u64; 3]> {
    let edges = [
        0.0,
        1.0,
        -1.0,
        1.5,
        0.1,
        -2.75,
        3.0e38,
        -3.0e38,
        1.0e-38,
        1.0e-40,
        -1.0e-45,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        16_777_217.0,
        0.5,
        2.5,
    ];

    let mut bits: Vec<u64> = edges.iter().map(|x| u64::from(x.to_bits())).collect();
    bits.extend([0x8000_0000, 0x7f80_0001, 0xffc0_0000, 0x007f_ffff]);
    triples(&bits, |random| match random >> 62 {
        0 => random & 0xffff_ffff,
        // Numbers near one another, whose sums cancel.
        _ => u64::from((((random & 0xffff) as f32 - 32768.0) / 1024.0).to_bits()),
    })
}

/// Triples of the bits of f64: edge cases and random bits.
pub fn doubles() -> Vec<[u64; 3]> {
    let edges =
        [0.0, -0.0, 1.0, -1.5, 0.1, 1.0e308, -1.0e-308, 4.9e-324, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 3.0];
    let bits: Vec<u64> = edges.iter().map(|x| x.to_bits()).collect();
    triples(&bits, |random| match random >> 62 {
        0 => random,
        _ => (((random & 0xff_ffff) as f64 - 8_388_608.0) / 4096.0).to_bits(),
    })
}

/// Every pair of edges with a changing third, then random triples.
pub fn triples(edges: &[u64], shape: impl Fn(u64) -> u64) -> Vec<[u64; 3]> {
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    let mut all = Vec::new();
    for (i, &a) in edges.iter().enumerate() {
        for (j, &b) in edges.iter().enumerate() {
            all.push([a, b, edges[(i * 7 + j * 3) % edges.len()]]);
        }
    }
    all.extend(std::iter::repeat_with(|| [shape(random()), shape(random()), shape(random())]).take(200));
    all
}
