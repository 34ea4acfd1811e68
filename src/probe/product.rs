//! Products of f64 matrices, by the crate matrixmultiply.

/// `rows × columns` numbers, `steps` apart from row to row and from column to column.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    data: &'a [f64],
    rows: usize,
    columns: usize,
    steps: [usize; 2],
}

impl<'a> View<'a> {
    /// The first `columns` of `rows` rows, `stride` apart.
    pub(super) fn new(data: &'a [f64], [rows, columns]: [usize; 2], stride: usize) -> Self {
        assert!(rows == 0 || columns <= stride && (rows - 1) * stride + columns <= data.len(), "a matrix past its end");
        Self { data, rows, columns, steps: [stride, 1] }
    }

    pub(super) fn transpose(self) -> Self {
        let Self { data, rows, columns, steps: [row, column] } = self;
        Self { data, rows: columns, columns: rows, steps: [column, row] }
    }
}

/// `out += factor · a · b`; rows of `out` are `stride` apart.
pub(super) fn add_product(out: &mut [f64], stride: usize, factor: f64, a: View<'_>, b: View<'_>) {
    assert_eq!(a.columns, b.rows);
    if a.rows == 0 || b.columns == 0 {
        return;
    }

    assert!(b.columns <= stride && (a.rows - 1) * stride + b.columns <= out.len(), "a product past its output");
    let [[a_row, a_column], [b_row, b_column]] = [a.steps, b.steps].map(|steps| steps.map(|step| step as isize));
    // SAFETY: all elements of the operands are inside their slices, by construction, and those of the output by the assertion.
    unsafe {
        matrixmultiply::dgemm(
            a.rows,
            a.columns,
            b.columns,
            factor,
            a.data.as_ptr(),
            a_row,
            a_column,
            b.data.as_ptr(),
            b_row,
            b_column,
            1.0,
            out.as_mut_ptr(),
            stride as isize,
            1,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_matrices_are_multiplied_and_added() {
        let a: Vec<f64> = (0..12).map(f64::from).collect();
        let b: Vec<f64> = (0..10).map(|i| f64::from(i) - 4.0).collect();
        // [3, 2] of rows of 4, by the transpose of [2, 2] of rows of 5, into the first 2 columns of rows of 3.
        let mut out = [1.0; 9];
        add_product(&mut out, 3, -2.0, View::new(&a, [3, 2], 4), View::new(&b, [2, 2], 5).transpose());
        for (index, value) in out.iter().enumerate() {
            let (row, column) = (index / 3, index % 3);
            let sum: f64 = (0..2).map(|term| a[row * 4 + term] * b[(column % 2) * 5 + term]).sum();
            assert_eq!(*value, if column < 2 { 1.0 - 2.0 * sum } else { 1.0 });
        }
        add_product(&mut out, 3, 1.0, View::new(&[], [0, 2], 4), View::new(&b, [2, 2], 5));
    }
}
