//! The product of a warp's tile, in the types that instructions have; every sum is that of [`crate::numerics::dot`].

#[cfg(target_arch = "x86_64")]
use crate::exec::program::lanes::fast;
use crate::exec::program::registers::{Registers, Slot};
use crate::exec::tensor::element::{Float, Integer};
use crate::exec::tensor::fragment;
use crate::numerics::Rounding;
use crate::numerics::dot::{Accumulator, accumulate_tile, dot_b1, dot_f64, dot_s32};
use crate::numerics::tensor_core::{Alignment, Sums, align_tile};
use crate::ptx::form::Form;
use crate::ptx::opcode::{Modifier, Shape};
use crate::ptx::types::ScalarType;

/// What is multiplied and summed as what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Small floats; the accumulator is f32, or (`half`) f16.
    Float {
        /// Type of A.
        a: Float,
        /// Type of B.
        b: Float,
        /// f16 accumulators.
        half: bool,
    },
    /// f64, each product added with one rounding.
    Double(Rounding),
    /// Small integers, summed in s32.
    Integer {
        /// Type of A.
        a: Integer,
        /// Type of B.
        b: Integer,
        /// The sum is clamped instead of wrapped.
        satfinite: bool,
    },
    /// Bits, combined by `and` or else `xor`, whose ones are counted.
    Bits {
        /// `.and`
        and: bool,
    },
}

impl Kind {
    /// What a form of `mma` or `wgmma` multiplies.
    pub fn of(form: &Form) -> Option<Self> {
        let (&d, &a, &b) = (form.types.first()?, form.types.get(1)?, form.types.get(2)?);
        if let (Some(a), Some(b)) = (Float::of(a), Float::of(b)) {
            return Some(Self::Float { a, b, half: d == ScalarType::F16 });
        }
        if let (Some(a), Some(b)) = (Integer::of(a), Integer::of(b)) {
            return Some(Self::Integer { a, b, satfinite: form.has(Modifier::Satfinite) });
        }
        match a {
            ScalarType::B1 => Some(Self::Bits { and: form.has(Modifier::And) }),
            ScalarType::F64 => {
                let roundings =
                    [(Modifier::Rz, Rounding::Rz), (Modifier::Rm, Rounding::Rm), (Modifier::Rp, Rounding::Rp)];
                let named = roundings.iter().find(|(modifier, _)| form.has(*modifier));
                Some(Self::Double(named.map_or(Rounding::Rn, |&(_, rounding)| rounding)))
            }
            _ => None,
        }
    }
}

/// The multiplicands of one tile of D, as packed words.
pub struct Multiplicands<'a> {
    /// `[m][words]`, neighbours along k in one word.
    pub a: &'a [u32],
    /// B.
    pub b: Columns<'a>,
    /// A is negated.
    pub negate_a: bool,
    /// B is negated.
    pub negate_b: bool,
}

/// B as it was read.
#[derive(Clone, Copy)]
pub enum Columns<'a> {
    /// `[n][words]`: column after column, neighbours along k in one word.
    Whole(&'a [u32]),
    /// `[k][n]`: row after row, elements of 16 bits, neighbours along n in one word.
    Rows(&'a [u32]),
}

/// Where the accumulators of a warp are: `m` rows (8 or 16) by `n` columns.
#[derive(Clone, Debug)]
pub struct Accumulators {
    /// Kinds of elements.
    pub kind: Kind,
    /// Rows.
    pub m: usize,
    /// Columns.
    pub n: usize,
    /// 32-bit words of A's rows and B's columns.
    pub words: usize,
    /// Whether it is `wgmma`, which sums in another way.
    pub warpgroup: bool,
    /// Registers that are written.
    pub d: Vec<Slot>,
    /// Registers that the sum starts from.
    pub c: Vec<Slot>,
}

/// Room for decoded matrices, kept so that nothing is allocated while kernels run.
#[derive(Default)]
pub struct Scratch {
    /// A: `[m][k]`
    a: Vec<f32>,
    /// B: `[k][n]`
    b: Vec<f32>,
    /// B's packed words by rows: `[words][n]`
    rows: Vec<u32>,
    /// The tile.
    c: Vec<f32>,
    halves: Vec<u16>,
    integers: [Vec<i32>; 3],
}

/// The first `length` elements of `buffer`, which grows to them.
fn room<T: Copy + Default>(buffer: &mut Vec<T>, length: usize) -> &mut [T] {
    if buffer.len() < length {
        buffer.resize(length, T::default());
    }
    &mut buffer[..length]
}

impl Accumulators {
    /// `D = A B + C`, or without C (`from_zero`) `D = A B`; floats are summed as `sums` says.
    pub fn multiply(
        &self,
        registers: &mut Registers,
        from: &Multiplicands<'_>,
        from_zero: bool,
        sums: Sums,
        scratch: &mut Scratch,
    ) {
        #[cfg(target_arch = "x86_64")]
        if fast() {
            // SAFETY: `fast` says that the features are there.
            return unsafe { multiply_avx2(self, registers, from, from_zero, sums, scratch) };
        }
        self.multiply_on(registers, from, from_zero, sums, scratch);
    }

    #[inline(always)]
    fn multiply_on(
        &self,
        registers: &mut Registers,
        from: &Multiplicands<'_>,
        from_zero: bool,
        sums: Sums,
        scratch: &mut Scratch,
    ) {
        match self.kind {
            Kind::Float { a, b, half } => {
                let alignment = sums.alignment([a.factor(), b.factor()], self.warpgroup);
                self.floats(registers, from, (a, b, half), from_zero, alignment, scratch);
            }

            Kind::Integer { a, b, satfinite } => {
                let k = self.words * 32 / a.bits as usize;
                let [wide_a, wide_b, tile] = &mut scratch.integers;
                let (wide_a, wide_b) = (room(wide_a, self.m * k), room(wide_b, self.n * k));
                a.unpack(&from.a[..self.m * self.words], wide_a);
                b.unpack(from.columns(), wide_b);
                self.sums(registers, room(tile, self.m * self.n), from_zero, |c, row, column| {
                    dot_s32(satfinite, c, &wide_a[row * k..][..k], &wide_b[column * k..][..k])
                });
            }

            Kind::Bits { and } => {
                let words = self.words;
                let (a, b) = (from.a, from.columns());
                self.sums(registers, room(&mut scratch.integers[2], self.m * self.n), from_zero, |c, row, column| {
                    let pairs = a[row * words..][..words].iter().zip(&b[column * words..][..words]);
                    pairs.fold(c, |sum, (&a, &b)| dot_b1(and, sum, a, b))
                });
            }

            // Only `mma` has it, and packs nothing: see `double`.
            Kind::Double(_) => {}
        }
    }

    #[inline(always)]
    fn floats(
        &self,
        registers: &mut Registers,
        from: &Multiplicands<'_>,
        (a, b, half): (Float, Float, bool),
        from_zero: bool,
        alignment: Option<Alignment>,
        scratch: &mut Scratch,
    ) {
        let Self { m, n, words, .. } = *self;
        let k = words * a.per_word();
        let wide_a = room(&mut scratch.a, m * k);
        a.unpack(&from.a[..m * words], wide_a);
        let wide_b = room(&mut scratch.b, k * n);

        match from.b {
            Columns::Rows(rows) => b.unpack(rows, wide_b),
            Columns::Whole(columns) => {
                let rows = room(&mut scratch.rows, words * n);
                transpose(columns, rows, n, words);
                b.unpack_rows(rows, wide_b, n);
            }
        }

        if from.negate_a {
            wide_a.iter_mut().for_each(|x| *x = -*x);
        }
        if from.negate_b {
            wide_b.iter_mut().for_each(|x| *x = -*x);
        }

        if half {
            let tile = room(&mut scratch.halves, m * n);
            if from_zero {
                tile.fill(0);
            } else {
                fragment::gather_c_f16(registers, &self.c, m, n, tile);
            }
            sum_tile(tile, wide_a, wide_b, (m, n, k), alignment);
            fragment::scatter_d_f16(registers, &self.d, m, n, tile);
        } else {
            let tile = room(&mut scratch.c, m * n);
            if from_zero {
                tile.fill(0.0);
            } else {
                fragment::gather_c(registers, &self.c, m, n, tile);
            }
            sum_tile(tile, wide_a, wide_b, (m, n, k), alignment);
            fragment::scatter_d(registers, &self.d, m, n, tile);
        }
    }

    /// Each element of an s32 tile from its old value, row and column.
    #[inline(always)]
    fn sums(
        &self,
        registers: &mut Registers,
        tile: &mut [i32],
        from_zero: bool,
        element: impl Fn(i32, usize, usize) -> i32,
    ) {
        let Self { m, n, .. } = *self;
        if from_zero {
            tile.fill(0);
        } else {
            fragment::gather_c(registers, &self.c, m, n, tile);
        }

        for row in 0..m {
            for column in 0..n {
                let c = &mut tile[row * n + column];
                *c = element(*c, row, column);
            }
        }

        fragment::scatter_d(registers, &self.d, m, n, tile);
    }
}

/// `C += A B`, exactly or by an alignment.
#[inline(always)]
fn sum_tile<C: Accumulator>(
    c: &mut [C],
    a: &[f32],
    b: &[f32],
    (m, n, k): (usize, usize, usize),
    alignment: Option<Alignment>,
) {
    match alignment {
        None => accumulate_tile(c, a, b, m, n, k),
        Some(how) => align_tile(c, a, b, n, k, how),
    }
}

impl<'a> Multiplicands<'a> {
    /// B where it can only be given by columns.
    fn columns(&self) -> &'a [u32] {
        match self.b {
            Columns::Whole(words) | Columns::Rows(words) => words,
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn multiply_avx2(
    accumulators: &Accumulators,
    registers: &mut Registers,
    from: &Multiplicands<'_>,
    from_zero: bool,
    sums: Sums,
    scratch: &mut Scratch,
) {
    accumulators.multiply_on(registers, from, from_zero, sums, scratch);
}

/// `[n][words]` to `[words][n]`; n is a multiple of 8.
#[inline(always)]
fn transpose(from: &[u32], to: &mut [u32], n: usize, words: usize) {
    for first in (0..n).step_by(8) {
        let columns: [&[u32]; 8] = std::array::from_fn(|j| &from[(first + j) * words..][..words]);
        for word in 0..words {
            let row = &mut to[word * n + first..][..8];
            for j in 0..8 {
                row[j] = columns[j][word];
            }
        }
    }
}

/// `D = A B + C` in f64: A is `[m][k]`, B `[n][k]`, C and D `[m][n]`.
pub fn double(rounding: Rounding, c: &mut [f64], a: &[f64], b: &[f64], n: usize, k: usize) {
    for (i, c) in c.iter_mut().enumerate() {
        *c = dot_f64(rounding, *c, &a[i / n * k..][..k], &b[i % n * k..][..k]);
    }
}

/// What an instruction of this shape does, in the counts of tensor operations.
pub fn multiply_adds(shape: Shape) -> u64 {
    u64::from(shape.m) * u64::from(shape.n) * u64::from(shape.k)
}
