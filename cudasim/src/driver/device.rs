//! Devices: all alike, and like an H100 in what kernels and launches may use.

use std::ffi::{c_char, c_int};

use super::error::CudaError;
use super::exports;
use super::ffi::Out;
use super::limits;
use super::objects::Device;
use super::state::lock;
use crate::options::Options;

/// The name says what it is: results must not be taken for those of a GPU.
const NAME: &str = "cudasim (simulated sm_90a)";

impl Device {
    /// A device without a context.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            primary: None,
            retained: 0,
            flags: 0,
            problems: Vec::new(),
            counters: Vec::new(),
            registers: super::fatbin::Registers::new(),
        }
    }
}

/// Value of a `CUdevice_attribute`. What the simulator does not have (textures, virtual memory management, peers) is 0.
fn attribute(number: c_int) -> Option<c_int> {
    Some(match number {
        // Shapes, memory and registers of a block.
        1 => limits::THREADS as c_int,
        2 | 3 => limits::BLOCK[0] as c_int,
        4 => limits::BLOCK[2] as c_int,
        5 => limits::GRID[0] as c_int,
        6 | 7 => limits::GRID[1] as c_int,

        8 => limits::SHARED as c_int,
        // Constant memory.
        9 => 65536,
        10 => 32,

        // Pitch.
        11 => c_int::MAX,
        12 => limits::REGISTERS as c_int,
        // Clock in kHz.
        13 => 1_980_000,
        14 | 30 => 512,

        15 => 1,
        16 => limits::MULTIPROCESSORS as c_int,
        19 => 1,
        31 | 32 => 1,

        // Memory clock in kHz, bus width, L2 cache.
        36 => 2_619_000,
        37 => 5120,
        38 => 52_428_800,
        39 => limits::THREADS_PER_MULTIPROCESSOR as c_int,

        // Copy engines, unified addresses.
        40 => 3,
        41 => 1,
        51 => 32,
        75 => 9,
        76 => 0,
        78..=80 => 1,
        81 => limits::SHARED_PER_MULTIPROCESSOR as c_int,
        82 => limits::REGISTERS as c_int,

        // Managed memory.
        83 => 1,
        // Rate of single to double precision.
        87 => 2,
        89..=91 => 1,
        95 => 1,
        97 => limits::SHARED_OPT_IN as c_int,
        99 => 1,
        106 => limits::BLOCKS_PER_MULTIPROCESSOR as c_int,
        111 => limits::SHARED_RESERVED as c_int,

        // Memory pools, clusters, tensor maps, function pointers.
        115 | 120 | 127 | 129 => 1,
        126 => 4,
        other if (1..=147).contains(&other) => 0,
        _ => return None,
    })
}

exports! {
    fn cuDeviceGetCount(count: Out<c_int>) {
        count.put(lock()?.devices.len() as c_int)
    }

    fn cuDeviceGet(device: Out<c_int>, ordinal: c_int) {
        lock()?.device(ordinal)?;
        device.put(ordinal)
    }

    fn cuDeviceGetName(name: Out<c_char>, length: c_int, device: c_int) {
        lock()?.device(device)?;
        let room = usize::try_from(length).ok().filter(|&room| room > 0).ok_or(CudaError::InvalidValue)?;
        let letters = NAME.bytes().take(room - 1).chain([0]);
        letters.enumerate().try_for_each(|(index, letter)| name.put_at(index, letter as c_char))
    }

    fn cuDeviceGetUuid_v2(uuid: Out<[u8; 16]>, device: c_int) {
        lock()?.device(device)?;
        let mut bytes = *b"cudasim device  ";
        bytes[15] = device as u8;
        uuid.put(bytes)
    }

    fn cuDeviceGetUuid(uuid: Out<[u8; 16]>, device: c_int) {
        lock()?.device(device)?;
        let mut bytes = *b"cudasim device  ";
        bytes[15] = device as u8;
        uuid.put(bytes)
    }

    fn cuDeviceTotalMem_v2(bytes: Out<usize>, device: c_int) {
        let memory = lock()?.device(device)?.options.memory;
        bytes.put(memory as usize)
    }

    fn cuDeviceGetAttribute(value: Out<c_int>, number: c_int, device: c_int) {
        lock()?.device(device)?;
        value.put(match number {
            // Each its own slot on the bus.
            33 => device + 1,
            number => attribute(number).ok_or(CudaError::InvalidValue)?,
        })
    }

    fn cuDeviceComputeCapability(major: Out<c_int>, minor: Out<c_int>, device: c_int) {
        lock()?.device(device)?;
        major.put(9)?;
        minor.put(0)
    }

    fn cuDeviceGetPCIBusId(name: Out<c_char>, length: c_int, device: c_int) {
        lock()?.device(device)?;
        let id = format!("0000:{:02x}:00.0", device + 1);
        let room = usize::try_from(length).ok().filter(|&room| room > 0).ok_or(CudaError::InvalidValue)?;
        let letters = id.bytes().take(room - 1).chain([0]);
        letters.enumerate().try_for_each(|(index, letter)| name.put_at(index, letter as c_char))
    }

    fn cuDeviceCanAccessPeer(can: Out<c_int>, device: c_int, peer: c_int) {
        let mut state = lock()?;
        state.device(device)?;
        state.device(peer)?;
        can.put(0)
    }
}
