//! Register tiles: the product of a group of rows and a panel, or of one row and several panels.

use pulp::{Simd, WithSimd};

use super::word::Word;
use super::{COLUMNS, MAX_PANELS, PRODUCT};
use crate::device::cpu::prefetch::ask_for_line;

/// The product of at most [`ROWS`](super::ROWS) rows of `x` and at most [`MAX_PANELS`] panels, `[ROWS, MAX_PANELS · 16]`.
pub(super) struct Product<'a, W> {
    pub x: &'a [f32],
    pub panels: &'a [W],
    pub inputs: usize,
    pub product: &'a mut [f32; PRODUCT],
}

impl<W: Word> WithSimd for Product<'_, W> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, panels, inputs, product } = self;
        let rows = x.len() / inputs;
        if rows == 1 {
            return one_row(simd, x, panels, product);
        }

        let groups = rows.div_ceil(max_rows::<S, W>());
        let lines = inputs.div_ceil(W::INPUTS);
        for (index, panel) in panels.chunks_exact(lines * COLUMNS).enumerate() {
            // The first group reads the panel from memory. While the others read it from the cache, memory is free to bring the next.
            let asked = if groups == 1 { 0 } else { AHEAD.div_ceil(groups) };
            for group in 0..groups {
                let (first, end) = (rows * group / groups, rows * (group + 1) / groups);
                let x = &x[first * inputs..end * inputs];
                let next = panel.as_ptr().wrapping_add((lines + group * lines.div_ceil(AHEAD) * asked) * COLUMNS);
                let ahead = Ahead { next, lines: asked };

                let product = &mut product[first * MAX_PANELS * COLUMNS + index * COLUMNS..];
                // A function for every number of rows: its sums stay in registers.
                macro_rules! tiles {
                    ($($rows:literal)*) => {
                        match end - first {
                            $($rows => tile::<S, W, $rows>(simd, x, panel, ahead, product),)*
                            _ => {}
                        }
                    };
                }
                tiles!(1 2 3 4 5 6 7 8);
            }
        }
    }
}

/// Rows of the largest register tile: of 16 registers (AVX2) 12 hold sums, of 32 (AVX-512) 8, (NEON) 24. Words of two inputs need a register
/// or two more while they are taken apart (AVX2: 10 hold sums, NEON 20).
const fn max_rows<S: Simd, W: Word>() -> usize {
    match (S::F32_LANES, W::INPUTS) {
        (16, _) => 8,
        (4 | 8, 1) => 6,
        (4 | 8, _) => 5,
        _ => 1,
    }
}

/// Lines of a panel between two looks ahead.
const AHEAD: usize = 4;

/// What is asked of memory meanwhile: some cache lines every [`AHEAD`] lines of the panel.
#[derive(Clone, Copy)]
struct Ahead<W> {
    next: *const W,
    lines: usize,
}

impl<W> Ahead<W> {
    /// Asks for the next lines.
    #[inline(always)]
    fn advance(&mut self) {
        for _ in 0..self.lines {
            ask_for_line(self.next);
            self.next = self.next.wrapping_add(COLUMNS);
        }
    }
}

/// Sets 16 columns of `R` rows of `product` to those of `x · panel`.
#[inline(always)]
fn tile<S: Simd, W: Word, const R: usize>(simd: S, x: &[f32], panel: &[W], ahead: Ahead<W>, product: &mut [f32]) {
    if R > max_rows::<S, W>() {
        return;
    }
    match S::F32_LANES {
        16 => tile_of::<S, W, R, 1>(simd, x, panel, ahead, product),
        8 => tile_of::<S, W, R, 2>(simd, x, panel, ahead, product),
        4 => tile_of::<S, W, R, 4>(simd, x, panel, ahead, product),
        _ => tile_of::<S, W, R, COLUMNS>(simd, x, panel, ahead, product),
    }
}

/// [`tile`] for lines of `V` vectors.
#[inline(always)]
fn tile_of<S: Simd, W: Word, const R: usize, const V: usize>(
    simd: S,
    x: &[f32],
    panel: &[W],
    mut ahead: Ahead<W>,
    product: &mut [f32],
) {
    if V * S::F32_LANES != COLUMNS {
        return;
    }
    let inputs = x.len() / R;
    let panel = W::vectors::<S>(panel).as_chunks::<V>().0;
    let (whole, last) = panel.split_at(inputs / W::INPUTS);
    let x: [&[f32]; R] = std::array::from_fn(|row| &x[row * inputs..][..inputs]);
    let mut sums = [[simd.splat_f32s(0.0); V]; R];

    // A chain of multiply-adds for each output, in the order of the inputs.
    let mut input = 0;
    for lines in whole.chunks(AHEAD) {
        ahead.advance();
        for line in lines {
            for part in 0..W::INPUTS {
                // SAFETY: there are `W::INPUTS` inputs for each whole line, and each of `x` has so many. Checked, it takes a tenth of the time.
                let x = x.map(|x| unsafe { x.get_unchecked(input) });
                add::<S, W, R, V>(simd, x, line, part, &mut sums);
                input += 1;
            }
        }
    }
    // Of an odd number of inputs, the last line's first part alone.
    for line in last {
        add::<S, W, R, V>(simd, x.map(|x| &x[input]), line, 0, &mut sums);
    }

    for (row, sums) in sums.iter().enumerate() {
        S::as_mut_simd_f32s(&mut product[row * MAX_PANELS * COLUMNS..][..COLUMNS]).0.copy_from_slice(sums);
    }
}

/// Sets one row of `product` to `x · panels`: four at once, since each waits for its own sums.
#[inline(always)]
fn one_row<S: Simd, W: Word>(simd: S, x: &[f32], mut panels: &[W], mut product: &mut [f32]) {
    let panel = x.len().div_ceil(W::INPUTS) * COLUMNS;
    while !panels.is_empty() {
        let at_once = match (S::F32_LANES, panels.len() / panel) {
            (4.., 4..) => 4,
            (4.., 2..) => 2,
            _ => 1,
        };
        let (now, later) = panels.split_at(at_once * panel);
        let (columns, rest) = product.split_at_mut(at_once * COLUMNS);
        match at_once {
            4 => row::<S, W, 4>(simd, x, now, columns),
            2 => row::<S, W, 2>(simd, x, now, columns),
            _ => row::<S, W, 1>(simd, x, now, columns),
        }
        (panels, product) = (later, rest);
    }
}

/// [`one_row`] of `P` panels.
#[inline(always)]
fn row<S: Simd, W: Word, const P: usize>(simd: S, x: &[f32], panels: &[W], product: &mut [f32]) {
    match S::F32_LANES {
        16 => row_of::<S, W, P, 1>(simd, x, panels, product),
        8 => row_of::<S, W, P, 2>(simd, x, panels, product),
        4 => row_of::<S, W, P, 4>(simd, x, panels, product),
        _ => row_of::<S, W, P, COLUMNS>(simd, x, panels, product),
    }
}

/// [`row`] for lines of `V` vectors.
#[inline(always)]
fn row_of<S: Simd, W: Word, const P: usize, const V: usize>(simd: S, x: &[f32], panels: &[W], product: &mut [f32]) {
    if V * S::F32_LANES != COLUMNS {
        return;
    }
    let (whole, lines) = (x.len() / W::INPUTS, x.len().div_ceil(W::INPUTS));
    let panels = W::vectors::<S>(panels).as_chunks::<V>().0;
    let panels: [_; P] = std::array::from_fn(|panel| &panels[panel * lines..][..lines]);
    let mut sums = [[[simd.splat_f32s(0.0); V]; 1]; P];

    for line in 0..whole {
        for part in 0..W::INPUTS {
            // SAFETY: `x` has `W::INPUTS` inputs for each whole line.
            let x = unsafe { x.get_unchecked(line * W::INPUTS + part) };
            for (sums, panel) in sums.iter_mut().zip(panels) {
                // SAFETY: each panel has `lines` lines, of which `whole` are the first.
                let line = unsafe { panel.get_unchecked(line) };
                add::<S, W, 1, V>(simd, [x], line, part, sums);
            }
        }
    }
    // Of an odd number of inputs, the last line's first part alone.
    for line in whole..lines {
        for (sums, panel) in sums.iter_mut().zip(panels) {
            add::<S, W, 1, V>(simd, [&x[line * W::INPUTS]], &panel[line], 0, sums);
        }
    }

    for (columns, [sums]) in product.chunks_exact_mut(COLUMNS).zip(&sums) {
        S::as_mut_simd_f32s(columns).0.copy_from_slice(sums);
    }
}

/// Adds to `sums` an input of each row times its line of the panel.
#[inline(always)]
fn add<S: Simd, W: Word, const R: usize, const V: usize>(
    simd: S,
    x: [&f32; R],
    line: &[W::Vector<S>; V],
    part: usize,
    sums: &mut [[S::f32s; V]; R],
) {
    let columns = line.map(|vector| W::part(simd, vector, part));
    for (sums, x) in sums.iter_mut().zip(x) {
        let x = simd.splat_f32s(*x);
        for (sum, column) in sums.iter_mut().zip(columns) {
            *sum = simd.mul_add_e_f32s(x, column, *sum);
        }
    }
}
