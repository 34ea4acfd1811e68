//! How fast kernels run: thread-instructions and multiply-adds a second on one host thread, as tests run them (every check
//! on) and bare.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use cudasim::exec::{Launch, Program, run};
use cudasim::memory::GlobalMemory;
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

criterion_group!(benches, elementwise);
criterion_main!(benches);
