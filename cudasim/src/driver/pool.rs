//! Memory pools: there is one for each device, which holds on to nothing.

use std::ffi::c_int;

use super::error::CudaError;
use super::exports;
use super::ffi::{DevicePointer, Handle, Out};
use super::memory::allocate_in_stream;
use super::state::lock;

/// Handle of the pool of device 0; the others follow.
const POOLS: Handle = 0x50_0000_0000;

/// `CU_MEMPOOL_ATTR_RELEASE_THRESHOLD`: 64 bits wide, as all after it.
const RELEASE_THRESHOLD: c_int = 4;

fn device_of(pool: Handle) -> Result<usize, CudaError> {
    let device = pool.checked_sub(POOLS).ok_or(CudaError::InvalidHandle)?;
    if device < lock()?.devices.len() { Ok(device) } else { Err(CudaError::InvalidHandle) }
}

exports! {
    fn cuDeviceGetDefaultMemPool(pool: Out<Handle>, device: c_int) {
        lock()?.device(device)?;
        pool.put(POOLS + device as usize)
    }

    fn cuDeviceGetMemPool(pool: Out<Handle>, device: c_int) {
        lock()?.device(device)?;
        pool.put(POOLS + device as usize)
    }

    fn cuDeviceSetMemPool(device: c_int, pool: Handle) {
        lock()?.device(device)?;
        if device_of(pool)? == device as usize { Ok(()) } else { Err(CudaError::NotSupported) }
    }

    fn cuMemPoolSetAttribute(pool: Handle, attribute: c_int, _value: Out<u64>) {
        // What a pool would keep or reuse has no effect: memory goes back at once.
        device_of(pool)?;
        if (1..=8).contains(&attribute) { Ok(()) } else { Err(CudaError::InvalidValue) }
    }

    fn cuMemPoolGetAttribute(pool: Handle, attribute: c_int, value: Out<u32>) {
        let device = device_of(pool)?;
        let state = lock()?;
        let used = state.contexts.values().filter(|c| c.device == device).map(|c| c.engine.memory.used()).sum::<u64>();
        match attribute {
            // Reuse follows events and dependencies, 32 bits each.
            1..=3 => value.put(1),
            RELEASE_THRESHOLD => value.put(0).and_then(|()| value.put_at(1, 0)),
            // Reserved and used memory.
            5..=8 => value.put(used as u32).and_then(|()| value.put_at(1, (used >> 32) as u32)),
            _ => Err(CudaError::InvalidValue),
        }
    }

    fn cuMemPoolTrimTo(pool: Handle, _keep: usize) {
        device_of(pool).map(drop)
    }

    fn cuMemAllocFromPoolAsync(pointer: Out<DevicePointer>, bytes: usize, pool: Handle, stream: Handle) {
        device_of(pool)?;
        allocate_in_stream(pointer, bytes, stream)
    }
}
