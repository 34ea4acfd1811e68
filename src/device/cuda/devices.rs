//! Which CUDA devices a machine has: for `doctor`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cudarc::driver::sys::{self, CUdevice_attribute_enum as Attribute};
use cudarc::driver::{DriverError, result};

use super::driver;
use super::error::{self, failed};
use crate::device::{Error, Result};

/// The driver and its devices.
#[derive(Clone, Debug, PartialEq)]
pub struct Devices {
    /// Release of CUDA that the driver knows: major, minor.
    pub driver: (i32, i32),
    /// In the driver's order.
    pub devices: Vec<DeviceInfo>,
}

/// A CUDA device.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceInfo {
    /// What it calls itself.
    pub name: String,
    /// Compute capability: major, minor.
    pub capability: (i32, i32),
    /// Bytes of its memory.
    pub memory: u64,
    /// Streaming multiprocessors.
    pub multiprocessors: i32,
    /// Whether the kernels run on it, as far as its compute capability goes.
    pub supported: bool,
}

/// Asks the driver, in builds without kernels too.
///
/// # Errors
/// [`Error::Unavailable`] without a driver, or with one that is too old; [`Error::Driver`] if it refuses, as it does
/// where there is no device.
pub fn enumerate_devices() -> Result<Devices> {
    error::present()?;
    catch_unwind(AssertUnwindSafe(ask)).unwrap_or_else(|_| Err(error::too_old()))
}

fn ask() -> Result<Devices> {
    result::init().map_err(failed("cuInit"))?;
    let mut version = 0;
    // SAFETY: writes an integer.
    let asked = unsafe { sys::cuDriverGetVersion(&raw mut version) };
    asked.result().map_err(failed("cuDriverGetVersion"))?;
    let count = result::device::get_count().map_err(failed("cuDeviceGetCount"))?;
    let devices = (0..count).map(info).collect::<std::result::Result<_, _>>();
    let devices = devices.map_err(|error: DriverError| -> Error { error::error("cuDeviceGetAttribute", error) })?;
    Ok(Devices { driver: (version / 1000, version % 1000 / 10), devices })
}

fn info(ordinal: i32) -> std::result::Result<DeviceInfo, DriverError> {
    let device = result::device::get(ordinal)?;
    // SAFETY: a device that the driver named.
    let attribute = |attribute| unsafe { result::device::get_attribute(device, attribute) };
    let capability = (
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    );
    Ok(DeviceInfo {
        name: result::device::get_name(device)?,
        capability,
        // SAFETY: as above.
        memory: unsafe { result::device::total_mem(device)? } as u64,
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        supported: capability >= driver::OLDEST,
    })
}
