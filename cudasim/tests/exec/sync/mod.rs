//! What threads say to one another and what runs beside them: shuffles, barriers, mbarriers, asynchronous copies.

mod barriers;
mod bulk;
mod cp_async;
mod interleave;
mod levels;
mod mbarriers;
mod pipelines;
mod tensor;
mod traffic;
mod traps;
mod warp_level;

use cudasim::counters::Counts;
use cudasim::exec::{Launch, Program, run};
use cudasim::memory::GlobalMemory;
use cudasim::options::{Completion, Options};
use cudasim::report::{FaultKind, Report};

use crate::support::strict;

/// A kernel and how to run it. It has these registers to start with: `%out` and `%in`, the two buffers; `%thread`, `%cta`, `%lane`;
/// `%place`, the address of a word of `%out` for each thread of the grid. Free to use: `%r0..`, `%rd0..`, `%h0..`, `%f0..`, `%p0..`.
pub struct Case<'a> {
    pub body: &'a str,
    /// Declarations before the body, such as shared variables.
    pub declarations: &'a str,
    pub threads: u32,
    pub blocks: u32,
    pub cluster: u32,
    /// Bytes of `%in`, and of `%out` at the start.
    pub input: Vec<u8>,
    pub output: Vec<u8>,
    pub options: Options,
}

impl Default for Case<'_> {
    fn default() -> Self {
        Self {
            body: "",
            declarations: "",
            threads: 32,
            blocks: 1,
            cluster: 1,
            input: vec![0; 16],
            output: Vec::new(),
            options: strict(),
        }
    }
}

impl Case<'_> {
    /// Runs it; the words of `%out`, one for each thread at least.
    pub fn run(&self) -> Result<Vec<u32>, Box<Report>> {
        self.run_with(|_, _| Vec::new())
    }

    /// As [`Case::run`], with a parameter `map` of 128 bytes that is made of the addresses of input and output.
    pub fn run_with(&self, map: impl Fn(u64, u64) -> Vec<u8>) -> Result<Vec<u32>, Box<Report>> {
        self.launch(map).map(|(words, _)| words)
    }

    /// What it counts; `map` as in [`Case::run_with`].
    pub fn counts(&self, map: impl Fn(u64, u64) -> Vec<u8>) -> Counts {
        assert!(self.options.counters, "counts are an option");
        self.launch(map).unwrap_or_else(|report| panic!("{report}")).1.expect("counts")
    }

    fn launch(&self, map: impl Fn(u64, u64) -> Vec<u8>) -> Result<(Vec<u32>, Option<Counts>), Box<Report>> {
        let text = format!(
            ".version 9.0\n.target sm_90a\n.address_size 64\n
             .visible .entry k(.param .align 64 .b8 map[128], .param .u64 out, .param .u64 in) {{
                 .reg .pred %p<20>; .reg .b32 %r<100>; .reg .b64 %rd<60>; .reg .b16 %h<20>; .reg .f32 %f<20>;
                 .reg .b64 %out, %in, %place; .reg .b32 %thread, %cta, %lane, %index; {}
                 ld.param.u64 %out, [out]; ld.param.u64 %in, [in];
                 mov.u32 %thread, %tid.x; mov.u32 %cta, %ctaid.x; mov.u32 %lane, %laneid; mov.u32 %index, %ntid.x;
                 mad.lo.u32 %index, %cta, %index, %thread;
                 mad.wide.u32 %place, %index, 4, %out;
                 {}
                 ret;
             }}",
            self.declarations, self.body
        );

        let memory = GlobalMemory::new(1 << 26);
        let program = Program::load(&text, &memory).unwrap_or_else(|error| panic!("{error}"));
        let upload = |bytes: &[u8]| {
            let address = memory.allocate(bytes.len() as u64, None).unwrap();
            memory.write(address, bytes).unwrap();
            address
        };

        let mut output = self.output.clone();
        output.resize(output.len().max(4 * (self.threads * self.blocks) as usize), 0);
        let (input, place) = (upload(&self.input), upload(&output));
        let mut parameters = map(input, place);
        parameters.resize(128, 0);
        parameters.extend_from_slice(&place.to_le_bytes());
        parameters.extend_from_slice(&input.to_le_bytes());
        let mut launch = Launch::new([self.blocks, 1, 1], [self.threads, 1, 1], 0, parameters);
        launch.cluster = [self.cluster, 1, 1];
        let kernel = program.kernel("k").unwrap();
        let counts = run(&kernel, &launch, &memory.map(), &self.options, 0)?;
        memory.read(place, &mut output).unwrap();
        Ok((words(&output), counts))
    }

    /// The report that it ends with.
    pub fn fault(&self) -> Box<Report> {
        match self.run() {
            Err(report) => report,
            Ok(words) => panic!("no report, but {words:?}"),
        }
    }

    /// Asserts the kind of the report and a part of its text.
    pub fn fails(&self, kind: FaultKind, part: &str) -> Box<Report> {
        let report = self.fault();
        assert_eq!(report.fault.kind, kind, "{report}");
        assert!(report.to_string().contains(part), "{report}\nlacks `{part}`");
        report
    }
}

/// The values of `f` for `count` threads.
pub fn each(count: u32, f: impl Fn(u32) -> u32) -> Vec<u32> {
    (0..count).map(f).collect()
}

pub fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}

/// 20 seeds for each completion.
pub fn every_way() -> impl Iterator<Item = Options> {
    [Completion::Late, Completion::Early, Completion::Random]
        .into_iter()
        .flat_map(|completion| (0..20).map(move |seed| Options { seed, completion, threads: 1, ..strict() }))
}

pub fn completion(completion: Completion) -> Options {
    Options { completion, threads: 1, ..strict() }
}
