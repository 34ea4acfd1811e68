//! One of every op, for what holds of all of them: determinism, and that the schedule of blocks and warps changes nothing.

use std::slice::{from_mut, from_ref};

use igpt_engine::device::{
    Activation, AdamStep, Beta, CacheDims, Device, Mask, MlpGradients, MlpWeights, Norm, ResidualNorm, WeightLayout,
};

use super::support::{Tested, upload};

/// One of every op, at sizes that a device cuts into several blocks and tiles; all results, as bits.
pub fn everything<D: Device>(device: &Tested<D>) -> Vec<Vec<u32>> {
    [with_the_bits_of_every_card(device), attention_of_wide_heads(device), residual_sum_of_tiles(device)].concat()
}

/// Attention of heads for which compute capability 9.0 has a forward of its own, whose tiles of keys are longer than those of other cards, so
/// that its online softmax has other bits.
pub fn attention_of_wide_heads<D: Device>(device: &Tested<D>) -> Vec<Vec<u32>> {
    let random = &mut device.random(13);
    let mut results = Vec::new();
    for (heads, head_dim, mask) in [(3, 64, Mask::Causal), (2, 96, Mask::Full), (1, 128, Mask::Causal)] {
        let (tokens, width) = (201, heads * head_dim);
        let qkv = upload(device, &[2, tokens, 3 * width], &random.values(2 * tokens * 3 * width));
        let out = device.attention(&qkv, heads, mask).unwrap();
        for tensor in [&out.output, &out.logsumexp] {
            results.push(device.download(tensor).unwrap().into_iter().map(f32::to_bits).collect());
        }
    }
    results
}

/// A layer and the norm of the residual sum behind it, on tiles of several blocks, which in bf16 is one launch.
fn residual_sum_of_tiles<D: Device>(device: &Tested<D>) -> Vec<Vec<u32>> {
    let (rows, inputs, width) = if device.in_bf16() { (900, 520, 808) } else { (90, 52, 81) };
    let random = &mut device.random(14);
    let mut tensor = |shape: &[usize]| upload(device, shape, &random.values(shape.iter().product()));
    let (input, weight) = (tensor(&[rows, inputs]), tensor(&[inputs, width]));
    let (x, gain) = (tensor(&[rows, width]), tensor(&[width]));
    let to = ResidualNorm { norm: Norm::Rms, x: &x, gain: &gain, bias: None };
    let out = device.linear_residual_layernorm(&input, &weight, None, to).unwrap();
    let bits = |tensor| device.download(tensor).unwrap().into_iter().map(f32::to_bits).collect();
    [&out.sum, &out.normed, &out.stats].map(bits).into()
}

/// The same but for these.
pub fn with_the_bits_of_every_card<D: Device>(device: &Tested<D>) -> Vec<Vec<u32>> {
    let (batch, tokens, width, heads, rows) = (2, 131, 96, 3, 37);
    let random = &mut device.random(11);
    let mut tensor = |shape: &[usize]| upload(device, shape, &random.values(shape.iter().product()));
    let mut results = Vec::new();
    let mut keep = |tensor: &D::Tensor| {
        results.push(device.download(tensor).unwrap().into_iter().map(f32::to_bits).collect());
    };

    let x = tensor(&[batch, tokens, width]);
    let dy = tensor(&[batch, tokens, width]);
    let (gain, weight, up, down) =
        (tensor(&[width]), tensor(&[width, width]), tensor(&[width, 4 * width]), tensor(&[4 * width, width]));
    let bias = tensor(&[4 * width]);
    let qkv = tensor(&[batch, tokens, 3 * width]);
    let (table, positions) = (tensor(&[rows, width]), tensor(&[tokens, width]));
    let ids = device.random(12).tokens(batch * tokens, rows);
    let ids = device.upload_tokens([batch, tokens], &ids).unwrap();

    keep(&device.embedding(&table, &positions, &ids, None).unwrap());
    let (mut d_table, mut d_positions) = (tensor(&[rows, width]), tensor(&[tokens, width]));
    device.embedding_backward(&dy, &ids, &mut d_table, &mut d_positions, Beta::One).unwrap();
    keep(&d_table);
    keep(&d_positions);

    let out = device.residual_layernorm(Norm::Layer, &x, &dy, &gain, Some(&gain)).unwrap();
    let (mut d_gain, mut d_bias) = (tensor(&[width]), tensor(&[width]));
    let slot = Some(&mut d_bias);
    keep(
        &device
            .layernorm_backward(Norm::Layer, &dy, &out.sum, &gain, &out.stats, None, &mut d_gain, slot, Beta::One)
            .unwrap(),
    );
    [&out.normed, &d_gain, &d_bias].into_iter().for_each(&mut keep);

    keep(&device.linear(&x, &weight, WeightLayout::OutIn, Some(&gain)).unwrap());
    let (mut d_weight, mut d_bias) = (tensor(&[width, width]), tensor(&[width]));
    let slot = Some(&mut d_bias);
    keep(&device.linear_backward(&dy, &x, &weight, WeightLayout::InOut, &mut d_weight, slot, Beta::One).unwrap());
    [&d_weight, &d_bias].into_iter().for_each(&mut keep);

    let weights = || MlpWeights { up: &up, up_bias: Some(&bias), down: &down, down_bias: Some(&gain) };
    let out = device.mlp(&x, weights(), Activation::QuickGelu).unwrap();
    let (mut d_up, mut d_up_bias) = (tensor(&[width, 4 * width]), tensor(&[4 * width]));
    let (mut d_down, mut d_down_bias) = (tensor(&[4 * width, width]), tensor(&[width]));
    let slots = MlpGradients {
        up: &mut d_up,
        up_bias: Some(&mut d_up_bias),
        down: &mut d_down,
        down_bias: Some(&mut d_down_bias),
    };
    keep(&device.mlp_backward(&dy, &x, &out.hidden, weights(), Activation::QuickGelu, slots, Beta::One).unwrap());
    [&out.output, &d_up, &d_up_bias, &d_down, &d_down_bias].into_iter().for_each(&mut keep);

    for mask in [Mask::Causal, Mask::Full] {
        let out = device.attention(&qkv, heads, mask).unwrap();
        keep(&device.attention_backward(&dy, &qkv, &out.output, &out.logsumexp, heads, mask).unwrap());
        [&out.output, &out.logsumexp].into_iter().for_each(&mut keep);
    }
    // One wide head, of an output and sums that are not a forward's: any numbers do.
    let (output, logsumexp) = (tensor(&[batch, tokens, width]), tensor(&[batch, 1, tokens]));
    keep(&device.attention_backward(&dy, &qkv, &output, &logsumexp, 1, Mask::Causal).unwrap());

    let dims = CacheDims { batch, positions: tokens, heads, head_dim: width / heads };
    let [mut keys, mut values] = [(); 2].map(|()| device.attention_cache(dims).unwrap());
    keep(&device.attention_prefill(&qkv, &mut keys, &mut values, 0, heads).unwrap());
    let row = tensor(&[batch, 1, 3 * width]);
    let at = device.upload_tokens([1, 1], &[tokens as u16 - 1]).unwrap();
    keep(&device.attention_decode(&row, &mut keys, &mut values, &at, heads).unwrap());
    [&keys, &values].into_iter().for_each(&mut keep);

    let logits = tensor(&[batch, tokens, rows]);
    let weights = tensor(&[batch * tokens]);
    let out = device.cross_entropy(logits, &ids, &weights).unwrap();
    [&out.loss, &out.nll, &out.d_logits].into_iter().for_each(&mut keep);

    let pooled = device.mean_pool(&x).unwrap();
    keep(&pooled);
    keep(&device.mean_pool_backward(&pooled, tokens).unwrap());

    let mut moments = [(); 2].map(|()| device.zeros(&[batch, tokens, width]).unwrap());
    let [first, second] = &mut moments;
    let mut parameter = tensor(&[batch, tokens, width]);
    let step = AdamStep { learning_rate: 1e-3, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, step: 1 };
    device.adam(from_mut(&mut parameter), from_ref(&dy), from_mut(first), from_mut(second), step, None).unwrap();
    keep(&parameter);
    let mut average = tensor(&[batch, tokens, width]);
    device.ema(&mut average, &parameter, 1e-3, &device.upload(&[3], &[1.0, 0.0, 0.0]).unwrap()).unwrap();
    keep(&average);
    keep(&device.global_norm(&[x, dy]).unwrap());
    results
}
