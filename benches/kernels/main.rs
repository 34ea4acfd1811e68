//! Each op of the CPU device at the shapes of training steps, T = 1024: `cargo bench --bench kernels -- --quick [op]`.
//!
//! Throughput is in useful FLOPs ("elements": Gelem/s is GFLOP/s) for GEMMs and attention, where causal attention counts
//! only what the mask leaves: `4·B·T²·d / 2` forward and `10·B·T²·d / 2` backward, scores recomputed included. All other ops
//! are in bytes read and written at least once. Compare lines of the same run, not with other days.
//!
//! Then the CUDA device's kernels, those with the argument in their name: counts from the simulator, or with
//! `IGPT_TEST_DEVICE=cuda` times on a GPU ([`cuda`]); `IGPT_TEST_DEVICE=cpu` leaves them out.

mod cuda;

use std::slice::{from_mut, from_ref};

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group};
use igpt_engine::device::prelude::*;
use igpt_engine::device::{
    Activation, AdamStep, Beta, CpuDevice, Mask, MlpGradients, MlpWeights, Norm, SampleOptions, WeightLayout,
};

type Tensor = <CpuDevice as Tensors>::Tensor;

const TOKENS: usize = 1024;
const VOCABULARY: usize = 512;

/// Name, images, width, heads.
const SHAPES: [(&str, usize, usize, usize); 3] = [("tiny", 4, 128, 4), ("small", 4, 256, 8), ("S", 1, 512, 8)];

/// Numbers in [-1, 1) that look random enough: kernels here do not care.
fn tensor(device: &CpuDevice, shape: &[usize]) -> Tensor {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
    device.upload(shape, &values).expect("shape fits")
}

fn flops(group: &mut BenchmarkGroup<'_, WallTime>, flops: usize) {
    group.throughput(Throughput::Elements(flops as u64));
}

fn floats(group: &mut BenchmarkGroup<'_, WallTime>, floats: usize) {
    group.throughput(Throughput::Bytes(4 * floats as u64));
}

fn gemms(criterion: &mut Criterion) {
    let device = CpuDevice::new(None).expect("threads start");
    for (name, batch, width, _) in SHAPES {
        let rows = batch * TOKENS;
        let hidden = 4 * width;
        let x = tensor(&device, &[batch, TOKENS, width]);
        let dy = tensor(&device, &[batch, TOKENS, 3 * width]);
        let weight = tensor(&device, &[width, 3 * width]);
        let mut d_weight = tensor(&device, &[width, 3 * width]);
        let (up, down) = (tensor(&device, &[width, hidden]), tensor(&device, &[hidden, width]));
        let (mut d_up, mut d_down) = (tensor(&device, &[width, hidden]), tensor(&device, &[hidden, width]));
        let mut group = criterion.benchmark_group(name);

        flops(&mut group, 2 * rows * width * 3 * width);
        group.bench_function("linear", |bencher| {
            bencher.iter(|| device.linear(&x, &weight, WeightLayout::InOut, None));
        });

        flops(&mut group, 4 * rows * width * 3 * width);
        group.bench_function("linear_backward", |bencher| {
            bencher
                .iter(|| device.linear_backward(&dy, &x, &weight, WeightLayout::InOut, &mut d_weight, None, Beta::One));
        });

        let weights = || MlpWeights { up: &up, up_bias: None, down: &down, down_bias: None };
        flops(&mut group, 4 * rows * width * hidden);
        group.bench_function("mlp", |bencher| {
            bencher.iter(|| device.mlp(&x, weights(), Activation::QuickGelu));
        });

        let saved = device.mlp(&x, weights(), Activation::QuickGelu).expect("shapes fit").hidden;
        flops(&mut group, 8 * rows * width * hidden);
        group.bench_function("mlp_backward", |bencher| {
            bencher.iter(|| {
                let gradients = MlpGradients { up: &mut d_up, up_bias: None, down: &mut d_down, down_bias: None };
                device.mlp_backward(&x, &x, &saved, weights(), Activation::QuickGelu, gradients, Beta::One)
            });
        });
    }
}

fn attention(criterion: &mut Criterion) {
    let device = CpuDevice::new(None).expect("threads start");
    for (name, batch, width, heads) in SHAPES {
        let qkv = tensor(&device, &[batch, TOKENS, 3 * width]);
        let dy = tensor(&device, &[batch, TOKENS, width]);
        let mut group = criterion.benchmark_group(name);

        flops(&mut group, 2 * batch * TOKENS * TOKENS * width);
        group.bench_function("attention", |bencher| bencher.iter(|| device.attention(&qkv, heads, Mask::Causal)));
        let out = device.attention(&qkv, heads, Mask::Causal).expect("shapes fit");
        flops(&mut group, 5 * batch * TOKENS * TOKENS * width);
        group.bench_function("attention_backward", |bencher| {
            bencher.iter(|| device.attention_backward(&dy, &qkv, &out.output, &out.logsumexp, heads, Mask::Causal));
        });

        let row = tensor(&device, &[batch, 1, 3 * width]);
        let [mut keys, mut values] = [(); 2].map(|()| tensor(&device, &[batch, heads, TOKENS, width / heads]));
        let last = device.upload_tokens([1, 1], &[TOKENS as u16 - 1]).expect("shape fits");
        floats(&mut group, 2 * batch * TOKENS * width);
        group.bench_function("attention_decode", |bencher| {
            bencher.iter(|| device.attention_decode(&row, &mut keys, &mut values, &last, heads));
        });
    }
}

fn passes(criterion: &mut Criterion) {
    let device = CpuDevice::new(None).expect("threads start");
    for (name, batch, width, _) in SHAPES {
        let size = batch * TOKENS * width;
        let [x, dy] = [(); 2].map(|()| tensor(&device, &[batch, TOKENS, width]));
        let [gain, mut d_gain] = [(); 2].map(|()| tensor(&device, &[width]));
        let mut group = criterion.benchmark_group(name);

        floats(&mut group, 4 * size);
        group.bench_function("residual_layernorm", |bencher| {
            bencher.iter(|| device.residual_layernorm(Norm::Rms, &x, &dy, &gain, None));
        });

        let stats = device.layernorm(Norm::Rms, &x, &gain, None).expect("shapes fit").stats;
        let mut stream = Some(tensor(&device, &[batch, TOKENS, width]));
        floats(&mut group, 4 * size);
        group.bench_function("layernorm_backward", |bencher| {
            bencher.iter(|| {
                let residual = stream.take();
                stream = device
                    .layernorm_backward(Norm::Rms, &dy, &x, &gain, &stats, residual, &mut d_gain, None, Beta::One)
                    .ok();
            });
        });

        let [table, mut d_table] = [(); 2].map(|()| tensor(&device, &[VOCABULARY + 1, width]));
        let [positions, mut d_positions] = [(); 2].map(|()| tensor(&device, &[TOKENS, width]));
        let ids: Vec<u16> = (0..batch * TOKENS).map(|i| (i * 7919 % VOCABULARY) as u16).collect();
        let ids = device.upload_tokens([batch, TOKENS], &ids).expect("shape fits");
        floats(&mut group, 3 * size);
        group.bench_function("embedding", |bencher| bencher.iter(|| device.embedding(&table, &positions, &ids, None)));
        floats(&mut group, 2 * size);
        group.bench_function("embedding_backward", |bencher| {
            bencher.iter(|| device.embedding_backward(&dy, &ids, &mut d_table, &mut d_positions, Beta::One));
        });

        floats(&mut group, size);
        group.bench_function("mean_pool", |bencher| bencher.iter(|| device.mean_pool(&x)));
    }
}

fn once_a_step(criterion: &mut Criterion) {
    let device = CpuDevice::new(None).expect("threads start");
    let mut group = criterion.benchmark_group("step");

    let rows = 4 * TOKENS;
    let ids: Vec<u16> = (0..rows).map(|i| (i * 7919 % VOCABULARY) as u16).collect();
    let targets = device.upload_tokens([4, TOKENS], &ids).expect("shape fits");
    let weights = tensor(&device, &[rows]);
    floats(&mut group, 2 * rows * VOCABULARY);
    let mut logits = Some(tensor(&device, &[rows, VOCABULARY]));
    group.bench_function("cross_entropy", |bencher| {
        bencher.iter(|| {
            let values = logits.take().expect("given back by the round before");
            logits = device.cross_entropy(values, &targets, &weights).ok().map(|out| out.d_logits);
        });
    });

    let count = 6_300_000;
    let mut state = [(); 4].map(|()| tensor(&device, &[count]));
    floats(&mut group, 4 * count);
    group.bench_function("global_norm", |bencher| bencher.iter(|| device.global_norm(black_box(&state))));

    let [parameter, gradient, first, second] = &mut state;
    device.zero(second).expect("tensor");
    let step = AdamStep { learning_rate: 1e-3, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, step: 10 };
    floats(&mut group, 7 * count);
    group.bench_function("adam", |bencher| {
        bencher.iter(|| {
            device.adam(from_mut(parameter), from_ref(gradient), from_mut(first), from_mut(second), step, None)
        })
    });

    let logits = tensor(&device, &[16, VOCABULARY]);
    floats(&mut group, 16 * VOCABULARY);
    let options = SampleOptions { temperature: 1.0, top_k: Some(40), top_p: None };
    group.bench_function("sample", |bencher| bencher.iter(|| device.sample(&logits, options, &[0.5; 16])));
}

criterion_group!(benches, gemms, attention, passes, once_a_step);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    cuda::report();
}
