//! Which device to compute on: from what was asked for to a device, and a job run on it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::cuda::enumerate_devices;
use super::{CpuDevice, CudaDevice, Device, Error, Precision, Result};

/// Where to compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceKind {
    /// CUDA where a driver, a device and the kernels are there, else the CPU.
    #[default]
    Auto,
    /// The processor, with all its cores or `--threads`.
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
}

impl FromStr for DeviceKind {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = |text: &str| text.parse().map(Self::Cuda).ok();
        let kind = match text {
            "auto" => Some(Self::Auto),
            "cpu" => Some(Self::Cpu),
            "cuda" => Some(Self::Cuda(0)),
            _ => text.strip_prefix("cuda:").and_then(number),
        };
        kind.ok_or_else(|| {
            format!("unknown device {text:?}; give auto, cpu, cuda, or cuda:N for the GPU of that number")
        })
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl TryFrom<String> for DeviceKind {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl From<DeviceKind> for String {
    fn from(kind: DeviceKind) -> Self {
        kind.to_string()
    }
}

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    /// Which device.
    pub kind: DeviceKind,
    /// In which precision, if the user said so.
    pub precision: Option<Precision>,
    /// The precision of the run that is resumed: kept where the device has it.
    pub kept: Option<Precision>,
    /// CPU threads.
    pub threads: Option<usize>,
    /// Whether images are drawn and nothing is trained: then the CPU, which computes in f32, has bf16 for keys and values.
    pub draws: bool,
    /// Of several processes that train together: which of those on this machine, to have a GPU of its own.
    pub local_rank: Option<usize>,
}

/// What a job needs to know of the device that it runs on.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// How it stores numbers.
    pub precision: Precision,
    /// Why `auto` chose it, to be printed after its name; empty where the user chose.
    pub why: String,
}

/// Something to do on whichever device was chosen.
pub trait DeviceJob {
    /// What comes of it.
    type Output;

    /// Does it.
    fn run<D: Device>(self, device: D, chosen: &Chosen) -> Self::Output;
}

/// Largest number of CPU threads.
const MAX_THREADS: usize = 1024;

/// Opens the device and runs `job` on it.
///
/// # Errors
/// [`Error::Unavailable`] if there is no such device, or it lacks what was asked for.
pub fn on_device<J: DeviceJob>(request: Request, job: J) -> Result<J::Output> {
    // A number of threads that makes sense.
    if request.threads == Some(0) {
        return Err(Error::unavailable(
            "--threads 0 would leave no thread to compute",
            "give 1 or more, or leave it out for all cores",
        ));
    }
    if let Some(threads) = request.threads.filter(|threads| *threads > MAX_THREADS) {
        return Err(Error::unavailable(
            format!("--threads {threads} is more than {MAX_THREADS}"),
            "leave it out for one per core, the fastest",
        ));
    }

    // The device; `auto` falls back to the CPU and says why.
    let precision = request.precision.or(request.kept).unwrap_or(Precision::Bf16);
    let own = request.local_rank.map_or(Ok(0), own_gpu);
    match request.kind {
        DeviceKind::Cuda(0) => {
            Ok(job.run(CudaDevice::new(own?, precision)?, &Chosen { precision, why: String::new() }))
        }
        DeviceKind::Cuda(number) if request.local_rank.is_some() => Err(Error::unavailable(
            format!("--device cuda:{number} would give the same GPU to all ranks"),
            "give --device cuda, and each has the GPU of its number on its machine",
        )),
        DeviceKind::Cuda(number) => {
            Ok(job.run(CudaDevice::new(number, precision)?, &Chosen { precision, why: String::new() }))
        }
        DeviceKind::Cpu => on_cpu(&request, "you asked for --device cpu", String::new(), job),
        DeviceKind::Auto => match own.and_then(|own| CudaDevice::new(own, precision)) {
            Ok(device) => Ok(job.run(device, &Chosen { precision, why: ", since there is one".to_owned() })),
            Err(error) => {
                let why = match error {
                    Error::Unavailable { problem, .. } => problem,
                    other => other.to_string(),
                };
                on_cpu(&request, &why, format!(", since {why}"), job)
            }
        },
    }
}

/// The number of the GPU of rank `local` of this machine: its own, unless only one is visible, as where the launcher has chosen it.
fn own_gpu(local: usize) -> Result<usize> {
    let count = enumerate_devices()?.devices.len();
    match count {
        1 => Ok(0),
        count if local < count => Ok(local),
        _ => Err(Error::unavailable(
            format!("this is rank {local} of its machine, which has {count} GPUs"),
            "start at most one rank per GPU",
        )),
    }
}

fn on_cpu<J: DeviceJob>(request: &Request, cause: &str, why: String, job: J) -> Result<J::Output> {
    let drawing = request.precision.filter(|_| request.draws).unwrap_or(Precision::F32);
    if request.precision == Some(Precision::Bf16) && !request.draws {
        return Err(Error::unavailable(
            format!("--precision bf16 is for CUDA devices ({cause})"),
            "the CPU has f32, so leave it out",
        ));
    }
    Ok(job.run(CpuDevice::new(request.threads)?.drawing_in(drawing), &Chosen { precision: Precision::F32, why }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for (text, kind) in [
            ("auto", DeviceKind::Auto),
            ("cpu", DeviceKind::Cpu),
            ("cuda", DeviceKind::Cuda(0)),
            ("cuda:3", DeviceKind::Cuda(3)),
        ] {
            assert_eq!(text.parse(), Ok(kind));
            assert_eq!(kind.to_string(), text);
        }
        assert_eq!("cuda:0".parse(), Ok(DeviceKind::Cuda(0)));
        for text in ["gpu", "cuda:", "cuda:-1", "cuda:x", "CUDA", ""] {
            assert!(text.parse::<DeviceKind>().unwrap_err().contains("cuda:N"), "{text}");
        }
    }
}
