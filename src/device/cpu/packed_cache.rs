//! Keys and values in bf16: half of what a step of drawing reads beside the weights.
//!
//! A head's columns are stored in half as many words of 32 bits: word `i` has column `i` of the first half in its low bits, and column `i` of
//! the second half in its high ones, so that both halves stay vectors. Of an odd number of columns the first half has one more, and the last
//! word's high bits are zero. Sums are in f32.

use pulp::{Simd, WithSimd};

use super::prefetch::ask_for;

/// Words of a head of so many columns.
pub(super) fn words(head_dim: usize) -> usize {
    head_dim.div_ceil(2)
}

/// Rounds a head's columns to bf16, into its words.
pub(super) fn pack(columns: &[f32], words: &mut [u32]) {
    let (low, high) = columns.split_at(words.len());
    for ((word, low), high) in words.iter_mut().zip(low).zip(high) {
        *word = to_bf16(*low) | to_bf16(*high) << 16;
    }
    for (word, low) in words.iter_mut().zip(low).skip(high.len()) {
        *word = to_bf16(*low);
    }
}

/// The bits of the nearest number in bf16, of two the even one; of a NaN those of a quiet one. Without branches, so that the compiler makes
/// vectors of it: with `half`'s, storing keys and values took 4 % of a step of drawing.
#[inline(always)]
pub(super) fn to_bf16(value: f32) -> u32 {
    let bits = value.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    (if value.is_nan() { bits | 0x40_0000 } else { nearest }) >> 16
}

/// The two columns of a word.
fn unpack(word: u32) -> [f32; 2] {
    [f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000)]
}

/// [`unpack`] of a vector of words.
#[inline(always)]
pub(super) fn unpack_vector<S: Simd>(simd: S, words: S::u32s) -> [S::f32s; 2] {
    let low = simd.wrapping_dyn_shl_u32s(words, simd.splat_u32s(16));
    let high = simd.and_u32s(words, simd.splat_u32s(0xffff_0000));
    [simd.transmute_f32s_u32s(low), simd.transmute_f32s_u32s(high)]
}

/// `scores[t] = query · keys[t]`; keys are `[length, words]`, and so are the values, which are asked for meanwhile.
pub(super) struct Scores<'a> {
    pub query: &'a [f32],
    pub keys: &'a [u32],
    pub values: &'a [u32],
    pub scores: &'a mut [f32],
}

impl WithSimd for Scores<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { query, keys, values, scores } = self;
        let words = words(query.len());
        let (low, high) = query.split_at(words);
        let ((low_vectors, _), (high_vectors, high_rest)) = (S::as_simd_f32s(low), S::as_simd_f32s(high));
        let whole = high.len() - high_rest.len();

        let cached = keys.chunks_exact(words).zip(values.chunks_exact(words));
        for (score, (key, value)) in scores.iter_mut().zip(cached) {
            ask_for(value);
            // Two sums, so that one need not wait for the other.
            let mut sums = [simd.splat_f32s(0.0); 2];
            for ((words, low), high) in S::as_simd_u32s(key).0.iter().zip(low_vectors).zip(high_vectors) {
                let [first, second] = unpack_vector(simd, *words);
                sums[0] = simd.mul_add_e_f32s(*low, first, sums[0]);
                sums[1] = simd.mul_add_e_f32s(*high, second, sums[1]);
            }

            // Words that fill no vector; of an odd number of columns the last has one alone.
            let mut rest = 0.0;
            for (index, (word, low)) in key[whole..].iter().zip(&low[whole..]).enumerate() {
                let [first, second] = unpack(*word);
                rest += low * first + high_rest.get(index).map_or(0.0, |high| high * second);
            }
            *score = simd.reduce_sum_f32s(simd.add_f32s(sums[0], sums[1])) + rest;
        }
    }
}

/// `output = Σ_t weights[t] / sum · values[t]`; values are `[length, words]`.
pub(super) struct Mix<'a> {
    pub weights: &'a [f32],
    pub sum: f32,
    pub values: &'a [u32],
    pub output: &'a mut [f32],
}

impl WithSimd for Mix<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let words = words(self.output.len());

        // As many columns as registers hold, and then fewer.
        let mut first = 0;
        while first < words {
            first += match (words - first) / S::U32_LANES {
                0 => self.word(first),
                1 => self.vectors::<S, 1>(simd, first),
                2 => self.vectors::<S, 2>(simd, first),
                3 => self.vectors::<S, 3>(simd, first),
                _ => self.vectors::<S, 4>(simd, first),
            };
        }
    }
}

impl Mix<'_> {
    /// `N` vectors of words from `first` on; how many words they are.
    #[inline(always)]
    fn vectors<S: Simd, const N: usize>(&mut self, simd: S, first: usize) -> usize {
        let (words, count) = (words(self.output.len()), N * S::U32_LANES);
        let mut sums = [[simd.splat_f32s(0.0); N]; 2];
        for (weight, value) in self.weights.iter().zip(self.values.chunks_exact(words)) {
            let weight = simd.splat_f32s(*weight);
            for (index, vector) in S::as_simd_u32s(&value[first..][..count]).0.iter().enumerate().take(N) {
                let [low, high] = unpack_vector(simd, *vector);
                sums[0][index] = simd.mul_add_e_f32s(weight, low, sums[0][index]);
                sums[1][index] = simd.mul_add_e_f32s(weight, high, sums[1][index]);
            }
        }

        let sum = simd.splat_f32s(self.sum);
        let (low, high) = self.output.split_at_mut(words);
        for (half, sums) in [low, high].into_iter().zip(sums) {
            let mixed = sums.map(|value| simd.div_f32s(value, sum));
            let mixed: &[f32] = bytemuck::cast_slice(&mixed);
            half.iter_mut().skip(first).zip(mixed).for_each(|(output, value)| *output = *value);
        }
        count
    }

    /// One word.
    fn word(&mut self, word: usize) -> usize {
        let words = words(self.output.len());
        let mut sums = [0.0; 2];
        for (weight, value) in self.weights.iter().zip(self.values.iter().skip(word).step_by(words)) {
            sums.iter_mut().zip(unpack(*value)).for_each(|(sum, value)| *sum += weight * value);
        }
        let (low, high) = self.output.split_at_mut(words);
        low[word] = sums[0] / self.sum;
        if let Some(high) = high.get_mut(word) {
            *high = sums[1] / self.sum;
        }
        1
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    #[test]
    fn rounding_is_halfs() {
        let ends = [0.0, 1.0, f32::MIN_POSITIVE, f32::MAX, f32::INFINITY, f32::NAN].map(f32::to_bits);
        // Ties and their neighbours, of every exponent; quiet and signalling NaNs are among them.
        let bits = (0..=u16::MAX)
            .flat_map(|high| [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff].map(|low| u32::from(high) << 16 | low));
        for bits in bits.chain(ends) {
            let value = f32::from_bits(bits);
            assert_eq!(to_bf16(value), u32::from(bf16::from_f32(value).to_bits()), "{bits:#x}");
        }
    }

    #[test]
    fn columns_are_rounded_once_and_found_again() {
        for columns in [1, 2, 5, 8] {
            let values: Vec<f32> = (0..columns).map(|column| 1.0 + column as f32 / 300.0).collect();
            let mut packed = vec![u32::MAX; words(columns)];
            pack(&values, &mut packed);
            let [low, high] = [0, 1].map(|half| packed.iter().map(move |word| unpack(*word)[half]).collect::<Vec<_>>());
            let rounded: Vec<f32> = values.iter().map(|value| bf16::from_f32(*value).to_f32()).collect();
            let found = [low, high].concat();
            assert_eq!(found[..columns], rounded[..]);
            assert!(found[columns..].iter().all(|padding| *padding == 0.0));
        }
    }
}
