//! Sampling: attention from one token to the cache at the last position of an image.

use igpt_engine::device::cuda::CudaTensor;
use igpt_engine::device::prelude::*;
use igpt_engine::device::{CacheDims, CudaDevice, Result};

use super::{Bench, Case, Prepared};
use crate::check::Checked;
use crate::effort::Model;
use crate::graph::Work;
use crate::normals::Normals;

/// Images that are sampled at once.
const IMAGES: usize = 16;

struct Set {
    qkv: CudaTensor,
    keys: CudaTensor,
    values: CudaTensor,
}

/// A row of attention in f64: the weighted mean of a head's `values` `[T, d]`.
fn attend(query: &[f32], keys: &[f32], values: &[f32]) -> Vec<f64> {
    let columns = query.len();
    let scale = 1.0 / (columns as f64).sqrt();
    let row = |of: &[f32], token: usize| -> Vec<f64> {
        of[token * columns..][..columns].iter().map(|value| f64::from(*value)).collect()
    };
    let powers: Vec<f64> = (0..keys.len() / columns)
        .map(|token| {
            let score: f64 = row(keys, token).iter().zip(query).map(|(key, query)| key * f64::from(*query)).sum();
            (score * scale).exp()
        })
        .collect();
    let sum: f64 = powers.iter().sum();
    (0..columns).map(|i| powers.iter().enumerate().map(|(token, p)| p / sum * row(values, token)[i]).sum()).collect()
}

/// A cache that holds these numbers.
fn cache(device: &CudaDevice, dims: CacheDims, numbers: &[f32]) -> Result<CudaTensor> {
    let mut cache = device.attention_cache(dims)?;
    device.overwrite(&mut cache, numbers)?;
    Ok(cache)
}

fn prepare<'a>(
    device: &'a CudaDevice,
    model: &Model,
    (images, sets): (usize, usize),
    normals: &mut Normals,
) -> Result<Prepared<'a>> {
    let (width, heads, tokens) = (model.config.width, model.config.heads, model.tokens);
    let (columns, position) = (width / heads, tokens - 1);
    let dims = CacheDims { batch: images, positions: tokens, heads, head_dim: columns };
    let mut on_device = Vec::new();
    let mut exact = Vec::new();
    for set in 0..sets {
        let qkv = normals.take(images * 3 * width, 1.0);
        let (mut keys, mut values) =
            (normals.take(images * tokens * width, 1.0), normals.take(images * tokens * width, 1.0));
        on_device.push(Set {
            qkv: device.upload(&[images, 1, 3 * width], &qkv)?,
            keys: cache(device, dims, &keys)?,
            values: cache(device, dims, &values)?,
        });
        if set == 0 {
            // The last image's last head, with this token's own key and value in the cache.
            let (own, head) = (&qkv[(images - 1) * 3 * width..], images * tokens * width - tokens * columns);
            let (keys, values) = (&mut keys[head..], &mut values[head..]);
            let own = |part: usize| &own[(part + 1) * width - columns..(part + 1) * width];
            keys[position * columns..].copy_from_slice(own(1));
            values[position * columns..].copy_from_slice(own(2));
            exact = attend(own(0), keys, values);
        }
    }

    let at = device.upload_tokens([1, 1], &[position as u16])?;
    let mut run = move |set: usize| {
        let Set { qkv, keys, values } = &mut on_device[set];
        device.attention_decode(qkv, keys, values, &at, heads)
    };
    let got = device.download(&run(0)?)?;
    let checked = Checked::of(got[got.len() - columns..].iter().copied().zip(exact), 2.0);
    let work: Work<'a> = Box::new(move |set| run(set).map(Some));
    Ok(Prepared { checked, works: vec![(1.0, work)], sets, product: None })
}

impl Bench<'_> {
    /// Of each model.
    pub fn decoding(&mut self) {
        let (device, effort) = (self.device, self.effort);
        for model in &effort.models {
            let (width, tokens, images) = (model.config.width, model.tokens, IMAGES.min(8 * model.images));
            // The cache once.
            let element = device.precision().bytes();
            let bytes = (element * images * (2 * tokens * width + 4 * width)) as f64;
            let sets = effort.sets(bytes);
            let case = Case {
                op: "attention of one token".to_owned(),
                model: model.name.to_owned(),
                shape: format!("{images} images, {tokens} tokens"),
                flops: 0.0,
                bytes,
            };
            self.row(case, |normals| prepare(device, model, (images, sets), normals));
        }
    }
}
