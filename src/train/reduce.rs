//! The gradients of several ranks into one: what each rank computes of a step, and in which order all of it is added up.
//!
//! A step has M micro-batches, whatever the ranks; micro-batch m is rank m mod W's. Gradients travel in f32, in buckets: one per
//! transformer block, then embeddings, final norm and heads. Buckets are the model's and not the world's, for other buckets are
//! other sums.
//!
//! * `fast`, `repeatable`: each rank adds up its own micro-batches as one process would, and an all-reduce does the rest.
//! * `exact`: each micro-batch's gradient is taken by itself. After every W of them ranks exchange parts (all-to-all, which computes
//!   nothing): rank r gets part r of W gradients, and adds them in f32 in the order of the micro-batches to what it has. At the end the
//!   parts are gathered. So every element is ((0 + g₀) + g₁) + … + g₍M−1₎ on any number of ranks.
//!
//! `exact` takes 4·P/W bytes for the parts and twice the largest bucket (L: 5.4 GB / W and 226 MB), and sends all gradients M/W
//! times in place of once. A binary tree over the micro-batches would send them once, and needs ⌈log₂(M/W)⌉ + 1 gradients in
//! memory on every rank, of 4·P bytes each; and it fits only worlds that are powers of two.

use super::together::Together;
use crate::comm::{Comm, Reduction};
use crate::device::ops::elementwise::ROW_MULTIPLE;
use crate::device::{self, Device, VERDICT};
use crate::tape::ParameterSpec;

/// The parameters of a bucket, and its size.
struct Bucket {
    /// What it is, for people: `block 3`.
    name: String,
    /// Indices of the parameters.
    parameters: Vec<usize>,
    /// Elements that one rank owns; `world` times as many are the bucket, the last of which are nobody's.
    part: usize,
}

/// What a step's ranks add up in.
pub(super) struct Reducer<D: Device> {
    reduction: Reduction,
    world: usize,
    rank: usize,
    buckets: Vec<Bucket>,
    /// Elements of each parameter.
    elements: Vec<usize>,
    /// By size of a bucket's part: a whole bucket, `[world · part]`, and with `exact` what was received, `[world, part]`.
    scratch: Vec<Scratch<D>>,
    /// With `exact`, by bucket: this rank's part of the sum, `[part]`.
    totals: Vec<D::Tensor>,
    /// What this rank tells the others of a step, `[k]`, and what all tell, `[world · k]`: losses, verdict, whether to stop.
    reports: Option<[D::Tensor; 2]>,
    /// Whether this rank was asked to stop, `[1]`.
    stop: D::Tensor,
}

struct Scratch<D: Device> {
    part: usize,
    whole: D::Tensor,
    received: Option<D::Tensor>,
}

/// Ranks that share every step.
pub(super) struct Shared<D: Device> {
    pub together: Together<D>,
    pub reducer: Reducer<D>,
}

/// What all ranks told of a step.
pub(super) struct Told {
    /// Losses in the order of the micro-batches.
    pub losses: Vec<f32>,
    /// The verdict on the gradient, the same on every rank.
    pub verdict: [f32; VERDICT],
    /// Whether any rank was asked to stop.
    pub stop: bool,
}

/// One bucket per block, and one for all else, last.
fn bucket_names(specs: &[ParameterSpec]) -> Vec<(String, Vec<usize>)> {
    let mut buckets: Vec<(String, Vec<usize>)> = Vec::new();
    let mut rest = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let layer = spec.name.strip_prefix("transformer.h.").and_then(|name| name.split('.').next());
        let Some(layer) = layer else {
            rest.push(index);
            continue;
        };
        let name = format!("block {layer}");
        match buckets.last_mut().filter(|(last, _)| *last == name) {
            Some((_, parameters)) => parameters.push(index),
            None => buckets.push((name, vec![index])),
        }
    }
    buckets.push(("embeddings and heads".to_owned(), rest));
    buckets.retain(|(_, parameters)| !parameters.is_empty());
    buckets
}

impl<D: Device> Reducer<D> {
    /// Memory for gradients of parameters of these `specs`.
    pub fn new(device: &D, comm: &dyn Comm<D>, reduction: Reduction, specs: &[ParameterSpec]) -> device::Result<Self> {
        let (world, rank) = (comm.size(), comm.rank());
        let elements: Vec<usize> = specs.iter().map(ParameterSpec::elements).collect();
        let bucket = |(name, parameters): (String, Vec<usize>)| {
            let count: usize = parameters.iter().map(|index| elements[*index]).sum();
            Bucket { name, parameters, part: count.div_ceil(world).next_multiple_of(ROW_MULTIPLE) }
        };
        let buckets: Vec<Bucket> = bucket_names(specs).into_iter().map(bucket).collect();

        // One set for all blocks, which are alike, and one for the rest. What lies behind a bucket's elements is never unpacked.
        let is_exact = reduction == Reduction::Exact;
        let mut scratch: Vec<Scratch<D>> = Vec::new();
        for part in buckets.iter().map(|bucket| bucket.part) {
            if scratch.iter().all(|known| known.part != part) {
                let received = is_exact.then(|| device.zeros(&[world, part])).transpose()?;
                scratch.push(Scratch { part, whole: device.zeros(&[world * part])?, received });
            }
        }
        let totals = buckets.iter().filter(|_| is_exact).map(|bucket| device.zeros(&[bucket.part]));
        let totals = totals.collect::<device::Result<_>>()?;
        let stop = device.zeros(&[1])?;
        Ok(Self { reduction, world, rank, buckets, elements, scratch, totals, reports: None, stop })
    }

    /// Ranks that share a step.
    pub fn world(&self) -> usize {
        self.world
    }

    /// How many of a step's micro-batches make a round, whose gradients are taken together; after each round
    /// [`Reducer::exchange`] is called.
    pub fn round_of(&self, micro_batches: usize) -> usize {
        match self.reduction {
            Reduction::Exact => 1,
            Reduction::Fast | Reduction::Repeatable => micro_batches,
        }
    }

    /// Tells the others, with the next step, whether this rank was asked to stop.
    pub fn tell(&mut self, device: &D, stop: bool) -> device::Result<()> {
        device.overwrite(&mut self.stop, &[f32::from(u8::from(stop))])
    }

    /// Adds up the gradients of round `round` of `rounds`, of all ranks; after the last one `gradients` are the step's.
    pub fn exchange(
        &mut self,
        device: &D,
        comm: &dyn Comm<D>,
        gradients: &mut [D::Tensor],
        [round, rounds]: [usize; 2],
        note: &dyn Fn(&str),
    ) -> device::Result<()> {
        for index in 0..self.buckets.len() {
            self.pack(device, index, gradients)?;
            let Bucket { name, part, .. } = &self.buckets[index];
            let scratch = self.scratch.iter_mut().find(|scratch| scratch.part == *part);
            let Some(Scratch { whole, received, .. }) = scratch else { continue };

            let Some(received) = received else {
                note(&format!("the all-reduce of {name}"));
                comm.all_reduce(device, whole)?;
                self.unpack(device, index, gradients)?;
                continue;
            };

            // In the order of the micro-batches, which is that of the ranks in every round.
            note(&format!("the all-to-all of {name}"));
            comm.all_to_all(device, whole, received)?;
            let total = &mut self.totals[index];
            if round == 0 {
                device.zero(total)?;
            }
            (0..self.world).try_for_each(|rank| device.add_row(total, received, rank))?;
            if round + 1 == rounds {
                note(&format!("the all-gather of {name}"));
                comm.all_gather(device, total, whole)?;
                self.unpack(device, index, gradients)?;
            }
        }
        Ok(())
    }

    /// The gradients of a bucket's parameters into its memory, one after the other.
    fn pack(&mut self, device: &D, index: usize, gradients: &[D::Tensor]) -> device::Result<()> {
        let Bucket { parameters, part, .. } = &self.buckets[index];
        let Some(scratch) = self.scratch.iter_mut().find(|scratch| scratch.part == *part) else { return Ok(()) };
        let mut at = 0;
        for parameter in parameters {
            let count = self.elements[*parameter];
            device.copy(&gradients[*parameter], 0, &mut scratch.whole, at, count)?;
            at += count;
        }
        Ok(())
    }

    /// And back.
    fn unpack(&self, device: &D, index: usize, gradients: &mut [D::Tensor]) -> device::Result<()> {
        let Bucket { parameters, part, .. } = &self.buckets[index];
        let Some(scratch) = self.scratch.iter().find(|scratch| scratch.part == *part) else { return Ok(()) };
        let mut at = 0;
        for parameter in parameters {
            let count = self.elements[*parameter];
            device.copy(&scratch.whole, at, &mut gradients[*parameter], 0, count)?;
            at += count;
        }
        Ok(())
    }

    /// Tells the others this rank's losses and verdict, and learns theirs.
    pub fn report(
        &mut self,
        device: &D,
        comm: &dyn Comm<D>,
        losses: &[D::Tensor],
        verdict: &D::Tensor,
        note: &dyn Fn(&str),
    ) -> device::Result<()> {
        let count = losses.len() + VERDICT + 1;
        let fits = |reports: &[D::Tensor; 2]| device.shape(&reports[0]) == [count];
        if !self.reports.as_ref().is_some_and(fits) {
            self.reports = Some([device.zeros(&[count])?, device.zeros(&[self.world * count])?]);
        }
        let Some([own, all]) = &mut self.reports else { return Ok(()) };

        for (at, loss) in losses.iter().enumerate() {
            device.copy(loss, 0, own, at, 1)?;
        }
        device.copy(verdict, 0, own, losses.len(), VERDICT)?;
        device.copy(&self.stop, 0, own, count - 1, 1)?;
        note("the all-gather of losses");
        comm.all_gather(device, own, all)
    }

    /// What all ranks told, on the device.
    pub fn told(&self) -> Option<&D::Tensor> {
        self.reports.as_ref().map(|[_, all]| all)
    }

    /// The same on the host; `per_batch` losses are those of one micro-batch.
    ///
    /// # Errors
    /// Ranks whose gradients are not the same: their models would drift apart.
    pub fn read(&self, values: &[f32], per_batch: usize) -> device::Result<Told> {
        let count = values.len() / self.world;
        let ranks: Vec<&[f32]> = values.chunks_exact(count).collect();
        let losses = count - VERDICT - 1;
        let verdict_of = |rank: &[f32]| std::array::from_fn(|index| rank[losses + index]);
        let verdict: [f32; VERDICT] = verdict_of(ranks[self.rank]);
        for (rank, told) in ranks.iter().enumerate() {
            let theirs: [f32; VERDICT] = verdict_of(told);
            let is_same =
                |(one, other): (&f32, &f32)| one.to_bits() == other.to_bits() || (one.is_nan() && other.is_nan());
            if !theirs.iter().zip(&verdict).all(is_same) {
                return Err(device::Error::Peer(format!(
                    "rank {rank} has a gradient of norm {}, and rank {} one of {}: they would train different models. Suspect the \
                     hardware of one of them, or builds that differ; the steps since the last checkpoint are lost",
                    theirs[0], self.rank, verdict[0]
                )));
            }
        }

        // Micro-batch m is the (m / world)-th of rank m mod world.
        let batches = losses / per_batch;
        let of_batch =
            |batch: usize| ranks.iter().flat_map(move |rank| rank[batch * per_batch..][..per_batch].iter().copied());
        let stop = ranks.iter().any(|rank| rank[count - 1] != 0.0);
        Ok(Told { losses: (0..batches).flat_map(of_batch).collect(), verdict, stop })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::Single;
    use crate::device::CpuDevice;
    use crate::model::{ModelConfig, Preset, parameter_specs};

    #[test]
    fn buckets_are_the_blocks_and_then_the_rest() {
        let config = ModelConfig { layers: 11, width: 64, heads: 2, ..ModelConfig::preset(Preset::Tiny, 4) };
        let specs = parameter_specs(&config);
        let buckets = bucket_names(&specs);
        assert_eq!(buckets.len(), 12);
        assert_eq!(buckets[10].0, "block 10");
        let names: Vec<&str> = buckets[11].1.iter().map(|index| specs[*index].name.as_str()).collect();
        assert_eq!(names.len(), 4);
        assert!(names.contains(&"transformer.wte.weight") && names.contains(&"lm_head.weight"), "{names:?}");
        let mut all: Vec<usize> = buckets.into_iter().flat_map(|(_, parameters)| parameters).collect();
        all.sort_unstable();
        assert_eq!(all, (0..specs.len()).collect::<Vec<_>>());
    }

    #[test]
    fn ranks_that_disagree_are_named_and_losses_come_in_order() {
        let device = CpuDevice::new(Some(1)).unwrap();
        let reducer = Reducer::new(&device, &Single, Reduction::Fast, &[]).unwrap();
        let reducer = Reducer { world: 2, ..reducer };
        // Two micro-batches of each of two ranks, two losses of each.
        let told = [[0.0, 0.5, 2.0, 2.5, 7.0, 0.0, 0.0, 0.0], [1.0, 1.5, 3.0, 3.5, 7.0, 0.0, 0.0, 1.0]].concat();
        let Told { losses, verdict, stop } = reducer.read(&told, 2).unwrap();
        assert_eq!(losses, [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]);
        assert_eq!((verdict, stop), ([7.0, 0.0, 0.0], true));

        let mut other = told;
        other[12] = 7.5;
        let error = reducer.read(&other, 2).err().expect("other norms").to_string();
        assert!(error.contains("rank 1 has a gradient of norm 7.5, and rank 0 one of 7"), "{error}");
    }
}
