//! What a rank owns of each bucket ([`Bucket`]), and where a parameter lies in its own.

use std::ops::Range;

use crate::device::{Device, NORM_BLOCK, Result};
use crate::model::{Bucket, OnHost};
use crate::tape::{Init, ParameterSpec, Parameters};

/// All buckets of a model.
pub(super) struct Buckets {
    /// Ranks that share them.
    pub world: usize,
    /// This one.
    pub rank: usize,
    /// In order.
    pub list: Vec<Bucket>,
    /// By parameter: its bucket, and where in it it lies.
    places: Vec<(usize, Range<usize>)>,
}

impl Buckets {
    /// Those of parameters of these `specs`, for rank `rank` of `world`.
    pub fn new(specs: &[ParameterSpec], [rank, world]: [usize; 2]) -> Self {
        let list = Bucket::all(specs, world);
        let mut places = vec![(0, 0..0); specs.len()];
        for (number, bucket) in list.iter().enumerate() {
            let mut start = 0;
            for index in &bucket.parameters {
                let end = start + specs[*index].elements();
                places[*index] = (number, start..end);
                start = end;
            }
        }
        Self { world, rank, list, places }
    }

    /// The bucket of a parameter, and where in it it lies.
    pub fn place(&self, parameter: usize) -> (usize, Range<usize>) {
        self.places[parameter].clone()
    }

    /// Buckets in the order in which a forward pass reads the first of their parameters: it begins with the embeddings.
    pub fn as_read(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.list.len()).collect();
        order.sort_by_key(|index| self.list[*index].is_matrices);
        order
    }

    /// Blocks of the norm's sums of a rank's parts.
    pub fn own_blocks(&self) -> usize {
        self.list.iter().map(|bucket| bucket.part / NORM_BLOCK).sum()
    }

    /// Names and shapes of a rank's parts.
    fn part_specs(&self) -> Vec<ParameterSpec> {
        let spec =
            |bucket: &Bucket| ParameterSpec { name: bucket.name.clone(), shape: vec![bucket.part], init: Init::Zero };
        self.list.iter().map(spec).collect()
    }

    /// Tensors that the model computes with, zero: matrices in the device's precision, for their master weights are elsewhere.
    pub fn weights<D: Device>(&self, device: &D, specs: &[ParameterSpec]) -> Result<Parameters<D>> {
        let zeros = |(index, spec): (usize, &ParameterSpec)| match self.list[self.places[index].0].is_matrices {
            true => device.zeros_narrow(&spec.shape),
            false => device.zeros(&spec.shape),
        };
        Ok(Parameters::of(specs.to_vec(), specs.iter().enumerate().map(zeros).collect::<Result<_>>()?))
    }

    /// Which tensor is the gradient of each parameter, and the tensors' shapes: one each, or, where `shared`, one set for the
    /// matrices of all blocks that are alike.
    pub fn gradients(&self, specs: &[ParameterSpec], shared: bool) -> (Vec<usize>, Vec<Vec<usize>>) {
        if !shared {
            return ((0..specs.len()).collect(), specs.iter().map(|spec| spec.shape.clone()).collect());
        }
        let (mut places, mut shapes): (Vec<usize>, Vec<Vec<usize>>) = (vec![0; specs.len()], Vec::new());
        let mut sets: Vec<(Vec<&[usize]>, usize)> = Vec::new();
        for bucket in &self.list {
            let own: Vec<&[usize]> = bucket.parameters.iter().map(|index| &*specs[*index].shape).collect();
            let known = sets.iter().find(|(set, _)| bucket.is_matrices && *set == own);
            let first = known.map_or(shapes.len(), |(_, first)| *first);
            if first == shapes.len() {
                shapes.extend(own.iter().map(|shape| shape.to_vec()));
                sets.push((own, first));
            }
            bucket.parameters.iter().enumerate().for_each(|(at, index)| places[*index] = first + at);
        }
        (places, shapes)
    }
}

/// What a rank owns of something that every parameter has one of, on its way from files to the device.
pub(super) struct Parts<'a> {
    buckets: &'a Buckets,
    /// By bucket, `[part]`.
    values: Vec<Vec<f32>>,
}

impl<'a> Parts<'a> {
    /// Zeros.
    pub fn of(buckets: &'a Buckets) -> Self {
        Self { buckets, values: buckets.list.iter().map(|bucket| vec![0.0; bucket.part]).collect() }
    }

    /// Takes what this rank owns of `values`, those of a parameter.
    pub fn put(&mut self, parameter: usize, values: &[f32]) {
        let (bucket, place) = self.buckets.place(parameter);
        let part = self.buckets.list[bucket].part;
        let own = self.buckets.rank * part..(self.buckets.rank + 1) * part;
        let shared = place.start.max(own.start)..place.end.min(own.end);
        if shared.start < shared.end {
            let from = &values[shared.start - place.start..shared.end - place.start];
            self.values[bucket][shared.start - own.start..][..from.len()].copy_from_slice(from);
        }
    }

    /// Onto the device, or where `on_host` says.
    pub fn upload<D: Device>(self, device: &D, on_host: OnHost) -> Result<Parameters<D>> {
        let specs = self.buckets.part_specs();
        let parts = specs.iter().zip(self.values).map(|(spec, values)| on_host.upload(device, spec, &values));
        let parts = parts.collect::<Result<_>>()?;
        Ok(Parameters::of(specs, parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{CpuDevice, Tensors};
    use crate::model::{ModelConfig, Preset, parameter_specs};

    fn specs() -> Vec<ParameterSpec> {
        let shape = ModelConfig { layers: 11, width: 24, heads: 2, bias: true, ..ModelConfig::preset(Preset::Tiny, 4) };
        parameter_specs(&shape)
    }

    #[test]
    fn a_forward_pass_reads_the_rest_before_the_blocks() {
        assert_eq!(Buckets::new(&specs(), [0, 1]).as_read(), [12, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    }

    /// The parts of all ranks, one behind the other, are the parameters of a bucket, one behind the other.
    #[test]
    fn parts_together_are_the_whole() {
        let (device, specs) = (CpuDevice::new(Some(1)).unwrap(), specs());
        let values: Vec<Vec<f32>> =
            specs.iter().enumerate().map(|(index, spec)| spec.initial_values(5, index)).collect();
        for world in [1, 2, 3, 7] {
            let mut wholes = vec![Vec::new(); 13];
            for rank in 0..world {
                let buckets = Buckets::new(&specs, [rank, world]);
                let mut parts = Parts::of(&buckets);
                values.iter().enumerate().for_each(|(index, values)| parts.put(index, values));
                for (whole, part) in wholes.iter_mut().zip(parts.upload(&device, OnHost::Nothing).unwrap().values()) {
                    whole.extend(device.download(part).unwrap());
                }
            }
            for (whole, bucket) in wholes.iter().zip(Buckets::new(&specs, [0, world]).list) {
                let expected: Vec<f32> = bucket.parameters.iter().flat_map(|index| values[*index].clone()).collect();
                assert_eq!(whole[..bucket.elements], expected, "{} in {world} parts", bucket.name);
                assert!(whole[bucket.elements..].iter().all(|value| *value == 0.0));
            }
        }
    }

    #[test]
    fn gradients_of_all_blocks_take_turns_in_one_set_of_tensors() {
        let (specs, buckets) = (specs(), Buckets::new(&specs(), [1, 2]));
        let (places, shapes) = buckets.gradients(&specs, false);
        assert_eq!(places, (0..specs.len()).collect::<Vec<_>>());
        assert!(shapes.iter().zip(&specs).all(|(shape, spec)| *shape == spec.shape));
        let (places, shapes) = buckets.gradients(&specs, true);
        assert_eq!(shapes.len(), specs.len() - 10 * 4);
        assert!(places.iter().zip(&specs).all(|(place, spec)| shapes[*place] == spec.shape));
    }
}
