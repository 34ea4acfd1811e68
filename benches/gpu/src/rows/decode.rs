//! Sampling: attention from one token to the cache at the last position of an image.

use igpt_engine::device::cuda::CudaTensor;
use igpt_engine::device::prelude::*;
use igpt_engine::device::{CudaDevice, Result};

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

/// A row of attention in f64: the weighted mean of `values` `[T, d]`, of whose columns those from `first` on are a head's.
fn attend(query: &[f32], keys: &[f32], values: &[f32], (width, first): (usize, usize)) -> Vec<f64> {
    let columns = query.len();
    let scale = 1.0 / (columns as f64).sqrt();
    let row = |of: &[f32], token: usize| -> Vec<f64> {
        of[token * width + first..][..columns].iter().map(|value| f64::from(*value)).collect()
    };
    let powers: Vec<f64> = (0..keys.len() / width)
        .map(|token| {
            let score: f64 = row(keys, token).iter().zip(query).map(|(key, query)| key * f64::from(*query)).sum();
            (score * scale).exp()
        })
        .collect();
    let sum: f64 = powers.iter().sum();
    (0..columns).map(|i| powers.iter().enumerate().map(|(token, p)| p / sum * row(values, token)[i]).sum()).collect()
}

fn prepare<'a>(
    device: &'a CudaDevice,
    model: &Model,
    (images, sets): (usize, usize),
    normals: &mut Normals,
) -> Result<Prepared<'a>> {
    let (width, heads, tokens) = (model.config.width, model.config.heads, model.tokens);
    let (columns, position) = (width / heads, tokens - 1);
    let mut on_device = Vec::new();
    let mut exact = Vec::new();
    for set in 0..sets {
        let qkv = normals.take(images * 3 * width, 1.0);
        let (mut keys, mut values) =
            (normals.take(images * tokens * width, 1.0), normals.take(images * tokens * width, 1.0));
        on_device.push(Set {
            qkv: device.upload(&[images, 1, 3 * width], &qkv)?,
            keys: device.upload(&[images, tokens, width], &keys)?,
            values: device.upload(&[images, tokens, width], &values)?,
        });
        if set == 0 {
            // The last image's last head, with this token's own key and value in the cache.
            let (own, cache) = (&qkv[(images - 1) * 3 * width..], (images - 1) * tokens * width);
            let (keys, values) = (&mut keys[cache..], &mut values[cache..]);
            keys[position * width..].copy_from_slice(&own[width..2 * width]);
            values[position * width..].copy_from_slice(&own[2 * width..]);
            let first = width - columns;
            exact = attend(&own[first..width], keys, values, (width, first));
        }
    }

    let mut run = move |set: usize| {
        let Set { qkv, keys, values } = &mut on_device[set];
        device.attention_decode(qkv, keys, values, position, heads)
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
            // The cache in f32, once.
            let bytes = (images * (2 * 4 * tokens * width + 4 * 2 * width)) as f64;
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
