//! Initialisation, versions, texts of errors, and functions by name.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use super::call::refuse;
use super::error::{CudaError, Result};
use super::exports;
use super::ffi::{Out, Text};
use super::install::symbol;
use super::state::lock_raw;

/// A release as the driver gives it: 12040 for 12.4.
fn number((major, minor): (u32, u32)) -> c_int {
    (major * 1000 + minor * 10) as c_int
}

fn texts(code: c_int) -> Option<(&'static CStr, &'static CStr)> {
    match code {
        0 => Some((c"CUDA_SUCCESS", c"no error")),
        code => CudaError::from_code(code).map(CudaError::texts),
    }
}

/// Gives a text, or a null pointer and an error where there is no such code, as the driver does.
fn give(pointer: Out<*const c_char>, text: Option<&'static CStr>) -> Result<()> {
    pointer.put(text.map_or(std::ptr::null(), CStr::as_ptr))?;
    text.map(|_| ()).ok_or(CudaError::InvalidValue)
}

exports! {
    fn cuInit(flags: c_uint) {
        if flags != 0 {
            return Err(CudaError::InvalidValue);
        }
        let mut state = lock_raw();
        state.ensure_devices().map_err(|why| refuse(CudaError::InvalidValue, why))?;
        state.initialised = true;
        Ok(())
    }

    fn cuDriverGetVersion(version: Out<c_int>) {
        version.put(number(lock_raw().driver_release()))
    }

    fn cuGetProcAddress_v2(name: Text, function: Out<*mut c_void>, version: c_int, _flags: u64, status: Out<c_int>) {
        const FOUND: c_int = 0;
        const NOT_FOUND: c_int = 1;
        const TOO_NEW: c_int = 2;
        let name = name.get()?;
        if version > number(lock_raw().driver_release()) {
            status.put_if_wanted(TOO_NEW);
            function.put(std::ptr::null_mut())?;
            return Err(CudaError::NotFound);
        }
        // The caller names functions without their versions and gets the newest.
        let found = ["_v4", "_v3", "_v2", ""].iter().find_map(|suffix| symbol(&format!("{name}{suffix}")));
        status.put_if_wanted(if found.is_some() { FOUND } else { NOT_FOUND });
        function.put(found.unwrap_or(std::ptr::null_mut()))?;
        found.map(drop).ok_or(CudaError::NotFound)
    }

    fn cuGetErrorName(error: c_int, name: Out<*const c_char>) {
        give(name, texts(error).map(|(name, _)| name))
    }

    fn cuGetErrorString(error: c_int, text: Out<*const c_char>) {
        give(text, texts(error).map(|(_, text)| text))
    }
}
