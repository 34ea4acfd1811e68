//! What the launches of a trace do: in memory that is only reserved, at the addresses that they were traced with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cudasim::exec::state::context::Kernel;
use cudasim::exec::{Launch, Program};
use cudasim::fatbin::{self, Entry};
use cudasim::memory::GlobalMemory;
use cudasim::tensor_map::{Arguments, TensorMap};

use super::counting::{LaunchCounts, Subject};
use super::references::{ALIGNMENT, References, blur, patched};
use crate::device::cuda::kernel::MODULES;
use crate::device::cuda::{Trace, TracedLaunch, TracedMap};

/// What stops a count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CountError {
    /// The simulator refuses the module of a kernel, or has no PTX of it for the card.
    #[error("{kernel}: the simulator cannot load it: {why}")]
    Load {
        /// The kernel.
        kernel: String,
        /// In the simulator's words.
        why: String,
    },
    /// The kernel fails in the simulator.
    #[error("{kernel}: {why}")]
    Run {
        /// The kernel.
        kernel: String,
        /// The simulator's report.
        why: String,
    },
}

/// Counts the launches of a trace.
pub struct Counter<'t> {
    trace: &'t Trace,
    architecture: u32,
    all_blocks: bool,
    /// Kernels in the simulator, by their index.
    kernels: Mutex<HashMap<usize, Arc<Kernel>>>,
}

impl<'t> Counter<'t> {
    /// Counts launches of a trace on cards of an architecture (90 for compute capability 9.0).
    pub fn new(trace: &'t Trace, architecture: u32) -> Self {
        Self { trace, architecture, all_blocks: false, kernels: Mutex::default() }
    }

    /// The same from every block, which takes long.
    pub fn of_all_blocks(self) -> Self {
        Self { all_blocks: true, ..self }
    }

    /// What a launch does.
    ///
    /// # Errors
    /// [`CountError`].
    pub fn count(&self, launch: &TracedLaunch) -> Result<LaunchCounts, CountError> {
        let failed = |why: String| CountError::Run { kernel: launch.kernel.name.to_owned(), why };
        let kernel = self.kernel(launch)?;
        let references = References::of(launch, self.trace);
        let memory = references.memory(self.trace).map_err(failed)?;
        let shape = shape_of(launch, &kernel).map_err(failed)?;
        let subject = Subject { kernel: &kernel, shape: &shape, memory: &memory };
        let (counts, pages) = subject.count(self.all_blocks).map_err(failed)?;
        Ok(LaunchCounts { touched: references.touched(&pages), ..counts })
    }

    fn kernel(&self, launch: &TracedLaunch) -> Result<Arc<Kernel>, CountError> {
        let known = || self.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = known().get(&launch.kernel.index) {
            return Ok(Arc::clone(kernel));
        }

        let name = launch.kernel.name;
        let refused = |why: String| CountError::Load { kernel: name.to_owned(), why };
        let text = ptx_of(MODULES[launch.kernel.module].image, self.architecture)
            .ok_or_else(|| refused(format!("no PTX for compute capability {}", self.architecture)))?;
        // The modules have no variables, so any memory will do.
        let program = Program::load(&alone(text, name), &GlobalMemory::new(1 << 40));
        let program = program.map_err(|error| refused(error.to_string()))?;
        let kernel = program.kernel(name).ok_or_else(|| refused("its PTX does not name it".to_owned()))?;
        known().insert(launch.kernel.index, Arc::clone(&kernel));
        Ok(kernel)
    }
}

/// The PTX of a fat binary that a card of an architecture takes: the highest that it has.
fn ptx_of(image: &[u8], architecture: u32) -> Option<&str> {
    let texts = fatbin::entries(image)?.into_iter().filter_map(|entry| match entry {
        Entry::Ptx(of, text) if of <= architecture => Some((of, text)),
        _ => None,
    });
    let (_, text) = texts.max_by_key(|(of, _)| *of)?;
    std::str::from_utf8(text).ok()
}

/// The text with one kernel and without the others, which would only take time to read.
fn alone(text: &str, kernel: &str) -> String {
    const ENTRY: &str = ".visible .entry ";
    let mut kept = String::new();
    for (index, part) in text.split(ENTRY).enumerate() {
        // What follows the last kernel (tables of files) belongs to all of them.
        let end = body_end(part);
        if index == 0 {
            kept.push_str(part);
        } else if part.split(['(', '\n']).next().is_some_and(|name| name.trim() == kernel) {
            kept.push_str(ENTRY);
            kept.push_str(part);
        } else {
            kept.push_str(&part[end..]);
        }
    }
    kept
}

/// Where the body that begins with the first brace of a text ends; inline assembly has braces of its own.
fn body_end(text: &str) -> usize {
    let mut depth = 0;
    for (at, letter) in text.bytes().enumerate() {
        match letter {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

/// The launch as the simulator has it.
fn shape_of(launch: &TracedLaunch, kernel: &Kernel) -> Result<Launch, String> {
    let size = |blocks: usize| u32::try_from(blocks).map_err(|_| "a grid beyond 2^32 blocks".to_owned());
    let [x, y, z] = launch.blocks;
    let (grid, [width, height]) = ([size(x)?, size(y)?, size(z)?], launch.threads);
    let parameters = patched(launch, encode)?;
    let cluster = kernel.bounds.required_cluster;
    if cluster.is_some_and(|cluster| (0..3).any(|axis| !grid[axis].is_multiple_of(cluster[axis].max(1)))) {
        return Err("its clusters do not divide the grid".to_owned());
    }
    Ok(Launch {
        cluster: cluster.unwrap_or([1; 3]),
        explicit_cluster: cluster.is_some(),
        ..Launch::new(grid, [width, height, 1], launch.shared as u32, parameters)
    })
}

/// A tensor map as the simulator's driver would have encoded it.
fn encode(map: &TracedMap) -> Result<[u8; 128], String> {
    let arguments = Arguments {
        element: map.element,
        rank: map.sizes.len() as u32,
        address: map.address,
        dims: &map.sizes,
        strides: &map.strides,
        element_strides: &vec![1; map.sizes.len()],
        interleave: 0,
        swizzle: map.swizzle,
        l2_promotion: 0,
        fill: 0,
    };
    TensorMap::tiled(&arguments, &map.tile).map(|map| map.encode())
}

/// What tells launches apart: kernel, grid, and all arguments, of pointers only whether they are there and how they are aligned.
pub type Key = (usize, [usize; 3], usize, Vec<u8>);

/// The key of a launch.
pub fn key(launch: &TracedLaunch) -> Key {
    let aligned = |map: &TracedMap| Ok(TracedMap { address: map.address % ALIGNMENT, ..map.clone() }.bytes());
    let mut parameters = patched(launch, aligned).unwrap_or_default();
    blur(launch, &mut parameters);
    (launch.kernel.index, launch.blocks, launch.shared, parameters)
}
