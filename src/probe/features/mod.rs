//! Features: taken from a model, kept in files, read as matrices.

pub(crate) mod design_matrix;
pub(crate) mod extract;
pub(crate) mod feature_file;
pub(crate) mod header;
pub(crate) mod matrix;
