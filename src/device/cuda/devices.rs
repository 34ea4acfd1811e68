//! Which CUDA devices a machine has: for `doctor`.

use cudarc::driver::sys::CUdevice_attribute_enum as Attribute;
use cudarc::driver::{DriverError, result};

use super::error::{self, failed};
use super::kernel::TOOLKIT;
use super::{driver, functions, release};
use crate::device::{Error, Result};

/// The driver and its devices.
#[derive(Clone, Debug, PartialEq)]
pub struct Devices {
    /// Release of CUDA that the driver knows: major, minor.
    pub driver: (u32, u32),
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
    /// Where it is on the PCI bus, as NVML spells it.
    pub pci_bus_id: String,
    /// Bytes of its memory.
    pub memory: u64,
    /// Streaming multiprocessors.
    pub multiprocessors: i32,
    /// Largest shared memory of a block, in bytes.
    pub shared: i32,
    /// Bytes of its L2 cache.
    pub l2: i32,
    /// Whether the kernels run on it, as far as its compute capability goes.
    pub supported: bool,
    /// Why the driver cannot run the kernels on it, with what to do, if it is older than they are.
    pub misfit: Option<String>,
}

/// Asks the driver, in builds without kernels too.
///
/// # Errors
/// [`Error::Unavailable`] without a driver, or with one that is too old; [`Error::Driver`] if it refuses, as it does
/// where there is no device.
pub fn enumerate_devices() -> Result<Devices> {
    functions::check()?;
    result::init().map_err(failed("cuInit"))?;
    let driver = release::of_driver()?;
    let count = result::device::get_count().map_err(failed("cuDeviceGetCount"))?;
    let devices = (0..count).map(|ordinal| info(ordinal, driver)).collect::<std::result::Result<_, _>>();
    let devices = devices.map_err(|error: DriverError| -> Error { error::error("cuDeviceGetAttribute", error) })?;
    Ok(Devices { driver, devices })
}

fn info(ordinal: i32, known: (u32, u32)) -> std::result::Result<DeviceInfo, DriverError> {
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
        pci_bus_id: driver::pci_bus_id(attribute)?,
        // SAFETY: as above.
        memory: unsafe { result::device::total_mem(device)? } as u64,
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        shared: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        l2: attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?,
        supported: capability >= driver::OLDEST,
        misfit: release::misfit(known, TOOLKIT, capability).map(|error| error.to_string()),
    })
}
