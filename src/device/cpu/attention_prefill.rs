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
        let (dims, cache) = check(qkv.dimensions(), keys.dimensions(), values.dimensions(), first, heads)?;
        let AttentionDims { batch, tokens, head_dim, .. } = dims;

        // The heads of these images in both caches, [batch · heads, positions, head_dim].
        let (rows, width) = (qkv.values(), dims.width());
        let head = cache.positions * head_dim;
        let [keys, values] = [keys, values].map(|cache| {
            let of_images = &mut cache.values[first * heads * head..][..batch * heads * head];
            blocked(of_images, head)
        });
        self.for_each_block(batch * heads, batch * tokens * width, [keys, values], |task, caches| {
            let start = task / heads * tokens * 3 * width + task % heads * head_dim;
            for (part, cache) in (1..).zip(caches) {
                for (token, to) in cache.chunks_exact_mut(head_dim).take(tokens).enumerate() {
                    to.copy_from_slice(&rows[start + (token * 3 + part) * width..][..head_dim]);
                }
            }
        });
        Ok(self.attention(qkv, heads, Mask::Causal)?.output)
    }
}
