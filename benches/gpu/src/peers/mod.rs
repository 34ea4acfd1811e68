//! Who else computes the same: NVIDIA's library, opened at run time, and PyTorch, as a program of its own.

pub mod cublaslt;
pub mod torch;

use self::cublaslt::{Lt, Product};
use crate::effort::Effort;
use crate::graph::Graph;
use crate::stream::Stream;

/// Those that are there; why the others are not.
pub struct Peers {
    cublaslt: Result<Lt, String>,
}

impl Peers {
    /// Opens what can be opened.
    pub fn open(stream: &Stream) -> Self {
        Self { cublaslt: Lt::open(stream).map_err(|error| format!("{error:#}")) }
    }

    /// Why there are no times of cuBLASLt at all, if so.
    pub fn without_cublaslt(&self) -> Option<&str> {
        self.cublaslt.as_ref().err().map(String::as_str)
    }

    /// A GEMM by cuBLASLt, checked against f64.
    ///
    /// # Errors
    /// Why it was not run, for people.
    pub fn gemm(&self, product: &Product, effort: &Effort, sets: usize) -> Result<Box<dyn Graph + '_>, String> {
        // The reason stands once below the table.
        let lt = self.cublaslt.as_ref().map_err(|_| "no library".to_owned())?;
        lt.gemm(product, effort, sets).map_err(|error| format!("{error:#}").replace('|', "/").replace('\n', " "))
    }
}
