//! Buckets: parameters that ranks exchange at once, and how each bucket is cut into the parts that ranks own.
//!
//! The matrices of a transformer block are a bucket, and so are the heads: only GEMMs read those. All else (embeddings, norms, biases) is
//! the last. Buckets are the model's and not the world's, for other buckets are other sums. A bucket's parameters lie one after the other,
//! row-major, and are cut into equal parts wherever that falls. A part is whole blocks of the norm's sums ([`NORM_BLOCK`]), so that
//! these are the same sums in any world; so the last parts may reach behind the bucket's end, where all is zero.

use super::layout::{CLASS_HEAD, TOKEN_HEAD};
use crate::device::NORM_BLOCK;
use crate::tape::ParameterSpec;

/// The parameters of a bucket, and its size.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    /// What it is, for people: `block 3`.
    pub name: String,
    /// Indices of the parameters.
    pub parameters: Vec<usize>,
    /// Elements of all of them.
    pub elements: usize,
    /// Elements that one rank owns.
    pub part: usize,
    /// Whether they are matrices that only GEMMs read, in the device's precision.
    pub is_matrices: bool,
}

/// The bucket before the last.
const HEADS: &str = "the heads";
/// The last bucket.
const REST: &str = "embeddings and norms";

impl Bucket {
    /// Those of parameters of these `specs`, each cut into parts for `ranks` ranks, in order.
    pub fn all(specs: &[ParameterSpec], ranks: usize) -> Vec<Self> {
        let bucket = |(name, parameters): (String, Vec<usize>)| {
            let elements: usize = parameters.iter().map(|index| specs[*index].elements()).sum();
            let part = elements.div_ceil(ranks).next_multiple_of(NORM_BLOCK);
            Self { is_matrices: name != REST, name, parameters, elements, part }
        };
        grouped(specs).into_iter().map(bucket).collect()
    }

    /// Whether it is a transformer block's: most of the model, and one of many.
    pub fn is_block(&self) -> bool {
        self.is_matrices && self.name != HEADS
    }

    /// Blocks of the norm's sums.
    pub fn blocks(&self) -> usize {
        self.elements.div_ceil(NORM_BLOCK)
    }
}

/// The matrices of each block, the heads, and all else.
fn grouped(specs: &[ParameterSpec]) -> Vec<(String, Vec<usize>)> {
    let mut groups: Vec<(String, Vec<usize>)> = Vec::new();
    let (mut heads, mut rest) = (Vec::new(), Vec::new());
    for (index, spec) in specs.iter().enumerate() {
        if [TOKEN_HEAD, CLASS_HEAD].contains(&&*spec.name) {
            heads.push(index);
            continue;
        }
        let layer = spec.name.strip_prefix("transformer.h.").and_then(|name| name.split('.').next());
        let Some(layer) = layer.filter(|_| spec.shape.len() == 2) else {
            rest.push(index);
            continue;
        };

        let name = format!("block {layer}");
        match groups.last_mut().filter(|(last, _)| *last == name) {
            Some((_, parameters)) => parameters.push(index),
            None => groups.push((name, vec![index])),
        }
    }

    groups.extend([(HEADS.to_owned(), heads), (REST.to_owned(), rest)]);
    groups.retain(|(_, parameters)| !parameters.is_empty());
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ModelConfig, Preset, parameter_specs};

    #[test]
    fn buckets_are_the_blocks_and_then_the_rest() {
        let shape = ModelConfig { layers: 11, width: 24, heads: 2, bias: true, ..ModelConfig::preset(Preset::Tiny, 4) };
        let specs = parameter_specs(&shape);
        let buckets = Bucket::all(&specs, 1);
        assert_eq!(buckets.len(), 13);
        assert_eq!((&*buckets[10].name, buckets[10].elements), ("block 10", 12 * 24 * 24));
        let names = |bucket: usize| -> Vec<&str> {
            buckets[bucket].parameters.iter().map(|index| specs[*index].name.as_str()).collect()
        };
        assert_eq!(names(11), ["lm_head.weight"]);
        for name in ["transformer.wte.weight", "transformer.h.3.ln_1.weight", "transformer.h.3.mlp.c_fc.bias"] {
            assert!(names(12).contains(&name), "{name} is not in {:?}", names(12));
        }
        let mut all: Vec<usize> = buckets.iter().flat_map(|bucket| bucket.parameters.clone()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..specs.len()).collect::<Vec<_>>());
    }

    /// Buckets of iGPT-L on 8 ranks: a block of 28.3 M parameters, heads of 0.8 M, 2.5 M others.
    #[test]
    fn parts_are_whole_blocks_of_the_norm() {
        let config = ModelConfig::preset(Preset::L, 32);
        let buckets = Bucket::all(&parameter_specs(&config), 8);
        assert_eq!((buckets[0].elements, buckets[48].elements), (12 * 1536 * 1536, 512 * 1536));
        assert_eq!(buckets.iter().map(|bucket| bucket.elements).sum::<usize>(), config.parameter_count());
        for bucket in &buckets {
            assert!(bucket.part.is_multiple_of(NORM_BLOCK) && 8 * bucket.part >= bucket.elements, "{bucket:?}");
            assert!(8 * (bucket.part - NORM_BLOCK) < bucket.elements, "{bucket:?}");
        }
    }
}
