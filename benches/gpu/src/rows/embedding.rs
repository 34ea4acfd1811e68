//! The embedding and its gradient, for images as they are: much of one colour.

use igpt_engine::device::cuda::{CudaTensor, CudaTokens};
use igpt_engine::device::prelude::*;
use igpt_engine::device::{Beta, CudaDevice, Result};

use super::{Bench, Case, Prepared};
use crate::check::Checked;
use crate::effort::Model;
use crate::graph::Work;
use crate::normals::Normals;

/// Colours of `count` pixels: a third are background, in runs as backgrounds are; the others come half as often with each halving.
fn colours(count: usize, vocabulary: usize) -> Vec<u16> {
    let pixel = |place: usize| {
        if (place / 37).is_multiple_of(3) {
            return 0;
        }
        // A spread number, of which the leading zeros say how rare the colour is.
        let mixed = (place as u32).wrapping_mul(2_654_435_761) ^ (place as u32 >> 7);
        let octave = vocabulary >> (mixed.leading_zeros() + 1).min(8);
        octave + mixed as usize % octave.max(1)
    };
    (0..count).map(|place| (pixel(place) % vocabulary) as u16).collect()
}

struct Operands {
    table: CudaTensor,
    positions: CudaTensor,
    ids: CudaTokens,
    dy: CudaTensor,
    d_table: CudaTensor,
    d_positions: CudaTensor,
}

/// On the host: table, positions, colours and the gradient.
type OnHost = (Vec<f32>, Vec<f32>, Vec<u16>, Vec<f32>);

fn operands(device: &CudaDevice, model: &Model, normals: &mut Normals) -> Result<(Operands, OnHost)> {
    let (width, rows) = (model.config.width, model.config.embedding_rows());
    let table = normals.take(rows * width, 1.0);
    let positions = normals.take(model.tokens * width, 1.0);
    let ids = colours(model.rows(), model.config.vocabulary);
    let dy = normals.take(model.rows() * width, 1.0);
    let operands = Operands {
        table: device.upload(&[rows, width], &table)?,
        positions: device.upload(&[model.tokens, width], &positions)?,
        ids: device.upload_tokens([model.images, model.tokens], &ids)?,
        dy: device.upload(&[model.images, model.tokens, width], &dy)?,
        d_table: device.zeros(&[rows, width])?,
        d_positions: device.zeros(&[model.tokens, width])?,
    };
    Ok((operands, (table, positions, ids, dy)))
}

fn forward<'a>(device: &'a CudaDevice, model: &Model, sets: usize, normals: &mut Normals) -> Result<Prepared<'a>> {
    let width = model.config.width;
    let (first, (table, positions, ids, _)) = operands(device, model, normals)?;
    let mut all = vec![first];
    for _ in 1..sets {
        all.push(operands(device, model, normals)?.0);
    }

    let run = move |set: usize| {
        let Operands { table, positions, ids, .. } = &all[set];
        device.embedding(table, positions, ids, None)
    };
    let got = device.download(&run(0)?)?;
    let (colour, place) = (usize::from(ids[ids.len() - 1]), model.tokens - 1);
    let want = (0..width).map(|i| f64::from(table[colour * width + i]) + f64::from(positions[place * width + i]));
    let checked = Checked::of(got[got.len() - width..].iter().copied().zip(want), 1.0);
    let work: Work<'a> = Box::new(move |set| run(set).map(Some));
    Ok(Prepared { checked, works: vec![(1.0, work)], sets, product: None })
}

fn backward<'a>(device: &'a CudaDevice, model: &Model, sets: usize, normals: &mut Normals) -> Result<Prepared<'a>> {
    let width = model.config.width;
    let (first, (_, _, ids, dy)) = operands(device, model, normals)?;
    let mut all = vec![first];
    for _ in 1..sets {
        all.push(operands(device, model, normals)?.0);
    }

    let run = move |operands: &mut Operands| {
        let Operands { ids, dy, d_table, d_positions, .. } = operands;
        device.embedding_backward(dy, ids, d_table, d_positions, Beta::One)
    };
    run(&mut all[0])?;

    // The background's row and the last place's, both in f32.
    let (d_table, d_positions) = (device.download(&all[0].d_table)?, device.download(&all[0].d_positions)?);
    let sum = |wanted: &dyn Fn(usize) -> bool| -> Vec<f64> {
        let rows = (0..ids.len()).filter(|row| wanted(*row));
        rows.fold(vec![0.0; width], |mut sum, row| {
            sum.iter_mut().zip(&dy[row * width..]).for_each(|(sum, value)| *sum += f64::from(*value));
            sum
        })
    };
    let of_colour = Checked::of(d_table[..width].iter().copied().zip(sum(&|row| ids[row] == 0)), 0.1);
    let last = model.tokens - 1;
    let of_place = sum(&|row| row % model.tokens == last);
    let checked = of_colour.and(Checked::of(d_positions[last * width..].iter().copied().zip(of_place), 0.1));
    let work: Work<'a> = Box::new(move |set| run(&mut all[set]).map(|()| None));
    Ok(Prepared { checked, works: vec![(1.0, work)], sets, product: None })
}

impl Bench<'_> {
    /// At each model's batch.
    pub fn embeddings(&mut self) {
        let (device, effort) = (self.device, self.effort);
        for model in &effort.models {
            let (rows, width) = (model.rows(), model.config.width);
            let tables = 4 * width * (model.config.embedding_rows() + model.tokens);
            let case = |op: &str, bytes: usize| Case {
                op: op.to_owned(),
                model: model.name.to_owned(),
                shape: format!("{} images, {} tokens", model.images, model.tokens),
                flops: 0.0,
                bytes: bytes as f64,
            };
            // Tokens and both tables in, rows in bf16 out; the gradients of the tables are read and written.
            let (least, least_back) = (rows * (2 + 2 * width) + tables, rows * (2 + 2 * width) + 2 * tables);
            let sets = effort.sets(least as f64);
            self.row(case("embedding forward", least), |normals| forward(device, model, sets, normals));
            self.row(case("embedding backward", least_back), |normals| backward(device, model, sets, normals));
        }
    }
}
