//! The ranks of a launch, met.

#[cfg(unix)]
use std::ffi::c_char;

use super::{Comm, Launch, Reduction, Single, Watchdog};
use crate::device::{Device, Error, Result};

/// Meets the other ranks of `launch` and returns what to talk to them by: NCCL on GPUs, MPI on CPUs. One rank needs neither.
///
/// # Errors
/// [`Error::Unavailable`] without the library that the device needs, [`Error::Driver`] where it fails.
pub fn open<D: Device>(
    launch: &Launch,
    device: &D,
    reduction: Reduction,
    watchdog: Option<&Watchdog>,
) -> Result<Box<dyn Comm<D>>> {
    if launch.size == 1 {
        return Ok(Box::new(Single));
    }
    let _meets = watchdog.map(|watchdog| watchdog.meets("all ranks to meet"));
    if device.own_memory().is_some() { gpus(launch, device, reduction, watchdog) } else { cpus(launch) }
}

#[cfg(unix)]
fn gpus<D: Device>(
    launch: &Launch,
    device: &D,
    reduction: Reduction,
    watchdog: Option<&Watchdog>,
) -> Result<Box<dyn Comm<D>>> {
    use super::nccl::{Library, Nccl};

    let library = Library::open()?;
    // The context of the device becomes this thread's.
    device.zeros(&[1])?;

    // With a meeting point that NCCL reads itself, nobody hands its id round. Of its algorithms the ring adds in one order;
    // which one it chooses otherwise may change from run to run.
    let meeting = launch.meeting.as_deref();
    let ring = (reduction == Reduction::Repeatable && std::env::var_os("NCCL_ALGO").is_none()).then_some("Ring");
    for (name, value) in [("NCCL_COMM_ID", meeting), ("NCCL_ALGO", ring)] {
        if let Some(value) = value {
            // SAFETY: the other threads of this process at this time are the program's own, and read no variables.
            unsafe { std::env::set_var(name, value) };
        }
    }
    let id = match meeting {
        Some(_) => library.common_id()?,
        None => {
            let mut id = library.unique_id()?;
            share_id(launch, &mut id.0)?;
            id
        }
    };
    let nccl = Nccl::join(library, launch.rank, launch.size, id)?;
    if let Some(watchdog) = watchdog {
        watchdog.ask(nccl.probe());
    }
    Ok(Box::new(nccl))
}

#[cfg(not(unix))]
fn gpus<D: Device>(
    _launch: &Launch,
    _device: &D,
    _reduction: Reduction,
    _watchdog: Option<&Watchdog>,
) -> Result<Box<dyn Comm<D>>> {
    Err(Error::unavailable("several GPUs need NCCL, which this system has not", "train with one process, or on Linux"))
}

/// Hands rank 0's id of NCCL to the others by MPI.
#[cfg(all(unix, feature = "mpi"))]
fn share_id(_launch: &Launch, id: &mut [c_char; 128]) -> Result<()> {
    let mpi = super::mpi::Mpi::start()?;
    mpi.share_bytes(id);
    // MPI stays as long as the process: NCCL needs it no more, and mpirun waits for its end.
    std::mem::forget(mpi);
    Ok(())
}

#[cfg(all(unix, not(feature = "mpi")))]
fn share_id(launch: &Launch, _id: &mut [c_char; 128]) -> Result<()> {
    Err(Error::unavailable(
        format!("{} ranks on several machines, and this build has no MPI to find rank 0 by", launch.size),
        "give NCCL_COMM_ID=HOST:PORT with a free port of rank 0's machine, start them by srun or torchrun, or build with \
         --features mpi",
    ))
}

#[cfg(feature = "mpi")]
fn cpus<D: Device>(launch: &Launch) -> Result<Box<dyn Comm<D>>> {
    let mpi = super::mpi::Mpi::start()?;
    let [rank, size, _] = mpi.place();
    if [rank, size] != [launch.rank, launch.size] {
        return Err(Error::unavailable(
            format!(
                "{} says that this is rank {} of {}, and MPI that it is rank {rank} of {size}",
                launch.launcher, launch.rank, launch.size
            ),
            "start ranks on CPUs by mpirun, or by srun --mpi=pmix where MPI and Slurm know each other",
        ));
    }
    Ok(Box::new(mpi))
}

#[cfg(not(feature = "mpi"))]
fn cpus<D: Device>(launch: &Launch) -> Result<Box<dyn Comm<D>>> {
    Err(Error::unavailable(
        format!("{} ranks on CPUs talk by MPI, and this build has none", launch.size),
        "build with `cargo build --release --features mpi` (Debian: apt-get install libopenmpi-dev openmpi-bin libclang1 \
         libclang-common-14-dev), give --device cuda, or train with one process",
    ))
}
