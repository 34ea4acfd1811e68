//! Launches written down instead of done: what a device that only counts would have asked of a card.
//!
//! Its buffers have addresses that no memory has ([`FIRST_ADDRESS`]), so that the arguments of a launch say which buffer they point
//! to. What the host uploads is kept where it is small: tables that kernels read their work from.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::kernel::{Arguments, Grid, KernelInfo, Kind};
use super::pointer::Pointer;

/// Where traced buffers begin: above all addresses of hosts and of devices.
const FIRST_ADDRESS: u64 = 1 << 60;

/// Unused addresses between buffers.
const GUARD: u64 = 1 << 12;

/// Bytes of an upload up to which its values are kept.
const KEPT: usize = 4 << 20;

/// What of a card decides which kernels are launched, and in which grids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracedCard {
    /// Compute capability: major, minor.
    pub capability: (i32, i32),
    /// Streaming multiprocessors.
    pub multiprocessors: usize,
    /// Largest shared memory of a block, in bytes.
    pub shared_limit: usize,
}

/// A launch of a kernel.
#[derive(Clone, Debug)]
pub struct TracedLaunch {
    /// What was launched.
    pub kernel: &'static KernelInfo,
    /// Blocks in x, y and z.
    pub blocks: [usize; 3],
    /// Threads of a block in x and y.
    pub threads: [u32; 2],
    /// Bytes of dynamic shared memory.
    pub shared: usize,
    /// The parameters as the kernel reads them; in the place of a tensor map is a [`TracedMap`], also within structures.
    pub parameters: Vec<u8>,
}

/// Work of a stream.
#[derive(Clone, Debug)]
pub enum Traced {
    /// A kernel.
    Launch(TracedLaunch),
    /// So many bytes set to a value.
    Fill(usize),
    /// So many bytes copied within the device.
    Copy(usize),
}

/// What a device has been asked for.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// In order.
    pub work: Vec<Traced>,
    /// Every buffer there ever was: address and bytes.
    pub buffers: BTreeMap<u64, u64>,
    /// What the host wrote last to a buffer, by its address: small pieces that are not all zero.
    pub uploads: BTreeMap<u64, Vec<u8>>,
}

/// Writes a [`Trace`].
#[derive(Default)]
pub(super) struct Tracer(RefCell<Trace>);

impl Tracer {
    /// The address of a new buffer.
    pub(super) fn place(&self, bytes: usize) -> u64 {
        let buffers = &mut self.0.borrow_mut().buffers;
        let end = buffers.last_key_value().map_or(FIRST_ADDRESS, |(address, bytes)| address + bytes);
        let address = (end + GUARD).next_multiple_of(GUARD);
        buffers.insert(address, bytes as u64);
        address
    }

    /// Notes a launch.
    pub(super) fn launch<A: Arguments>(&self, kernel: &'static KernelInfo, grid: Grid, arguments: &A) {
        let parameters = arguments.with_addresses(|addresses| {
            let mut block = Vec::new();
            for (parameter, address) in kernel.parameters.iter().zip(addresses.iter()) {
                let bytes = match parameter.kind {
                    Kind::U64 => 8,
                    Kind::U32 | Kind::F32 => 4,
                    Kind::Bytes { size, .. } => size,
                };
                block.resize(parameter.offset, 0);
                // SAFETY: each address is of a value of the parameter's kind, which `Kernel::new` has checked.
                block.extend_from_slice(unsafe { std::slice::from_raw_parts(address.cast::<u8>(), bytes) });
            }
            block
        });
        let Grid { blocks, threads, shared, .. } = grid;
        self.0.borrow_mut().work.push(Traced::Launch(TracedLaunch { kernel, blocks, threads, shared, parameters }));
    }

    /// What was asked for since the last call; every buffer and upload so far.
    pub(super) fn take(&self) -> Trace {
        let mut trace = self.0.borrow_mut();
        let work = std::mem::take(&mut trace.work);
        Trace { work, ..trace.clone() }
    }

    pub(super) fn fill(&self, bytes: usize) {
        self.0.borrow_mut().work.push(Traced::Fill(bytes));
    }

    pub(super) fn copy(&self, bytes: usize) {
        self.0.borrow_mut().work.push(Traced::Copy(bytes));
    }

    /// Notes what the host writes to a buffer's beginning.
    pub(super) fn upload(&self, to: Pointer, bytes: &[u8]) {
        if bytes.len() <= KEPT && bytes.iter().any(|byte| *byte != 0) {
            self.0.borrow_mut().uploads.insert(to.0, bytes.to_vec());
        }
    }
}

impl Pointer {
    /// Whether it is to memory of a device that only counts.
    pub(super) fn is_traced(self) -> bool {
        (FIRST_ADDRESS..2 * FIRST_ADDRESS).contains(&self.0)
    }
}

/// The last word of a [`TracedMap`].
const MARK: u64 = u64::from_le_bytes(*b"traced\0\0");

/// A tensor map that no driver has encoded: what its words are of a device that only counts.
///
/// ```text
/// words  0 the number of dimensions, the type of an element in the next byte, in the upper half the swizzle   1 address
///        2..7 sizes, innermost first   7..11 strides in bytes of dimensions 1 to 4   11..14 tile, two dimensions a word   15 MARK
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedMap {
    /// `CUtensorMapDataType`
    pub element: u32,
    /// Where the tensor begins.
    pub address: u64,
    /// Elements along each dimension, the innermost first.
    pub sizes: Vec<u64>,
    /// Bytes from one to the next along each dimension but the innermost.
    pub strides: Vec<u64>,
    /// Elements of a copy along each dimension.
    pub tile: Vec<u32>,
    /// `CUtensorMapSwizzle`
    pub swizzle: u32,
}

impl TracedMap {
    /// As it stands in a launch's parameters.
    pub fn bytes(&self) -> [u8; 128] {
        let words = self.words();
        std::array::from_fn(|byte| words[byte / 8].to_le_bytes()[byte % 8])
    }

    /// Its words.
    pub(super) fn words(&self) -> [u64; 16] {
        let mut words = [0; 16];
        words[0] = self.sizes.len() as u64 | u64::from(self.element) << 8 | u64::from(self.swizzle) << 32;
        words[15] = MARK;
        words[1] = self.address;
        words[2..2 + self.sizes.len()].copy_from_slice(&self.sizes);
        words[7..7 + self.strides.len()].copy_from_slice(&self.strides);
        for (axis, &extent) in self.tile.iter().enumerate() {
            words[11 + axis / 2] |= u64::from(extent) << (32 * (axis % 2));
        }
        words
    }

    /// Whether a number is an address of a traced buffer.
    pub fn is_traced(address: u64) -> bool {
        Pointer(address).is_traced()
    }

    /// The map that these are; `None` where a kernel does without, or they are something else.
    pub fn read(bytes: &[u8; 128]) -> Option<Self> {
        let word = |index: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[8 * index + byte]));
        let (rank, element, swizzle) =
            ((word(0) & 0xff) as usize, (word(0) >> 8 & 0xff) as u32, (word(0) >> 32) as u32);
        (word(15) == MARK && (1..=5).contains(&rank)).then(|| Self {
            element,
            address: word(1),
            sizes: (0..rank).map(|axis| word(2 + axis)).collect(),
            strides: (1..rank).map(|axis| word(6 + axis)).collect(),
            tile: (0..rank).map(|axis| (word(11 + axis / 2) >> (32 * (axis % 2))) as u32).collect(),
            swizzle,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_read_as_it_was_written() {
        let map = TracedMap {
            element: 9,
            address: FIRST_ADDRESS,
            sizes: vec![64, 3, 1024, 32],
            strides: vec![128, 384, 393_216],
            tile: vec![64, 1, 128, 1],
            swizzle: 3,
        };
        assert_eq!(TracedMap::read(&map.bytes()), Some(map));
        assert_eq!(TracedMap::read(&[0; 128]), None);
        assert_eq!(TracedMap::read(&[0xff; 128]), None);
    }
}
