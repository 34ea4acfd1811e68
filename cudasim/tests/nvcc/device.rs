//! A device for one module: typed uploads and launches.

use std::sync::Arc;

use cudasim::counters::Counts;
use cudasim::exec::{Kernel, Launch, Program, run};
use cudasim::memory::GlobalMemory;
use cudasim::options::{Completion, Options};
use cudasim::report::{Level, Report};

/// A device with one module, and how it runs.
pub struct Device {
    pub memory: GlobalMemory,
    program: Program,
    pub options: Options,
    /// Bytes of dynamic shared memory of the next launches.
    pub dynamic_shared: u32,
}

/// Numbers that are uploaded as their bytes.
pub trait Number: Copy {
    fn bytes(self) -> Vec<u8>;
    fn of(bytes: &[u8]) -> Self;
}

macro_rules! numbers {
    ($($ty:ty)*) => {$(
        impl Number for $ty {
            fn bytes(self) -> Vec<u8> {
                self.to_le_bytes().to_vec()
            }

            fn of(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().expect("as many bytes as the type has"))
            }
        }
    )*};
}

numbers! { u8 u16 u32 i32 u64 f32 f64 }

/// The parameters of a kernel: `parameters!(pointer, 3_i32, 0.5_f32)`, each aligned to its size.
#[macro_export]
macro_rules! parameters {
    ($($value:expr),* $(,)?) => {{
        let mut block = Vec::new();
        $(
            let bytes = $crate::device::Number::bytes($value);
            block.resize(block.len().next_multiple_of(bytes.len()), 0);
            block.extend(bytes);
        )*
        block
    }};
}

impl Device {
    pub fn new(ptx: &str) -> Self {
        let memory = GlobalMemory::new(1 << 32);
        let program = Program::load(ptx, &memory).unwrap_or_else(|error| panic!("{error}"));
        Self { memory, program, options: Options { stop: Level::Warning, ..Options::default() }, dynamic_shared: 0 }
    }

    pub fn upload<T: Number>(&self, values: &[T]) -> u64 {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.bytes()).collect();
        let address = self.memory.allocate(bytes.len() as u64, None).expect("memory");
        self.memory.write(address, &bytes).expect("a live allocation");
        address
    }

    /// Memory for `count` numbers that nothing was written to.
    pub fn allocate<T: Number>(&self, count: usize) -> u64 {
        self.memory.allocate((count * size_of::<T>()) as u64, None).expect("memory")
    }

    pub fn download<T: Number>(&self, address: u64, count: usize) -> Vec<T> {
        let mut bytes = vec![0; count * size_of::<T>()];
        self.memory.read(address, &mut bytes).expect("a live allocation");
        bytes.chunks_exact(size_of::<T>()).map(T::of).collect()
    }

    pub fn kernel(&self, name: &str) -> Arc<Kernel> {
        self.program.kernel(name).unwrap_or_else(|| panic!("no kernel {name}"))
    }

    /// Runs a kernel; its counts, where the options ask for them.
    pub fn run(
        &self,
        kernel: &str,
        grid: [u32; 3],
        block: u32,
        parameters: Vec<u8>,
    ) -> Result<Option<Counts>, Box<Report>> {
        let kernel = self.kernel(kernel);
        assert_eq!(kernel.parameter_bytes, parameters.len() as u64, "parameters of {}", kernel.name);
        let launch = Launch::new(grid, [block, 1, 1], self.dynamic_shared, parameters);
        run(&kernel, &launch, &self.memory.map(), &self.options, 0)
    }

    pub fn try_launch(&self, kernel: &str, grid: [u32; 3], block: u32, parameters: Vec<u8>) -> Result<(), Box<Report>> {
        self.run(kernel, grid, block, parameters).map(|_| ())
    }

    pub fn launch(&self, kernel: &str, grid: [u32; 3], block: u32, parameters: Vec<u8>) {
        self.try_launch(kernel, grid, block, parameters).unwrap_or_else(|report| panic!("{report}"));
    }
}

/// Runs `test` on a fresh device under 20 seeds, with asynchronous operations that complete late, early and by the seed.
pub fn under_all_seeds(ptx: &str, test: impl Fn(&Device)) {
    for seed in 0..20 {
        let mut device = Device::new(ptx);
        device.options.seed = seed;
        device.options.completion = [Completion::Late, Completion::Early, Completion::Random][seed as usize % 3];
        // Both threads, or one, whatever the machine has.
        device.options.threads = 1 + seed as usize % 2;
        test(&device);
    }
}

/// A pseudo-random number in [-1, 1) for each index.
pub fn noise(index: usize) -> f32 {
    let mut x = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (x >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// That two slices agree within an absolute and a relative tolerance.
pub fn assert_close(actual: &[f32], expected: &[f64], absolute: f64, relative: f64) {
    assert_eq!(actual.len(), expected.len());
    for (place, (&actual, &expected)) in actual.iter().zip(expected).enumerate() {
        let error = (f64::from(actual) - expected).abs();
        assert!(error <= absolute + relative * expected.abs(), "at {place}: {actual}, not {expected}");
    }
}
