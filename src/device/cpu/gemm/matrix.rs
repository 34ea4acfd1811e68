//! Matrices to read, in rows or in columns.

/// `rows × columns` floats; one of the two steps is 1.
#[derive(Clone, Copy)]
pub(in crate::device::cpu) struct Matrix<'a> {
    data: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Floats from row to row, and from column to column.
    row_step: usize,
    column_step: usize,
}

/// A row-major `[rows, columns]` matrix.
pub(in crate::device::cpu) fn matrix(data: &[f32], rows: usize, columns: usize) -> Matrix<'_> {
    assert_eq!(data.len(), rows * columns, "a matrix of {rows} × {columns}");
    Matrix { data, rows, columns, row_step: columns, column_step: 1 }
}

impl<'a> Matrix<'a> {
    pub(in crate::device::cpu) fn transpose(self) -> Self {
        let Self { data, rows, columns, row_step, column_step } = self;
        Self { data, rows: columns, columns: rows, row_step: column_step, column_step: row_step }
    }

    /// `rows × columns` of it, from a row and a column on.
    pub(super) fn part(self, [row, column]: [usize; 2], [rows, columns]: [usize; 2]) -> Self {
        assert!(row + rows <= self.rows && column + columns <= self.columns, "a part past its matrix");
        Self { data: &self.data[row * self.row_step + column * self.column_step..], rows, columns, ..self }
    }

    /// Whether the elements of a row lie side by side.
    pub(super) fn is_in_rows(&self) -> bool {
        self.column_step == 1
    }

    /// A row of a matrix in rows.
    pub(super) fn row(&self, row: usize) -> &'a [f32] {
        debug_assert!(self.is_in_rows());
        &self.data[row * self.row_step..][..self.columns]
    }

    /// A column of a matrix in columns.
    pub(super) fn column(&self, column: usize) -> &'a [f32] {
        debug_assert!(!self.is_in_rows());
        &self.data[column * self.column_step..][..self.rows]
    }

    /// Where an element is.
    pub(super) fn place(&self, row: usize, column: usize) -> *const f32 {
        self.data[row * self.row_step + column * self.column_step..].as_ptr()
    }

    /// Floats from row to row of a matrix in rows, or from column to column.
    pub(super) fn step(&self) -> usize {
        if self.is_in_rows() { self.row_step } else { self.column_step }
    }

    #[cfg(test)]
    pub(super) fn at(&self, row: usize, column: usize) -> f32 {
        self.data[row * self.row_step + column * self.column_step]
    }
}
