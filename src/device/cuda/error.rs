//! The driver's errors as values: of a call, of a driver that is missing, of one that is too old.

use cudarc::driver::DriverError;
use cudarc::driver::sys;

use crate::device::{Error, Result};

/// The error of a call.
pub(super) fn error(call: impl Into<String>, error: DriverError) -> Error {
    let name = error.error_name().ok().and_then(|name| name.to_str().ok()).unwrap_or("unknown error").to_owned();
    let text = error.error_string().ok().and_then(|text| text.to_str().ok()).unwrap_or_default();
    let help = help(error.0).map_or(String::new(), |help| format!("; {help}"));
    let (call, message) = (call.into(), format!("{name}: {text}{help}"));
    match error.0 {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::OutOfMemory { call, message },
        _ => Error::Driver { call, message },
    }
}

/// What to do about an error, where there is something to do.
fn help(code: sys::CUresult) -> Option<&'static str> {
    use sys::CUresult::*;
    Some(match code {
        CUDA_ERROR_OUT_OF_MEMORY => "use a smaller batch or model, or free the device's memory",
        CUDA_ERROR_INVALID_IMAGE => {
            "the driver cannot read the kernels: they are of a newer CUDA release, or damaged. Update the driver, or build \
             again with a toolkit of its release (set NVCC to its nvcc)"
        }
        CUDA_ERROR_NO_BINARY_FOR_GPU => {
            "the build has no code for this device: update the driver, so that it can compile the PTX, or build with a \
             toolkit that knows the device"
        }
        CUDA_ERROR_INVALID_PTX => {
            "the driver's compiler refused the PTX: update the driver, or build again with a toolkit of its release (set \
             NVCC to its nvcc); if that does not help, report it with the output of `igpt-engine doctor`"
        }
        CUDA_ERROR_JIT_COMPILER_NOT_FOUND => {
            "the driver's PTX compiler, libnvidia-ptxjitcompiler.so.1, is missing, and this device needs it: install the \
             whole driver, or in a container set NVIDIA_DRIVER_CAPABILITIES=compute,utility"
        }
        CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
            "the kernels' PTX is of a newer CUDA release than the driver: update the driver, or build with a toolkit of \
             its release (set NVCC to its nvcc)"
        }
        CUDA_ERROR_JIT_COMPILATION_DISABLED => {
            "this device needs the kernels' PTX compiled, and that is switched off: unset CUDA_DISABLE_PTX_JIT and \
             CUDA_DISABLE_JIT"
        }
        _ => return None,
    })
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
