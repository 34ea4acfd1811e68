//! What memory a launch refers to: by its arguments, and by tables that these point to.

use cudasim::counters::pages::Pages;
use cudasim::memory::GlobalMemory;

use crate::device::cuda::kernel::Kind;
use crate::device::cuda::{Trace, TracedLaunch, TracedMap};

/// What alignment can change of a launch: the widest access of a lane.
pub const ALIGNMENT: u64 = 16;

/// Part of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Where it begins.
    pub address: u64,
    /// Bytes up to the end of its buffer.
    pub bytes: u64,
    /// Where the buffer begins.
    pub buffer: u64,
}

/// Everything that a launch refers to: first by its parameters in their order, then by tables.
#[derive(Clone, Debug, Default)]
pub struct References(pub Vec<Reference>);

/// The buffer that holds an address.
fn find(trace: &Trace, address: u64) -> Option<Reference> {
    let (&buffer, &bytes) = trace.buffers.range(..=address).next_back()?;
    (address - buffer < bytes).then(|| Reference { address, bytes: buffer + bytes - address, buffer })
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..at + 8).and_then(|word| word.try_into().ok());
    word.map_or(0, u64::from_le_bytes)
}

/// The tensor map that stands at a place in the parameters.
fn map_at(parameters: &[u8], at: usize) -> Option<TracedMap> {
    TracedMap::read(parameters.get(at..at + 128)?.try_into().ok()?)
}

impl References {
    /// Those of a launch.
    pub fn of(launch: &TracedLaunch, trace: &Trace) -> Self {
        let mut found = Vec::new();
        for parameter in launch.kernel.parameters {
            let address = match parameter.kind {
                Kind::U64 => word(&launch.parameters, parameter.offset),
                Kind::TensorMap => map_at(&launch.parameters, parameter.offset).map_or(0, |map| map.address),
                Kind::U32 | Kind::F32 => 0,
            };
            found.extend(find(trace, address));
        }

        // Tables: what the host wrote there may be addresses too.
        for at in 0..found.len() {
            let Some(table) = trace.uploads.get(&found[at].buffer) else { continue };
            found.extend(table.chunks_exact(8).filter_map(|entry| find(trace, word(entry, 0))));
        }
        Self(found)
    }

    /// Memory with all of it, of which nothing is taken from the host before it is touched.
    ///
    /// # Errors
    /// In words, where the host cannot reserve it.
    pub fn memory(&self, trace: &Trace) -> Result<GlobalMemory, String> {
        let memory = GlobalMemory::new(1 << 48);
        let mut buffers: Vec<u64> = self.0.iter().map(|reference| reference.buffer).collect();
        buffers.sort_unstable();
        buffers.dedup();
        for buffer in buffers {
            let bytes = trace.buffers.get(&buffer).copied().unwrap_or(0);
            let why = |_| format!("the host cannot reserve {bytes} bytes to count in; try a smaller --batch");
            memory.place(buffer, bytes).map_err(why)?;
            if let Some(values) = trace.uploads.get(&buffer) {
                memory.write(buffer, values).map_err(why)?;
            }
        }
        Ok(memory)
    }

    /// Whether each was read, and was written.
    pub fn touched(&self, pages: &Pages) -> Vec<(bool, bool)> {
        self.0.iter().map(|reference| pages.touched(reference.address, reference.bytes)).collect()
    }
}

/// The parameters of a launch with its tensor maps as `encode` has them.
///
/// # Errors
/// Those of `encode`.
pub fn patched(
    launch: &TracedLaunch,
    encode: impl Fn(&TracedMap) -> Result<[u8; 128], String>,
) -> Result<Vec<u8>, String> {
    let mut parameters = launch.parameters.clone();
    for parameter in launch.kernel.parameters.iter().filter(|parameter| parameter.kind == Kind::TensorMap) {
        if let Some(map) = map_at(&launch.parameters, parameter.offset) {
            parameters[parameter.offset..parameter.offset + 128].copy_from_slice(&encode(&map)?);
        }
    }
    Ok(parameters)
}

/// Takes from parameters which buffer a pointer is to, and leaves whether it is one, and how it is aligned.
pub fn blur(launch: &TracedLaunch, parameters: &mut [u8]) {
    for parameter in launch.kernel.parameters.iter().filter(|parameter| parameter.kind == Kind::U64) {
        let address = word(parameters, parameter.offset);
        if TracedMap::is_traced(address) {
            let blurred = u64::MAX << 8 | address % ALIGNMENT;
            parameters[parameter.offset..parameter.offset + 8].copy_from_slice(&blurred.to_le_bytes());
        }
    }
}
