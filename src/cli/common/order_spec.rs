//! `--order`: naming an order of pixels on the command line and in a configuration.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Result, anyhow};
use serde::{Deserialize, Serialize};

use crate::checkpoint::read_permutation;
use crate::model::Order;

/// An order of pixels, as given to `--order`.
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
    pub fn order(&self) -> Result<Order> {
        Ok(match self {
            OrderSpec::Raster => Order::Raster,
            OrderSpec::Columns => Order::Columns,
            OrderSpec::Spiral => Order::Spiral,
            OrderSpec::Hilbert => Order::Hilbert,
            OrderSpec::File(path) => {
                let problem = |problem| {
                    anyhow!("--order file:{}: {problem}; it must list each pixel once, as integers", path.display())
                };
                Order::Fixed(read_permutation(path).map_err(problem)?)
            }
        })
    }
}

impl FromStr for OrderSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "raster" => Ok(OrderSpec::Raster),
            "columns" => Ok(OrderSpec::Columns),
            "spiral" => Ok(OrderSpec::Spiral),
            "hilbert" => Ok(OrderSpec::Hilbert),
            _ => match text.strip_prefix("file:") {
                Some(path) if !path.is_empty() => Ok(OrderSpec::File(path.into())),
                _ => Err(format!("{text} is no order; give raster, columns, spiral, hilbert or file:PERM.npy")),
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

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}
