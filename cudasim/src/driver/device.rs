//! Devices: what they say of themselves is what their card has.

use std::ffi::{c_char, c_int};

use super::error::CudaError;
use super::exports;
use super::ffi::Out;
use super::limits;
use super::objects::Device;
use super::state::lock;
use crate::card::Card;
use crate::options::Options;

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
            registers: crate::fatbin::Registers::new(),
        }
    }

    /// The name says what it is: results must not be taken for those of a GPU.
    pub(super) fn name(&self) -> String {
        match self.options.card {
            Some(card) => format!("cudasim (simulated {})", card.model),
            None => "cudasim (simulated sm_90a)".into(),
        }
    }
}

/// Value of a `CUdevice_attribute`. What the simulator does not have (textures, virtual memory management, peers) is 0.
fn attribute(card: &Card, number: c_int) -> Option<c_int> {
    let limits = card.limits;
    let (major, minor) = limits.capability;
    let [bus, rate] = card.bus;
    Some(match number {
        // Shapes, memory and registers of a block.
        1 => limits::THREADS as c_int,
        2 | 3 => limits::BLOCK[0] as c_int,
        4 => limits::BLOCK[2] as c_int,
        5 => limits::GRID[0] as c_int,
        6 | 7 => limits::GRID[1] as c_int,
        8 => limits::SHARED as c_int,
        12 | 82 => limits::REGISTERS as c_int,
        97 => limits.shared_opt_in as c_int,
        111 => limits::SHARED_RESERVED as c_int,

        // Constant memory, warps, pitch, textures' alignment.
        9 => 65536,
        10 | 51 => 32,
        11 => c_int::MAX,
        14 | 30 => 512,

        // The card: clock in kHz, multiprocessors, memory's clock in kHz and bus width, L2 cache, copy engines.
        13 => (card.clock * 1000) as c_int,
        16 => card.multiprocessors as c_int,
        36 => (rate * 500) as c_int,
        37 => bus as c_int,
        38 => card.l2 as c_int,
        39 => limits.threads_per_multiprocessor as c_int,
        40 => 3,
        75 => major as c_int,
        76 => minor as c_int,
        81 => limits.shared_per_multiprocessor as c_int,
        // Rate of single to double precision.
        87 => limits.double_ratio as c_int,
        106 => limits.blocks_per_multiprocessor as c_int,

        // Unified addresses, managed memory, streams' priorities, cooperative launches, memory pools, function pointers.
        15 | 19 | 31 | 32 | 41 | 78..=80 | 83 | 89..=91 | 95 | 99 | 115 | 129 => 1,
        // Clusters, tensor maps.
        120 | 127 => (major >= 9).into(),
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
        let text = lock()?.device(device)?.name();
        let room = usize::try_from(length).ok().filter(|&room| room > 0).ok_or(CudaError::InvalidValue)?;
        let letters = text.bytes().take(room - 1).chain([0]);
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
        let card = lock()?.device(device)?.options.card();
        value.put(match number {
            // Each its own slot on the bus.
            33 => device + 1,
            number => attribute(card, number).ok_or(CudaError::InvalidValue)?,
        })
    }

    fn cuDeviceComputeCapability(major: Out<c_int>, minor: Out<c_int>, device: c_int) {
        let (first, second) = lock()?.device(device)?.options.card().limits.capability;
        major.put(first as c_int)?;
        minor.put(second as c_int)
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
