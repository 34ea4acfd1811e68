//! Reference shapes: calls of ops that between them launch every kernel, and the least that each kernel could move.

mod elements;

use igpt_engine::device::prelude::*;
use igpt_engine::device::{
    Activation, Beta, CacheDims, CudaDevice, Mask, MlpGradients, MlpWeights, Norm, Precision, ResidualNorm,
    SampleOptions, WeightGradient, WeightLayout,
};

type Tensor = <CudaDevice as Tensors>::Tensor;

/// The least that a launch could do.
#[derive(Clone, Copy, Default)]
pub struct Least {
    /// Bytes of the operands that are read, each once.
    pub read: usize,
    /// Bytes of the results, each once.
    pub written: usize,
    /// Operations on tensor cores.
    pub flops: usize,
}

/// The least of a launch with this grid, which may decide into how many partial sums a result goes.
pub type Formula = Box<dyn Fn([usize; 3]) -> Least>;

/// A call of the device, and which kernels are measured in it.
pub struct Case {
    /// In words.
    pub shape: String,
    /// The simulated card that takes these kernels, if it is not the usual one: those for less shared memory.
    pub card: Option<&'static str>,
    /// The call, with operands of its own.
    pub run: Run,
    /// The kernels that are measured, by name.
    pub kernels: Vec<(String, Formula)>,
}

/// A call of ops on a device.
type Run = Box<dyn Fn(&CudaDevice)>;

/// Of attention: the columns of a head, the card, and the kernels' names after that of their width, keys and queries; `sm90` of those for
/// compute capability 9.0.
type AttentionCase = (usize, Option<&'static str>, Option<&'static str>, Option<&'static str>);
const fn usual(head_dim: usize) -> AttentionCase {
    (head_dim, None, Some(""), Some(""))
}
const ATTENTION_F32: [AttentionCase; 5] = [usual(32), usual(64), usual(96), usual(128), usual(192)];
const fn sm90(head_dim: usize) -> AttentionCase {
    (head_dim, None, Some("sm90"), Some("sm90"))
}
/// On a card with as much shared memory as the usual one, and without its kernels.
const fn of_all_cards(head_dim: usize) -> AttentionCase {
    (head_dim, Some("b200"), Some(""), Some(""))
}
const ATTENTION_BF16: [AttentionCase; 14] = [
    usual(16),
    usual(32),
    sm90(64),
    sm90(96),
    sm90(128),
    sm90(192),
    of_all_cards(64),
    of_all_cards(96),
    of_all_cards(128),
    of_all_cards(192),
    (96, Some("rtx4090"), Some("_by_32"), Some("_by_32")),
    (128, Some("a100"), Some("_by_32"), Some("_by_32")),
    (128, Some("rtx4090"), Some("_by_16"), None),
    (192, Some("a100"), Some("_by_16"), None),
];

/// Splits of the reference shape of a weight's gradient.
const SM90_SPLITS: usize = 4;

fn fixed(read: usize, written: usize) -> Formula {
    Box::new(move |_| Least { read, written, flops: 0 })
}

/// Numbers in [-1, 1) of no particular pattern.
fn tensor(device: &CudaDevice, shape: &[usize]) -> Tensor {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
    device.upload(shape, &values).unwrap()
}

/// Keys and values of two heads of 64.
fn caches(device: &CudaDevice, batch: usize, positions: usize) -> [Tensor; 2] {
    let dims = CacheDims { batch, positions, heads: 2, head_dim: 64 };
    [(); 2].map(|()| {
        let mut cache = device.attention_cache(dims).unwrap();
        device.overwrite(&mut cache, &vec![0.5; batch * positions * dims.width()]).unwrap();
        cache
    })
}

/// All of them for a device of this precision, with `times` as many rows, images or elements.
pub fn cases(precision: Precision, times: usize) -> Vec<Case> {
    let p = Names(precision, times);
    let mut cases = p.gemms();
    cases.extend(p.attention());
    cases.extend(p.rows());
    cases.extend(p.tokens());
    cases.extend(p.elements());
    cases
}

/// A precision, and how many times the reference shapes' rows there are.
struct Names(Precision, usize);

impl Names {
    fn name(&self) -> &'static str {
        if self.0 == Precision::F32 { "f32" } else { "bf16" }
    }
    fn bytes(&self) -> usize {
        if self.0 == Precision::F32 { 4 } else { 2 }
    }

    /// A GEMM's kernel of `m × n × k`. `more_read` tensors of the result's size are read besides, `results` are written. The
    /// gradient of a weight is split along k: it writes a partial sum in f32 for each split, which are those of the grid's z, but for
    /// the persistent kernels, whose grid does not say it: they have [`SM90_SPLITS`] at the shape that they are measured at.
    fn gemm(&self, op: &str, tile: &str, [m, n, k]: [usize; 3], more_read: usize, results: usize) -> (String, Formula) {
        let (size, tensor_cores) = (self.bytes(), self.0 == Precision::Bf16);
        let weight = op == "weight";
        let name = match self.0 {
            Precision::Bf16 if tile.starts_with("sm90") => format!("linear_{op}_{tile}"),
            Precision::Bf16 => format!("linear_{op}_bf16_{tile}"),
            Precision::F32 => format!("linear_{op}_f32"),
        };
        let is_persistent = tile.starts_with("sm90");
        let formula = move |[_, _, z]: [usize; 3]| {
            let splits = if is_persistent { SM90_SPLITS } else { z };
            Least {
                read: size * (m * k + k * n + more_read * m * n) + if weight && splits == 1 { 4 * m * n } else { 0 },
                written: if weight { 4 * m * n * splits } else { size * m * n * results },
                flops: if tensor_cores { 2 * m * n * k } else { 0 },
            }
        };
        (name, Box::new(formula))
    }

    fn gemms(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        let linear = |shape: [usize; 3], layout: WeightLayout| {
            move |device: &CudaDevice| {
                let [m, n, k] = shape;
                let weight_shape = if layout == WeightLayout::InOut { [k, n] } else { [n, k] };
                device.linear(&tensor(device, &[m, k]), &tensor(device, &weight_shape), layout, None).unwrap();
            }
        };
        // f32 kernels have one tile, and are measured at the smallest of these shapes.
        for (tile, card, shape) in [
            ("64", None, [256, 128, 128]),
            ("odd", None, [131, 67, 131]),
            ("128", Some("a100"), [1152, 1024, 128]),
            ("128_short", Some("rtx4090"), [1152, 1024, 128]),
            ("sm90_ping_pong", None, [1152, 1024, 128]),
            ("sm90_cooperative", None, [1152, 1024, 1536]),
        ] {
            if self.0 == Precision::F32 && tile != "64" {
                continue;
            }
            let [m, n, k] = [shape[0] * self.1, shape[1], shape[2]];
            let shape = [m, n, k];
            let text = format!("{m} x {n} x {k}");
            for (op, layout) in [("forward", WeightLayout::InOut), ("transposed", WeightLayout::OutIn)] {
                let kernels = vec![self.gemm(op, tile, shape, 0, 1)];
                cases.push(Case { card, shape: text.clone(), run: Box::new(linear(shape, layout)), kernels });
            }

            // rows m, hidden n, width k.
            let run = move |device: &CudaDevice| {
                let (x, up, down) = (tensor(device, &[m, k]), tensor(device, &[k, n]), tensor(device, &[n, k]));
                let weights = || MlpWeights { up: &up, up_bias: None, down: &down, down_bias: None };
                let hidden = device.mlp(&x, weights(), Activation::QuickGelu).unwrap().hidden;
                let (mut d_up, mut d_down) = (tensor(device, &[k, n]), tensor(device, &[n, k]));
                let slots = MlpGradients { up: &mut d_up, up_bias: None, down: &mut d_down, down_bias: None };
                device.mlp_backward(&x, &x, &hidden, weights(), Activation::QuickGelu, slots, Beta::One).unwrap();
            };
            let kernels =
                vec![self.gemm("activate", tile, shape, 0, 2), self.gemm("activate_backward", tile, shape, 1, 2)];
            cases.push(Case { card, shape: text, run: Box::new(run), kernels });
        }

        for (tile, card, [m, n, k]) in [
            ("64", None, [128, 64, 1024]),
            ("odd", None, [67, 35, 131]),
            ("128", Some("a100"), [512, 512, 1280]),
            ("128_short", Some("rtx4090"), [512, 512, 1280]),
            ("sm90_cooperative", None, [512, 512, 1280]),
        ] {
            if self.0 == Precision::F32 && tile != "64" {
                continue;
            }
            let k = k * self.1;
            let run = move |device: &CudaDevice| {
                let (x, dy, weight) = (tensor(device, &[k, m]), tensor(device, &[k, n]), tensor(device, &[m, n]));
                let (mut d_weight, mut d_bias) = (tensor(device, &[m, n]), tensor(device, &[n]));
                let bias = (tile == "64").then_some(&mut d_bias);
                device.linear_backward(&dy, &x, &weight, WeightLayout::InOut, &mut d_weight, bias, Beta::One).unwrap();
            };
            let mut kernels = vec![self.gemm("weight", tile, [m, n, k], 0, 1)];
            if tile == "64" {
                let size = self.bytes();
                let partial_rows =
                    move |[_, blocks, _]: [usize; 3]| Least { read: size * k * n, written: 4 * blocks * n, flops: 0 };
                kernels.push((format!("column_sums_{}", self.name()), Box::new(partial_rows)));
            }
            cases.push(Case { card, shape: format!("{m} x {n} x {k}"), run: Box::new(run), kernels });
        }
        cases.extend(self.few_rows());
        cases.extend(self.weights_of_a_block());
        cases.extend(self.residual());
        cases
    }

    /// Four gradients of weights in one launch.
    fn weights_of_a_block(&self) -> Vec<Case> {
        if self.0 == Precision::F32 {
            return Vec::new();
        }
        // Of a last wave whose tiles are cut, on an H100.
        let (width, rows) = (768, 1280 * self.1);
        let variants = [
            ("linear_weights_bf16_128", Some("a100")),
            ("linear_weights_bf16_128_short", Some("rtx4090")),
            ("linear_weights_sm90", None),
        ];
        let case = |(kernel, card): (&str, _)| {
            let run = move |device: &CudaDevice| {
                let (x, dy) = (tensor(device, &[rows, width]), tensor(device, &[rows, width]));
                let mut weights = [(); 4].map(|()| tensor(device, &[width, width]));
                let (layout, beta) = (WeightLayout::InOut, Beta::Zero);
                let gradient = |d_weight| WeightGradient { x: &x, dy: &dy, layout, d_weight, beta };
                device.weight_gradients(weights.iter_mut().map(gradient).collect()).unwrap();
            };
            let formula = move |_| Least {
                read: 2 * 2 * rows * width,
                written: 4 * 4 * width * width,
                flops: 4 * 2 * width * width * rows,
            };
            let kernels: Vec<(String, Formula)> = vec![(kernel.to_owned(), Box::new(formula))];
            Case { card, shape: format!("4 of {width} x {width} x {rows}"), run: Box::new(run), kernels }
        };
        variants.map(case).into()
    }

    /// A layer and the norm of the residual sum behind it, in one launch on compute capability 9.0. What it must not write and read is delta,
    /// which one block leaves to another in memory.
    fn residual(&self) -> Option<Case> {
        let [m, n, k] = [1792 * self.1, 512, 512];
        let run = move |device: &CudaDevice| {
            let (input, weight) = (tensor(device, &[m, k]), tensor(device, &[k, n]));
            let (x, gain) = (tensor(device, &[m, n]), tensor(device, &[n]));
            let to = ResidualNorm { norm: Norm::Rms, x: &x, gain: &gain, bias: None };
            device.linear_residual_layernorm(&input, &weight, None, to).unwrap();
        };
        let formula = move |_| Least {
            read: 2 * (m * k + k * n + m * n) + 4 * n,
            written: 2 * 2 * m * n + 8 * m,
            flops: 2 * m * n * k,
        };
        let kernels: Vec<(String, Formula)> = vec![("linear_layernorm_sm90".to_owned(), Box::new(formula))];
        let case = Case { card: None, shape: format!("{m} x {n} x {k}"), run: Box::new(run), kernels };
        (self.0 == Precision::Bf16).then_some(case)
    }

    /// A pixel of each of 16 images.
    fn few_rows(&self) -> Vec<Case> {
        if self.0 == Precision::F32 {
            return Vec::new();
        }
        let [m, n, k] = [16, 512, 512];
        let linear = |layout: WeightLayout| {
            move |device: &CudaDevice| {
                device.linear(&tensor(device, &[m, 1, k]), &tensor(device, &[k, n]), layout, None).unwrap();
            }
        };
        let mlp = move |device: &CudaDevice| {
            let (x, up, down) = (tensor(device, &[m, 1, k]), tensor(device, &[k, n]), tensor(device, &[n, k]));
            let weights = MlpWeights { up: &up, up_bias: None, down: &down, down_bias: None };
            device.mlp(&x, weights, Activation::QuickGelu).unwrap();
        };
        let runs: [(&str, usize, Run); 3] = [
            ("forward", 1, Box::new(linear(WeightLayout::InOut))),
            ("transposed", 1, Box::new(linear(WeightLayout::OutIn))),
            ("activate", 2, Box::new(mlp)),
        ];
        let case = |(op, results, run)| {
            let kernels = vec![self.gemm(op, "few", [m, n, k], 0, results)];
            Case { card: None, shape: format!("{m} x {n} x {k}"), run, kernels }
        };
        runs.into_iter().map(case).collect()
    }

    fn attention(&self) -> Vec<Case> {
        let (size, tensor_cores) = (self.bytes(), self.0 == Precision::Bf16);
        let (images, tokens, heads) = (self.1, 256, 2);
        let name = self.name();
        let mut cases = Vec::new();
        for &(head_dim, card, keys, queries) in if tensor_cores { &ATTENTION_BF16[..] } else { &ATTENTION_F32 } {
            let width = heads * head_dim;
            let run = move |device: &CudaDevice| {
                let (qkv, dy) =
                    (tensor(device, &[images, tokens, 3 * width]), tensor(device, &[images, tokens, width]));
                let out = device.attention(&qkv, heads, Mask::Causal).unwrap();
                device.attention_backward(&dy, &qkv, &out.output, &out.logsumexp, heads, Mask::Causal).unwrap();
            };

            let (one, numbers, pairs) =
                (size * images * tokens * width, 4 * images * heads * tokens, images * tokens * (tokens + 1) / 2);
            let gemms = move |count: usize| if tensor_cores { count * 2 * pairs * width } else { 0 };
            let least =
                |read, written, count| -> Formula { Box::new(move |_| Least { read, written, flops: gemms(count) }) };
            let backward = |op: &str, variant: &str| match variant {
                "sm90" => format!("attention_backward_{op}_sm90_{head_dim}"),
                _ => format!("attention_backward_{op}_{name}_{head_dim}{variant}"),
            };
            let mut kernels = Vec::new();
            let forward = match keys {
                Some("") => Some(format!("attention_{name}_{head_dim}")),
                Some("sm90") => Some(format!("attention_sm90_{head_dim}")),
                _ => None,
            };
            kernels.extend(forward.map(|forward| (forward, least(3 * one, one + numbers, 2))));
            kernels.extend(keys.map(|keys| (backward("keys", keys), least(4 * one + 2 * numbers, 2 * one, 4))));
            let of_queries = least(5 * one + numbers, one + numbers, 3);
            kernels.extend(queries.map(|queries| (backward("queries", queries), of_queries)));
            cases.push(Case {
                card,
                shape: format!("{images} images, {tokens} tokens, {heads} heads of {head_dim}, causal"),
                run: Box::new(run),
                kernels,
            });
        }

        let (batch, position, width) = (2 * self.1, 255, 128);
        let run = move |device: &CudaDevice| {
            let (qkv, [mut keys, mut values]) =
                (tensor(device, &[batch, 1, 3 * width]), caches(device, batch, position + 1));
            let at = device.upload_tokens([1, 1], &[position as u16]).unwrap();
            device.attention_decode(&qkv, &mut keys, &mut values, &at, 2).unwrap();
        };
        let read = batch * (3 * size * width + 2 * size * position * width);
        // Of two chunks and two heads.
        let partials = 4 * batch * 2 * 2 * (width / 2 + 2);
        cases.push(Case {
            card: None,
            shape: format!("{batch} images, position {position}, 2 heads of 64"),
            run: Box::new(run),
            kernels: vec![
                (format!("attention_decode_{name}"), fixed(read, batch * width * 2 * size + partials)),
                (format!("attention_decode_combine_{name}"), fixed(partials, batch * width * size)),
            ],
        });

        let (batch, tokens) = (2 * self.1, 64);
        let run = move |device: &CudaDevice| {
            let qkv = tensor(device, &[batch, tokens, 3 * width]);
            let [mut keys, mut values] = caches(device, batch, tokens + 3);
            device.attention_prefill(&qkv, &mut keys, &mut values, 0, 2).unwrap();
        };
        let both = 2 * size * batch * tokens * width;
        cases.push(Case {
            card: None,
            shape: format!("{batch} images, {tokens} tokens, 2 heads of 64"),
            run: Box::new(run),
            kernels: vec![(format!("attention_prefill_{name}"), fixed(both, both))],
        });
        cases
    }

    fn rows(&self) -> Vec<Case> {
        let (size, name, rows) = (self.bytes(), self.name(), 32 * self.1);
        let mut cases = Vec::new();
        for (variant, width) in [("1", 512), ("2", 1024), ("4", 2048), ("8", 4096), ("1_odd", 509), ("8_odd", 4093)] {
            let run = move |device: &CudaDevice| {
                let [x, delta, dy, residual_grad] = [(); 4].map(|()| tensor(device, &[rows, width]));
                let [gain, mut d_gain] = [(); 2].map(|()| tensor(device, &[width]));
                let out = device.residual_layernorm(Norm::Rms, &x, &delta, &gain, None).unwrap();
                let (sum, stats) = (&out.sum, &out.stats);
                device
                    .layernorm_backward(
                        Norm::Rms,
                        &dy,
                        sum,
                        &gain,
                        stats,
                        Some(residual_grad),
                        &mut d_gain,
                        None,
                        Beta::One,
                    )
                    .unwrap();
            };
            let (all, stats) = (size * rows * width, 8 * rows);
            let backward = move |[blocks, _, _]: [usize; 3]| Least {
                read: 3 * all + 4 * width + stats,
                written: all + 4 * blocks * width,
                flops: 0,
            };
            cases.push(Case {
                card: None,
                shape: format!("{rows} x {width}, of a residual sum"),
                run: Box::new(run),
                kernels: vec![
                    (format!("layernorm_{name}_{variant}"), fixed(2 * all + 4 * width, 2 * all + stats)),
                    (format!("layernorm_backward_{name}_{variant}"), Box::new(backward)),
                ],
            });
        }

        for (variant, vocabulary) in [("512", 512), ("any", 1000)] {
            let run = move |device: &CudaDevice| {
                let targets: Vec<u16> = (0..rows).map(|row| (row * 7 % 512) as u16).collect();
                let targets = device.upload_tokens([1, rows], &targets).unwrap();
                let (logits, weights) = (tensor(device, &[rows, vocabulary]), tensor(device, &[rows]));
                device.cross_entropy(logits, &targets, &weights).unwrap();
            };
            let all = size * rows * vocabulary;
            let kernel = format!("cross_entropy_{name}_{variant}");
            let mut kernels = vec![(kernel, fixed(all + (2 + 4) * rows, all + 4 * rows))];
            if variant == "512" && self.0 == Precision::F32 {
                kernels.push(("weighted_sum".to_owned(), fixed(8 * rows, 4)));
            }
            cases.push(Case { card: None, shape: format!("{rows} x {vocabulary}"), run: Box::new(run), kernels });
        }

        for (kernel, top_k, top_p, what) in
            [("sample", Some(40), None, "the 40 best"), ("sample_top_p", None, Some(0.9), "nine tenths")]
        {
            let run = move |device: &CudaDevice| {
                let options = SampleOptions { temperature: 1.0, top_k, top_p };
                // Of an op, so that it is in the device's precision.
                let (x, weight) = (tensor(device, &[rows, 8]), tensor(device, &[8, 512]));
                let logits = device.linear(&x, &weight, WeightLayout::InOut, None).unwrap();
                device.sample(&logits, options, &vec![0.5; rows]).unwrap();
            };
            cases.push(Case {
                card: None,
                shape: format!("{rows} x 512, {what}"),
                run: Box::new(run),
                kernels: vec![(format!("{kernel}_{name}"), fixed(rows * (512 * size + 4), 2 * rows))],
            });
        }
        cases
    }

    fn tokens(&self) -> Vec<Case> {
        let (size, name) = (self.bytes(), self.name());
        let (batch, tokens, width, rows) = (2 * self.1, 64, 256, 513);
        let places = batch * tokens;
        let distinct = places.min(512);
        let run = move |device: &CudaDevice| {
            let [table, mut d_table] = [(); 2].map(|()| tensor(device, &[rows, width]));
            let [positions, mut d_positions] = [(); 2].map(|()| tensor(device, &[tokens, width]));
            // As different as there are colours.
            let ids: Vec<u16> = (0..places).map(|place| (place * 7 % 512) as u16).collect();
            let ids = device.upload_tokens([batch, tokens], &ids).unwrap();
            let y = device.embedding(&table, &positions, &ids, None).unwrap();
            device.embedding_backward(&y, &ids, &mut d_table, &mut d_positions, Beta::One).unwrap();
            let pooled = device.mean_pool(&y).unwrap();
            device.mean_pool_backward(&pooled, tokens).unwrap();
        };

        let (y, position) = (size * places * width, 4 * tokens * width);
        let kernels = vec![
            (format!("embedding_{name}"), fixed(2 * places + 4 * distinct * width + position, y)),
            (format!("embedding_table_{name}"), fixed(2 * places + y + 4 * distinct * width, 4 * distinct * width)),
            (format!("embedding_positions_{name}"), fixed(y + position, position)),
            (format!("mean_pool_{name}"), fixed(y, size * batch * width)),
            (format!("mean_pool_backward_{name}"), fixed(size * batch * width, y)),
        ];
        let shape = format!("{batch} images, {tokens} tokens, width {width}, {rows} colours");
        let mut cases = vec![Case { card: None, shape, run: Box::new(run), kernels }];

        if self.0 == Precision::F32 {
            let (batch, tokens, width, rows) = (3, 2048, 64, 16);
            let run = move |device: &CudaDevice| {
                let mut d_table = tensor(device, &[rows, width]);
                let (dy, mut d_positions) = (tensor(device, &[batch, tokens, width]), tensor(device, &[tokens, width]));
                let ids: Vec<u16> = (0..batch * tokens).map(|place| (place % rows) as u16).collect();
                let ids = device.upload_tokens([batch, tokens], &ids).unwrap();
                device.embedding_backward(&dy, &ids, &mut d_table, &mut d_positions, Beta::One).unwrap();
            };
            let table = 4 * rows * width;
            cases.push(Case {
                card: None,
                shape: format!("{batch} images, {tokens} tokens, width {width}, {rows} colours"),
                run: Box::new(run),
                kernels: vec![("embedding_chunks".to_owned(), fixed(2 * (table + 4 * rows) + table, table))],
            });
        }
        cases
    }
}
