//! The card and its state: what it is, how fast it is clocked, and who else uses it. By NVML, where its library is there.

use anyhow::{Result, bail};
use cudarc::driver::CudaContext;
use igpt_engine::device::cuda::DeviceInfo;
use igpt_engine::device::cuda::kernel::TOOLKIT;
use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use serde::{Deserialize, Serialize};

/// What does not change during a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Card {
    pub name: String,
    pub compute_capability: String,
    pub multiprocessors: i32,
    pub memory_bytes: u64,
    pub l2_bytes: i32,
    /// The driver's own version; nothing without NVML.
    pub driver: Option<String>,
    /// Release of CUDA that the driver knows.
    pub cuda: String,
    /// Release of the compiler that built the kernels.
    pub toolkit: String,
    pub ecc: Option<bool>,
    pub mig: Option<bool>,
    pub power_limit_watts: Option<f64>,
    /// Highest clock of the multiprocessors, and of the memory.
    pub max_clocks_mhz: Option<[u32; 2]>,
}

/// What does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Clocks {
    pub multiprocessors_mhz: u32,
    pub memory_mhz: u32,
    pub celsius: Option<u32>,
    /// Why the clock is not higher, in NVML's words; empty where nothing holds it.
    pub throttled_by: Vec<String>,
}

/// NVML's view of the card, or why there is none.
pub struct Monitor {
    nvml: std::result::Result<(Nvml, String), String>,
}

impl Monitor {
    /// Of the card that this context is on; CUDA's numbers of cards are not NVML's, so its name is asked for.
    pub fn open(context: &CudaContext) -> Self {
        let open = || {
            let nvml = Nvml::init().map_err(|error| format!("NVML: {error}"))?;
            let uuid = context.uuid().map_err(|error| format!("the device's UUID: {error}"))?;
            let uuid = uuid_text(&uuid.bytes.map(|byte| byte as u8));
            nvml.device_by_uuid(uuid.as_str()).map_err(|error| format!("NVML does not know {uuid}: {error}"))?;
            Ok((nvml, uuid))
        };
        Self { nvml: open() }
    }

    /// Why clocks and other processes are unknown, if they are.
    pub fn missing(&self) -> Option<&str> {
        self.nvml.as_ref().err().map(String::as_str)
    }

    fn device(&self) -> Option<nvml_wrapper::Device<'_>> {
        let (nvml, uuid) = self.nvml.as_ref().ok()?;
        nvml.device_by_uuid(uuid.as_str()).ok()
    }

    /// What the card is.
    pub fn card(&self, info: &DeviceInfo, cuda: (u32, u32)) -> Card {
        let device = self.device();
        let device = device.as_ref();
        Card {
            name: info.name.clone(),
            compute_capability: format!("{}.{}", info.capability.0, info.capability.1),
            multiprocessors: info.multiprocessors,
            memory_bytes: info.memory,
            l2_bytes: info.l2,
            driver: self.nvml.as_ref().ok().and_then(|(nvml, _)| nvml.sys_driver_version().ok()),
            cuda: format!("{}.{}", cuda.0, cuda.1),
            toolkit: format!("{}.{}", TOOLKIT.0, TOOLKIT.1),
            ecc: device.and_then(|device| device.is_ecc_enabled().ok()).map(|state| state.currently_enabled),
            mig: device.and_then(|device| device.mig_mode().ok()).map(|mode| mode.current != 0),
            power_limit_watts: device
                .and_then(|device| device.enforced_power_limit().ok())
                .map(|milliwatts| f64::from(milliwatts) / 1e3),
            max_clocks_mhz: device.and_then(|device| {
                Some([device.max_clock_info(Clock::SM).ok()?, device.max_clock_info(Clock::Memory).ok()?])
            }),
        }
    }

    /// How it is clocked now.
    pub fn clocks(&self) -> Option<Clocks> {
        let device = self.device()?;
        let throttled = device
            .current_throttle_reasons()
            .map(|reasons| reasons.iter_names().map(|(name, _)| name.to_lowercase().replace('_', " ")).collect());
        Some(Clocks {
            multiprocessors_mhz: device.clock_info(Clock::SM).ok()?,
            memory_mhz: device.clock_info(Clock::Memory).ok()?,
            celsius: device.temperature(TemperatureSensor::Gpu).ok(),
            throttled_by: throttled.unwrap_or_default(),
        })
    }

    /// Refuses a card that another process computes on.
    ///
    /// # Errors
    /// With the processes' numbers.
    pub fn refuse_company(&self) -> Result<()> {
        let Some(device) = self.device() else { return Ok(()) };
        let own = std::process::id();
        let others: Vec<String> = device
            .running_compute_processes()
            .unwrap_or_default()
            .iter()
            .filter(|process| process.pid != own)
            .map(|process| process.pid.to_string())
            .collect();
        if !others.is_empty() {
            bail!(
                "other processes compute on this card (process {}), and no time would mean anything: end them, choose another \
                 card with CUDA_VISIBLE_DEVICES, or say --shared",
                others.join(", ")
            );
        }
        Ok(())
    }
}

/// As NVML spells it.
fn uuid_text(bytes: &[u8; 16]) -> String {
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |from: usize, to: usize| hex[from..to].concat();
    format!("GPU-{}-{}-{}-{}-{}", part(0, 4), part(4, 6), part(6, 8), part(8, 10), part(10, 16))
}

#[cfg(test)]
mod tests {
    use super::uuid_text;

    #[test]
    fn a_uuid_is_spelt_as_nvml_spells_it() {
        let bytes = [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08];
        assert_eq!(uuid_text(&bytes), "GPU-12345678-9abc-def0-0102-030405060708");
    }
}
