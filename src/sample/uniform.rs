//! Random numbers in `[0, 1)`.

use rand::Rng;

/// The next number of a stream, a multiple of 2^-24.
pub(super) fn uniform(random: &mut impl Rng) -> f32 {
    (random.next_u32() >> 8) as f32 / (1 << 24) as f32
}
