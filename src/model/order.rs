//! The order in which an autoregressive model reads pixels: the paper's permutation π (section 2.1, equation 1).
//!
//! Everywhere outside the model an image is its pixels in raster order. A model arranges them in its own order before
//! it reads them and puts what it draws back, so position `i` of a sequence (and of the position embedding) is pixel
//! `π(i)`.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An order of the pixels of a square image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Row by row, left to right, top to bottom: the paper's models.
    #[default]
    Raster,
    /// Column by column, top to bottom, left to right.
    Columns,
    /// Clockwise around the border from the upper left corner, then around what is left, to the centre.
    Spiral,
    /// Along a Hilbert curve from the upper left corner to the lower left one. Where the side is not a power of two,
    /// the curve of the next one, without what lies outside: it jumps where it leaves the image, and is as local
    /// elsewhere.
    Hilbert,
    /// Any other.
    Fixed(Permutation),
}

/// Which pixel stands at each position of a sequence: every pixel once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permutation(Arc<[u16]>);

impl Permutation {
    /// The permutation that puts pixel `pixels[i]` (counted in raster order) at position `i`.
    ///
    /// # Errors
    /// What is wrong, in words, if a pixel is missing, doubled or past the end, or there are none or more than 65,536.
    pub fn new(pixels: impl IntoIterator<Item = i64>) -> Result<Self, String> {
        let pixels: Vec<i64> = pixels.into_iter().collect();
        let count = pixels.len();
        if count == 0 || count > 1 << 16 {
            return Err(format!("an order has 1 to 65536 pixels, not {count}"));
        }

        // Where each pixel was seen.
        let mut seen = vec![None; count];
        for (position, &pixel) in pixels.iter().enumerate() {
            let slot = usize::try_from(pixel).ok().and_then(|pixel| seen.get_mut(pixel));
            let Some(slot) = slot else {
                let last = count - 1;
                return Err(format!(
                    "position {position} holds pixel {pixel}; {count} positions hold the pixels 0 to {last}"
                ));
            };
            if let Some(first) = slot.replace(position) {
                return Err(format!(
                    "pixel {pixel} stands at the positions {first} and {position}; each pixel has one position"
                ));
            }
        }

        Ok(Self(pixels.into_iter().map(|pixel| pixel as u16).collect()))
    }

    /// The pixel at each position.
    pub fn pixels(&self) -> &[u16] {
        &self.0
    }

    /// Pixels of an image.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: an image has pixels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// From raster order into this one: `images` is `[B · n]`, row after row.
    pub fn arrange<T: Copy>(&self, images: &[T]) -> Vec<T> {
        images
            .chunks_exact(self.len())
            .flat_map(|image| self.0.iter().map(|pixel| image[usize::from(*pixel)]))
            .collect()
    }

    /// Back to raster order: the inverse of [`Permutation::arrange`].
    pub fn restore<T: Copy>(&self, sequences: &[T]) -> Vec<T> {
        let mut images = sequences.to_vec();
        for (image, sequence) in images.chunks_exact_mut(self.len()).zip(sequences.chunks_exact(self.len())) {
            for (pixel, value) in self.0.iter().zip(sequence) {
                image[usize::from(*pixel)] = *value;
            }
        }
        images
    }
}

impl Order {
    /// What a configuration calls it; a fixed one is called `file`.
    pub fn name(&self) -> &'static str {
        match self {
            Order::Raster => "raster",
            Order::Columns => "columns",
            Order::Spiral => "spiral",
            Order::Hilbert => "hilbert",
            Order::Fixed(_) => "file",
        }
    }

    /// The order of this name; `None` for `file`, which says nothing of the pixels, and for anything else.
    pub fn named(name: &str) -> Option<Self> {
        [Order::Raster, Order::Columns, Order::Spiral, Order::Hilbert].into_iter().find(|order| order.name() == name)
    }

    /// The pixel at each position of a sequence of `length` pixels; nothing for raster order, which rearranges none.
    ///
    /// # Errors
    /// What does not fit, in words: an image that is not square, or of another size than a fixed order.
    pub fn permutation(&self, length: usize) -> Result<Option<Permutation>, String> {
        if let Order::Fixed(fixed) = self {
            let pixels = fixed.len();
            return if pixels == length {
                Ok(Some(fixed.clone()))
            } else {
                Err(format!("the order is one of {pixels} pixels and the images have {length}"))
            };
        }
        if *self == Order::Raster {
            return Ok(None);
        }

        // The named orders are of square images.
        let side = length.isqrt();
        if side * side != length || side == 0 || side > 256 {
            return Err(format!("the order {} is for square images, and {length} pixels do not make one", self.name()));
        }

        let points: Vec<(usize, usize)> = match self {
            Order::Columns => (0..length).map(|position| (position % side, position / side)).collect(),
            Order::Spiral => spiral(side),
            _ => hilbert(side),
        };
        Permutation::new(points.into_iter().map(|(row, column)| (row * side + column) as i64)).map(Some)
    }

    /// How many pixels, from the first of the order on, a completion is shown: the upper half, the left half, the whole
    /// rings that come closest to half the image, or simply the first half.
    pub fn prompt(&self, side: usize) -> usize {
        let length = side * side;
        match self {
            Order::Raster | Order::Columns => side / 2 * side,
            Order::Spiral if side > 2 => (1..side.div_ceil(2))
                .map(|rings| length - (side - 2 * rings).pow(2))
                .min_by_key(|shown| shown.abs_diff(length / 2))
                .unwrap_or(0),
            Order::Spiral | Order::Hilbert | Order::Fixed(_) => length / 2,
        }
    }

    /// [`Order::prompt`] in words.
    pub fn describe_prompt(&self) -> &'static str {
        match self {
            Order::Raster => "the upper half",
            Order::Columns => "the left half",
            Order::Spiral => "the outer rings",
            Order::Hilbert => "the first half of the Hilbert curve",
            Order::Fixed(_) => "the first half in the model's own order",
        }
    }
}

/// `(row, column)` along a clockwise spiral from the upper left corner.
fn spiral(side: usize) -> Vec<(usize, usize)> {
    let mut points = Vec::with_capacity(side * side);
    for low in 0..side.div_ceil(2) {
        // The ring from `low` to `high`: right, down, left, up.
        let high = side - 1 - low;
        if low == high {
            points.push((low, low));
            break;
        }
        points.extend((low..high).map(|column| (low, column)));
        points.extend((low..high).map(|row| (row, high)));
        points.extend((low + 1..=high).rev().map(|column| (high, column)));
        points.extend((low + 1..=high).rev().map(|row| (row, low)));
    }
    points
}

/// `(row, column)` along the Hilbert curve of the next power of two, without the points outside.
fn hilbert(side: usize) -> Vec<(usize, usize)> {
    let whole = side.next_power_of_two();
    let inside = |&(row, column): &(usize, usize)| row < side && column < side;
    (0..whole * whole).map(|index| hilbert_point(whole, index)).filter(inside).collect()
}

/// Point number `index` of the Hilbert curve over a square of `whole` (a power of two), from the smallest square that
/// holds it outwards: each pair of bits of `index` is a quadrant, and in the left two the curve lies turned.
fn hilbert_point(whole: usize, mut index: usize) -> (usize, usize) {
    let (mut row, mut column) = (0, 0);
    let mut half = 1;
    while half < whole {
        let lower = index / 2 % 2;
        let right = (index % 2) ^ lower;

        // The left quadrants hold the curve turned.
        if right == 0 {
            if lower == 1 {
                (row, column) = (half - 1 - row, half - 1 - column);
            }
            (row, column) = (column, row);
        }

        row += half * lower;
        column += half * right;
        index /= 4;
        half *= 2;
    }
    (row, column)
}

impl Serialize for Order {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Order {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Order::named(&name).ok_or_else(|| {
            de::Error::custom(format!("unknown order {name:?}; one of raster, columns, spiral and hilbert"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named() -> [Order; 4] {
        [Order::Raster, Order::Columns, Order::Spiral, Order::Hilbert]
    }

    fn points(order: &Order, side: usize) -> Vec<(usize, usize)> {
        let pixels = order.permutation(side * side).unwrap();
        let pixels = pixels.map_or((0..side * side).collect(), |order| {
            order.pixels().iter().map(|pixel| usize::from(*pixel)).collect::<Vec<_>>()
        });
        pixels.into_iter().map(|pixel| (pixel / side, pixel % side)).collect()
    }

    /// `Permutation::new` refuses what is not a bijection, so reaching the end is the check.
    #[test]
    fn every_order_of_every_side_is_a_bijection_that_restores() {
        for side in (1..=40).chain([48, 64, 255, 256]) {
            let image: Vec<u32> = (0..2 * side * side).map(|pixel| pixel as u32 * 7).collect();
            for order in named() {
                assert_eq!(points(&order, side).len(), side * side);
                if let Some(permutation) = order.permutation(side * side).unwrap() {
                    let arranged = permutation.arrange(&image);
                    assert_eq!(permutation.restore(&arranged), image, "{order:?} {side}");
                    assert!(side < 3 || arranged != image, "{order:?} {side}");
                }
            }
        }
    }

    #[test]
    fn small_orders_are_as_drawn_by_hand() {
        assert_eq!(points(&Order::Columns, 2), [(0, 0), (1, 0), (0, 1), (1, 1)]);
        let spiral = [(0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (1, 1)];
        assert_eq!(points(&Order::Spiral, 3), spiral);
        assert_eq!(points(&Order::Hilbert, 2), [(0, 0), (0, 1), (1, 1), (1, 0)]);
        for order in named() {
            assert_eq!(points(&order, 1), [(0, 0)]);
        }
    }

    #[test]
    fn curves_move_to_a_neighbour() {
        let apart = |a: &(usize, usize), b: &(usize, usize)| a.0.abs_diff(b.0) + a.1.abs_diff(b.1);
        for side in [1, 2, 4, 8, 16, 32, 64] {
            let points = points(&Order::Hilbert, side);
            assert!(points.is_sorted_by(|a, b| apart(a, b) == 1), "{side}");
        }
        for side in 1..=20 {
            assert!(points(&Order::Spiral, side).is_sorted_by(|a, b| apart(a, b) == 1), "{side}");
        }
        // A cut curve jumps, and rarely.
        let cut = points(&Order::Hilbert, 48);
        let jumps = cut.windows(2).filter(|pair| apart(&pair[0], &pair[1]) > 1).count();
        assert!(jumps < 48, "{jumps}");
    }

    #[test]
    fn a_prompt_is_about_half_and_never_all() {
        for side in 2..=64 {
            for order in named() {
                let shown = order.prompt(side);
                assert!(shown < side * side && shown > 0, "{order:?} {side}: {shown}");
            }
        }
        assert_eq!(named().map(|order| order.prompt(32)), [512, 512, 540, 512]);
        // Of a power of two, the first half of the Hilbert curve is the upper half.
        assert!(points(&Order::Hilbert, 16)[..128].iter().all(|(row, _)| *row < 8));
        assert!(
            points(&Order::Spiral, 8)[..28].iter().all(|(row, column)| [0, 7].contains(row) || [0, 7].contains(column))
        );
    }

    #[test]
    fn what_is_not_a_permutation_is_refused_with_its_fault() {
        for (pixels, word) in
            [(vec![], "not 0"), (vec![0, 2, 1, 2], "pixel 2"), (vec![0, 4, 1], "0 to 2"), (vec![-1], "-1")]
        {
            let problem = Permutation::new(pixels).unwrap_err();
            assert!(problem.contains(word), "{problem}");
        }
        let fixed = Order::Fixed(Permutation::new([1, 0, 2, 3]).unwrap());
        assert!(fixed.permutation(9).unwrap_err().contains("4 pixels"));
        assert!(Order::Spiral.permutation(8).unwrap_err().contains("square"));
        assert_eq!(Order::Raster.permutation(8), Ok(None));
    }
}
