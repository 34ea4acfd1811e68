//! One rank, which has nobody to talk to.

use super::{Comm, check_parts, volume};
use crate::device::{Device, Result};

/// The only rank: its collectives are copies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Single;

impl<D: Device> Comm<D> for Single {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn describe(&self) -> String {
        "one process".to_owned()
    }

    fn all_reduce(&self, _device: &D, _tensor: &mut D::Tensor) -> Result<()> {
        Ok(())
    }

    fn reduce_scatter(&self, device: &D, send: &mut D::Tensor, receive: &mut D::Tensor) -> Result<()> {
        copy("reduce_scatter", device, send, receive)
    }

    fn all_gather(&self, device: &D, send: &mut D::Tensor, receive: &mut D::Tensor) -> Result<()> {
        copy("all_gather", device, send, receive)
    }

    fn all_to_all(&self, device: &D, send: &mut D::Tensor, receive: &mut D::Tensor) -> Result<()> {
        copy("all_to_all", device, send, receive)
    }

    fn broadcast(&self, _device: &D, _tensor: &mut D::Tensor, _root: usize) -> Result<()> {
        Ok(())
    }

    fn barrier(&self, _device: &D) -> Result<()> {
        Ok(())
    }

    fn split(&self, _device: &D, _colour: usize, _key: usize) -> Result<Box<dyn Comm<D>>> {
        Ok(Box::new(Self))
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }
}

fn copy<D: Device>(op: &'static str, device: &D, send: &D::Tensor, receive: &mut D::Tensor) -> Result<()> {
    let count = volume(device, send);
    check_parts(op, count, volume(device, receive), 1)?;
    device.copy(send, 0, receive, 0, count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{CpuDevice, Tensors};

    #[test]
    fn what_one_rank_sends_it_receives() {
        let device = CpuDevice::new(Some(1)).unwrap();
        let mut send = device.upload(&[3], &[1.0, 2.0, 3.0]).unwrap();
        for collective in
            [Single::all_gather, Single::all_to_all, Single::reduce_scatter] as [fn(&_, &_, &mut _, &mut _) -> _; 3]
        {
            let mut receive = device.zeros(&[3]).unwrap();
            collective(&Single, &device, &mut send, &mut receive).unwrap();
            assert_eq!(device.download(&receive).unwrap(), [1.0, 2.0, 3.0]);
            assert!(collective(&Single, &device, &mut send, &mut device.zeros(&[2]).unwrap()).is_err());
        }
        let group = Comm::<CpuDevice>::split(&Single, &device, 0, 0).unwrap();
        assert_eq!((group.rank(), group.size()), (0, 1));
    }
}
