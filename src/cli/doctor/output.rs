//! What `doctor` prints.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::common::output::say;
use crate::device;
use crate::device::cuda::kernel::{KERNELS, KernelInfo, MODULES, TOOLKIT};
use crate::device::cuda::{DeviceInfo, Devices};
use crate::device::nvml::{self, CardState};
use crate::plan::machine::{GEMM_SIDE, Machine};

const GIBIBYTE: f64 = (1_u64 << 30) as f64;

/// How to get kernels.
const BUILD_KERNELS: &str = "`cargo xtask toolkit` installs the compiler (no GPU needed); then build again";

/// All of it as one JSON object.
pub fn json(machine: &Machine, cuda: &device::Result<Devices>) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "processor": machine.processor,
        "cores": machine.cores,
        "simd": machine.simd,
        "memory_gib": machine.memory.map(|bytes| bytes / GIBIBYTE),
        "memory_available_gib": machine.available.map(|bytes| bytes / GIBIBYTE),
        "memory_limits": machine.limits.iter().map(|limit| {
            json!({"gib": limit.bytes / GIBIBYTE, "used_gib": limit.used / GIBIBYTE, "scope": limit.scope, "source": limit.source})
        }).collect::<Vec<_>>(),
        "gemm_gflops": machine.gemm_flops.map(|flops| flops / 1e9),
        "nvidia_driver": machine.nvidia_driver,
        "cuda_driver": cuda.as_ref().ok().map(|cuda| format!("{}.{}", cuda.driver.0, cuda.driver.1)),
        "cuda_toolkit": KERNELS.first().map(|_| format!("{}.{}", TOOLKIT.0, TOOLKIT.1)),
        "devices": devices(cuda),
        "kernels": KERNELS.iter().copied().map(kernel_json).collect::<Vec<_>>(),
    })
}

/// The processor and its memory.
pub fn say_machine(machine: &Machine) -> Result<()> {
    let Machine { processor, cores, simd, memory, available, gemm_flops, .. } = machine;
    let gib = |bytes: &Option<f64>| bytes.map_or("unknown".to_owned(), |bytes| format!("{:.1} GiB", bytes / GIBIBYTE));
    let (version, os, arch) = (env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH);

    say(format_args!("igpt-engine {version} on {os} {arch}"))?;
    say(format_args!(""))?;
    say(format_args!("  processor   {processor}, {cores} cores"))?;
    say(format_args!("  SIMD        {simd}"))?;
    say(format_args!("  memory      {}, {} of it free", gib(memory), gib(available)))?;
    for limit in &machine.limits {
        let (has, free) = (limit.bytes / GIBIBYTE, limit.free() / GIBIBYTE);
        say(format_args!(
            "              {} has {has:.1} GiB, {free:.1} of it free, by {}",
            limit.owner(),
            limit.source
        ))?;
    }
    match gemm_flops {
        Some(flops) => {
            let gigaflops = flops / 1e9;
            say(format_args!("  GEMM        {gigaflops:.0} GFLOP/s measured ({GEMM_SIDE}³, f32, all cores)"))?;
        }
        None => say(format_args!("  GEMM        not measured: the limit on memory leaves it no room"))?,
    }
    say(format_args!(""))?;
    say(format_args!("  device cpu   ready"))
}

/// The CUDA devices and the driver.
pub fn say_cuda(cuda: &device::Result<Devices>, nvidia_driver: Option<&str>) -> Result<()> {
    match cuda {
        Ok(Devices { driver, devices }) => {
            for (number, found) in devices.iter().enumerate() {
                let (major, minor) = found.capability;
                let gib = found.memory as f64 / GIBIBYTE;
                let ready = why_not(found).map_or_else(|| "ready".to_owned(), |why| format!("unusable: {why}"));
                say(format_args!(
                    "  device cuda:{number}  {}, compute capability {major}.{minor}, {gib:.1} GiB, {} multiprocessors; \
                     {ready}",
                    found.name, found.multiprocessors
                ))?;
                let (shared, l2) = (found.shared >> 10, f64::from(found.l2) / f64::from(1 << 20));
                say(format_args!("               {shared} KiB of shared memory for a block, {l2:.0} MiB of L2 cache"))?;
                say(format_args!("               {}", sensors(&found.pci_bus_id)))?;
            }
            if devices.is_empty() {
                say(format_args!("  device cuda  {NO_DEVICE}"))?;
            }
            say(format_args!("  CUDA driver  release {}.{}", driver.0, driver.1))?;
        }
        Err(error) => say(format_args!("  device cuda  {error}"))?,
    }

    match nvidia_driver {
        Some(driver) => say(format_args!("               {driver}")),
        None => Ok(()),
    }
}

/// The kernels of this build; with `each`, a line per kernel.
pub fn say_kernels(each: bool) -> Result<()> {
    let Some(first) = KERNELS.first() else {
        return say(format_args!("  kernels      none in this build; {BUILD_KERNELS}"));
    };
    let architectures: Vec<String> =
        first.resources.iter().map(|used| format!("{}.{}", used.arch / 10, used.arch % 10)).collect();
    say(format_args!(
        "  kernels      {} from {} files by CUDA {}.{}, for compute capabilities {} and, as PTX, later ones",
        KERNELS.len(),
        MODULES.len(),
        TOOLKIT.0,
        TOOLKIT.1,
        architectures.join(" and ")
    ))?;
    if !each {
        return say(format_args!("               (doctor --kernels lists them)"));
    }

    let columns: String = architectures.iter().map(|arch| format!("  registers, shared bytes on {arch}")).collect();
    say(format_args!("\n  {:<44} threads{columns}", "kernel"))?;
    for kernel in KERNELS {
        let used: String =
            kernel.resources.iter().map(|used| format!("  {:>14} {:>15}", used.registers, used.shared)).collect();
        say(format_args!("  {:<44} {:>7}{used}", kernel.name, kernel.max_threads))?;
    }
    Ok(())
}

/// What a card's sensors say now, in words: `now 61 W of at most 700, 34 °C, 345 of 1980 MHz, 1.2 of 80.0 GiB in use, idle`.
fn sensors(pci_bus_id: &str) -> String {
    let CardState { reading, power_limit, max_sm_mhz, memory_bytes } = match nvml::inspect(pci_bus_id) {
        Ok(state) => state,
        Err(why) => return format!("no power, temperature and clocks: {why}"),
    };
    let of = |value: Option<String>, most: Option<String>, unit: &str| match (value, most) {
        (Some(value), Some(most)) => Some(format!("{value} of {most} {unit}")),
        (Some(value), None) => Some(format!("{value} {unit}")),
        (None, _) => None,
    };
    let (watts, gib) = (|watts: f64| format!("{watts:.0}"), |bytes: u64| format!("{:.1}", bytes as f64 / GIBIBYTE));
    let words = [
        of(reading.watts.map(watts), power_limit.map(watts), "W"),
        of(reading.celsius.map(|celsius| celsius.to_string()), None, "°C"),
        of(reading.sm_mhz.map(|clock| clock.to_string()), max_sm_mhz.map(|clock| clock.to_string()), "MHz"),
        of(reading.memory_bytes.map(gib), memory_bytes.map(gib), "GiB in use"),
        reading.throttled_by.filter(|reasons| !reasons.is_empty()).map(|reasons| reasons.names().join(", ")),
    ];
    format!("now {}, by NVML", words.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

/// The same for machines; `why` in the place of what is not there.
fn sensors_json(pci_bus_id: &str) -> Value {
    match nvml::inspect(pci_bus_id) {
        Ok(CardState { reading, power_limit, max_sm_mhz, memory_bytes }) => json!({
            "now": reading,
            "power_limit_watts": power_limit,
            "max_sm_mhz": max_sm_mhz,
            "memory_bytes": memory_bytes,
        }),
        Err(why) => json!({"why": why}),
    }
}

const NO_DEVICE: &str = "the driver does not know of any device";

/// Why a CUDA device cannot be used, if it cannot.
fn why_not(device: &DeviceInfo) -> Option<&str> {
    match (device.supported, KERNELS.is_empty()) {
        (_, true) => Some("this build has no CUDA kernels"),
        (false, _) => Some("the kernels need compute capability 8.0 or later"),
        (true, false) => device.misfit.as_deref(),
    }
}

/// Every device with whether it can be used, and if not, why.
fn devices(cuda: &device::Result<Devices>) -> Vec<Value> {
    let mut devices = vec![json!({"name": "cpu", "ready": true})];

    match cuda {
        Ok(cuda) if !cuda.devices.is_empty() => {
            devices.extend(cuda.devices.iter().enumerate().map(|(number, found)| {
                json!({
                    "name": format!("cuda:{number}"),
                    "ready": why_not(found).is_none(),
                    "why": why_not(found),
                    "model": found.name,
                    "compute_capability": format!("{}.{}", found.capability.0, found.capability.1),
                    "memory_gib": found.memory as f64 / GIBIBYTE,
                    "multiprocessors": found.multiprocessors,
                    "shared_bytes": found.shared,
                    "l2_bytes": found.l2,
                    "pci_bus_id": found.pci_bus_id,
                    "nvml": sensors_json(&found.pci_bus_id),
                })
            }));
        }
        Ok(_) => devices.push(json!({"name": "cuda", "ready": false, "why": NO_DEVICE})),
        Err(error) => devices.push(json!({"name": "cuda", "ready": false, "why": error.to_string()})),
    }
    devices
}

/// A kernel with its resources on each architecture.
fn kernel_json(kernel: &KernelInfo) -> Value {
    let resources = kernel.resources.iter().map(|used| {
        json!({
            "compute_capability": format!("{}.{}", used.arch / 10, used.arch % 10),
            "registers": used.registers,
            "shared": used.shared,
            "spills": used.spill_stores + used.spill_loads,
        })
    });
    json!({"name": kernel.name, "threads": kernel.max_threads, "resources": resources.collect::<Vec<_>>()})
}
