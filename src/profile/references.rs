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

/// Bytes of a tensor map, and what it begins at a multiple of.
const MAP: usize = 128;
const MAP_ALIGNMENT: usize = 64;

/// Where tensor maps stand in a launch's parameters: alone or in structures.
fn maps(launch: &TracedLaunch) -> impl Iterator<Item = (usize, TracedMap)> {
    let structures = launch.kernel.parameters.iter().filter_map(|parameter| match parameter.kind {
        Kind::Bytes { size, .. } => Some(parameter.offset..parameter.offset + size),
        Kind::U64 | Kind::U32 | Kind::F32 => None,
    });
    let places = structures.flat_map(|bytes| bytes.step_by(MAP_ALIGNMENT));
    places.filter_map(|at| {
        let bytes = launch.parameters.get(at..at + MAP)?;
        Some((at, TracedMap::read(bytes.try_into().ok()?)?))
    })
}

/// Where addresses may stand in a launch's parameters: pointers, and the words of structures, tensor maps' own too.
fn words(launch: &TracedLaunch) -> impl Iterator<Item = usize> {
    launch.kernel.parameters.iter().flat_map(|parameter| {
        let bytes = match parameter.kind {
            Kind::U64 => 8,
            Kind::Bytes { size, .. } => size,
            Kind::U32 | Kind::F32 => 0,
        };
        (parameter.offset..parameter.offset + bytes).step_by(8)
    })
}

impl References {
    /// Those of a launch.
    pub fn of(launch: &TracedLaunch, trace: &Trace) -> Self {
        let mut found: Vec<Reference> =
            words(launch).filter_map(|at| find(trace, word(&launch.parameters, at))).collect();

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

    /// The bytes that are read and written of each buffer, in the order in which it is first referred to; `touched`: whether each reference is
    /// read, and is written. Several to one buffer lie in one another, as each goes on to its end.
    pub fn moved(&self, touched: &[(bool, bool)]) -> Vec<(u64, [f64; 2])> {
        let mut moved: Vec<(u64, [f64; 2])> = Vec::new();
        for (reference, (read, written)) in self.0.iter().zip(touched).filter(|(_, (read, written))| *read || *written)
        {
            let place = moved.iter().position(|(buffer, _)| *buffer == reference.buffer).unwrap_or_else(|| {
                moved.push((reference.buffer, [0.0; 2]));
                moved.len() - 1
            });

            let bytes = reference.bytes as f64;
            let most = &mut moved[place].1;
            if *read {
                most[0] = most[0].max(bytes);
            }
            if *written {
                most[1] = most[1].max(bytes);
            }
        }
        moved
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
    for (at, map) in maps(launch) {
        parameters[at..at + MAP].copy_from_slice(&encode(&map)?);
    }
    Ok(parameters)
}

/// Takes from parameters which buffer a pointer is to, and leaves whether it is one, and how it is aligned.
pub fn blur(launch: &TracedLaunch, parameters: &mut [u8]) {
    for at in words(launch) {
        let address = word(parameters, at);
        if TracedMap::is_traced(address) {
            let blurred = (u64::MAX << 8) | (address % ALIGNMENT);
            parameters[at..at + 8].copy_from_slice(&blurred.to_le_bytes());
        }
    }
}

#[test]
fn several_references_to_a_buffer_move_it_once() {
    let reference = |buffer, offset: u64| Reference { address: buffer + offset, bytes: 1000 - offset, buffer };
    let references = References(vec![reference(0, 0), reference(5000, 0), reference(0, 400), reference(0, 600)]);
    let moved = references.moved(&[(true, false), (false, true), (true, false), (false, true)]);
    assert_eq!(moved, [(0, [1000.0, 400.0]), (5000, [0.0, 1000.0])]);
    assert!(references.moved(&[(false, false); 4]).is_empty());
}
