//! Causal attention over prompts, which fills the cache.

use super::CpuDevice;
use super::parallel::blocked;
use super::tensor::CpuTensor;
use crate::device::Result;
use crate::device::ops::attention::{AttentionDims, AttentionOps, Mask};
use crate::device::ops::attention_prefill::{AttentionPrefillOps, check};

impl AttentionPrefillOps for CpuDevice {
    fn attention_prefill(
        &self,
        qkv: &CpuTensor,
        keys: &mut CpuTensor,
        values: &mut CpuTensor,
        first: usize,
        heads: usize,
    ) -> Result<CpuTensor> {
        let [of_keys, of_values] = [&*keys, &*values].map(|cache| self.unpacked(cache, qkv, heads));
        let (dims, cache) = check(qkv.dimensions(), &of_keys, &of_values, first, heads)?;
        let AttentionDims { batch, tokens, head_dim, .. } = dims;

        // The heads of these images in both caches, [batch · heads, positions, head_dim].
        let (rows, width, stored) = (qkv.values(), dims.width(), self.stored(head_dim));
        let head = cache.positions * stored;
        let [keys, values] = [keys, values].map(|cache| {
            let of_images = &mut cache.values[first * heads * head..][..batch * heads * head];
            blocked(of_images, head)
        });
        self.for_each_block(batch * heads, batch * tokens * width, [keys, values], |task, caches| {
            let start = task / heads * tokens * 3 * width + task % heads * head_dim;
            for (part, cache) in (1..).zip(caches) {
                for (token, to) in cache.chunks_exact_mut(stored).take(tokens).enumerate() {
                    self.store(&rows[start + (token * 3 + part) * width..][..head_dim], to);
                }
            }
        });
        Ok(self.attention(qkv, heads, Mask::Causal)?.output)
    }
}
