//! Collectives of the CPU, by MPI (feature `mpi`): the machine's own library, which starts the ranks too.
//!
//! Tensors are read to the host and written back, so a collective waits for the work before it and cannot be captured.

use mpi::collective::SystemOperation;
use mpi::environment::Universe;
use mpi::topology::{Color, SimpleCommunicator};
use mpi::traits::*;
use std::rc::Rc;

use super::{Comm, check_parts, volume};
use crate::device::{Device, Error, Result};

/// A communicator of MPI.
pub struct Mpi {
    communicator: SimpleCommunicator,
    /// Ends MPI once the last communicator is gone.
    universe: Rc<Universe>,
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
        Ok(Self { communicator: universe.world(), universe: Rc::new(universe) })
    }

    /// This rank, the number of ranks, and this rank among those of its machine.
    pub fn place(&self) -> [usize; 3] {
        let local = self.communicator.split_shared(self.communicator.rank());
        [self.communicator.rank(), self.communicator.size(), local.rank()].map(|value| value.max(0) as usize)
    }

    /// Rank 0's bytes to all: NCCL's id.
    pub fn share_bytes(&self, bytes: &mut [i8]) {
        self.communicator.process_at_rank(0).broadcast_into(bytes);
    }
}

fn of<D: Device>(device: &D, tensor: &D::Tensor) -> Result<(Vec<f32>, usize)> {
    Ok((device.download(tensor)?, volume(device, tensor)))
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
        let (send, count) = of(device, tensor)?;
        let mut sum = vec![0.0f32; count];
        self.communicator.all_reduce_into(&send[..], &mut sum[..], SystemOperation::sum());
        device.overwrite(tensor, &sum)
    }

    fn reduce_scatter(&self, device: &D, send: &mut D::Tensor, receive: &mut D::Tensor) -> Result<()> {
        let ((send, whole), part) = (of(device, send)?, volume(device, receive));
        check_parts("reduce_scatter", whole, part, Comm::<D>::size(self))?;
        let mut sum = vec![0.0f32; part];
        self.communicator.reduce_scatter_block_into(&send[..], &mut sum[..], SystemOperation::sum());
        device.overwrite(receive, &sum)
    }

    fn all_gather(&self, device: &D, send: &mut D::Tensor, receive: &mut D::Tensor) -> Result<()> {
        let ((send, part), whole) = (of(device, send)?, volume(device, receive));
        check_parts("all_gather", whole, part, Comm::<D>::size(self))?;
        let mut all = vec![0.0f32; whole];
        self.communicator.all_gather_into(&send[..], &mut all[..]);
        device.overwrite(receive, &all)
    }

    fn all_to_all(&self, device: &D, send: &mut D::Tensor, receive: &mut D::Tensor) -> Result<()> {
        let ((send, whole), size) = (of(device, send)?, Comm::<D>::size(self));
        check_parts("all_to_all", whole, whole / size, size)?;
        check_parts("all_to_all", volume(device, receive), whole / size, size)?;
        let mut all = vec![0.0f32; whole];
        self.communicator.all_to_all_into(&send[..], &mut all[..]);
        device.overwrite(receive, &all)
    }

    fn broadcast(&self, device: &D, tensor: &mut D::Tensor, root: usize) -> Result<()> {
        let (mut values, _) = of(device, tensor)?;
        self.communicator.process_at_rank(root as i32).broadcast_into(&mut values[..]);
        device.overwrite(tensor, &values)
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
        Ok(Box::new(Self { communicator, universe: Rc::clone(&self.universe) }))
    }

    fn check(&self) -> Result<()> {
        // MPI ends all ranks itself where a collective fails.
        Ok(())
    }
}
