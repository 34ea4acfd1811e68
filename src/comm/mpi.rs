//! Collectives of the CPU, by MPI (feature `mpi`): the machine's own library, which starts the ranks too.
//!
//! A CPU's tensors are sent and received where they lie; others would be read to the host and written back. A collective waits for the work
//! before it and cannot be captured.

use mpi::collective::SystemOperation;
use mpi::environment::Universe;
use mpi::topology::{Color, SimpleCommunicator};
use mpi::traits::*;
use std::cell::RefCell;
use std::ffi::c_char;
use std::rc::Rc;

use super::{Comm, check_parts, volume};
use crate::device::{Device, Error, Result};

/// A communicator of MPI.
pub struct Mpi {
    communicator: SimpleCommunicator,
    /// Ends MPI once the last communicator is gone.
    universe: Rc<Universe>,
    /// What sums are received in. It is taken again by the next, since its pages are there.
    scratch: RefCell<Vec<f32>>,
}

impl Mpi {
    /// Starts MPI in this process: once, and on the thread that will call it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where it was started before.
    pub fn start() -> Result<Self> {
        let Some((universe, _)) = mpi::initialize_with_threading(mpi::Threading::Funneled) else {
            return Err(Error::unavailable("MPI was started in this process before", "start the ranks once"));
        };
        Ok(Self { communicator: universe.world(), universe: Rc::new(universe), scratch: RefCell::default() })
    }

    /// This rank, the number of ranks, and this rank among those of its machine.
    pub fn place(&self) -> [usize; 3] {
        let local = self.communicator.split_shared(self.communicator.rank());
        [self.communicator.rank(), self.communicator.size(), local.rank()].map(|value| value.max(0) as usize)
    }

    /// Does `work` with memory for `count` floats, of any values.
    fn with_scratch(&self, count: usize, work: impl FnOnce(&mut [f32])) {
        let mut scratch = self.scratch.borrow_mut();
        if scratch.len() < count {
            scratch.resize(count, 0.0);
        }
        work(&mut scratch[..count]);
    }

    /// Rank 0's bytes to all: NCCL's id.
    pub fn share_bytes(&self, bytes: &mut [c_char]) {
        self.communicator.process_at_rank(0).broadcast_into(bytes);
    }
}

/// Does `work` with a tensor's values: where they lie in the machine's memory, or with a copy that becomes the tensor's.
fn with_values<D: Device>(
    device: &D,
    tensor: &mut D::Tensor,
    work: impl FnOnce(&mut [f32]) -> Result<()>,
) -> Result<()> {
    if let Some(values) = device.host_memory(tensor) {
        return work(values);
    }
    let mut values = device.download(tensor)?;
    work(&mut values)?;
    device.overwrite(tensor, &values)
}

/// Does `work` with what is sent and what is received.
fn between<D: Device>(
    device: &D,
    send: &mut D::Tensor,
    receive: &mut D::Tensor,
    work: impl FnOnce(&[f32], &mut [f32]),
) -> Result<()> {
    with_values(device, send, |send| {
        with_values(device, receive, |receive| {
            work(send, receive);
            Ok(())
        })
    })
}

impl<D: Device> Comm<D> for Mpi {
    fn rank(&self) -> usize {
        self.communicator.rank().max(0) as usize
    }

    fn size(&self) -> usize {
        self.communicator.size().max(1) as usize
    }

    fn describe(&self) -> String {
        let version = mpi::environment::library_version().unwrap_or_else(|_| "MPI".to_owned());
        version.split(',').next().unwrap_or("MPI").to_owned()
    }

    fn all_reduce(&self, device: &D, tensor: &mut D::Tensor) -> Result<()> {
        with_values(device, tensor, |values| {
            // The crate has no sum in place.
            self.with_scratch(values.len(), |sum| {
                self.communicator.all_reduce_into(&*values, sum, SystemOperation::sum());
                values.copy_from_slice(sum);
            });
            Ok(())
        })
    }

    /// Every rank gets its parts and adds them in the order of the ranks. Open MPI 4.1's own took four times as long: 460 ms for 128 MiB
    /// between two ranks on a busy machine, in place of 97 and 116 (`doctor --ranks`).
    fn reduce_scatter(&self, device: &D, send: &mut D::Tensor, receive: &mut D::Tensor) -> Result<()> {
        check_parts("reduce_scatter", volume(device, send), volume(device, receive), Comm::<D>::size(self))?;
        between(device, send, receive, |send, receive| {
            self.with_scratch(send.len(), |parts| {
                self.communicator.all_to_all_into(send, parts);
                let mut parts = parts.chunks_exact(receive.len().max(1));
                if let Some(first) = parts.next() {
                    receive.copy_from_slice(first);
                }
                for part in parts {
                    receive.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
                }
            });
        })
    }

    fn all_gather(&self, device: &D, send: &mut D::Tensor, receive: &mut D::Tensor) -> Result<()> {
        check_parts("all_gather", volume(device, receive), volume(device, send), Comm::<D>::size(self))?;
        between(device, send, receive, |send, receive| self.communicator.all_gather_into(send, receive))
    }

    fn all_to_all(&self, device: &D, send: &mut D::Tensor, receive: &mut D::Tensor) -> Result<()> {
        let (whole, size) = (volume(device, send), Comm::<D>::size(self));
        check_parts("all_to_all", whole, whole / size, size)?;
        check_parts("all_to_all", volume(device, receive), whole / size, size)?;
        between(device, send, receive, |send, receive| self.communicator.all_to_all_into(send, receive))
    }

    fn broadcast(&self, device: &D, tensor: &mut D::Tensor, root: usize) -> Result<()> {
        with_values(device, tensor, |values| {
            self.communicator.process_at_rank(root as i32).broadcast_into(values);
            Ok(())
        })
    }

    fn barrier(&self, _device: &D) -> Result<()> {
        self.communicator.barrier();
        Ok(())
    }

    fn split(&self, _device: &D, colour: usize, key: usize) -> Result<Box<dyn Comm<D>>> {
        let group = self.communicator.split_by_color_with_key(Color::with_value(colour as i32), key as i32);
        let Some(communicator) = group else {
            return Err(Error::unavailable("MPI gave this rank no group", "this is a bug; please report it"));
        };
        Ok(Box::new(Self { communicator, universe: Rc::clone(&self.universe), scratch: RefCell::default() }))
    }

    fn check(&self) -> Result<()> {
        // MPI ends all ranks itself where a collective fails.
        Ok(())
    }
}
