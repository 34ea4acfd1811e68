use crate::compile::ptx;
use crate::device::{assert_close, noise, under_all_seeds};
use crate::parameters;

#[test]
fn flash_attention() {
    let Some(ptx) = ptx("attention", "compute_80") else { return };
    let (heads, tokens, d) = (2, 70, 32);
    let tensor = |seed: usize| (0..heads * tokens * d).map(|i| 2.0 * noise(i + 100_000 * seed)).collect::<Vec<f32>>();
    let (q, k, v) = (tensor(1), tensor(2), tensor(3));
    let mut mixed = Vec::new();
    let mut logsumexp = Vec::new();

    for head in 0..heads {
        for query in 0..tokens {
            let row = |of: &[f32], token: usize| -> Vec<f64> {
                of[(head * tokens + token) * d..][..d].iter().map(|&x| x.into()).collect()
            };
            let dot = |key: usize| {
                row(&q, query).iter().zip(row(&k, key)).map(|(q, k)| q * k).sum::<f64>() / (d as f64).sqrt()
            };
            let scores: Vec<f64> = (0..=query).map(dot).collect();
            let max_score = scores.iter().copied().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - max_score).exp()).collect();
            let sum: f64 = weights.iter().sum();
            logsumexp.push(max_score + sum.ln());
            let mut out = vec![0.0; d];
            for (key, weight) in weights.iter().enumerate() {
                out.iter_mut().zip(row(&v, key)).for_each(|(out, v)| *out += weight * v / sum);
            }
            mixed.extend(out);
        }
    }

    under_all_seeds(&ptx, |device| {
        let (out, lse) = (device.allocate::<f32>(q.len()), device.allocate::<f32>(heads * tokens));
        let parameters = parameters!(device.upload(&q), device.upload(&k), device.upload(&v), out, lse, tokens as i32);
        device.launch("flash_attention", [(tokens as u32).div_ceil(4), heads as u32, 1], 128, parameters);
        assert_close(&device.download(out, q.len()), &mixed, 1e-5, 1e-5);
        assert_close(&device.download(lse, heads * tokens), &logsumexp, 1e-5, 1e-5);
    });
}
