//! Attention, forward and backward, at every width of a head, with and without the causal mask.

use std::rc::Rc;

use igpt_engine::device::cuda::CudaTensor;
use igpt_engine::device::prelude::*;
use igpt_engine::device::{Attended, CudaDevice, Mask, Result};

use super::exact_attention::Exact;
use super::{Bench, Case, Prepared};
use crate::check::Checked;
use crate::graph::Work;
use crate::normals::Normals;

/// `B` images of `T` tokens, `H` heads of `D` columns.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub images: usize,
    pub tokens: usize,
    pub heads: usize,
    pub columns: usize,
    pub mask: Mask,
}

impl Shape {
    pub fn width(&self) -> usize {
        self.heads * self.columns
    }

    /// Operations of `products` products of T × T × D each, of which a causal mask leaves half.
    fn flops(&self, products: usize) -> f64 {
        let all = 2.0 * (products * self.images * self.width()) as f64 * (self.tokens as f64).powi(2);
        if self.mask == Mask::Causal { all / 2.0 } else { all }
    }

    /// Bytes of one tensor `[B, T, d]` in bf16.
    fn tensor(&self) -> f64 {
        (2 * self.images * self.tokens * self.width()) as f64
    }

    fn case(&self, op: &str, products: usize, tensors: f64) -> Case {
        let Self { images, tokens, heads, columns, mask } = *self;
        let mask = if mask == Mask::Causal { "causal" } else { "full" };
        Case {
            op: op.to_owned(),
            model: format!("D {columns}"),
            shape: format!("{images} images, {tokens} tokens, {heads} heads, {mask}"),
            flops: self.flops(products),
            bytes: tensors * self.tensor(),
        }
    }
}

/// Operands of a set, and what the forward makes of them.
struct Set {
    qkv: CudaTensor,
    dy: CudaTensor,
    saved: Attended<CudaTensor>,
}

struct Operands {
    shape: Shape,
    exact: Exact,
    sets: Vec<Set>,
}

impl Operands {
    fn new(device: &CudaDevice, shape: Shape, sets: usize, normals: &mut Normals) -> Result<Self> {
        let Shape { images, tokens, heads, mask, .. } = shape;
        let width = shape.width();
        let (mut on_device, mut on_host) = (Vec::new(), (Vec::new(), Vec::new()));
        for set in 0..sets {
            let values = normals.take(images * tokens * 3 * width, 1.0);
            let gradient = normals.take(images * tokens * width, 1.0);
            let qkv = device.upload(&[images, tokens, 3 * width], &values)?;
            let dy = device.upload(&[images, tokens, width], &gradient)?;
            let saved = device.attention(&qkv, heads, mask)?;
            on_device.push(Set { qkv, dy, saved });
            if set == 0 {
                on_host = (values, gradient);
            }
        }
        Ok(Self { shape, exact: Exact::new(shape, on_host.0, on_host.1), sets: on_device })
    }
}

fn forward<'a>(device: &'a CudaDevice, shape: Shape, sets: usize, normals: &mut Normals) -> Result<Prepared<'a>> {
    let operands = Operands::new(device, shape, sets, normals)?;
    let output = device.download(&operands.sets[0].saved.output)?;

    // The last row of the last head, and one in the middle, whose weights are rounded to bf16 on the way.
    let mut pairs = Vec::new();
    for (image, head, token) in operands.exact.places() {
        let at = (image * shape.tokens + token) * shape.width() + head * shape.columns;
        pairs.extend(output[at..at + shape.columns].iter().copied().zip(operands.exact.output(image, head, token)));
    }

    let work: Work<'a> = Box::new(move |set| {
        let attended = device.attention(&operands.sets[set].qkv, operands.shape.heads, operands.shape.mask)?;
        Ok(Some(attended.output))
    });
    Ok(Prepared { checked: Checked::of(pairs, 3.0), works: vec![(1.0, work)], sets, product: None })
}

fn backward<'a>(device: &'a CudaDevice, shape: Shape, sets: usize, normals: &mut Normals) -> Result<Prepared<'a>> {
    let operands = Rc::new(Operands::new(device, shape, sets, normals)?);
    let run = {
        let operands = Rc::clone(&operands);
        move |set: usize| {
            let Set { qkv, dy, saved } = &operands.sets[set];
            device.attention_backward(dy, qkv, &saved.output, &saved.logsumexp, operands.shape.heads, shape.mask)
        }
    };

    // Rows of dq, and the last key's dk and dv: under a causal mask few queries see it.
    let gradient = device.download(&run(0)?)?;
    let (width, columns) = (shape.width(), shape.columns);
    let part = |image: usize, token: usize, third: usize, head: usize| {
        let at = (image * shape.tokens + token) * 3 * width + third * width + head * columns;
        gradient[at..at + columns].iter().copied()
    };
    let mut checked: Option<Checked> = None;
    let mut add = |pairs: Vec<(f32, f64)>| {
        let new = Checked::of(pairs, 6.0);
        checked = Some(checked.map_or(new, |checked| checked.and(new)));
    };
    for (image, head, token) in operands.exact.places() {
        add(part(image, token, 0, head).zip(operands.exact.d_query(image, head, token)).collect());
    }
    let (image, head, token) = (shape.images - 1, shape.heads - 1, shape.tokens - 3);
    let (d_key, d_value) = operands.exact.d_key_and_value(image, head, token);
    add(part(image, token, 1, head).zip(d_key).collect());
    add(part(image, token, 2, head).zip(d_value).collect());
    let checked = checked.unwrap_or(Checked::of([], 1.0));

    let work: Work<'a> = Box::new(move |set| run(set).map(Some));
    Ok(Prepared { checked, works: vec![(1.0, work)], sets, product: None })
}

impl Bench<'_> {
    /// All widths, lengths and masks.
    pub fn attention(&mut self) {
        let (device, effort) = (self.device, self.effort);
        let (widths, lengths) = &effort.attention;
        let (batch, heads) = effort.attention_batch;
        for &columns in widths {
            for &tokens in lengths {
                for mask in [Mask::Causal, Mask::Full] {
                    let shape = Shape { images: batch / tokens, tokens, heads, columns, mask };
                    let sets = effort.sets(4.0 * shape.tensor());
                    // q, k, v and the output; then all of them, dy and three gradients.
                    self.row(shape.case("attention forward", 2, 4.0), |normals| forward(device, shape, sets, normals));
                    self.row(shape.case("attention backward", 5, 8.0), |normals| {
                        backward(device, shape, sets, normals)
                    });
                }
            }
        }
    }
}
