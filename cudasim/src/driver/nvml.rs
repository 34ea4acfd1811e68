//! NVML, NVIDIA's management library: the sensors of the same devices. A program finds it where `libnvidia-ml.so.1` leads to
//! this library.
//!
//! Values are made up, but plain and of their device, so that tests can tell one card from another: a card draws 200 W and its
//! place on the bus, and has 40 °C and that. Memory in use is what is allocated. As in NVML, cards have an order of their own,
//! which is not CUDA's: here the reverse of it.

use std::ffi::{c_char, c_int, c_uint, c_ulonglong};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::ffi::{Out, Text};
use super::state::{Guard, lock_raw};

/// `nvmlReturn_t` of `nvml.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
enum NvmlError {
    Uninitialized = 1,
    InvalidArgument = 2,
    NotSupported = 3,
    NotFound = 6,
    GpuIsLost = 15,
    Unknown = 999,
}

type Result<T> = std::result::Result<T, NvmlError>;

/// `nvmlDevice_t`: a pointer for C; here the ordinal of CUDA's device, plus 1.
type NvmlDevice = usize;

/// `nvmlMemory_v2_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Memory {
    version: c_uint,
    total: c_ulonglong,
    reserved: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

/// Initialisations that were not shut down again.
static INITIALISED: AtomicU64 = AtomicU64::new(0);
/// Readings of power so far, by which the option `nvml_lost` counts.
static READINGS: AtomicU64 = AtomicU64::new(0);

/// The state, once NVML is initialised and unless the option `nvml_lacks` names the function: `nvmlDeviceGet` and that.
fn enter(function: &str) -> Result<Guard> {
    if INITIALISED.load(Ordering::Relaxed) == 0 {
        return Err(NvmlError::Uninitialized);
    }
    let state = lock_raw();
    let options = &state.devices.first().ok_or(NvmlError::Unknown)?.options;
    if READINGS.load(Ordering::Relaxed) > options.nvml_lost {
        return Err(NvmlError::GpuIsLost);
    }
    let what = function.strip_prefix("nvmlDeviceGet").unwrap_or(function);
    if options.nvml_lacks.split('+').any(|lacking| lacking == what) {
        return Err(NvmlError::NotSupported);
    }
    Ok(state)
}

/// The place on the bus of a device: that of the driver API.
fn place(device: NvmlDevice) -> u64 {
    device as u64
}

fn watts(device: NvmlDevice) -> u64 {
    200 + place(device)
}

/// The device of a handle.
fn checked(state: &Guard, device: NvmlDevice) -> Result<usize> {
    device.checked_sub(1).filter(|index| *index < state.devices.len()).ok_or(NvmlError::InvalidArgument)
}

/// `00000000:01:00.0`, or with four digits of the domain, or none: the place on the bus, if it is one.
fn place_of(text: &str) -> Option<NvmlDevice> {
    let parts: Vec<&str> = text.split(':').collect();
    let (bus, device) = match parts[..] {
        [domain, bus, device] if u64::from_str_radix(domain, 16) == Ok(0) => (bus, device),
        [bus, device] => (bus, device),
        _ => return None,
    };
    let is_first = matches!(device, "00.0" | "0.0" | "00");
    usize::from_str_radix(bus, 16).ok().filter(|_| is_first)
}

/// Declares exported functions of NVML. Each body is a closure's that returns a [`Result`]; the function returns its code.
macro_rules! exports {
    ($(fn $name:ident($($argument:ident: $ty:ty),* $(,)?) $body:block)*) => {$(
        #[doc = concat!("`", stringify!($name), "` of `nvml.h`.")]
        #[allow(non_snake_case)]
        // SAFETY: no other library that is loaded beside NVML defines this name.
        #[cfg_attr(not(test), unsafe(no_mangle))]
        pub extern "C" fn $name($($argument: $ty),*) -> c_int {
            let body = move || -> Result<()> { $body };
            match catch_unwind(AssertUnwindSafe(body)) {
                Ok(Ok(())) => 0,
                Ok(Err(error)) => error as c_int,
                Err(_) => NvmlError::Unknown as c_int,
            }
        }
    )*};
}

fn put<T>(out: Out<T>, value: T) -> Result<()> {
    out.put(value).map_err(|_| NvmlError::InvalidArgument)
}

exports! {
    fn nvmlInit_v2() {
        lock_raw().ensure_devices().map_err(|_| NvmlError::Unknown)?;
        INITIALISED.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn nvmlShutdown() {
        let less = |count: u64| count.checked_sub(1);
        INITIALISED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).map_err(|_| NvmlError::Uninitialized)?;
        Ok(())
    }

    fn nvmlDeviceGetCount_v2(count: Out<c_uint>) {
        let state = enter("nvmlDeviceGetCount_v2")?;
        put(count, state.devices.len() as c_uint)
    }

    fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: Out<NvmlDevice>) {
        let devices = enter("nvmlDeviceGetHandleByIndex_v2")?.devices.len();
        put(device, devices.checked_sub(index as usize).filter(|device| *device > 0).ok_or(NvmlError::InvalidArgument)?)
    }

    fn nvmlDeviceGetHandleByPciBusId_v2(id: Text, device: Out<NvmlDevice>) {
        let state = enter("nvmlDeviceGetHandleByPciBusId_v2")?;
        let text = id.get().map_err(|_| NvmlError::InvalidArgument)?;
        let found = place_of(&text).ok_or(NvmlError::InvalidArgument)?;
        checked(&state, found).map_err(|_| NvmlError::NotFound)?;
        put(device, found)
    }

    fn nvmlDeviceGetName(device: NvmlDevice, name: Out<c_char>, length: c_uint) {
        let state = enter("nvmlDeviceGetName")?;
        let text = state.devices[checked(&state, device)?].name();
        let letters = text.bytes().take((length as usize).saturating_sub(1)).chain([0]).enumerate();
        letters.into_iter().try_for_each(|(at, letter)| name.put_at(at, letter as c_char)).map_err(|_| NvmlError::InvalidArgument)
    }

    fn nvmlDeviceGetPowerUsage(device: NvmlDevice, milliwatts: Out<c_uint>) {
        READINGS.fetch_add(1, Ordering::Relaxed);
        checked(&enter("nvmlDeviceGetPowerUsage")?, device)?;
        put(milliwatts, (1000 * watts(device)) as c_uint)
    }

    fn nvmlDeviceGetEnforcedPowerLimit(device: NvmlDevice, milliwatts: Out<c_uint>) {
        checked(&enter("nvmlDeviceGetEnforcedPowerLimit")?, device)?;
        put(milliwatts, 700_000)
    }

    fn nvmlDeviceGetTotalEnergyConsumption(device: NvmlDevice, millijoules: Out<c_ulonglong>) {
        static SINCE: OnceLock<Instant> = OnceLock::new();
        checked(&enter("nvmlDeviceGetTotalEnergyConsumption")?, device)?;
        let milliseconds = SINCE.get_or_init(Instant::now).elapsed().as_millis() as u64;
        put(millijoules, 1_000_000 + watts(device) * milliseconds)
    }

    fn nvmlDeviceGetTemperature(device: NvmlDevice, sensor: c_uint, celsius: Out<c_uint>) {
        checked(&enter("nvmlDeviceGetTemperature")?, device)?;
        if sensor != 0 {
            return Err(NvmlError::InvalidArgument);
        }
        put(celsius, 40 + place(device) as c_uint)
    }

    fn nvmlDeviceGetClockInfo(device: NvmlDevice, clock: c_uint, megahertz: Out<c_uint>) {
        checked(&enter("nvmlDeviceGetClockInfo")?, device)?;
        // Graphics and multiprocessors, memory, video.
        let rates = [1410, 1410, 2600, 1275];
        put(megahertz, *rates.get(clock as usize).ok_or(NvmlError::InvalidArgument)?)
    }

    fn nvmlDeviceGetMaxClockInfo(device: NvmlDevice, clock: c_uint, megahertz: Out<c_uint>) {
        let state = enter("nvmlDeviceGetMaxClockInfo")?;
        let highest = state.devices[checked(&state, device)?].options.card().clock;
        let rates = [highest, highest, 2619, 1545];
        put(megahertz, *rates.get(clock as usize).ok_or(NvmlError::InvalidArgument)?)
    }

    fn nvmlDeviceGetCurrentClocksThrottleReasons(device: NvmlDevice, reasons: Out<c_ulonglong>) {
        /// Held by the power cap in software.
        const SW_POWER_CAP: c_ulonglong = 4;
        checked(&enter("nvmlDeviceGetCurrentClocksThrottleReasons")?, device)?;
        put(reasons, SW_POWER_CAP)
    }

    fn nvmlDeviceGetMemoryInfo_v2(device: NvmlDevice, memory: Out<Memory>) {
        let state = enter("nvmlDeviceGetMemoryInfo_v2")?;
        let index = checked(&state, device)?;
        let Memory { version, .. } = memory.get().map_err(|_| NvmlError::InvalidArgument)?;
        if version != size_of::<Memory>() as c_uint | 2 << 24 {
            return Err(NvmlError::InvalidArgument);
        }
        let total = state.devices[index].options.memory;
        let used = state.contexts.values().filter(|context| context.device == index).map(|context| context.engine.memory.used()).sum();
        put(memory, Memory { version, total, reserved: 0, free: total.saturating_sub(used), used })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_on_the_bus_is_read_in_every_form_that_nvml_takes() {
        for text in ["00000000:0A:00.0", "0000:0a:00.0", "0a:00.0", "0A:00"] {
            assert_eq!(place_of(text), Some(10), "{text}");
        }
        for text in ["", "10", "0001:0a:00.0", "0a:01.0", "0a:00.1", "x:00.0", "0000:0a:00.0:0"] {
            assert_eq!(place_of(text), None, "{text}");
        }
    }

    #[test]
    fn nothing_is_answered_before_the_library_is_initialised_and_wrong_handles_are_refused() {
        let mut buffer = 0_u32;
        let mut out = || Out::of(&raw mut buffer);
        assert_eq!(nvmlDeviceGetPowerUsage(1, out()), NvmlError::Uninitialized as c_int);
        assert_eq!(nvmlInit_v2(), 0);
        for device in [0, 99] {
            assert_eq!(nvmlDeviceGetTemperature(device, 0, out()), NvmlError::InvalidArgument as c_int);
        }
        assert_eq!(nvmlDeviceGetTemperature(1, 0, out()), 0);
        assert_eq!(nvmlDeviceGetTemperature(1, 1, out()), NvmlError::InvalidArgument as c_int);
        assert_eq!(nvmlShutdown(), 0);
        assert_eq!(nvmlShutdown(), NvmlError::Uninitialized as c_int);
        assert_eq!(buffer, 41);
    }
}
