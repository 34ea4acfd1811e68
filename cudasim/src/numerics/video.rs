//! Video instructions: arithmetic on bytes and half-words that are cut out of words (PTX ISA, "Video Instructions").

/// The first operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `vadd`
    Add,
    /// `vsub`
    Subtract,
    /// `vabsdiff`
    Difference,
    /// `vmin`
    Min,
    /// `vmax`
    Max,
    /// `vavrg`, which rounds halves up where the sum is not negative, and down otherwise.
    Average,
    /// `vshl`
    Left,
    /// `vshr`
    Right,
    /// `vmad`
    MultiplyAdd,
    /// `vset`
    Compare,
}

const OPERATIONS: [Operation; 10] = [
    Operation::Add,
    Operation::Subtract,
    Operation::Difference,
    Operation::Min,
    Operation::Max,
    Operation::Average,
    Operation::Left,
    Operation::Right,
    Operation::MultiplyAdd,
    Operation::Compare,
];

/// What is done with the result and operand c.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Second {
    /// The result is put into its place in c.
    Merge,
    /// `.add`
    Add,
    /// `.min`
    Min,
    /// `.max`
    Max,
}

const SECONDS: [Second; 4] = [Second::Merge, Second::Add, Second::Min, Second::Max];

/// The whole word, among the parts of a scalar operand: 0 to 3 are bytes, 4 and 5 half-words.
pub const WHOLE: u8 = 7;

/// A video instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Video {
    /// The first operation.
    pub operation: Operation,
    /// The second one.
    pub second: Second,
    /// Elements: 1, 2 half-words or 4 bytes.
    pub elements: u8,
    /// Whether D, A and B are signed.
    pub signed: [bool; 3],
    /// `.sat`
    pub saturate: bool,
    /// Which parts of A, or of the pair of A and B, are the elements of A, the lowest first.
    pub a: [u8; 4],
    /// Which parts are those of B.
    pub b: [u8; 4],
    /// Which part of D is written; of several elements a bit for each.
    pub d: u8,
    /// A variant: of shifts 1 for `.wrap`; of comparisons `eq`, `ne`, `lt`, `le`, `gt`, `ge` from 0; of `vmad` the bits of
    /// [`Video::SHIFT_7`] and its kin.
    pub variant: u8,
}

impl Video {
    /// `vmad.shr7`
    pub const SHIFT_7: u8 = 1;
    /// `vmad.shr15`
    pub const SHIFT_15: u8 = 2;
    /// `vmad.po`
    pub const PLUS_ONE: u8 = 4;
    /// One factor of `vmad` is negated.
    pub const NEGATE_PRODUCT: u8 = 8;
    /// The addend of `vmad` is negated.
    pub const NEGATE_ADDEND: u8 = 16;

    /// As the constant of a step.
    pub fn pack(&self) -> u64 {
        let digits = |parts: &[u8; 4]| parts.iter().rev().fold(0, |sum, &part| sum << 3 | u64::from(part & 7));
        let flags = [self.signed[0], self.signed[1], self.signed[2], self.saturate];
        let flags = flags.iter().rev().fold(0, |sum, &flag| sum << 1 | u64::from(flag));
        let numbers = [
            (self.operation as u64, 4),
            (self.second as u64, 2),
            (self.elements.into(), 3),
            (flags, 4),
            (digits(&self.a), 12),
            (digits(&self.b), 12),
            (self.d.into(), 4),
            (self.variant.into(), 5),
        ];
        numbers.iter().rev().fold(0, |sum, &(number, bits)| sum << bits | number)
    }

    /// From the constant of a step.
    pub fn unpack(mut packed: u64) -> Self {
        let mut next = |bits: u32| {
            let number = packed & ((1 << bits) - 1);
            packed >>= bits;
            number
        };
        let operation = OPERATIONS.get(next(4) as usize).copied().unwrap_or(Operation::Add);
        let second = SECONDS[next(2) as usize];
        let elements = next(3) as u8;
        let flags = next(4);
        let [a, b] = [next(12), next(12)].map(|digits| std::array::from_fn(|i| (digits >> (3 * i) & 7) as u8));
        let (d, variant) = (next(4) as u8, next(5) as u8);
        let signed = std::array::from_fn(|i| flags >> i & 1 != 0);
        Self { operation, second, elements, signed, saturate: flags & 8 != 0, a, b, d, variant }
    }

    /// The result.
    pub fn apply(&self, a: u32, b: u32, c: u32) -> u32 {
        match self.elements {
            1 => self.scalar(a, b, c),
            elements => self.parallel(elements.into(), a, b, c),
        }
    }

    fn scalar(&self, a: u32, b: u32, c: u32) -> u32 {
        let (a, b) = (part(a, self.a[0], self.signed[1]), part(b, self.b[0], self.signed[2]));
        if self.operation == Operation::MultiplyAdd {
            return self.multiply_add(a, b, c);
        }

        let bits = bits_of(self.d);
        let result =
            if self.operation == Operation::Compare { self.first(a, b) } else { self.clamp(self.first(a, b), bits) };
        let addend = if self.signed[0] { i128::from(c as i32) } else { i128::from(c) };
        match self.second {
            Second::Add => result.wrapping_add(addend) as u32,
            Second::Min => result.min(addend) as u32,
            Second::Max => result.max(addend) as u32,
            Second::Merge if self.d == WHOLE => result as u32,
            Second::Merge => {
                let (shift, ones) = (shift_of(self.d), (1_u32 << bits) - 1);
                c & !(ones << shift) | (result as u32 & ones) << shift
            }
        }
    }

    fn multiply_add(&self, a: i64, b: i64, c: u32) -> u32 {
        let has = |bit| self.variant & bit != 0;
        let (negated, addend_negated) = (has(Self::NEGATE_PRODUCT), has(Self::NEGATE_ADDEND));
        let signed = self.signed[1] || self.signed[2] || negated || addend_negated;
        let product = i128::from(a) * i128::from(b);
        let product = if negated { -product } else { product };

        let addend = if addend_negated { !c } else { c };
        let addend = if signed { i128::from(addend as i32) } else { i128::from(addend) };
        let sum = product + addend + i128::from(addend_negated || has(Self::PLUS_ONE));

        let shift = if has(Self::SHIFT_7) {
            7
        } else if has(Self::SHIFT_15) {
            15
        } else {
            0
        };
        let result = sum >> shift;
        match (self.saturate, signed) {
            (false, _) => result as u32,
            (true, true) => result.clamp(i32::MIN.into(), i32::MAX.into()) as u32,
            (true, false) => result.clamp(0, u32::MAX.into()) as u32,
        }
    }

    fn parallel(&self, elements: u32, a: u32, b: u32, c: u32) -> u32 {
        let width = 32 / elements;
        let ones = (1_u32 << width) - 1;
        let pair = u64::from(b) << 32 | u64::from(a);
        let element = |from: u8, signed: bool| {
            let cut = (pair >> (width * u32::from(from)) & u64::from(ones)) as i64;
            if signed { cut << (64 - width) >> (64 - width) } else { cut }
        };

        let mut result = if self.second == Second::Merge { 0 } else { c };
        for i in 0..elements {
            let (x, y) = (element(self.a[i as usize], self.signed[1]), element(self.b[i as usize], self.signed[2]));
            let value = self.first(x, y);
            let value = if self.operation == Operation::Compare { value } else { self.clamp(value, width) };
            let chosen = self.d >> i & 1 != 0;
            match (self.second, chosen) {
                (Second::Merge, true) => result |= (value as u32 & ones) << (width * i),
                (Second::Merge, false) => result |= c & ones << (width * i),
                (_, true) => result = result.wrapping_add(value as u32),
                (_, false) => {}
            }
        }
        result
    }

    /// The first operation on extended elements.
    fn first(&self, a: i64, b: i64) -> i128 {
        let (a, b) = (i128::from(a), i128::from(b));
        match self.operation {
            Operation::Add => a + b,
            Operation::Subtract => a - b,
            Operation::Difference => (a - b).abs(),
            Operation::Min => a.min(b),
            Operation::Max => a.max(b),
            Operation::Average => (a + b + i128::from(a + b >= 0)) >> 1,
            Operation::Left => a << self.amount(b),
            Operation::Right => a >> self.amount(b),
            Operation::MultiplyAdd => a * b,
            Operation::Compare => {
                let holds = [a == b, a != b, a < b, a <= b, a > b, a >= b];
                i128::from(holds.get(usize::from(self.variant)).copied().unwrap_or(false))
            }
        }
    }

    /// Of a shift: at most 32, or modulo 32.
    fn amount(&self, b: i128) -> i128 {
        if self.variant != 0 { b & 31 } else { b.clamp(0, 32) }
    }

    /// With `.sat` the nearest value of the type of D.
    fn clamp(&self, value: i128, bits: u32) -> i128 {
        match (self.saturate, self.signed[0]) {
            (false, _) => value,
            (true, true) => value.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
            (true, false) => value.clamp(0, (1 << bits) - 1),
        }
    }
}

fn bits_of(part: u8) -> u32 {
    match part {
        0..=3 => 8,
        4 | 5 => 16,
        _ => 32,
    }
}

fn shift_of(part: u8) -> u32 {
    match part {
        0..=3 => 8 * u32::from(part),
        5 => 16,
        _ => 0,
    }
}

/// A part of a word, extended.
fn part(word: u32, part: u8, signed: bool) -> i64 {
    let unused = 64 - bits_of(part);
    let cut = (u64::from(word) >> shift_of(part)) << unused;
    if signed { cut as i64 >> unused } else { (cut >> unused) as i64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_loses_nothing() {
        for (place, &operation) in OPERATIONS.iter().enumerate() {
            let video = Video {
                operation,
                second: SECONDS[place % 4],
                elements: [1, 2, 4][place % 3],
                signed: [place & 1 != 0, place & 2 != 0, place & 4 != 0],
                saturate: place & 8 == 0,
                a: [7, 0, 5, place as u8 & 7],
                b: [1, 6, 2, 3],
                d: 15 - place as u8,
                variant: 31 - place as u8,
            };
            assert_eq!(Video::unpack(video.pack()), video);
        }
    }
}
