//! The guard that every call of an exported function passes, and what it says when it refuses one.

use std::cell::Cell;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::{CudaError, Result};

thread_local! {
    /// A host function of a stream runs on this thread, and may not call the driver.
    static IN_HOST_FUNCTION: Cell<bool> = const { Cell::new(false) };
    /// The exported function that runs.
    static CALL: Cell<&'static str> = const { Cell::new("") };
}

/// Runs the body of an exported function.
pub fn guard(name: &'static str, body: impl FnOnce() -> Result<()>) -> c_int {
    if IN_HOST_FUNCTION.get() {
        explain("a host function of a stream must not call the driver");
        return CudaError::NotPermitted.code();
    }
    CALL.set(name);
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => error.code(),
        Err(_) => CudaError::Unknown.code(),
    }
}

/// The exported function that runs on this thread.
pub fn name() -> &'static str {
    CALL.get()
}

/// Says on standard error why a call is refused, where the code alone says too little.
pub fn explain(why: &str) {
    eprintln!("cudasim: {}: {why}", name());
}

/// An error whose reason is said on standard error.
pub fn refuse(error: CudaError, why: impl AsRef<str>) -> CudaError {
    explain(why.as_ref());
    error
}

/// Calls a host function of a stream.
pub fn host_function(function: impl FnOnce()) {
    IN_HOST_FUNCTION.set(true);
    function();
    IN_HOST_FUNCTION.set(false);
}
