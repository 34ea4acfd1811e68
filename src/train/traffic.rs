//! What ranks exchange while a step computes: weights on their way in, gradients on their way out.
//!
//! A bucket of gradients is packed and exchanged beside the backward pass as soon as its last gradient is there, and a bucket of weights is
//! gathered beside the forward pass until that reads the first of them. All of it is in one order, so buckets of one size share the
//! memory that they travel in. Computing waits in three places: before it reads weights that are not there yet, before it writes gradients
//! into tensors that are not packed yet, and at the end for all of it. So nothing takes more memory than it would one after
//! the other, and no bit depends on it.

use std::rc::Rc;

use super::reduce::Reducer;
use super::telling::{Lap, Telling};
use super::together::Together;
use crate::device::{Device, Result};
use crate::tape::{Hooks, ParameterId, Parameters};

/// The exchanges of a step in progress.
pub(super) struct Traffic<'a, D: Device> {
    device: &'a D,
    together: &'a Together<D>,
    reducer: &'a mut Reducer<D>,
    telling: &'a mut Telling<D>,
    /// Whether they go on beside what is computed. Otherwise each is done in its place.
    overlaps: bool,
    /// This round of the step's micro-batches, of how many.
    round: [usize; 2],
    /// By bucket: parameters whose gradients of this round are still to come.
    left: Vec<usize>,
    /// By bucket: weights that are on their way.
    arriving: Vec<Option<D::Mark>>,
    /// By tensor of gradients: what it holds is being packed.
    packing: Vec<Option<Rc<D::Mark>>>,
}

impl<'a, D: Device> Traffic<'a, D> {
    /// None so far; gradients lie in `tensors` tensors.
    pub fn new(
        device: &'a D,
        together: &'a Together<D>,
        (reducer, telling): (&'a mut Reducer<D>, &'a mut Telling<D>),
        overlap: bool,
        tensors: usize,
    ) -> Self {
        let arriving = reducer.buckets.list.iter().map(|_| None).collect();
        let packing = (0..tensors).map(|_| None).collect();
        let (overlaps, round, left) = (overlap && D::OVERLAPS, [0, 1], Vec::new());
        Self { device, together, reducer, telling, overlaps, round, left, arriving, packing }
    }

    /// Gathers what the model computes with from the parts of all ranks, in the order in which it is read.
    pub fn gather(&mut self, masters: &mut Parameters<D>, weights: &mut Parameters<D>) -> Result<()> {
        let Self { device, together, reducer, telling, overlaps, arriving, .. } = self;
        let (device, together): (&D, &Together<D>) = (device, together);
        for bucket in reducer.buckets.as_read() {
            let mut gather = || reducer.gather(device, together, bucket, (&mut *masters, &mut *weights));
            if *overlaps {
                arriving[bucket] = Some(device.beside(gather)?);
                continue;
            }
            telling.lap(device, Lap::Computing)?;
            gather()?;
            telling.lap(device, Lap::Exchanging)?;
        }
        Ok(())
    }

    /// A round of micro-batches begins.
    pub fn begin(&mut self, round: [usize; 2]) {
        self.round = round;
        self.left = self.reducer.buckets.list.iter().map(|bucket| bucket.parameters.len()).collect();
    }

    /// It ends: what was not finished on the way is so now.
    pub fn end(&mut self, tensors: &mut [D::Tensor]) -> Result<()> {
        for bucket in 0..self.left.len() {
            if self.left[bucket] > 0 {
                self.send(bucket, tensors)?;
            }
        }
        Ok(())
    }

    /// Waits for all of it.
    pub fn join(&mut self) -> Result<()> {
        self.telling.lap(self.device, Lap::Computing)?;
        if self.overlaps {
            self.device.join()?;
            self.telling.lap(self.device, Lap::Exchanging)?;
        }
        Ok(())
    }

    /// A bucket whose gradients are there, to those who add them up.
    fn send(&mut self, bucket: usize, tensors: &mut [D::Tensor]) -> Result<()> {
        let Self { device, together, reducer, telling, overlaps, round, packing, .. } = self;
        let (device, together): (&D, &Together<D>) = (device, together);
        if !*overlaps {
            telling.lap(device, Lap::Computing)?;
            reducer.pack(device, bucket, tensors)?;
            reducer.exchange(device, together, tensors, bucket, *round)?;
            return telling.lap(device, Lap::Exchanging);
        }

        let packed = Rc::new(device.beside(|| reducer.pack(device, bucket, tensors))?);
        for parameter in &reducer.buckets.list[bucket].parameters {
            packing[reducer.places[*parameter]] = Some(Rc::clone(&packed));
        }
        device.beside(|| reducer.exchange(device, together, tensors, bucket, *round)).map(drop)
    }

    /// Lets computing wait for what is not there yet.
    fn meet(&mut self, mark: &D::Mark) -> Result<()> {
        if self.device.has_met(mark) {
            return Ok(());
        }
        self.telling.lap(self.device, Lap::Computing)?;
        self.device.meet(mark)?;
        self.telling.lap(self.device, Lap::Exchanging)
    }
}

impl<D: Device> Hooks<D> for Traffic<'_, D> {
    fn reads(&mut self, id: ParameterId) -> Result<()> {
        let (bucket, _) = self.reducer.buckets.place(id.0);
        let arriving = self.arriving[bucket].take();
        arriving.map_or(Ok(()), |mark| self.meet(&mark))
    }

    fn writes(&mut self, ids: &[ParameterId]) -> Result<()> {
        for id in ids {
            if let Some(mark) = self.packing[self.reducer.places[id.0]].take() {
                self.meet(&mark)?;
            }
        }
        Ok(())
    }

    fn finished(&mut self, tensors: &mut [D::Tensor], ids: &[ParameterId]) -> Result<()> {
        for id in ids {
            let (bucket, _) = self.reducer.buckets.place(id.0);
            self.left[bucket] -= 1;
            if self.left[bucket] == 0 {
                self.send(bucket, tensors)?;
            }
        }
        Ok(())
    }
}
