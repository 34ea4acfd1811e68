//! `nvcuda::wmma`: every shape and type, A and B by rows and by columns, C and D by either, with gaps between the lines,
//! against sums in f64.

use crate::compile::ptx;
use crate::device::{Device, noise, under_all_seeds};
use crate::parameters;
use cudasim::counters::Counts;
use cudasim::report::FaultKind;

/// A type of elements: how a number becomes bits, and back.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Type {
    F16,
    Bf16,
    F32,
    F64,
    S32,
    S8,
    U8,
    S4,
    U4,
    B1,
}

impl Type {
    fn of(name: &str) -> Self {
        match name {
            "f16" => Self::F16,
            "bf16" => Self::Bf16,
            "tf32" | "f32" => Self::F32,
            "f64" => Self::F64,
            "s32" => Self::S32,
            "s8" => Self::S8,
            "u8" => Self::U8,
            "s4" => Self::S4,
            "u4" => Self::U4,
            "b1" => Self::B1,
            _ => panic!("type {name}"),
        }
    }

    fn width(self) -> usize {
        match self {
            Self::F64 => 64,
            Self::F32 | Self::S32 => 32,
            Self::F16 | Self::Bf16 => 16,
            Self::S8 | Self::U8 => 8,
            Self::S4 | Self::U4 => 4,
            Self::B1 => 1,
        }
    }

    /// A small whole number of the type.
    fn draw(self, index: usize) -> f64 {
        let x = f64::from(noise(index));
        match self {
            Self::S8 => (x * 128.0).floor(),
            Self::U8 => ((x + 1.0) * 128.0).floor(),
            Self::S4 => (x * 8.0).floor(),
            Self::U4 => ((x + 1.0) * 8.0).floor(),
            Self::B1 => f64::from(u8::from(x > 0.0)),
            // Products of these and their sums are whole numbers below 2048, so exact in f16.
            _ => (x * 9.0).trunc(),
        }
    }

    fn bits(self, x: f64) -> u64 {
        match self {
            Self::F64 => x.to_bits(),
            Self::F32 => u64::from((x as f32).to_bits()),
            Self::Bf16 => u64::from((x as f32).to_bits() >> 16),
            Self::F16 => u64::from(half(x)),
            _ => x as i64 as u64 & ((1 << self.width()) - 1),
        }
    }

    fn value(self, bits: u64) -> f64 {
        match self {
            Self::F64 => f64::from_bits(bits),
            Self::F32 => f64::from(f32::from_bits(bits as u32)),
            Self::S32 => f64::from(bits as u32 as i32),
            Self::F16 => {
                let (exponent, fraction) = (bits >> 10 & 31, (bits & 0x3ff) as f64);
                let magnitude = match exponent {
                    0 => fraction / 1024.0 * 2.0_f64.powi(-14),
                    _ => (1.0 + fraction / 1024.0) * 2.0_f64.powi(exponent as i32 - 15),
                };
                if bits >> 15 & 1 != 0 { -magnitude } else { magnitude }
            }
            _ => panic!("no results of {self:?}"),
        }
    }
}

/// The bits of a number that f16 represents.
fn half(x: f64) -> u16 {
    if x == 0.0 {
        return 0;
    }
    let exponent = x.abs().log2().floor() as i32;
    let fraction = x.abs() / 2.0_f64.powi(exponent) - 1.0;
    let bits = ((exponent + 15) as u16) << 10 | (fraction * 1024.0) as u16;
    if x < 0.0 { bits | 0x8000 } else { bits }
}

/// A matrix in memory: `rows` by `columns`, its lines `stride` elements apart, by rows or by columns.
struct Stored {
    ty: Type,
    rows: usize,
    columns: usize,
    stride: usize,
    by_rows: bool,
}

impl Stored {
    fn place(&self, row: usize, column: usize) -> usize {
        if self.by_rows { row * self.stride + column } else { column * self.stride + row }
    }

    /// Bytes of the matrix; between its lines, of ones.
    fn bytes(&self, value: impl Fn(usize, usize) -> f64) -> Vec<u8> {
        let lines = if self.by_rows { self.rows } else { self.columns };
        let mut bytes = vec![0xff; (lines * self.stride * self.ty.width()).div_ceil(8)];
        for row in 0..self.rows {
            for column in 0..self.columns {
                let bits = self.ty.bits(value(row, column));
                for bit in 0..self.ty.width() {
                    let at = self.place(row, column) * self.ty.width() + bit;
                    bytes[at / 8] = bytes[at / 8] & !(1 << (at % 8)) | ((bits >> bit & 1) as u8) << (at % 8);
                }
            }
        }
        bytes
    }

    fn value(&self, bytes: &[u8], row: usize, column: usize) -> f64 {
        let at = self.place(row, column) * self.ty.width() / 8;
        let bits = bytes[at..][..self.ty.width() / 8].iter().rev().fold(0, |bits, &byte| bits << 8 | u64::from(byte));
        self.ty.value(bits)
    }
}

/// Runs a kernel of wmma.cu by the types, shape and layouts in its name; `combine` is the product of two elements.
fn check(device: &Device, kernel: &str, name: &str, combine: fn(f64, f64) -> f64) {
    let parts: Vec<&str> = name.split('_').collect();
    let [a, c, d, m, n, k, layouts] = parts.as_slice() else { panic!("{name}") };
    let [m, n, k] = [m, n, k].map(|size| size.parse::<usize>().unwrap());
    let by_rows: Vec<bool> = layouts.chars().map(|layout| layout == 'r').collect();

    for by_rows_c in [true, false] {
        let stored = |ty: &str, rows: usize, columns: usize, by_rows: bool, gap: usize| {
            let ty = Type::of(ty);
            // Lines are whole pieces of 16 bytes.
            let length = if by_rows { columns } else { rows };
            let piece = 128 / ty.width();
            Stored { ty, rows, columns, stride: length.next_multiple_of(piece) + gap * piece, by_rows }
        };
        let (a, b) = (stored(a, m, k, by_rows[0], 1), stored(a, k, n, by_rows[1], 3));
        let (c, d) = (stored(c, m, n, by_rows_c, 2), stored(d, m, n, by_rows_c, 2));
        // C and D have one distance.
        let stride = c.stride.max(d.stride);
        let (c, d) = (Stored { stride, ..c }, Stored { stride, ..d });
        let of_a = |row: usize, column: usize| a.ty.draw(1000 + row * 131 + column);
        let of_b = |row: usize, column: usize| a.ty.draw(50_000 + row * 131 + column);
        let of_c = |row: usize, column: usize| c.ty.draw(90_000 + row * 131 + column);

        let pointers = [a.bytes(of_a), b.bytes(of_b), c.bytes(of_c)].map(|bytes| device.upload(&bytes));
        let untouched = d.bytes(|_, _| 77.0);
        let to = device.upload(&untouched);
        let strides = [a.stride, b.stride, stride].map(|stride| stride as i32);
        let columns = i32::from(!by_rows_c);
        let parameters =
            parameters!(pointers[0], pointers[1], pointers[2], to, strides[0], strides[1], strides[2], columns);
        device.launch(kernel, [1; 3], 32, parameters);

        let mut found = device.download::<u8>(to, untouched.len());
        for row in 0..m {
            for column in 0..n {
                let products = (0..k).map(|k| combine(of_a(row, k), of_b(k, column)));
                let expected = products.sum::<f64>() + of_c(row, column);
                let found = d.value(&found, row, column);
                assert_eq!(found, expected, "{kernel}, C by rows: {by_rows_c}, at {row}, {column}");
            }
        }

        // What lies between the lines stays.
        for row in 0..m {
            for column in 0..n {
                let (at, bytes) = (d.place(row, column) * d.ty.width() / 8, d.ty.width() / 8);
                found[at..at + bytes].copy_from_slice(&untouched[at..at + bytes]);
            }
        }
        assert_eq!(found, untouched, "{kernel} writes between the lines");
    }
}

fn check_layouts(types: &str, shapes: &[&str]) {
    let Some(ptx) = ptx("wmma", "compute_90a") else { return };
    let device = Device::new(&ptx);
    for shape in shapes {
        for layouts in ["rr", "rc", "cr", "cc"] {
            let name = format!("{types}_{shape}_{layouts}");
            check(&device, &name, &name, |a, b| a * b);
        }
    }
}

const SHAPES: &[&str] = &["16_16_16", "8_32_16", "32_8_16"];

#[test]
fn halves() {
    for types in ["f16_f32_f32", "f16_f16_f16", "f16_f16_f32", "f16_f32_f16"] {
        check_layouts(types, SHAPES);
    }
}

#[test]
fn other_floats() {
    check_layouts("bf16_f32_f32", SHAPES);
    check_layouts("tf32_f32_f32", &["16_16_8"]);
    check_layouts("f64_f64_f64", &["8_8_4"]);
}

#[test]
fn integers_and_bits() {
    check_layouts("s8_s32_s32", SHAPES);
    check_layouts("u8_s32_s32", SHAPES);
    let Some(ptx) = ptx("wmma", "compute_90a") else { return };
    let device = Device::new(&ptx);
    for name in ["s4_s32_s32_8_8_32_rc", "u4_s32_s32_8_8_32_rc", "b1_s32_s32_8_8_128_rc"] {
        check(&device, name, name, |a, b| a * b);
    }
    check(&device, "b1_xor", "b1_s32_s32_8_8_128_rc", |a, b| (a - b).abs());
}

#[test]
fn a_product_in_tiles_of_shared_memory() {
    let Some(ptx) = ptx("wmma", "compute_90a") else { return };
    let (m, n, k) = (128, 64, 96);
    // Multiples of 1/64 below 1: exact in f16.
    let a: Vec<f64> = (0..m * k).map(|i| f64::from((noise(i) * 64.0).trunc()) / 64.0).collect();
    let b: Vec<f64> = (0..k * n).map(|i| f64::from((noise(i + 70_000) * 64.0).trunc()) / 64.0).collect();
    let c: Vec<f32> = (0..m * n).map(|i| noise(i + 170_000)).collect();
    let halves = |values: &[f64]| values.iter().map(|&x| half(x)).collect::<Vec<u16>>();
    let (half_a, half_b) = (halves(&a), halves(&b));

    under_all_seeds(&ptx, |device| {
        let to = device.upload(&c);
        let (pa, pb) = (device.upload(&half_a), device.upload(&half_b));
        let parameters = parameters!(pa, pb, to, m as i32, n as i32, k as i32, 0.5_f32, 0.25_f32);
        device.launch("gemm", [n as u32 / 64, m as u32 / 64, 1], 128, parameters);
        for (i, found) in device.download::<f32>(to, m * n).into_iter().enumerate() {
            let (row, column) = (i / n, i % n);
            let product: f64 = (0..k).map(|k_| a[row * k + k_] * b[k_ * n + column]).sum();
            let expected = 0.5 * product + 0.25 * f64::from(c[i]);
            // The sums are of multiples of 2^-12 below 96, exact in f32; the last step rounds twice.
            let bound = 2.0 * f64::from(f32::EPSILON) * (0.5 * product.abs() + 0.25);
            assert!((f64::from(found) - expected).abs() <= bound, "at {row}, {column}: {found}, not {expected}");
        }
    });
}

#[test]
fn products_are_counted_and_misuse_is_reported() {
    let Some(ptx) = ptx("wmma", "compute_90a") else { return };
    let mut device = Device::new(&ptx);
    device.options.counters = true;
    let zeros = device.upload(&vec![0_u8; 8192]);
    let parameters = parameters!(zeros, zeros, zeros, zeros, 16_i32, 16_i32, 16_i32, 0_i32);
    let counts: Counts = device.run("f16_f32_f32_16_16_16_rr", [1; 3], 32, parameters.clone()).unwrap().unwrap();
    let json = counts.json(&device.kernel("f16_f32_f32_16_16_16_rr"));
    assert!(json.contains("\"tensor\":{\"operations\":1,\"flops\":8192}"), "{json}");

    // Half a warp; a matrix that ends too early.
    let report = device.run("f16_f32_f32_16_16_16_rr", [1; 3], 16, parameters).unwrap_err();
    assert_eq!(report.fault.kind, FaultKind::DivergentBarrier, "{report}");
    let short = device.upload(&vec![0_u8; 500]);
    let parameters = parameters!(short, zeros, zeros, zeros, 16_i32, 16_i32, 16_i32, 0_i32);
    let report = device.run("f16_f32_f32_16_16_16_rr", [1; 3], 32, parameters).unwrap_err();
    assert_eq!(report.fault.kind, FaultKind::OutOfBounds, "{report}");
}
