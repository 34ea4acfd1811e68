//! How fast kernels run: thread-instructions, multiply-adds and accesses a second on one host thread, as tests run them (every check
//! on) and bare.

mod access;
mod tensor;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use cudasim::exec::{Launch, Program, run};
use cudasim::memory::GlobalMemory;
use cudasim::numerics::dot::accumulate_tile;
use cudasim::options::Options;

/// x · σ(1.702 x), element by element, and a norm's worth of arithmetic besides: about what a fused elementwise kernel does.
const ELEMENTWISE: &str = include_str!("elementwise.ptx");

struct Case {
    memory: GlobalMemory,
    program: Program,
}

impl Case {
    fn new(text: &str) -> Self {
        let memory = GlobalMemory::new(1 << 30);
        let program = Program::load(text, &memory).unwrap_or_else(|error| panic!("{error}"));
        Self { memory, program }
    }

    fn run(&self, kernel: &str, launch: &Launch, options: &Options) -> Option<cudasim::counters::Counts> {
        let kernel = self.program.kernel(kernel).expect("a kernel of this name");
        run(&kernel, launch, &self.memory.map(), options, 0).unwrap_or_else(|report| panic!("{report}"))
    }
}

fn checked() -> Options {
    Options { threads: 1, ..Options::default() }
}

fn bare() -> Options {
    Options {
        threads: 1,
        uninitialised: false,
        registers: false,
        shared_races: false,
        global_races: false,
        ..Options::default()
    }
}

fn elementwise(c: &mut Criterion) {
    const COUNT: u64 = 1 << 18;
    let case = Case::new(ELEMENTWISE);
    let x = case.memory.allocate(COUNT * 4, None).expect("memory");
    let y = case.memory.allocate(COUNT * 4, None).expect("memory");
    let values: Vec<u8> = (0..COUNT).flat_map(|i| ((i % 1000) as f32 / 250.0 - 2.0).to_le_bytes()).collect();
    case.memory.write(x, &values).expect("a live allocation");
    let parameters = [x, y, COUNT].iter().flat_map(|parameter| parameter.to_le_bytes()).collect();
    let launch = Launch::new([64, 1, 1], [256, 1, 1], 0, parameters);
    let counts = case.run("quick_gelu", &launch, &Options { counters: true, ..bare() }).expect("counts");
    let mut group = c.benchmark_group("elementwise, thread-instructions");
    group.throughput(Throughput::Elements(counts.thread_instructions)).measurement_time(Duration::from_secs(3));
    for (name, options) in [("bare", bare()), ("checked", checked())] {
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| case.run("quick_gelu", &launch, &options))
        });
    }
    group.finish();
}

/// Measures a launch, bare and checked: `work` a run.
fn measure(group: &str, case: &Case, launch: &Launch, work: u64, c: &mut Criterion) {
    let mut group = c.benchmark_group(group);
    group.throughput(Throughput::Elements(work)).sample_size(20).measurement_time(Duration::from_secs(2));
    for (name, options) in [("bare", bare()), ("checked", checked())] {
        group.bench_function(BenchmarkId::from_parameter(name), |b| b.iter(|| case.run("k", launch, &options)));
    }
    group.finish();
}

fn mma(c: &mut Criterion) {
    let bf16 = "m16n8k16.row.col.f32.bf16.bf16.f32";
    for (name, body, work) in [
        ("mma.sync m16n8k16 bf16", tensor::mma_body(bf16), 8 * 2048),
        ("3 ldmatrix.x4 and 8 mma.sync m16n8k16 bf16", tensor::gemm_body(), 8 * 2048),
        ("mma.sync m16n8k8 tf32", tensor::mma_body("m16n8k8.row.col.f32.tf32.tf32.f32"), 8 * 1024),
        ("mma.sync m16n8k32 e4m3", tensor::mma_body("m16n8k32.row.col.f32.e4m3.e4m3.f32"), 8 * 4096),
    ] {
        let case = Case::new(&tensor::mma_kernel(&body));
        let launch = Launch::new([1; 3], [32, 1, 1], 0, Vec::new());
        measure(&format!("{name}, multiply-adds"), &case, &launch, tensor::MMA_ROUNDS * work, c);
    }
}

fn wgmma(c: &mut Criterion) {
    for (name, n, k, types, immediates) in [
        ("wgmma m64n256k16 bf16", 256, 16, "f32.bf16.bf16", ", 0, 0"),
        ("wgmma m64n64k16 bf16", 64, 16, "f32.bf16.bf16", ", 0, 0"),
        ("wgmma m64n256k32 e4m3", 256, 32, "f32.e4m3.e4m3", ""),
    ] {
        let case = Case::new(&tensor::wgmma_kernel(n, k, types, immediates));
        let launch = Launch::new([1; 3], [128, 1, 1], 0, Vec::new());
        measure(&format!("{name}, multiply-adds"), &case, &launch, tensor::WGMMA_ROUNDS * 4 * 64 * n * k, c);
    }
}

fn accesses(c: &mut Criterion) {
    for (name, access, stride, row) in access::CASES {
        let case = Case::new(&access::kernel(access, stride, row));
        let data = case.memory.allocate(1 << 16, None).expect("memory");
        case.memory.write(data, &vec![1; 1 << 16]).expect("a live allocation");
        let launch = Launch::new([1; 3], [32, 1, 1], 0, data.to_le_bytes().to_vec());
        measure(&format!("{name}, a warp's accesses"), &case, &launch, access::ROUNDS * 8, c);
    }
}

/// Products of tiles alone, without an interpreter around them.
fn tiles(c: &mut Criterion) {
    let mut group = c.benchmark_group("tiles, multiply-adds");
    for (m, n, k) in [(16, 8, 16), (16, 8, 8), (64, 64, 16), (64, 256, 16)] {
        // Small integers: neither overflow nor denormals.
        let operand = |len: usize| -> Vec<f32> { (0..len).map(|i| (i * 7 % 13) as f32 - 6.0).collect() };
        let (left, right, mut sums) = (operand(m * k), operand(k * n), vec![0.0_f32; m * n]);
        group.throughput(Throughput::Elements((m * n * k) as u64)).measurement_time(Duration::from_secs(2));
        group.bench_function(BenchmarkId::from_parameter(format!("m{m}n{n}k{k}")), |b| {
            b.iter(|| accumulate_tile(black_box(&mut sums), black_box(&left), black_box(&right), m, n, k));
        });
    }
    group.finish();
}

criterion_group!(benches, elementwise, mma, wgmma, accesses, tiles);
criterion_main!(benches);
