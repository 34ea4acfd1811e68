//! What is generated, and how.

use crate::device::SampleOptions;

/// What to generate, and how.
#[derive(Clone, Copy, Debug)]
pub struct Generation {
    /// Tokens of an image.
    pub length: usize,
    /// How a token is chosen.
    pub options: SampleOptions,
    /// Seed of the draws.
    pub seed: u64,
    /// Number of the first image: image `first + i` draws the same numbers in whatever batch it stands.
    pub first: u64,
    /// The class that the images are to be of, if the model has a class head.
    pub guidance: Option<Guidance>,
}

/// Images of a class, from a model with a class head: drawn in proportion to `p(x) · p(class | x)^strength`, as far as so many
/// particles can.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guidance {
    /// The class.
    pub class: AskedClass,
    /// The exponent, not negative. At 0 the class is of no account, and images are those that are drawn without guidance.
    pub strength: f64,
    /// Sequences that compete for each image. With one, images are those that are drawn without guidance.
    pub particles: usize,
}

impl Guidance {
    /// Particles of an image where none are asked for.
    pub const PARTICLES: usize = 16;

    /// Whether anything comes of it.
    pub(super) fn acts(&self) -> bool {
        self.strength != 0.0 && self.particles > 1
    }
}

/// The class of each image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedClass {
    /// The same for all.
    One(u16),
    /// One after the other, of so many: the class of an image is its number modulo this.
    Each(u16),
}

impl AskedClass {
    /// The class of an image by its number.
    pub fn of(self, image: u64) -> u16 {
        match self {
            Self::One(class) => class,
            Self::Each(classes) => (image % u64::from(classes.max(1))) as u16,
        }
    }
}
