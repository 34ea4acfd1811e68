//! `mma` of every shape and type against a plain triple loop over the one dot product, with fragments placed as the formulas
//! of the PTX ISA say ("Matrix Fragments for mma.m…n…k…").

use cudasim::numerics::Rounding;
use cudasim::numerics::dot::{dot, dot_b1, dot_f64, dot_s32};
use cudasim::numerics::formats::{bf16_to_f32, e4m3_to_f32, e5m2_to_f32, f16_to_f32, tf32_to_f32};

use crate::support::{Machine, Noise};

/// The operands of an instruction as the words of its registers: for each lane `count` registers of `bits` bits.
struct Fragments {
    count: usize,
    words: usize,
    data: Vec<u32>,
}

impl Fragments {
    fn new(count: usize, bits: u32) -> Self {
        let words = count * bits.div_ceil(32) as usize;
        Self { count, words, data: vec![0; 32 * words] }
    }

    /// Puts element `i` of a lane.
    fn put(&mut self, lane: usize, i: usize, bits: u32, value: u64) {
        let first = lane * self.words * 32 + i * bits as usize;
        for bit in 0..bits as usize {
            let (word, place) = ((first + bit) / 32, (first + bit) % 32);
            self.data[word] |= ((value >> bit & 1) as u32) << place;
        }
    }

    fn get(&self, lane: usize, i: usize, bits: u32) -> u64 {
        let first = lane * self.words * 32 + i * bits as usize;
        (0..bits as usize)
            .map(|bit| {
                let (word, place) = ((first + bit) / 32, (first + bit) % 32);
                u64::from(self.data[word] >> place & 1) << bit
            })
            .enumerate()
            .fold(0, |all, (_, bit)| all | bit)
    }
}

type Place = fn(usize, usize, usize) -> (usize, usize);

/// A matrix in registers: its shape, the width of its elements, how many each lane holds in how wide registers, and where
/// element `i` of group `g` and thread `t` is: row and column.
#[derive(Clone, Copy)]
struct Layout {
    rows: usize,
    columns: usize,
    bits: u32,
    register: u32,
    place: Place,
}

impl Layout {
    fn per_lane(&self) -> usize {
        self.rows * self.columns / 32
    }

    fn registers(&self) -> usize {
        self.per_lane() * self.bits as usize / self.register as usize
    }

    fn load(&self, matrix: &[u64]) -> Fragments {
        let mut fragments = Fragments::new(self.registers(), self.register);
        let mut seen = vec![false; matrix.len()];
        for lane in 0..32 {
            for i in 0..self.per_lane() {
                let (row, column) = (self.place)(lane / 4, lane % 4, i);
                assert!(!std::mem::replace(&mut seen[row * self.columns + column], true), "an element twice");
                fragments.put(lane, i, self.bits, matrix[row * self.columns + column]);
            }
        }
        fragments
    }

    fn store(&self, fragments: &Fragments) -> Vec<u64> {
        let mut matrix = vec![0; self.rows * self.columns];
        for lane in 0..32 {
            for i in 0..self.per_lane() {
                let (row, column) = (self.place)(lane / 4, lane % 4, i);
                matrix[row * self.columns + column] = fragments.get(lane, i, self.bits);
            }
        }
        matrix
    }
}

fn layout_a(m: usize, k: usize, bits: u32) -> Layout {
    let place: Place = match (m, k, bits) {
        (8, 4, 64) => |g, t, _| (g, t),
        (8, 16, 8) => |g, t, i| (g, t * 4 + i),
        (8, 32, 4) => |g, t, i| (g, t * 8 + i),
        (8, 128, 1) => |g, t, i| (g, t * 32 + i),

        (16, 4, 32 | 64) => |g, t, i| (if i == 0 { g } else { g + 8 }, t),
        (16, 8, 16) => |g, t, i| (if i < 2 { g } else { g + 8 }, t * 2 + (i & 1)),
        (16, 8, 32 | 64) => |g, t, i| (if i == 0 || i == 2 { g } else { g + 8 }, if i < 2 { t } else { t + 4 }),
        (16, 16, 16) => |g, t, i| {
            (if i < 2 || (4..6).contains(&i) { g } else { g + 8 }, t * 2 + (i & 1) + if i < 4 { 0 } else { 8 })
        },

        (16, 16, 64) => |g, t, i| if i % 2 == 0 { (g, i * 2 + t) } else { (g + 8, i * 2 - 2 + t) },
        (16, 16, 8) => |g, t, i| (if i < 4 { g } else { g + 8 }, t * 4 + (i & 3)),
        (16, 32, 8) => |g, t, i| {
            (if i < 4 || (8..12).contains(&i) { g } else { g + 8 }, t * 4 + (i & 3) + if i < 8 { 0 } else { 16 })
        },
        (16, 32, 4) => |g, t, i| (if i < 8 { g } else { g + 8 }, t * 8 + (i & 7)),
        (16, 64, 4) => |g, t, i| {
            (if i < 8 || (16..24).contains(&i) { g } else { g + 8 }, t * 8 + (i & 7) + if i < 16 { 0 } else { 32 })
        },
        (16, 128, 1) => |g, t, i| (if i < 32 { g } else { g + 8 }, t * 32 + (i & 31)),
        (16, 256, 1) => |g, t, i| {
            (if i < 32 || (64..96).contains(&i) { g } else { g + 8 }, t * 32 + (i & 31) + if i < 64 { 0 } else { 128 })
        },
        other => panic!("no layout of A for {other:?}"),
    };
    Layout { rows: m, columns: k, bits, register: bits.max(32), place }
}

fn layout_b(k: usize, bits: u32) -> Layout {
    let place: Place = match (k, bits) {
        (4, 32 | 64) => |g, t, _| (t, g),
        (8, 32 | 64) | (16, 64) => |g, t, i| (t + 4 * i, g),
        (8, 16) => |g, t, i| (t * 2 + i, g),
        (16, 16) => |g, t, i| (t * 2 + (i & 1) + if i < 2 { 0 } else { 8 }, g),
        (16, 8) => |g, t, i| (t * 4 + i, g),
        (32, 8) => |g, t, i| (t * 4 + (i & 3) + if i < 4 { 0 } else { 16 }, g),
        (32, 4) => |g, t, i| (t * 8 + i, g),
        (64, 4) => |g, t, i| (t * 8 + (i & 7) + if i < 8 { 0 } else { 32 }, g),
        (128, 1) => |g, t, i| (t * 32 + i, g),
        (256, 1) => |g, t, i| (t * 32 + (i & 31) + if i < 32 { 0 } else { 128 }, g),
        other => panic!("no layout of B for {other:?}"),
    };
    Layout { rows: k, columns: 8, bits, register: bits.max(32), place }
}

fn layout_c(m: usize, bits: u32) -> Layout {
    let place: Place =
        if m == 8 { |g, t, i| (g, t * 2 + i) } else { |g, t, i| (if i < 2 { g } else { g + 8 }, t * 2 + (i & 1)) };
    Layout { rows: m, columns: 8, bits, register: bits.max(32), place }
}

/// A kernel of one instruction: A, B, C and D are arrays of lanes' registers.
fn kernel(mnemonic: &str, [d, a, b, c]: [(&str, usize, u32); 4]) -> String {
    let mut text = String::from(".visible .entry k(.param .u64 a, .param .u64 b, .param .u64 c, .param .u64 d)\n{\n");
    text += ".reg .b64 %rd<8>; .reg .b32 %t; mov.u32 %t, %laneid;\n";

    // Load A, B and C: each lane has its registers side by side.
    let mut lists = Vec::new();
    for (name, (ty, count, bits)) in ["d", "a", "b", "c"].into_iter().zip([d, a, b, c]) {
        text += &format!(".reg .{ty} %{name}<{count}>;\n");
        lists.push(format!("{{{}}}", (0..count).map(|i| format!("%{name}{i}")).collect::<Vec<_>>().join(", ")));
        let bytes = count * bits as usize / 8;
        text += &format!("ld.param.u64 %rd0, [{name}]; mad.wide.u32 %rd1, %t, {bytes}, %rd0;\n");
        if name == "d" {
            text += "mov.u64 %rd2, %rd1;\n";
            continue;
        }
        for i in 0..count {
            text += &format!("ld.global.{ty} %{name}{i}, [%rd1+{}];\n", i * bits as usize / 8);
        }
    }

    text += &format!("{mnemonic} {}, {}, {}, {};\n", lists[0], lists[1], lists[2], lists[3]);
    for i in 0..d.1 {
        text += &format!("st.global.{} [%rd2+{}], %d{i};\n", d.0, i * d.2 as usize / 8);
    }
    text + "ret;\n}"
}

/// Runs one instruction on fragments.
fn run(mnemonic: &str, types: [&str; 4], a: &Fragments, b: &Fragments, c: &Fragments, d: &mut Fragments) {
    let of = |fragments: &Fragments, ty| (ty, fragments.count, (fragments.words / fragments.count * 32) as u32);
    let text = kernel(mnemonic, [of(d, types[0]), of(a, types[1]), of(b, types[2]), of(c, types[3])]);
    let machine = Machine::new(&text);
    let places = [a, b, c].map(|fragments| machine.upload(&fragments.data));
    let out = machine.upload(&d.data);
    machine.launch("k", 1, 32, &[places[0], places[1], places[2], out]).unwrap_or_else(|report| panic!("{report}"));
    d.data = machine.download(out, d.data.len());
}

fn float(ty: &str, bits: u64) -> f32 {
    match ty {
        "f16" => f16_to_f32(bits as u16),
        "bf16" => bf16_to_f32(bits as u16),
        "tf32" => tf32_to_f32(bits as u32),
        "e4m3" => e4m3_to_f32(bits as u8),
        "e5m2" => e5m2_to_f32(bits as u8),
        other => panic!("{other}"),
    }
}

pub fn bits_of(ty: &str) -> u32 {
    match ty {
        "f64" => 64,
        "f32" | "s32" | "tf32" => 32,
        "f16" | "bf16" => 16,
        "b1" => 1,
        "u4" | "s4" => 4,
        _ => 8,
    }
}

fn integer(ty: &str, bits: u64) -> i32 {
    let bits = bits as u32;
    match ty {
        "s8" => bits as i8 as i32,
        "s4" => (bits << 28) as i32 >> 28,
        _ => bits as i32,
    }
}

/// One element of D from row, column and C, as bits.
pub fn element(types: [&str; 4], flags: &str, c: u64, a: &[u64], b: &[u64]) -> u64 {
    let satfinite = flags.contains("satfinite");
    match (types[0], types[1]) {
        ("f64", _) => {
            let wide = |x: &[u64]| x.iter().map(|&x| f64::from_bits(x)).collect::<Vec<_>>();
            let rounding = [("rz", Rounding::Rz), ("rm", Rounding::Rm), ("rp", Rounding::Rp)];
            let rounding = rounding.iter().find(|(name, _)| flags.contains(name)).map_or(Rounding::Rn, |found| found.1);
            dot_f64(rounding, f64::from_bits(c), &wide(a), &wide(b)).to_bits()
        }

        (_, "b1") => {
            let word = |x: &[u64]| x.iter().enumerate().fold(0, |word, (i, &bit)| word | (bit as u32) << i);
            let words = a.chunks(32).zip(b.chunks(32));
            words.fold(c as i32, |sum, (a, b)| dot_b1(flags.contains("and"), sum, word(a), word(b))) as u32 as u64
        }

        ("s32", _) => {
            let wide = |ty, x: &[u64]| x.iter().map(|&x| integer(ty, x)).collect::<Vec<_>>();
            dot_s32(satfinite, c as i32, &wide(types[1], a), &wide(types[2], b)) as u32 as u64
        }

        (d, _) => {
            let wide = |ty, x: &[u64]| x.iter().map(|&x| float(ty, x)).collect::<Vec<_>>();
            let (a, b) = (wide(types[1], a), wide(types[2], b));
            if d == "f16" {
                dot(c as u16, &a, &b).into()
            } else {
                dot(f32::from_bits(c as u32), &a, &b).to_bits().into()
            }
        }
    }
}

/// Small numbers in a type that are exact in every sum of this test.
pub fn small(ty: &str, value: i32) -> u64 {
    match ty {
        "f64" => f64::from(value).to_bits(),
        "f32" | "tf32" => (value as f32).to_bits().into(),
        "f16" => cudasim::numerics::formats::f16_from_f32(cudasim::numerics::formats::Narrow::RN, value as f32).into(),
        "bf16" => {
            cudasim::numerics::formats::bf16_from_f32(cudasim::numerics::formats::Narrow::RN, value as f32).into()
        }
        "e4m3" => {
            cudasim::numerics::formats::e4m3_from_f64(cudasim::numerics::formats::Narrow::RN, value.into()).into()
        }
        "e5m2" => {
            cudasim::numerics::formats::e5m2_from_f64(cudasim::numerics::formats::Narrow::RN, value.into()).into()
        }
        "s32" => (value as u32).into(),
        "b1" => (value & 1) as u64,
        "u4" | "s4" => (value & 15) as u64,
        _ => (value & 255) as u64,
    }
}

/// Checks one mnemonic: with small integers that code row and column, and with any bits.
fn check(m: usize, k: usize, types: [&str; 4], flags: &str, mnemonic: &str) {
    let [bits_d, bits_a, bits_b, bits_c] = types.map(bits_of);
    let (a, b) = (layout_a(m, k, bits_a), layout_b(k, bits_b));
    let (c, d) = (layout_c(m, bits_c), layout_c(m, bits_d));
    let register = |bits: u32, ty: &str| match (bits, ty) {
        (64, _) => "f64",
        (_, "f32") => "f32",
        _ => "b32",
    };
    let names = [register(bits_d, types[0]), register(bits_a, "b"), register(bits_b, "b"), register(bits_c, types[3])];

    let mut noise = Noise::new(mnemonic.len() as u64 + 7);
    for round in 0..4 {
        let mut fill = |count: usize, columns: usize, ty: &str, prime: usize| -> Vec<u64> {
            let mask = u64::MAX >> (64 - bits_of(ty));
            (0..count)
                .map(|i| match round {
                    // Row and column, told apart by primes; small enough to be exact in e5m2.
                    0 => small(ty, ((i / columns * prime + i % columns * 7 + i * i % 5) % 8) as i32),
                    1 => small(ty, ((i / columns * 5 + i % columns * prime) % 7) as i32 - 3),
                    _ => noise.bits() & mask,
                })
                .collect()
        };

        let (va, vb, vc) = (fill(m * k, k, types[1], 3), fill(k * 8, 8, types[2], 5), fill(m * 8, 8, types[3], 11));
        let mut fragments = Fragments::new(d.registers(), d.register);
        run(mnemonic, names, &a.load(&va), &b.load(&vb), &c.load(&vc), &mut fragments);

        let result = d.store(&fragments);
        for row in 0..m {
            for column in 0..8 {
                let along: Vec<u64> = (0..k).map(|l| vb[l * 8 + column]).collect();
                let expected = element(types, flags, vc[row * 8 + column], &va[row * k..][..k], &along);
                let got = result[row * 8 + column];
                assert_eq!(got, expected, "{mnemonic} round {round} row {row} column {column}: {got:#x} {expected:#x}");
            }
        }
    }
}

fn all(shapes: &[(usize, usize)], types: &[[&str; 4]], flags: &[&str]) {
    for &(m, k) in shapes {
        for &types in types {
            for &flags in flags {
                let [d, a, b, c] = types;
                let mnemonic = match flags {
                    "xor.popc" | "and.popc" => format!("mma.sync.aligned.m{m}n8k{k}.row.col.{d}.{a}.{b}.{c}.{flags}"),
                    _ => format!("mma.sync.aligned.m{m}n8k{k}.row.col{flags}.{d}.{a}.{b}.{c}"),
                };
                check(m, k, types, flags, &mnemonic);
            }
        }
    }
}

#[test]
fn halves() {
    let types = [["f16", "f16", "f16", "f16"], ["f32", "f16", "f16", "f32"], ["f32", "bf16", "bf16", "f32"]];
    all(&[(16, 8), (16, 16)], &types, &[""]);
}

#[test]
fn tf32_and_f64() {
    all(&[(16, 4), (16, 8)], &[["f32", "tf32", "tf32", "f32"]], &[""]);
    all(&[(8, 4), (16, 4), (16, 8), (16, 16)], &[["f64"; 4]], &["", ".rn", ".rz", ".rm", ".rp"]);
}

#[test]
fn fp8() {
    for (a, b) in [("e4m3", "e4m3"), ("e4m3", "e5m2"), ("e5m2", "e4m3"), ("e5m2", "e5m2")] {
        all(&[(16, 16), (16, 32)], &[["f32", a, b, "f32"], ["f16", a, b, "f16"]], &[""]);
    }
}

#[test]
fn integers() {
    for (a, b) in [("u8", "u8"), ("u8", "s8"), ("s8", "u8"), ("s8", "s8")] {
        all(&[(8, 16), (16, 16), (16, 32)], &[["s32", a, b, "s32"]], &["", ".satfinite"]);
    }
    for (a, b) in [("u4", "u4"), ("u4", "s4"), ("s4", "u4"), ("s4", "s4")] {
        all(&[(8, 32), (16, 32), (16, 64)], &[["s32", a, b, "s32"]], &["", ".satfinite"]);
    }
}

#[test]
fn single_bits() {
    all(&[(8, 128), (16, 128), (16, 256)], &[["s32", "b1", "b1", "s32"]], &["xor.popc", "and.popc"]);
}

/// Row of A and D, or column of B, that a lane of `m8n8k4` holds.
fn quad_row(lane: usize) -> usize {
    if lane < 16 { lane % 4 } else { lane % 4 + 4 }
}

/// Which of the four products a lane of `m8n8k4` takes part in.
fn quad(lane: usize) -> usize {
    lane / 4 % 4
}

/// Row and column of element `i` of C or D in a lane of `m8n8k4`.
fn quad_place(ty: &str, lane: usize, i: usize) -> (usize, usize) {
    match ty {
        "f16" => (quad_row(lane), i),
        _ => {
            let x = (lane & 1) + (i & 2);
            (if lane < 16 { x } else { x + 4 }, (i & 4) + (lane & 2) + (i & 1))
        }
    }
}

/// Operands of `m8n8k4`, as bits: A 4 x 8 x 4, B 4 x 4 x 8 and C 4 x 8 x 8, the product first.
struct Quads {
    a: Vec<u64>,
    b: Vec<u64>,
    c: Vec<u64>,
}

impl Quads {
    /// A, B and C as the lanes hold them.
    fn fragments(&self, [a_layout, b_layout]: [&str; 2], c_type: &str) -> [Fragments; 3] {
        let (mut fa, mut fb) = (Fragments::new(2, 32), Fragments::new(2, 32));
        let mut fc = quad_accumulator(c_type);
        for lane in 0..32 {
            for i in 0..4 {
                let (row, k) = match a_layout {
                    "row" => (quad_row(lane), i),
                    _ => (if lane < 16 { i } else { i + 4 }, lane % 4),
                };
                fa.put(lane, i, 16, self.a[quad(lane) * 32 + row * 4 + k]);

                let (k, column) = match b_layout {
                    "row" => (lane % 4, if lane < 16 { i } else { i + 4 }),
                    _ => (i, quad_row(lane)),
                };
                fb.put(lane, i, 16, self.b[quad(lane) * 32 + k * 8 + column]);
            }
            for i in 0..8 {
                let (row, column) = quad_place(c_type, lane, i);
                fc.put(lane, i, bits_of(c_type), self.c[quad(lane) * 64 + row * 8 + column]);
            }
        }
        [fa, fb, fc]
    }

    /// Element `i` of D in a lane, as bits.
    fn expected(&self, d_type: &str, c_type: &str, lane: usize, i: usize) -> u64 {
        let (row, column) = quad_place(d_type, lane, i);
        let start = self.c[quad(lane) * 64 + row * 8 + column];
        let a: Vec<f32> = (0..4).map(|k| float("f16", self.a[quad(lane) * 32 + row * 4 + k])).collect();
        let b: Vec<f32> = (0..4).map(|k| float("f16", self.b[quad(lane) * 32 + k * 8 + column])).collect();
        match (d_type, c_type) {
            // An f16 C is exact in f32.
            ("f32", "f16") => dot(f16_to_f32(start as u16), &a, &b).to_bits().into(),
            ("f32", _) => dot(f32::from_bits(start as u32), &a, &b).to_bits().into(),
            _ => dot(start as u16, &a, &b).into(),
        }
    }
}

fn quad_accumulator(ty: &str) -> Fragments {
    Fragments::new(if ty == "f16" { 4 } else { 8 }, 32)
}

/// The oldest shape: four products, one for each quad and the quad 16 lanes on.
#[test]
fn quads() {
    for layouts in [["row", "row"], ["row", "col"], ["col", "row"], ["col", "col"]] {
        for (d_type, c_type) in [("f16", "f16"), ("f32", "f16"), ("f32", "f32")] {
            let [a_layout, b_layout] = layouts;
            let mnemonic = format!("mma.sync.aligned.m8n8k4.{a_layout}.{b_layout}.{d_type}.f16.f16.{c_type}");
            let mut noise = Noise::new(3);
            for round in 0..2 {
                let mut value = |i: usize, ty: &str| match round {
                    0 => small(ty, (i * i % 11) as i32 - 5),
                    _ => noise.bits() & (u64::MAX >> (64 - bits_of(ty))),
                };
                let operands = Quads {
                    a: (0..4 * 8 * 4).map(|i| value(i + 1, "f16")).collect(),
                    b: (0..4 * 4 * 8).map(|i| value(i + 3, "f16")).collect(),
                    c: (0..4 * 8 * 8).map(|i| value(i + 7, c_type)).collect(),
                };

                let [a, b, c] = operands.fragments(layouts, c_type);
                let mut d = quad_accumulator(d_type);
                let name = |ty| if ty == "f16" { "b32" } else { "f32" };
                run(&mnemonic, [name(d_type), "b32", "b32", name(c_type)], &a, &b, &c, &mut d);

                for (lane, i) in (0..32).flat_map(|lane| (0..8).map(move |i| (lane, i))) {
                    let expected = operands.expected(d_type, c_type, lane, i);
                    assert_eq!(d.get(lane, i, bits_of(d_type)), expected, "{mnemonic} {round} {lane} {i}");
                }
            }
        }
    }
}

#[test]
fn lanes_that_are_elsewhere_are_reported() {
    let text = |guard: &str, before: &str| {
        format!(
            ".visible .entry k() {{ .reg .b32 %r<4>; .reg .f32 %f<4>; .reg .pred %p; .reg .b32 %t;
             mov.u32 %t, %laneid; mov.b32 %r0, 0; mov.b32 %r1, 0; mov.b32 %r2, 0; mov.b32 %r3, 0;
             mov.f32 %f0, 0f00000000; mov.f32 %f1, %f0; mov.f32 %f2, %f0; mov.f32 %f3, %f0;
             setp.lt.u32 %p, %t, 7; {before}
             {guard} mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {{%f0,%f1,%f2,%f3}}, {{%r0,%r1}}, {{%r2}}, {{%f0,%f1,%f2,%f3}};
             ret; }}"
        )
    };
    let kind =
        |text: String, threads| Machine::new(&text).launch("k", 1, threads, &[]).map_err(|report| report.fault.kind);
    use cudasim::report::FaultKind::DivergentBarrier;
    assert_eq!(kind(text("", ""), 32), Ok(()));
    assert_eq!(kind(text("@%p", ""), 32), Err(DivergentBarrier));
    assert_eq!(kind(text("", "@%p exit;"), 32), Err(DivergentBarrier), "lanes that have left");
    assert_eq!(kind(text("", ""), 24), Err(DivergentBarrier), "half a warp");
}
