//! Offsets past 2³¹ elements, which an index of 32 bits does not reach.
//!
//! A simulated device takes memory from the host as it is touched, so tensors can be large without being full. An op works on all of
//! a tensor; so kernels are launched here by themselves, with grids that touch the first columns of each row alone. The results are
//! those of the same numbers in rows that lie close together.

mod memory;

use igpt_engine::device::CudaDevice;
use igpt_engine::device::Precision::{self, Bf16, F32};
use igpt_engine::device::cuda::kernel::{Argument, KERNELS, Kind};
use test_support::devices::{Wanted, wanted};
use test_support::skipped;

use crate::ops::support::Tested;
use crate::process;
use memory::{Memory, context, integers, launch};

type Device = Tested<CudaDevice>;

/// Rows of what is large, and the elements from one to the next: the last begins 2³¹ elements behind the first, and more.
const ROWS: usize = 17;
const FAR: usize = (1 << 27) + (1 << 13);
const NEAR: usize = 1 << 16;

/// A null pointer.
const NULL: u64 = 0;

/// What a simulated device has here: more than the largest test takes.
pub const MEMORY: &str = "memory=103079215104";

/// Whether this machine promises memory that is larger than its own, as long as little of it is touched.
pub fn host_can() -> bool {
    Vec::<u8>::new().try_reserve_exact(ROWS * FAR * size_of::<f32>()).is_ok()
}

pub fn sum_partials(_: &Device) {
    compare(|stride| {
        let (partials, total) = (Memory::rows(F32, ROWS, stride, 32), Memory::rows(F32, 1, 32, 32));
        let mut sums = Sums { partials: [NULL; 128], totals: [NULL; 128] };
        (sums.partials[0], sums.totals[0]) = (partials.address, total.address);
        launch("sum_partials", [1; 3], (32, 8), 0, (sums, ROWS as i32, stride as i32, 1));
        total.read(1, 32, 32)
    });
}

/// `Sums` of `sum_partials.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Sums {
    partials: [u64; 128],
    totals: [u64; 128],
}

impl Argument for Sums {
    const KIND: Kind = Kind::Bytes { size: size_of::<Self>(), alignment: align_of::<Self>() };
}

pub fn sum_splits(_: &Device) {
    compare(|stride| {
        let (partials, total) = (Memory::rows(F32, ROWS, stride, 1024), Memory::rows(F32, 1, 1024, 1024));
        let arguments = (partials.address, total.address, ROWS as i32, stride as i32, 1);
        launch("sum_splits", [1; 3], (256, 1), 0, arguments);
        total.read(1, 1024, 1024)
    });
}

pub fn column_sums(_: &Device) {
    compare(|stride| {
        let (x, partials) = (Memory::rows(F32, ROWS, stride, 32), Memory::of(F32, ROWS * stride));
        let arguments = (x.address, partials.address, ROWS as i32, stride as i32, 1);
        launch("column_sums_f32", [1, ROWS, 1], (32, 8), 0, arguments);
        partials.read(ROWS, stride, 32)
    });
}

/// Many images of a token, and an image of many tokens.
pub fn mean_pool(_: &Device) {
    compare(|stride| {
        let (x, y, of_one) = (Memory::rows(F32, ROWS, stride, 32), Memory::of(F32, ROWS * stride), Memory::of(F32, 32));
        launch("mean_pool_f32", [1, ROWS, 1], (32, 8), 0, (x.address, y.address, 1, stride as i32));
        launch("mean_pool_f32", [1; 3], (32, 8), 0, (x.address, of_one.address, ROWS as i32, stride as i32));
        [y.read(ROWS, stride, 32), of_one.read(1, 32, 32)].concat()
    });
}

pub fn mean_pool_backward(_: &Device) {
    compare(|stride| {
        let (dy, dx) = (Memory::rows(F32, ROWS, stride, 256), Memory::of(F32, ROWS * stride));
        launch("mean_pool_backward_f32", [1, 1, ROWS], (256, 1), 0, (dy.address, dx.address, 1, stride as i32));
        launch(
            "mean_pool_backward_f32",
            [1, ROWS, 1],
            (256, 1),
            0,
            (dy.address, dx.address, ROWS as i32, stride as i32),
        );
        dx.read(ROWS, stride, 256)
    });
}

/// The last row of as large a table as there is.
pub fn embedding(_: &Device) {
    compare(|stride| {
        let (width, row) = (32_776, if stride == FAR { 65_534 } else { 1 });
        let (table, y) = (Memory::of(F32, (row + 1) * width), Memory::of(F32, width));
        let numbers: Vec<f32> = (0..width).map(|column| column as f32 / 1024.0).collect();
        table.write(row * width, &numbers);
        let positions = Memory::rows(F32, 1, width, width);
        let (ids, first) = (integers(&[row as u16]), NULL);
        let arguments = (table.address, positions.address, first, ids, y.address, 1, width as i32);
        launch("embedding_f32", [1; 3], (128, 1), 0, arguments);
        y.read(1, width, width)
    });
}

/// A token in each of two chunks, whose partial sums are far; and one in a far row of the gradient.
pub fn embedding_table(_: &Device) {
    compare(|stride| {
        let (tokens, rows, width) = (4097, 2049, if stride == FAR { 524_552 } else { 8 });
        let mut ids = vec![u16::MAX; tokens];
        (ids[tokens - 2], ids[tokens - 1]) = (1, rows as u16 - 1);
        let (dy, partials) = (Memory::of(F32, tokens * width), Memory::of(F32, 2 * rows * width));
        for token in [tokens - 2, tokens - 1] {
            let values: Vec<f32> = (0..width).map(|column| (token + column % 8) as f32).collect();
            dy.write(token * width, &values);
        }
        let counts = integers(&vec![0i32; 2 * rows]);
        let arguments = (dy.address, integers(&ids), NULL, partials.address, counts, tokens as i32, width as i32, 1);
        launch("embedding_table_f32", [rows, 2, 1], (256, 1), 0, arguments);
        let mut results = [1, 2 * rows - 1].map(|row| {
            let values = Memory { address: partials.place(row * width), precision: F32 };
            let read = values.read(1, width, 8);
            std::mem::forget(values);
            read
        });

        // The gradient of the last row.
        let (ids, rows) = ([2 * rows as u16 - 2], 2 * rows - 1);
        let d_table = Memory::of(F32, rows * width);
        d_table.write((rows - 1) * width, &vec![1.0; width]);
        let values = Memory::rows(F32, 1, width, width);
        let arguments = (values.address, integers(&ids), d_table.address, NULL, NULL, 1, width as i32, 1);
        launch("embedding_table_f32", [rows, 1, 1], (256, 1), 0, arguments);
        let last = Memory { address: d_table.place((rows - 1) * width), precision: F32 };
        results[0].extend(last.read(1, width, 8));
        std::mem::forget(last);
        results.concat()
    });
}

pub fn embedding_chunks(_: &Device) {
    compare(|stride| {
        let [partials, d_table] = [(); 2].map(|()| Memory::rows(F32, ROWS, stride, 256));
        let arguments = (partials.address, integers(&[1i32; ROWS]), d_table.address, 1, stride as i32, 1);
        launch("embedding_chunks", [1, ROWS, 1], (256, 1), 0, arguments);
        d_table.read(ROWS, stride, 256)
    });
}

pub fn embedding_positions(_: &Device) {
    compare(|stride| {
        let (dy, d_positions) = (Memory::rows(F32, ROWS, stride, 256), Memory::rows(F32, 1, 256, 256));
        let arguments = (dy.address, d_positions.address, ROWS as i32, stride as i32, 256, 1);
        launch("embedding_positions_f32", [1; 3], (256, 1), 0, arguments);
        d_positions.read(1, 256, 256)
    });
}

/// Many positions of one head, and a few heads of many positions: an element from a head to the next, or from a chunk's partials to the next.
pub fn attention_decode(_: &Device) {
    compare(|stride| {
        // The last position of a head that is far behind the first one's, whose chunk is the only one.
        let (heads, position) = (ROWS, 3);
        let positions = stride / 8;
        let qkv = Memory::rows(F32, 3, heads * 8, heads * 8);
        let [keys, values] = [(); 2].map(|()| Memory::rows(F32, heads, positions * 8, 32));
        let chunks = 2;
        let partials = Memory::of(F32, heads * chunks * 10);
        let pointers = (qkv.address, keys.address, values.address, partials.address);
        let at = integers(&[position as u16]);
        let arguments = (pointers.0, pointers.1, pointers.2, pointers.3, at, positions as i32, 8, 0.5f32);
        launch("attention_decode_f32", [chunks, heads, 1], (128, 1), 5 * 36 * size_of::<f32>(), arguments);
        [
            partials.read(heads, chunks * 10, 10),
            keys.read(heads, positions * 8, 32),
            values.read(heads, positions * 8, 32),
        ]
        .concat()
    });
}

/// Prompts of many images, in a cache of many positions.
pub fn attention_prefill(_: &Device) {
    compare(|stride| {
        let positions = stride / 8;
        let qkv = Memory::rows(F32, ROWS, 24, 24);
        let [keys, values] = [(); 2].map(|()| Memory::rows(F32, ROWS, positions * 8, 8));
        let arguments = (qkv.address, keys.address, values.address, positions as i32, 1, 8);
        launch("attention_prefill_f32", [1, ROWS, 1], (128, 1), 0, arguments);
        [keys.read(ROWS, positions * 8, 8), values.read(ROWS, positions * 8, 8)].concat()
    });
}

/// The first queries of many images of one head of 8 columns; under a causal mask they see the first keys alone. Tokens, and elements from
/// an image to the next.
fn images(stride: usize) -> (usize, usize) {
    let tokens = stride.div_ceil(24);
    (tokens, tokens * 24)
}

fn attention(precision: Precision, stride: usize) -> Vec<f32> {
    let (tokens, stride) = images(stride);
    let qkv = Memory::rows(precision, ROWS, stride, 64 * 24);
    let (output, logsumexp) = (Memory::of(precision, ROWS * tokens * 8), Memory::of(F32, ROWS * tokens));
    let arguments = (qkv.address, output.address, logsumexp.address, tokens as i32, 8, 1, 1, 0.5f32);
    let (name, shared) = match precision {
        F32 => ("attention_f32_32", 3 * 32 * 36 * 4),
        Bf16 => ("attention_bf16_16", 5 * 64 * 16 * 2),
    };
    launch(name, [1, 1, ROWS], (128, 1), shared, arguments);
    [output.read(ROWS, tokens * 8, 32 * 8), logsumexp.read(ROWS, tokens, 32)].concat()
}

fn attention_backward(precision: Precision, stride: usize) -> Vec<f32> {
    let (tokens, stride) = images(stride);
    let qkv = Memory::rows(precision, ROWS, stride, 64 * 24);
    let [dy, output] = [(); 2].map(|()| Memory::rows(precision, ROWS, tokens * 8, 64 * 8));
    let (logsumexp, delta) = (Memory::rows(F32, ROWS, tokens, 64), Memory::of(F32, ROWS * tokens));
    let d_qkv = Memory::of(precision, ROWS * stride);
    let pointers = [&qkv, &dy, &output, &logsumexp, &delta, &d_qkv].map(|memory| memory.address);
    let [qkv_at, dy_at, output_at, logs_at, delta_at, d_qkv_at] = pointers;
    let arguments = (qkv_at, dy_at, output_at, logs_at, delta_at, d_qkv_at, tokens as i32, 8, 1, 1, 0.5f32);
    let (name, shared) = match precision {
        F32 => ("attention_backward_queries_f32_32", 4 * 32 * 36 * 4 + 256),
        Bf16 => ("attention_backward_queries_bf16_16", 6 * 64 * 16 * 2),
    };
    launch(name, [1, 1, ROWS], (128, 1), shared, arguments);
    [d_qkv.read(ROWS, stride, 8), delta.read(ROWS, tokens, 32)].concat()
}

pub fn attention_f32(_: &Device) {
    compare(|stride| attention(F32, stride));
}

pub fn attention_bf16(_: &Device) {
    compare(|stride| attention(Bf16, stride));
}

pub fn attention_backward_f32(_: &Device) {
    compare(|stride| attention_backward(F32, stride));
}

pub fn attention_backward_bf16(_: &Device) {
    compare(|stride| attention_backward(Bf16, stride));
}

/// Splits of k whose partial sums are far; rows of the second operand and of the result that are.
fn linear_of(precision: Precision, stride: usize) -> Vec<f32> {
    let (m, k) = (1024, ROWS * 32);
    let n = stride / m;
    let (a, b) = (Memory::rows(precision, k, m, 64), Memory::rows(precision, k, n, 64));
    let total = Memory::of(F32, ROWS * stride);
    gemm("weight", [m, n, k], ROWS, [&a, &b], NULL, total.address);
    let mut results = Vec::new();
    for split in 0..ROWS {
        let of_split = Memory { address: total.place(split * stride), precision: F32 };
        results.extend(of_split.read(64, n, 64));
        std::mem::forget(of_split);
    }

    let (m, n, k) = (64, if stride == FAR { (1 << 25) + (1 << 20) } else { 64 }, 64);
    let (a, b) = (Memory::rows(precision, m, k, k), Memory::rows(precision, k, n, 64));
    let out = Memory::of(precision, m * n);
    gemm("forward", [m, n, k], 1, [&a, &b], out.address, NULL);
    results.extend(out.read(m, n, 64));
    results
}

/// The first tile of a GEMM, of all its splits.
fn gemm(op: &str, [m, n, k]: [usize; 3], splits: usize, [a, b]: [&Memory; 2], out: u64, total: u64) {
    let (blocks, [m, n, k]) = ([1, 1, splits], [m, n, k].map(|size| size as i32));
    if a.precision == F32 {
        let arguments = (a.address, b.address, m, n, k, out, NULL, NULL, NULL, total, 0, 0, 1);
        launch(&format!("linear_{op}_f32"), blocks, (128, 1), 0, arguments);
    } else {
        let arguments = (a.address, b.address, m, n, k, out, NULL, NULL, NULL, total, 0, 0);
        launch(&format!("linear_{op}_bf16_64"), blocks, (128, 1), 4 * (64 + 64) * 32 * 2, arguments);
    }
}

pub fn linear_f32(_: &Device) {
    compare(|stride| linear_of(F32, stride));
}

pub fn linear_bf16(_: &Device) {
    compare(|stride| linear_of(Bf16, stride));
}

/// The results of far rows are those of near ones.
fn compare(results: impl Fn(usize) -> Vec<f32>) {
    let _context = context();
    let (near, far) = (results(NEAR), results(FAR));
    assert!(near.iter().all(|value| value.is_finite()));
    let same = near.iter().map(|value| value.to_bits()).eq(far.iter().map(|value| value.to_bits()));
    assert!(same, "results of far rows are off by bits");
}

#[test]
fn offsets_past_two_to_the_31_elements_are_right() {
    const NAME: &str = "far::offsets_past_two_to_the_31_elements_are_right";
    if KERNELS.is_empty() || wanted() != Wanted::Simulator || !process::is_alone(NAME) {
        return;
    }
    if !host_can() {
        skipped("offsets past 2^31 elements: the host promises no memory beyond its own");
        return;
    }
    let simulator = test_support::devices::strict();
    simulator.set_options(None, MEMORY).unwrap();
    let device = Tested::new(CudaDevice::new(0, F32).unwrap(), F32);
    for check in [
        sum_partials,
        sum_splits,
        column_sums,
        mean_pool,
        mean_pool_backward,
        embedding,
        embedding_table,
        embedding_chunks,
        embedding_positions,
        attention_decode,
        attention_prefill,
        attention_f32,
        attention_bf16,
        attention_backward_f32,
        attention_backward_bf16,
        linear_f32,
        linear_bf16,
    ] {
        check(&device);
        let reports = simulator.take_reports(None);
        assert!(reports.is_empty(), "{reports}");
    }
}
