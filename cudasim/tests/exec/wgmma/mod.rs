//! `wgmma` in every layout, type and width against a plain triple loop, and what it says of missing fences and waits.

mod misuse;
mod products;
mod traffic;

use cudasim::options::Completion;
use cudasim::report::Report;

use crate::mma::{bits_of, element, small};
use crate::support::{Machine, Noise};

/// Shared address of the tile: behind the reserved kilobyte, at a multiple of 1024.
const BASE: u64 = 1024;

/// Bytes of k of one instruction.
const K_BYTES: usize = 32;

/// How a multiplicand lies in shared memory.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// Rows of M or N are contiguous.
    rows: bool,
    /// Bytes of the swizzle: 16 (none), 32, 64, 128.
    width: usize,
    leading: usize,
    stride: usize,
    /// Which 32 bytes along k of a swizzled row are meant (K-major).
    slice: usize,
}

impl Layout {
    /// Byte of the tile at which byte `byte` of k of a row lies (K-major), from the figures: in lines of the swizzle's width,
    /// chunk c of line l lies at c XOR (l mod 8), (l / 2 mod 4) or (l / 4 mod 2).
    fn k_major(&self, row: usize, byte: usize) -> usize {
        let (chunk, inside) = (byte / 16, byte % 16);
        if self.width == 16 {
            return row / 8 * self.stride + row % 8 * 16 + chunk * self.leading + inside;
        }
        let moved = self.moved(chunk + 2 * self.slice, row % 8);
        row / 8 * self.stride + row % 8 * self.width + moved * 16 + inside
    }

    /// Byte at which a 16-bit element lies, MN-major.
    fn mn_major(&self, row: usize, k: usize) -> usize {
        if self.width == 16 {
            return row / 8 * self.stride + k / 8 * self.leading + k % 8 * 16 + row % 8 * 2;
        }
        let across = self.width / 2;
        let moved = self.moved(row % across / 8, k % 8);
        row / across * self.leading + k / 8 * self.stride + k % 8 * self.width + moved * 16 + row % 8 * 2
    }

    fn moved(&self, chunk: usize, line: usize) -> usize {
        match self.width {
            128 => chunk ^ line,
            64 => chunk ^ (line / 2 % 4),
            _ => chunk ^ (line / 4 % 2),
        }
    }

    fn descriptor(&self, start: u64) -> u64 {
        let mode = match self.width {
            16 => 0,
            128 => 1,
            64 => 2,
            _ => 3_u64,
        };
        let start = start + 32 * self.slice as u64;
        start >> 4 | (self.leading as u64 >> 4) << 16 | (self.stride as u64 >> 4) << 32 | mode << 62
    }

    /// Writes a matrix of rows of `k` elements; returns the bytes it takes.
    fn write(&self, image: &mut [u8], matrix: &[u64], k: usize, bits: usize) -> usize {
        let mut end = 0;
        for (i, &value) in matrix.iter().enumerate() {
            let (row, column) = (i / k, i % k);
            let place = if self.rows { self.mn_major(row, column) } else { self.k_major(row, column * bits / 8) };
            if bits == 1 {
                image[place] |= (value as u8) << (column % 8);
            } else {
                let bytes = bits / 8;
                image[place..][..bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
            }
            end = end.max(place + 1);
        }
        end.next_multiple_of(1024)
    }
}

/// K-major, as tensor copies with boxes of `width` bytes lay tiles.
fn k_major(width: usize, slice: usize) -> Layout {
    match width {
        // Core matrices: the second half of k 128 bytes on, the next eight rows 256 bytes on.
        16 => Layout { rows: false, width, leading: 128, stride: 256, slice: 0 },
        _ => Layout { rows: false, width, leading: 16, stride: 8 * width, slice },
    }
}

/// MN-major of `rows` rows.
fn mn_major(width: usize, rows: usize) -> Layout {
    match width {
        16 => Layout { rows: true, width, leading: rows * 16, stride: 128, slice: 0 },
        // Eight rows of k of one column block, then the next eight, then the next column block.
        _ => Layout { rows: true, width, leading: 16 * width, stride: 8 * width, slice: 0 },
    }
}

/// One case.
#[derive(Clone)]
struct Case {
    n: usize,
    types: [&'static str; 3],
    /// `None`: A in registers.
    a: Option<Layout>,
    b: Layout,
    accumulate: bool,
    signs: [i32; 2],
    flags: &'static str,
}

impl Case {
    fn new(n: usize, types: [&'static str; 3], a: Option<Layout>, b: Layout) -> Self {
        Self { n, types, a, b, accumulate: true, signs: [1, 1], flags: "" }
    }

    fn k(&self) -> usize {
        K_BYTES * 8 / bits_of(self.types[1]) as usize
    }

    /// Registers of D in each thread.
    fn registers(&self) -> usize {
        64 * self.n / 128 * bits_of(self.types[0]) as usize / 32
    }

    fn instruction(&self) -> String {
        let list = |name: &str, count: usize| {
            format!("{{{}}}", (0..count).map(|i| format!("%{name}{i}")).collect::<Vec<_>>().join(", "))
        };
        let a = if self.a.is_some() { "%da".to_owned() } else { list("a", 4) };

        let mut immediates = String::new();
        if !matches!(self.types[0], "s32") {
            immediates += &format!(", {}, {}", self.signs[0], self.signs[1]);
        }
        if bits_of(self.types[1]) == 16 {
            if let Some(a) = self.a {
                immediates += if a.rows { ", 1" } else { ", 0" };
            }
            immediates += if self.b.rows { ", 1" } else { ", 0" };
        }

        let flags = if self.types[1] == "b1" { ".and.popc" } else { self.flags };
        let (before, after) = if flags == ".satfinite" { (flags, "") } else { ("", flags) };
        format!(
            "wgmma.mma_async.sync.aligned.m64n{}k{}{before}.{}.{}.{}{after} {}, {a}, %db, %p{immediates};",
            self.n,
            self.k(),
            self.types[0],
            self.types[1],
            self.types[2],
            list("d", self.registers())
        )
    }
}

const FENCE: &str = "wgmma.fence.sync.aligned;";
const COMMIT: &str = "wgmma.commit_group.sync.aligned;";
const WAIT: &str = "wgmma.wait_group.sync.aligned 0;";

/// A kernel that copies an image to shared memory, loads registers, runs `middle` and stores D.
fn kernel(case: &Case, middle: &str) -> String {
    let count = case.registers();
    let move_all = |what: &str, name: &str, count: usize, place: &str| -> String {
        (0..count)
            .map(|i| match what {
                "ld" => format!("ld.global.b32 %{name}{i}, [{place}+{}];\n", 4 * i),
                _ => format!("st.global.b32 [{place}+{}], %{name}{i};\n", 4 * i),
            })
            .collect()
    };

    format!(
        ".visible .entry k(.param .u64 image, .param .u64 words, .param .u64 a, .param .u64 d, .param .u64 da,
            .param .u64 db, .param .u64 accumulate, .param .u64 out) {{
        .shared .align 1024 .b8 tile[49152];
        .reg .b32 %d<{count}>; .reg .b32 %a<4>; .reg .b64 %da, %db, %rd<8>; .reg .b32 %r<8>; .reg .pred %p, %q;
        mov.u32 %r0, %tid.x; mov.u32 %r1, tile; ld.param.u64 %rd0, [image]; ld.param.u32 %r2, [words];
        mov.u32 %r3, %r0;
        COPY:
        setp.ge.u32 %q, %r3, %r2; @%q bra COPIED;
        mad.wide.u32 %rd1, %r3, 4, %rd0; ld.global.b32 %r4, [%rd1]; mad.lo.u32 %r5, %r3, 4, %r1; st.shared.b32 [%r5], %r4;
        add.u32 %r3, %r3, 128; bra COPY;
        COPIED:
        ld.param.u64 %rd2, [a]; mad.wide.u32 %rd2, %r0, 16, %rd2; {}
        ld.param.u64 %rd3, [d]; mad.wide.u32 %rd3, %r0, {}, %rd3; {}
        ld.param.u64 %da, [da]; ld.param.u64 %db, [db]; ld.param.u32 %r6, [accumulate]; setp.ne.u32 %p, %r6, 0;
        {middle}
        ld.param.u64 %rd4, [out]; mad.wide.u32 %rd4, %r0, {}, %rd4;
        {}
        ret; }}",
        move_all("ld", "a", 4, "%rd2"),
        4 * count,
        move_all("ld", "d", count, "%rd3"),
        4 * count,
        move_all("st", "d", count, "%rd4"),
    )
}

/// What a kernel is run on.
struct Data {
    image: Vec<u32>,
    a: Vec<u64>,
    b: Vec<u64>,
    d: Vec<u64>,
    a_registers: Vec<u32>,
    d_registers: Vec<u32>,
    descriptors: [u64; 2],
}

/// Row and column of element `i` of thread `thread`'s part of D.
fn place_d(thread: usize, i: usize) -> (usize, usize) {
    let (warp, lane) = (thread / 32, thread % 32);
    (16 * warp + lane / 4 + 8 * (i / 2 % 2), i / 4 * 8 + lane % 4 * 2 + i % 2)
}

/// Row and column of element `i` of A in registers; a register holds `e` elements.
fn place_a(thread: usize, i: usize, e: usize) -> (usize, usize) {
    let (warp, lane) = (thread / 32, thread % 32);
    (16 * warp + lane / 4 + 8 * (i / e % 2), i / (2 * e) * 4 * e + lane % 4 * e + i % e)
}

fn put(words: &mut [u32], i: usize, bits: usize, value: u64) {
    let (word, place) = (i * bits / 32, i * bits % 32);
    words[word] |= (value << place) as u32;
}

impl Data {
    fn new(case: &Case, round: usize) -> Self {
        let k = case.k();
        let [bits_d, bits_a, bits_b] = case.types.map(|ty| bits_of(ty) as usize);

        let mut noise = Noise::new(round as u64);
        let mut fill = |count: usize, columns: usize, ty: &str, prime: usize| -> Vec<u64> {
            let mask = u64::MAX >> (64 - bits_of(ty));
            (0..count)
                .map(|i| match round {
                    0 => small(ty, ((i / columns * prime + i % columns * 7 + i * i % 5) % 8) as i32),
                    _ => noise.bits() & mask,
                })
                .collect()
        };
        let (a, b) = (fill(64 * k, k, case.types[1], 3), fill(case.n * k, k, case.types[2], 5));
        let d = fill(64 * case.n, case.n, case.types[0], 11);

        // A and B in shared memory, one behind the other.
        let mut image = vec![0; 49152];
        let a_bytes = case.a.map_or(0, |layout| layout.write(&mut image, &a, k, bits_a));
        let used = a_bytes + case.b.write(&mut image[a_bytes..], &b, k, bits_b);
        image.truncate(used);

        // A and D in registers.
        let (mut a_registers, mut d_registers) = (vec![0; 128 * 4], vec![0; 128 * case.registers()]);
        for thread in 0..128 {
            for i in 0..64 * k / 128 {
                let (row, column) = place_a(thread, i, 32 / bits_a);
                put(&mut a_registers[thread * 4..][..4], i, bits_a, a[row * k + column]);
            }
            for i in 0..64 * case.n / 128 {
                let (row, column) = place_d(thread, i);
                let registers = &mut d_registers[thread * case.registers()..][..case.registers()];
                put(registers, i, bits_d, d[row * case.n + column]);
            }
        }

        let image = image.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let descriptor_a = case.a.map_or(0, |layout| layout.descriptor(BASE));
        let descriptors = [descriptor_a, case.b.descriptor(BASE + a_bytes as u64)];
        Self { image, a, b, d, a_registers, d_registers, descriptors }
    }

    /// The kernel's parameters; the last is the address of the result.
    fn parameters(&self, machine: &Machine, case: &Case) -> [u64; 8] {
        let image = machine.upload(&self.image);
        let (a, d) = (machine.upload(&self.a_registers), machine.upload(&self.d_registers));
        let out = machine.upload(&vec![0xdead; self.d_registers.len()]);
        let [da, db] = self.descriptors;
        [image, self.image.len() as u64, a, d, da, db, case.accumulate.into(), out]
    }

    fn launch(&self, machine: &Machine, case: &Case, threads: u32) -> Result<Vec<u32>, Box<Report>> {
        let parameters = self.parameters(machine, case);
        machine.launch("k", 1, threads, &parameters)?;
        Ok(machine.download(parameters[7], self.d_registers.len()))
    }

    /// D as it must be, in registers' order.
    fn expected(&self, case: &Case) -> Vec<u32> {
        let k = case.k();
        let [d, a, b] = case.types;
        let negated = |values: &[u64], ty: &str, sign: i32| -> Vec<u64> {
            let top = 1_u64 << (bits_of(ty) - 1);
            values.iter().map(|&x| if sign < 0 { x ^ top } else { x }).collect()
        };

        let (va, vb) = (negated(&self.a, a, case.signs[0]), negated(&self.b, b, case.signs[1]));
        let flags = if a == "b1" { "and" } else { case.flags };
        let bits = bits_of(d) as usize;

        let mut words = vec![0; self.d_registers.len()];
        for thread in 0..128 {
            let registers = &mut words[thread * case.registers()..][..case.registers()];
            for i in 0..64 * case.n / 128 {
                let (row, column) = place_d(thread, i);
                let start = if case.accumulate { self.d[row * case.n + column] } else { 0 };
                let value = element([d, a, b, d], flags, start, &va[row * k..][..k], &vb[column * k..][..k]);
                put(registers, i, bits, value);
            }
        }
        words
    }
}

const READY: &str = "fence.proxy.async; bar.sync 0;";

fn good(case: &Case) -> String {
    format!("{READY} {FENCE} {} {COMMIT} {WAIT}", case.instruction())
}

fn check(case: &Case) {
    let mut machine = Machine::new(&kernel(case, &good(case)));
    for round in 0..2 {
        let data = Data::new(case, round);
        let expected = data.expected(case);
        for completion in [Completion::Late, Completion::Early, Completion::Random] {
            machine.options.completion = completion;
            let got = data.launch(&machine, case, 128).unwrap_or_else(|report| panic!("{case}\n{report}"));
            let wrong = got.iter().zip(&expected).position(|(got, expected)| got != expected);
            if let Some(i) = wrong {
                let (thread, register) = (i / case.registers(), i % case.registers());
                panic!(
                    "{case} round {round} {completion:?} thread {thread} register {register}: {:#x} {:#x}",
                    got[i], expected[i]
                );
            }
        }
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "n{} {:?} A {:?} B {:?} {} {:?} {}",
            self.n, self.types, self.a, self.b, self.accumulate, self.signs, self.flags
        )
    }
}

const BF16: [&str; 3] = ["f32", "bf16", "bf16"];
