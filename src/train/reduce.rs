//! The gradients of several ranks into one: what each rank computes of a step, in which order all of it is added up, and who keeps the
//! sum. When it is exchanged is [`Traffic`](super::traffic::Traffic)'s affair.
//!
//! A step has M micro-batches, whatever the ranks; micro-batch m is rank m mod W's. Gradients travel in f32, in [`Buckets`].
//!
//! * `fast`, `repeatable`: each rank adds up its own micro-batches as one process would, and the library does the rest.
//! * `exact`: each micro-batch's gradient is taken by itself. After every W of them ranks exchange parts (all-to-all, which computes
//!   nothing): rank r gets part r of W gradients, and adds them in f32 in the order of the micro-batches to what it has. So every
//!   element is ((0 + g₀) + g₁) + … + g₍M−1₎ on any number of ranks.
//!
//! | ZeRO | who keeps the sum | exchange, unless `exact` | gradients in memory |
//! |---|---|---|---|
//! | 0 | all ranks, all of it | one all-reduce per step | 4 P |
//! | 1 | each its parts | one reduce-scatter per step | 4 P + 4 P / W |
//! | 2 | each its parts | a reduce-scatter per micro-batch | a bucket, and 4 P / W |
//!
//! `exact` takes the parts at all levels and twice the largest bucket (L: 226 MB), and sends all gradients M/W times. A binary tree over
//! the micro-batches would send them once, and needs ⌈log₂(M/W)⌉ + 1 gradients in memory on every rank, of 4·P bytes each; and it fits
//! only worlds that are powers of two.
//!
//! Parts have the norm of their own, from sums of blocks that are the same blocks in any world ([`GlobalNormOps::square_sums`]); so has
//! `exact` at level 0. `fast` and `repeatable` add these sums as the ranks have them, `exact` in the order of the buckets.
//!
//! [`GlobalNormOps::square_sums`]: crate::device::GlobalNormOps::square_sums

use super::buckets::Buckets;
use super::together::Together;
use crate::comm::{Comm, Reduction};
use crate::device::{self, Device, NORM_BLOCK, Precision};
use crate::model::Bucket;
use crate::plan::Shares;
use crate::tape::Parameters;

/// What a step's ranks add up in.
pub(super) struct Reducer<D: Device> {
    reduction: Reduction,
    /// Level of ZeRO.
    zero: u8,
    pub buckets: Buckets,
    /// By parameter: which of the tensors of gradients is its own.
    pub places: Vec<usize>,
    /// Elements of each parameter.
    elements: Vec<usize>,
    /// By size of a bucket.
    scratch: Vec<Scratch<D>>,
    /// By bucket: this rank's part of the sum, `[part]`; none where all ranks keep all of it.
    totals: Vec<D::Tensor>,
    sums: Option<Sums<D>>,
}

/// What buckets of one size are exchanged in. Behind a bucket's elements all is zero, always.
struct Scratch<D: Device> {
    elements: usize,
    /// A bucket, `[world · part]`.
    whole: D::Tensor,
    /// What was received: with `exact` `[world, part]`, else of a second micro-batch `[part]`.
    received: Option<D::Tensor>,
    /// A part and a bucket in the device's precision, where weights travel in that.
    narrow: Option<[D::Tensor; 2]>,
    /// A part in f32 on its way from the host's memory, `[part]`, where parts lie there: only kernels read that.
    staged: Option<D::Tensor>,
}

/// Sums of squares of parts of the gradient, two floats each.
struct Sums<D: Device> {
    /// Of this rank's parts, `[n, 2]`.
    own: D::Tensor,
    /// Of all ranks, `[world · n, 2]`.
    all: D::Tensor,
    /// The same in the order of the buckets, without the blocks behind their ends, `[m, 2]`.
    ordered: Option<D::Tensor>,
    /// How many are added up.
    count: usize,
}

impl<D: Device> Scratch<D> {
    fn new(device: &D, bucket: &Bucket, shares: Shares) -> device::Result<Self> {
        let (Shares { ranks: world, zero, reduction, offload }, part) = (shares, bucket.part);
        let received = match (reduction, zero) {
            (Reduction::Exact, _) => Some(device.zeros(&[world, part])?),
            (_, 2) => Some(device.zeros(&[part])?),
            _ => None,
        };
        let is_narrow = zero > 0 && bucket.is_matrices && device.precision() != Precision::F32;
        let narrow = is_narrow
            .then(|| Ok::<_, device::Error>([device.zeros_narrow(&[part])?, device.zeros_narrow(&[world * part])?]));
        let staged = (offload && zero > 0).then(|| device.zeros(&[part])).transpose()?;
        let whole = device.zeros(&[world * part])?;
        Ok(Self { elements: bucket.elements, whole, received, narrow: narrow.transpose()?, staged })
    }
}

impl<D: Device> Sums<D> {
    fn new(device: &D, buckets: &Buckets, is_exact: bool) -> device::Result<Self> {
        let (own, world) = (buckets.own_blocks(), buckets.world);
        let blocks = buckets.list.iter().map(Bucket::blocks).sum();
        // Alone, all blocks are in order.
        let ordered = (is_exact && world > 1).then(|| device.zeros(&[blocks, 2])).transpose()?;
        let count = if is_exact { blocks } else { world * own };
        Ok(Self { own: device.zeros(&[own, 2])?, all: device.zeros(&[world * own, 2])?, ordered, count })
    }
}

impl<D: Device> Reducer<D> {
    /// Memory to add up the gradients of parameters of as many `elements` each, with the tensors of gradients at `places`, by ranks that
    /// share a step as `shares` says.
    pub fn new(
        device: &D,
        shares: Shares,
        buckets: Buckets,
        (places, elements): (Vec<usize>, Vec<usize>),
    ) -> device::Result<Self> {
        let mut scratch: Vec<Scratch<D>> = Vec::new();
        for bucket in &buckets.list {
            if scratch.iter().all(|known| known.elements != bucket.elements) {
                scratch.push(Scratch::new(device, bucket, shares)?);
            }
        }

        // Parts of the sum, and of its norm.
        let Shares { reduction, zero, .. } = shares;
        let is_exact = reduction == Reduction::Exact;
        let has_parts = is_exact || zero > 0;
        let totals = buckets.list.iter().filter(|_| has_parts).map(|bucket| device.zeros(&[bucket.part]));
        let totals = totals.collect::<device::Result<_>>()?;
        let sums = has_parts.then(|| Sums::new(device, &buckets, is_exact)).transpose()?;
        Ok(Self { reduction, zero, buckets, places, elements, scratch, totals, sums })
    }

    /// How many of a step's micro-batches make a round, whose gradients are taken together: with the last of them each bucket is
    /// packed and exchanged.
    pub fn round_of(&self, micro_batches: usize) -> usize {
        match self.reduction {
            Reduction::Fast | Reduction::Repeatable if self.zero < 2 => micro_batches,
            _ => 1,
        }
    }

    /// This rank's parts of the sum, by bucket; none where all ranks have all of it.
    pub fn totals(&self) -> &[D::Tensor] {
        &self.totals
    }

    /// Adds up the packed gradients of bucket `index` of round `round` of `rounds`, of all ranks. After the last one the sum is in
    /// `gradients` or, with ZeRO, in this rank's parts.
    pub fn exchange(
        &mut self,
        device: &D,
        together: &Together<D>,
        gradients: &mut [D::Tensor],
        index: usize,
        [round, rounds]: [usize; 2],
    ) -> device::Result<()> {
        let (comm, note) = (together.comm(), |what: &str| together.note(what));
        let Bucket { name, elements, .. } = &self.buckets.list[index];
        let scratch = self.scratch.iter_mut().find(|scratch| scratch.elements == *elements);
        let Some(Scratch { whole, received, .. }) = scratch else { return Ok(()) };
        let Some(total) = self.totals.get_mut(index) else {
            note(&format!("the all-reduce of {name}"));
            comm.all_reduce(device, whole)?;
            return self.unpack(device, index, gradients);
        };

        match (self.reduction, received) {
            // In the order of the micro-batches, which is that of the ranks in every round.
            (Reduction::Exact, Some(received)) => {
                note(&format!("the all-to-all of {name}"));
                comm.all_to_all(device, whole, received)?;
                if round == 0 {
                    device.zero(total)?;
                }
                (0..self.buckets.world).try_for_each(|rank| device.add_row(total, received, rank))?;
            }
            (_, Some(received)) if round > 0 => {
                note(&format!("the reduce-scatter of {name}"));
                comm.reduce_scatter(device, whole, received)?;
                device.add_assign(total, received)?;
            }
            _ => {
                note(&format!("the reduce-scatter of {name}"));
                comm.reduce_scatter(device, whole, total)?;
            }
        }
        if self.zero > 0 || round + 1 < rounds {
            return Ok(());
        }
        note(&format!("the all-gather of {name}"));
        comm.all_gather(device, total, whole)?;
        self.unpack(device, index, gradients)
    }

    /// The gradients of a bucket's parameters into its memory, one after the other.
    pub fn pack(&mut self, device: &D, index: usize, gradients: &[D::Tensor]) -> device::Result<()> {
        let Bucket { parameters, elements, .. } = &self.buckets.list[index];
        let Some(scratch) = self.scratch.iter_mut().find(|scratch| scratch.elements == *elements) else {
            return Ok(());
        };
        let mut at = 0;
        for parameter in parameters {
            let count = self.elements[*parameter];
            device.copy(&gradients[self.places[*parameter]], 0, &mut scratch.whole, at, count)?;
            at += count;
        }
        Ok(())
    }

    /// And back.
    fn unpack(&self, device: &D, index: usize, gradients: &mut [D::Tensor]) -> device::Result<()> {
        let Bucket { parameters, elements, .. } = &self.buckets.list[index];
        let Some(scratch) = self.scratch.iter().find(|scratch| scratch.elements == *elements) else { return Ok(()) };
        let mut at = 0;
        for parameter in parameters {
            let count = self.elements[*parameter];
            device.copy(&scratch.whole, at, &mut gradients[self.places[*parameter]], 0, count)?;
            at += count;
        }
        Ok(())
    }

    /// Judges the sum of the gradients by the norm of all its parts; whether there are parts.
    pub fn judge(&mut self, device: &D, together: &Together<D>, verdict: &mut D::Tensor) -> device::Result<bool> {
        let Some(Sums { own, all, ordered, count }) = &mut self.sums else { return Ok(false) };
        device.square_sums(&self.totals, own)?;
        together.note("the all-gather of norms");
        together.comm().all_gather(device, own, all)?;

        // Those of a bucket lie with its parts: in the order of the ranks, each rank's between those of other buckets.
        if let Some(ordered) = ordered {
            let (mut to, mut before) = (0, 0);
            for bucket in &self.buckets.list {
                let each = bucket.part / NORM_BLOCK;
                for rank in 0..self.buckets.world {
                    let there = each.min(bucket.blocks().saturating_sub(rank * each));
                    let from = rank * self.buckets.own_blocks() + before;
                    if there > 0 {
                        device.copy(all, 2 * from, ordered, 2 * to, 2 * there)?;
                    }
                    to += there;
                }
                before += each;
            }
        }
        device.judge_sums(ordered.as_ref().unwrap_or(all), *count, verdict)?;
        Ok(true)
    }

    /// What the model computes with of bucket `index`, from the parts of the master weights on all ranks.
    pub fn gather(
        &mut self,
        device: &D,
        together: &Together<D>,
        index: usize,
        (masters, weights): (&mut Parameters<D>, &mut Parameters<D>),
    ) -> device::Result<()> {
        let (comm, bucket) = (together.comm(), &self.buckets.list[index]);
        let scratch = self.scratch.iter_mut().find(|scratch| scratch.elements == bucket.elements);
        let Some(Scratch { whole, narrow, staged, .. }) = scratch else { return Ok(()) };
        let master = &mut masters.values_mut()[index];
        together.note(&format!("the all-gather of {}", bucket.name));
        let gathered = match narrow {
            Some([part, whole]) => {
                device.round(master, part)?;
                comm.all_gather(device, part, whole)?;
                whole
            }
            None => {
                comm.all_gather(device, on_device(device, master, staged)?, whole)?;
                whole
            }
        };

        let mut at = 0;
        for parameter in &bucket.parameters {
            let count = self.elements[*parameter];
            device.copy(gathered, at, &mut weights.values_mut()[*parameter], 0, count)?;
            at += count;
        }
        Ok(())
    }

    /// Bucket `index` of something of which every rank has parts, in the memory that buckets are exchanged in.
    pub fn gather_one(
        &mut self,
        device: &D,
        comm: &dyn Comm<D>,
        part: &mut D::Tensor,
        index: usize,
    ) -> device::Result<Option<&D::Tensor>> {
        let elements = self.buckets.list[index].elements;
        let Some(scratch) = self.scratch.iter_mut().find(|scratch| scratch.elements == elements) else {
            return Ok(None);
        };
        comm.all_gather(device, on_device(device, part, &mut scratch.staged)?, &mut scratch.whole)?;
        Ok(Some(&scratch.whole))
    }
}

/// A part where libraries read it: as it lies, or copied from the host's memory.
fn on_device<'t, D: Device>(
    device: &D,
    part: &'t mut D::Tensor,
    staged: &'t mut Option<D::Tensor>,
) -> device::Result<&'t mut D::Tensor> {
    let Some(staged) = staged else { return Ok(part) };
    let count = device.shape(part).iter().product();
    device.copy(part, 0, staged, 0, count)?;
    Ok(staged)
}
