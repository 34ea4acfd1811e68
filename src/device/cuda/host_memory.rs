//! The host's memory as a device's own: page-locked and mapped, so that kernels read and write it over the bus where it is.
//!
//! A kernel that streams through it once, in both directions, keeps the bus as busy as copies would, which have to be overlapped by hand;
//! llmq calls it zero-copy.

use std::ffi::c_void;
use std::ptr;
use std::rc::Rc;

use cudarc::driver::sys::{CU_MEMHOSTALLOC_DEVICEMAP, CU_MEMHOSTALLOC_PORTABLE};
use cudarc::driver::{DriverError, result, sys};

use super::context::bind;
use super::error::failed;
use super::pointer::Pointer;
use super::streams::Streams;
use crate::device::{Error, Result};

/// Page-locked memory of the host.
pub(super) struct HostMemory {
    /// From `cuMemHostAlloc`.
    address: *mut c_void,
    /// What may still be using it.
    streams: Rc<Streams>,
}

impl HostMemory {
    /// `bytes` bytes of zeros, and where kernels find them; nothing on a device that only counts.
    pub(super) fn zeros(streams: &Rc<Streams>, bytes: usize) -> Result<Option<(Self, Pointer)>> {
        let Some(stream) = streams.main() else { return Ok(None) };
        bind(stream)?;
        let flags = CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP;
        // SAFETY: any size may be asked for.
        let address = unsafe { result::malloc_host(bytes, flags) }.map_err(|error| refused(bytes, error))?;
        let memory = Self { address, streams: Rc::clone(streams) };

        let mut device = 0;
        // SAFETY: there are as many bytes, which nothing else knows of yet; and the place is valid for the call.
        let mapped = unsafe {
            ptr::write_bytes(address.cast::<u8>(), 0, bytes);
            sys::cuMemHostGetDevicePointer_v2(&raw mut device, address, 0)
        };
        mapped.result().map_err(failed("cuMemHostGetDevicePointer"))?;
        Ok(Some((memory, Pointer(device))))
    }

    /// Writes its first values, before any work of the device is given it.
    ///
    /// # Safety
    /// It must have room for them.
    pub(super) unsafe fn fill(&mut self, values: &[f32]) {
        // SAFETY: there is room, as the caller says, and nothing else uses it.
        unsafe { ptr::copy_nonoverlapping(values.as_ptr(), self.address.cast(), values.len()) };
    }
}

/// The host has no more memory that it can lock.
fn refused(bytes: usize, cause: DriverError) -> Error {
    let problem = format!(
        "{:.1} MiB of the host's memory cannot be page-locked for the device: {}",
        bytes as f64 / f64::from(1 << 20),
        failed("cuMemHostAlloc")(cause)
    );
    let remedy = "leave --offload-optimizer out, free some of the machine's memory, or give the process more (docker --memory, Slurm --mem, \
                  ulimit -l)";
    Error::unavailable(problem, remedy)
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        // An error is one that the next call returns too. Waiting makes the context current that the memory is of.
        let _ = self.streams.synchronize();
        // SAFETY: from cuMemHostAlloc, freed once, and nothing uses it any more.
        let _ = unsafe { result::free_host(self.address) };
    }
}
