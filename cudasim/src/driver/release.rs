//! Drivers of older releases: the functions that they lack; and which functions were called at all.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::call::refuse;
use super::error::{CudaError, Result};
use super::state::lock_raw;

/// Exported functions that came after CUDA 12.0, with the release that brought them (the versions of `cuda.h`).
const LATER: &[(&str, (u32, u32))] = &[
    ("cuCtxSetFlags", (12, 1)),
    ("cuMemAdvise_v2", (12, 2)),
    ("cuMemPrefetchAsync_v2", (12, 2)),
    ("cuFuncGetName", (12, 3)),
    ("cuKernelGetName", (12, 3)),
    ("cuStreamGetCaptureInfo_v3", (12, 3)),
    ("cuFuncGetParamInfo", (12, 4)),
    ("cuFuncIsLoaded", (12, 4)),
    ("cuFuncLoad", (12, 4)),
    ("cuKernelGetParamInfo", (12, 4)),
    ("cuLibraryGetKernelCount", (12, 4)),
    ("cuModuleEnumerateFunctions", (12, 4)),
    ("cuModuleGetFunctionCount", (12, 4)),
    ("cuCtxCreate_v4", (12, 5)),
    ("cuKernelGetLibrary", (12, 5)),
    ("cuEventElapsedTime_v2", (12, 8)),
    ("cuStreamGetDevice", (12, 8)),
    ("cuCtxGetDevice_v2", (13, 0)),
];

/// Functions that were called, by name.
static CALLED: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// Notes a call.
///
/// # Errors
/// `CallRequiresNewerDriver` where the driver that the options name lacks the function. (The driver itself would not have
/// the symbol; a library cannot hide its own.)
pub fn note(name: &'static str) -> Result<()> {
    CALLED.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
    let Some((_, since)) = LATER.iter().find(|(later, _)| *later == name) else { return Ok(()) };
    let driver = lock_raw().driver_release();
    if *since <= driver {
        return Ok(());
    }
    let why =
        format!("a driver of CUDA {}.{} has no such function; {}.{} brought it", driver.0, driver.1, since.0, since.1);
    Err(refuse(CudaError::CallRequiresNewerDriver, why))
}

/// The functions that were called in this process, in the order of their names.
pub fn called() -> Vec<&'static str> {
    CALLED.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
}
