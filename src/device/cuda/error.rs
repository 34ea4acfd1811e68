//! The driver's errors as values: of a call, of a driver that is missing, of one that is too old.

use cudarc::driver::DriverError;
use cudarc::driver::sys;

use crate::device::{Error, Result};

/// The error of a call.
pub(super) fn error(call: impl Into<String>, error: DriverError) -> Error {
    let name = error.error_name().ok().and_then(|name| name.to_str().ok()).unwrap_or("unknown error").to_owned();
    let text = error.error_string().ok().and_then(|text| text.to_str().ok()).unwrap_or_default();
    let help = match error.0 {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => "; use a smaller batch or model, or free the device's memory",
        sys::CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU | sys::CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
            "; the driver is older than the kernels: update it, or build with its CUDA release"
        }
        _ => "",
    };
    Error::Driver { call: call.into(), message: format!("{name}: {text}{help}") }
}

/// `map_err` for a call.
pub(super) fn failed(call: &'static str) -> impl Fn(DriverError) -> Error {
    move |cause| error(call, cause)
}

/// Whether there is a driver at all: cudarc panics where there is none.
pub(super) fn present() -> Result<()> {
    // SAFETY: loads the driver's library, whose initialisers NVIDIA answers for, and calls nothing.
    if unsafe { sys::is_culib_present() } {
        return Ok(());
    }
    Err(Error::unavailable(
        "no CUDA driver: libcuda.so is not among the system's libraries",
        "install NVIDIA's driver, or use --device cpu",
    ))
}

/// The error of a driver that lacks a function.
pub(super) fn too_old() -> Error {
    Error::unavailable("the CUDA driver lacks a function of release 13.0", "update it, or use --device cpu")
}
