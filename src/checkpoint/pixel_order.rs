//! Pixel orders by name and in files: what a configuration says, and the folder's `order.npy`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ORDER_FILE;
use super::error::{CheckpointError, Result};
use crate::data::npy::{self, Npy};
use crate::model::{Order, Permutation};

/// Maximum number of pixels of an order.
const MAX_PIXELS: usize = 1 << 16;

/// A pixel order as it is written in flags, recipes and configurations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum OrderSpec {
    /// `raster`.
    Raster,
    /// `columns`.
    Columns,
    /// `spiral`.
    Spiral,
    /// `hilbert`.
    Hilbert,
    /// `file:PERM.npy`.
    File(PathBuf),
}

impl OrderSpec {
    /// The file of a `file:`.
    pub fn file(&self) -> Option<&Path> {
        match self {
            OrderSpec::File(path) => Some(path),
            _ => None,
        }
    }

    /// The order; a file is read.
    ///
    /// # Errors
    /// [`CheckpointError::Order`] for a file that does not list each pixel once.
    pub fn order(&self) -> Result<Order> {
        Ok(match self {
            OrderSpec::Raster => Order::Raster,
            OrderSpec::Columns => Order::Columns,
            OrderSpec::Spiral => Order::Spiral,
            OrderSpec::Hilbert => Order::Hilbert,
            OrderSpec::File(path) => Order::Fixed(read_permutation(path)?),
        })
    }
}

impl FromStr for OrderSpec {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "raster" => Ok(OrderSpec::Raster),
            "columns" => Ok(OrderSpec::Columns),
            "spiral" => Ok(OrderSpec::Spiral),
            "hilbert" => Ok(OrderSpec::Hilbert),
            _ => match text.strip_prefix("file:") {
                Some(path) if !path.is_empty() => Ok(OrderSpec::File(path.into())),
                _ => Err(format!("unknown order {text:?}; give raster, columns, spiral, hilbert or file:PERM.npy")),
            },
        }
    }
}

impl std::fmt::Display for OrderSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OrderSpec::Raster => f.write_str("raster"),
            OrderSpec::Columns => f.write_str("columns"),
            OrderSpec::Spiral => f.write_str("spiral"),
            OrderSpec::Hilbert => f.write_str("hilbert"),
            OrderSpec::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl From<OrderSpec> for String {
    fn from(spec: OrderSpec) -> Self {
        spec.to_string()
    }
}

impl TryFrom<String> for OrderSpec {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

/// The order in the folder's `order.npy`.
///
/// # Errors
/// As [`read_permutation`].
pub(super) fn load_order(dir: &Path) -> Result<Order> {
    read_permutation(&dir.join(ORDER_FILE)).map(Order::Fixed)
}

/// Writes the folder's `order.npy`, uint16 `[positions]`, for an order without a name; other orders need no file.
///
/// # Errors
/// [`CheckpointError::Order`] for a file that cannot be written.
pub(super) fn write_order(dir: &Path, order: &Order) -> Result<()> {
    let Order::Fixed(order) = order else { return Ok(()) };
    let path = dir.join(ORDER_FILE);
    let written = npy::write_u16(&path, &[order.len()], order.pixels());
    written.map_err(|error| CheckpointError::Order { path, problem: error.to_string() })
}

/// A permutation from an array of integers: the pixel at each position, counted in raster order.
///
/// # Errors
/// [`CheckpointError::Order`] for a file that cannot be read, is not such an array, or does not list each pixel once.
pub fn read_permutation(path: &Path) -> Result<Permutation> {
    let error = |problem: String| CheckpointError::Order { path: path.to_owned(), problem };
    let array = Npy::open(path).map_err(|problem| error(problem.to_string()))?;
    if array.len() > MAX_PIXELS {
        return Err(error(format!("it has {} values; an order has at most {MAX_PIXELS}", array.len())));
    }
    let pixels: Vec<i64> = array.integers(0..array.len()).map_err(|problem| error(problem.to_string()))?.collect();
    Permutation::new(pixels).map_err(error)
}
