//! Devices by their data sheets.

use serde::Serialize;

use crate::device::Precision;

/// Part of the bus's rate that a kernel which streams through the host's memory is taken to reach: packets have heads.
const OF_BUS: f64 = 0.8;

/// Bytes per second of a machine's memory, which its cards share: an assumption, near what two sockets of eight channels of DDR4-3200
/// have by their data sheets.
const HOST_MEMORY: f64 = 400e9;

/// Cards of one machine, where nobody says otherwise.
pub const PER_MACHINE: usize = 8;

/// What a maker publishes about a device.
#[derive(Debug, PartialEq, Serialize)]
pub struct DeviceModel {
    /// What `--device-model` calls it.
    pub key: &'static str,
    /// Its name.
    pub name: &'static str,
    /// FLOP/s of bfloat16 GEMMs accumulated in float32, without sparsity; `None` where it has none.
    pub bf16: Option<f64>,
    /// FLOP/s of float32, without TF32.
    pub f32: f64,
    /// Memory in bytes; makers call 2^30 bytes a gigabyte here.
    pub memory: f64,
    /// Bytes per second between it and the memory.
    pub bandwidth: f64,
    /// Bytes per second in each direction between it and the host: 16 lanes of PCI Express.
    pub bus: f64,
    /// Thermal design power in watts.
    pub watts: f64,
}

impl DeviceModel {
    /// The peak of GEMMs in a precision, FLOP/s; in float32 where it has no bfloat16.
    pub fn peak(&self, precision: Precision) -> (Precision, f64) {
        match (precision, self.bf16) {
            (Precision::Bf16, Some(peak)) => (Precision::Bf16, peak),
            _ => (Precision::F32, self.f32),
        }
    }

    /// Bytes per second in each direction that a kernel on it is taken to read and write of the host's memory, while `cards` of the
    /// machine do the same.
    pub fn to_host(&self, cards: usize) -> f64 {
        (OF_BUS * self.bus).min(HOST_MEMORY / (2 * cards.max(1)) as f64)
    }
}

const fn device(
    key: &'static str,
    name: &'static str,
    [bf16, f32]: [f64; 2],
    [gigabytes, gigabytes_per_second, bus]: [u64; 3],
    watts: f64,
) -> DeviceModel {
    let bf16 = if bf16 > 0.0 { Some(bf16 * 1e12) } else { None };
    let (memory, bandwidth) = ((gigabytes << 30) as f64, gigabytes_per_second as f64 * 1e9);
    DeviceModel { key, name, bf16, f32: f32 * 1e12, memory, bandwidth, bus: bus as f64 * 1e9, watts }
}

/// The devices that are known, from NVIDIA's data sheets ("Tesla V100", 2020; "A100 Tensor Core GPU", 2022; "H100 Tensor Core
/// GPU", 2023; "H200 Tensor Core GPU", 2024; "L40S", 2023) and architecture white papers (GA102 2.1 and Ada 2.1 for GeForce,
/// with float32 accumulation). A V100 has no bfloat16; it is here because the paper's models were costed in V100-days.
pub static DEVICES: [DeviceModel; 9] = [
    device("v100", "V100 SXM2 32 GB", [0.0, 15.7], [32, 900, 16], 300.0),
    device("rtx3090", "GeForce RTX 3090", [71.0, 35.6], [24, 936, 32], 350.0),
    device("rtx4090", "GeForce RTX 4090", [165.2, 82.6], [24, 1008, 32], 450.0),
    device("l40s", "L40S", [362.0, 91.6], [48, 864, 32], 350.0),
    device("a100-40", "A100 SXM 40 GB", [312.0, 19.5], [40, 1555, 32], 400.0),
    device("a100", "A100 SXM 80 GB", [312.0, 19.5], [80, 2039, 32], 400.0),
    device("h100-pcie", "H100 PCIe", [756.0, 51.0], [80, 2000, 64], 350.0),
    device("h100", "H100 SXM", [989.4, 66.9], [80, 3350, 64], 700.0),
    device("h200", "H200 SXM", [989.4, 66.9], [141, 4800, 64], 700.0),
];

/// The device that is called `key`.
pub fn device_model(key: &str) -> Option<&'static DeviceModel> {
    DEVICES.iter().find(|device| device.key == key)
}

/// The device that a driver's name for it is of, as in `NVIDIA H100 80GB HBM3`; `None` for one that is not in [`DEVICES`], and
/// for its relatives with other figures (of laptops, Ti, MIG).
pub fn recognised(name: &str) -> Option<&'static DeviceModel> {
    let words: Vec<&str> = name.split(|letter: char| !letter.is_ascii_alphanumeric()).collect();
    let has = |word: &str| words.iter().any(|found| found.eq_ignore_ascii_case(word));
    if ["laptop", "ti", "mig", "nvl", "super", "d"].into_iter().any(has) {
        return None;
    }
    device_model(match () {
        () if has("H200") => "h200",
        () if has("H100") && has("PCIe") => "h100-pcie",
        () if has("H100") => "h100",
        () if has("A100") && has("40GB") => "a100-40",
        () if has("A100") => "a100",
        () if has("L40S") => "l40s",
        () if has("4090") => "rtx4090",
        () if has("3090") => "rtx3090",
        () if has("V100") && has("SXM2") => "v100",
        () => return None,
    })
}

/// A device that is not in [`DEVICES`].
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("unknown --device-model '{name}'; choose all, or some of {}", DEVICES.each_ref().map(|device| device.key).join(", "))]
pub struct UnknownDevice {
    /// What was asked for.
    pub name: String,
}

/// The devices of these names; all of them if one of the names is `all`.
///
/// # Errors
/// [`UnknownDevice`].
pub fn devices_named(names: &[String]) -> Result<Vec<&'static DeviceModel>, UnknownDevice> {
    if names.iter().any(|name| name == "all") {
        return Ok(DEVICES.iter().collect());
    }
    names.iter().map(|name| device_model(name).ok_or_else(|| UnknownDevice { name: name.clone() })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 80 % of 64 GB/s as far as the machine's memory goes round, which is for three cards.
    #[test]
    fn cards_of_a_machine_share_its_memory() {
        let card = device_model("h100").unwrap();
        assert_eq!([1, 3, 4, 8].map(|cards| card.to_host(cards)), [51.2e9, 51.2e9, 50e9, 25e9]);
    }

    #[test]
    fn drivers_names_are_recognised_and_relatives_are_not() {
        for (name, key) in [
            ("NVIDIA H100 80GB HBM3", Some("h100")),
            ("NVIDIA H100 PCIe", Some("h100-pcie")),
            ("NVIDIA H100 NVL", None),
            ("NVIDIA H200", Some("h200")),
            ("NVIDIA A100-SXM4-80GB", Some("a100")),
            ("NVIDIA A100-SXM4-40GB", Some("a100-40")),
            ("NVIDIA L40S", Some("l40s")),
            ("NVIDIA GeForce RTX 4090", Some("rtx4090")),
            ("NVIDIA GeForce RTX 4090 D", None),
            ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
            ("NVIDIA GeForce RTX 3090 Ti", None),
            ("NVIDIA GeForce RTX 3090", Some("rtx3090")),
            ("Tesla V100-SXM2-32GB", Some("v100")),
            ("NVIDIA GeForce RTX 5090", None),
            ("cpu (2 threads)", None),
        ] {
            assert_eq!(recognised(name).map(|device| device.key), key, "{name}");
        }
    }
}
