//! Numbers for the operands: N(0, 1), for a card's power, and so its clock, hangs on what it computes with.

use half::bf16;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// How many are drawn; a prime, so that no tensor's rows are equal.
const DRAWN: usize = 1_048_573;

/// Draws once and reads from another place for each tensor: a step's tensors have billions of elements.
pub struct Normals {
    values: Vec<f32>,
    next: usize,
}

impl Normals {
    /// The same at every run.
    pub fn new() -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(12);
        let draw = |_| {
            let value: f32 = StandardNormal.sample(&mut random);
            // As bf16 has it, so that no operand is rounded on its way.
            bf16::from_f32(value).to_f32()
        };
        Self { values: (0..DRAWN).map(draw).collect(), next: 0 }
    }

    /// `count` numbers of standard deviation `scale`, a power of two.
    pub fn take(&mut self, count: usize, scale: f32) -> Vec<f32> {
        let start = self.next;
        self.next = (start + 7919 + count) % DRAWN;
        self.values.iter().cycle().skip(start).take(count).map(|value| value * scale).collect()
    }
}
