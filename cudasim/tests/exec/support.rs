//! Runs PTX on memory of its own.

use std::sync::{Arc, Mutex};

use cudasim::exec::{Launch, Program, run};
use cudasim::memory::GlobalMemory;
use cudasim::options::{Options, Warnings};
use cudasim::report::{Level, Report};

/// A device with one module.
pub struct Machine {
    pub memory: GlobalMemory,
    pub program: Program,
    pub options: Options,
}

impl Machine {
    /// Loads `text`; what stands before the first directive of a module is added.
    pub fn new(text: &str) -> Self {
        let text = match text.contains(".version") {
            true => text.to_owned(),
            false => format!(".version 9.0\n.target sm_90a\n.address_size 64\n{text}"),
        };
        let memory = GlobalMemory::new(1 << 30);
        let program = Program::load(&text, &memory).unwrap_or_else(|error| panic!("{error}"));
        Self { memory, program, options: strict() }
    }

    /// Device memory with these words.
    pub fn upload(&self, words: &[u32]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let address = self.memory.allocate(bytes.len() as u64, None).unwrap();
        self.memory.write(address, &bytes).unwrap();
        address
    }

    /// `count` words of device memory.
    pub fn download(&self, address: u64, count: usize) -> Vec<u32> {
        let mut bytes = vec![0; count * 4];
        self.memory.read(address, &mut bytes).unwrap();
        bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
    }

    /// Runs a kernel whose parameters all have 64 bits.
    pub fn launch(&self, kernel: &str, blocks: u32, threads: u32, parameters: &[u64]) -> Result<(), Box<Report>> {
        let kernel = self.program.kernel(kernel).expect("a kernel of this name");
        let block = parameters.iter().flat_map(|parameter| parameter.to_le_bytes()).collect();
        let launch = Launch::new([blocks, 1, 1], [threads, 1, 1], 0, block);
        run(&kernel, &launch, &self.memory.map(), &self.options, 0).map(|_| ())
    }
}

/// Options under which warnings stop as well.
pub fn strict() -> Options {
    Options { stop: Level::Warning, ..Options::default() }
}

/// Options under which warnings are kept, and the place where they are.
pub fn lenient() -> (Options, Arc<Mutex<Vec<Report>>>) {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&kept);
    let warned = Warnings::to(move |report| listener.lock().unwrap().push(report));
    (Options { warned, ..Options::default() }, kept)
}

/// Reproducible bits (SplitMix64).
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}
