//! What a card is measured by: the peak that MFU is a share of, and the energy that `plan` would expect.

use crate::device::nvml::{self, Monitor};
use crate::device::{self, Device, Precision};
use crate::model::ModelConfig;
use crate::plan::{DeviceModel, UTILISATION, joules, recognised};
use crate::report::card::ExpectedEnergy;
use crate::report::compute::{Compute, Peak, teraflops};
use crate::run::metrics::PeakSource;

/// Of a run on a device. All of it is empty on a CPU.
pub(super) struct Yardstick {
    /// FLOPs of a token, and the device's peak.
    pub compute: Compute,
    /// The energy of a step, by the formula of `plan`.
    pub energy: Option<ExpectedEnergy>,
    /// What a person should know of it.
    pub note: Option<String>,
}

impl Yardstick {
    /// That of training `config` on steps of `tokens` tokens, in images of `length`. Of a card whose data sheet is not known the
    /// GEMM is measured.
    ///
    /// # Errors
    /// Those of the device.
    pub fn of<D: Device>(
        device: &D,
        config: &ModelConfig,
        precision: Precision,
        [length, tokens]: [usize; 2],
    ) -> device::Result<Self> {
        let of_card = |peak| Compute::of(config, length, peak);
        let Some(pci_bus_id) = device.pci_bus_id() else {
            return Ok(Self { compute: of_card(None), energy: None, note: None });
        };

        // The peak.
        let known = recognised(&device.describe());
        let peak = match known {
            Some(model) => Some(of_data_sheet(model, precision)),
            None => measured(device, precision)?,
        };
        let note = peak.as_ref().filter(|peak| peak.source == PeakSource::Measured).map(|peak| {
            let flops = teraflops(peak.flops);
            format!("note: no data sheet of this card is known; MFU will be of the {flops} of {}", peak.of)
        });

        // The energy, of the FLOPs that are needed.
        let power = match known {
            Some(model) => Some((model.watts, "the TDP of its data sheet")),
            None => nvml::inspect(&pci_bus_id).ok().and_then(|card| Some((card.power_limit?, "its power limit"))),
        };
        let compute = of_card(peak);
        let energy = compute.peak.as_ref().zip(power).map(|(peak, (watts, whose))| ExpectedEnergy {
            joules_per_step: joules(compute.needed * tokens as f64, peak.flops, UTILISATION, watts),
            basis: format!("{:.0} % of the peak of {}, at {watts:.0} W, {whose}", 100.0 * UTILISATION, peak.of),
        });
        Ok(Self { compute, energy, note })
    }
}

fn of_data_sheet(model: &DeviceModel, precision: Precision) -> Peak {
    let (precision, flops) = model.peak(precision);
    Peak { flops, of: format!("{} in {}", model.name, in_words(precision)), source: PeakSource::DataSheet }
}

fn measured<D: Device>(device: &D, precision: Precision) -> device::Result<Option<Peak>> {
    let rate = device.gemm_rate()?;
    Ok(rate.map(|rate| Peak {
        flops: rate.flops,
        of: format!("its own GEMM, measured at the start ({}³, {})", rate.side, in_words(precision)),
        source: PeakSource::Measured,
    }))
}

fn in_words(precision: Precision) -> &'static str {
    match precision {
        Precision::Bf16 => "bf16",
        Precision::F32 => "f32",
    }
}

/// Watches the device's card, which has used `joules` in the run so far; `None` where there is no card or no NVML.
pub(super) fn monitor<D: Device>(device: &D, joules: f64) -> Option<Monitor> {
    // What is missing `doctor` says; a run does not need it.
    device.pci_bus_id().and_then(|id| Monitor::start(&id, joules).ok())
}
