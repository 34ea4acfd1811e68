//! One card's sensors, asked by NVML.

use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::reading::Reading;
use super::throttle::Throttle;

/// A card that NVML knows.
pub(super) struct Card {
    nvml: Nvml,
    pci_bus_id: String,
}

/// What was read at once: the state, without energy, and the card's own counter of it in millijoules, if it has one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    pub reading: Reading,
    pub counter: Option<u64>,
}

/// What sensors are read from.
pub(super) trait Sensors: Send + 'static {
    /// All values that there are.
    ///
    /// # Errors
    /// In words, where there is none.
    fn sample(&self) -> Result<Sample, String>;
}

impl Card {
    /// The card at this place on the bus.
    ///
    /// # Errors
    /// In words: the library is missing, or does not know the card.
    pub fn open(pci_bus_id: &str) -> Result<Self, String> {
        let nvml = Nvml::init().map_err(|error| match error {
            NvmlError::LibloadingError(_) => "libnvidia-ml.so.1 is not there; it comes with NVIDIA's driver".to_owned(),
            other => format!("NVML cannot be used: {other}"),
        })?;
        let card = Self { nvml, pci_bus_id: pci_bus_id.to_owned() };
        card.device().map_err(|error| format!("NVML does not know the card at {pci_bus_id}: {error}"))?;
        Ok(card)
    }

    fn device(&self) -> Result<Device<'_>, NvmlError> {
        self.nvml.device_by_pci_bus_id(self.pci_bus_id.as_str())
    }
}

impl Sensors for Card {
    fn sample(&self) -> Result<Sample, String> {
        let device = self.device().map_err(|error| error.to_string())?;
        let mut failure = None;

        // Values that a card does not have are left out; of other failures the last is told if nothing else is.
        let power = told(device.power_usage(), &mut failure);
        let counter = told(device.total_energy_consumption(), &mut failure);
        let memory = told(device.memory_info(), &mut failure);
        let reading = Reading {
            watts: power.map(|milliwatts| f64::from(milliwatts) / 1e3),
            celsius: told(device.temperature(TemperatureSensor::Gpu), &mut failure),
            sm_mhz: told(device.clock_info(Clock::SM), &mut failure),
            memory_mhz: told(device.clock_info(Clock::Memory), &mut failure),
            throttled_by: told(device.current_throttle_reasons(), &mut failure).map(|reasons| Throttle(reasons.bits())),
            memory_bytes: memory.map(|memory| memory.used),
            joules: None,
        };
        match failure {
            Some(error) if reading == Reading::default() && counter.is_none() => Err(error.to_string()),
            _ => Ok(Sample { reading, counter }),
        }
    }
}

/// The value, or `None` and the failure, if it is one.
fn told<T>(value: Result<T, NvmlError>, failure: &mut Option<NvmlError>) -> Option<T> {
    match value {
        Ok(value) => Some(value),
        Err(NvmlError::NotSupported) => None,
        Err(error) => {
            *failure = Some(error);
            None
        }
    }
}

/// The state of a card now, and what it could do.
#[derive(Clone, Debug, PartialEq)]
pub struct CardState {
    /// Its sensors.
    pub reading: Reading,
    /// Power at most, watts.
    pub power_limit: Option<f64>,
    /// Highest clock of its multiprocessors, MHz.
    pub max_sm_mhz: Option<u32>,
    /// Bytes of its memory, those of the system included.
    pub memory_bytes: Option<u64>,
}

/// Looks at the card at this place on the bus, `00000000:01:00.0`.
///
/// # Errors
/// In words: there is no NVML, or it does not know the card, or the card does not answer.
pub fn inspect(pci_bus_id: &str) -> Result<CardState, String> {
    let card = Card::open(pci_bus_id)?;
    let reading = card.sample().map_err(|error| format!("NVML: {error}"))?.reading;
    let device = card.device().map_err(|error| format!("NVML: {error}"))?;
    Ok(CardState {
        reading,
        power_limit: device.enforced_power_limit().ok().map(|milliwatts| f64::from(milliwatts) / 1e3),
        max_sm_mhz: device.max_clock_info(Clock::SM).ok(),
        memory_bytes: device.memory_info().ok().map(|memory| memory.total),
    })
}
