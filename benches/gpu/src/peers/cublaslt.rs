//! cuBLASLt: the same GEMMs in bf16 with f32 accumulators, by the fastest of its first eight proposals.

use std::ffi::c_void;
use std::mem::size_of;
use std::ptr;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use cudarc::cublaslt::{result, sys};
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use half::bf16;

use crate::check::{Checked, spread_over};
use crate::effort::Effort;
use crate::graph::Graph;
use crate::stream::Stream;

/// Bytes of scratch that proposals may take: what NVIDIA recommends for an H100.
const WORKSPACE: usize = 32 << 20;

/// Proposals that are tried.
const PROPOSALS: usize = 8;

/// Which GEMM of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `y [rows, outputs] = x · W`.
    Forward,
    /// `dx [rows, inputs] = dy · Wᵀ`.
    InputGradient,
    /// `dW [inputs, outputs] += xᵀ · dy`, in f32.
    WeightGradient,
}

/// A GEMM and its operands, row-major: x and W, dy and W, or x and dy.
pub struct Product {
    pub kind: Kind,
    pub rows: usize,
    pub inputs: usize,
    pub outputs: usize,
    pub a: Vec<bf16>,
    pub b: Vec<bf16>,
}

/// A matrix as the library, which is column-major, sees it: rows, columns, and whether it is transposed on the way.
struct Seen {
    rows: usize,
    columns: usize,
    transposed: bool,
}

impl Product {
    /// The library computes the transpose: its first operand is our second. What each is to it, then the result's rows and columns.
    fn seen(&self) -> (Seen, Seen, (usize, usize)) {
        let Self { rows, inputs, outputs, .. } = *self;
        let seen = |rows, columns, transposed| Seen { rows, columns, transposed };
        match self.kind {
            // yᵀ [outputs, rows] = Wᵀ · xᵀ.
            Kind::Forward => (seen(outputs, inputs, false), seen(inputs, rows, false), (outputs, rows)),
            // dxᵀ [inputs, rows] = W · dyᵀ, and W lies as its transpose.
            Kind::InputGradient => (seen(outputs, inputs, true), seen(outputs, rows, false), (inputs, rows)),
            // dWᵀ [outputs, inputs] = dyᵀ · x, and x lies as its transpose.
            Kind::WeightGradient => (seen(outputs, rows, false), seen(inputs, rows, true), (outputs, inputs)),
        }
    }

    /// The element `at` of the result, row-major, in f64.
    fn want(&self, at: usize) -> f64 {
        let Self { rows, inputs, outputs, ref a, ref b, .. } = *self;
        let product = |i: usize, j: usize| a[i].to_f64() * b[j].to_f64();
        match self.kind {
            Kind::Forward => (0..inputs).map(|k| product(at / outputs * inputs + k, k * outputs + at % outputs)).sum(),
            Kind::InputGradient => {
                (0..outputs).map(|k| product(at / inputs * outputs + k, at % inputs * outputs + k)).sum()
            }
            Kind::WeightGradient => {
                (0..rows).map(|k| product(k * inputs + at / outputs, k * outputs + at % outputs)).sum()
            }
        }
    }
}

/// The library, opened.
pub struct Lt {
    handle: sys::cublasLtHandle_t,
    stream: Stream,
    workspace: CudaSlice<u8>,
}

impl Drop for Lt {
    fn drop(&mut self) {
        // SAFETY: it was made by `open` and is used no more. That it fails would change nothing.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

/// The descriptors of a GEMM, destroyed with it.
struct Descriptors {
    operation: sys::cublasLtMatmulDesc_t,
    layouts: [sys::cublasLtMatrixLayout_t; 3],
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // SAFETY: made by `Descriptors::new`, and used no more.
        unsafe {
            let _ = result::destroy_matmul_desc(self.operation);
            for layout in self.layouts {
                let _ = result::destroy_matrix_layout(layout);
            }
        }
    }
}

impl Descriptors {
    fn new(product: &Product) -> Result<Self> {
        let (first, second, (rows, columns)) = product.seen();
        let to = match product.kind {
            Kind::WeightGradient => sys::cudaDataType_t::CUDA_R_32F,
            _ => sys::cudaDataType_t::CUDA_R_16BF,
        };
        let layout = |kind, rows: usize, columns: usize| {
            result::create_matrix_layout(kind, rows as u64, columns as u64, rows as i64)
        };
        let operation =
            result::create_matmul_desc(sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, sys::cudaDataType_t::CUDA_R_32F)?;
        let from = sys::cudaDataType_t::CUDA_R_16BF;
        let layouts = [
            layout(from, first.rows, first.columns)?,
            layout(from, second.rows, second.columns)?,
            layout(to, rows, columns)?,
        ];
        let descriptors = Self { operation, layouts };

        use sys::cublasLtMatmulDescAttributes_t::{CUBLASLT_MATMUL_DESC_TRANSA, CUBLASLT_MATMUL_DESC_TRANSB};
        for (attribute, seen) in [(CUBLASLT_MATMUL_DESC_TRANSA, first), (CUBLASLT_MATMUL_DESC_TRANSB, second)] {
            // CUBLAS_OP_N and CUBLAS_OP_T.
            let transposed = i32::from(seen.transposed);
            // SAFETY: a descriptor of ours, and an attribute of four bytes.
            unsafe {
                let value = ptr::from_ref(&transposed).cast();
                result::set_matmul_desc_attribute(operation, attribute, value, size_of::<i32>())?;
            }
        }
        Ok(descriptors)
    }
}

/// What a captured GEMM reads and writes: operands and results of each set.
struct Buffers {
    a: Vec<CudaSlice<bf16>>,
    b: Vec<CudaSlice<bf16>>,
    /// In bytes: bf16, or f32 for the gradient of a weight.
    results: Vec<CudaSlice<u8>>,
    /// 1 where a result is added to what is there.
    beta: f32,
}

impl Lt {
    /// Opens the library, if it is there.
    ///
    /// # Errors
    /// Where it is not, with where it comes from.
    pub fn open(stream: &Stream) -> Result<Self> {
        // SAFETY: NVIDIA's library initialises itself.
        if !unsafe { sys::is_culib_present() } {
            bail!(
                "libcublasLt.so.12 is not on the loader's path: `cargo xtask gpu bench` installs it from PyPI (nvidia-cublas-cu12)"
            );
        }
        let handle = result::create_handle().context("cublasLtCreate")?;
        let own = Stream { context: Arc::clone(&stream.context), stream: Arc::clone(&stream.stream) };
        let workspace = stream.stream.alloc_zeros::<u8>(WORKSPACE)?;
        Ok(Self { handle, stream: own, workspace })
    }

    /// The product as a graph, by the fastest proposal, whose result is right.
    ///
    /// # Errors
    /// When the library has no proposal, fails or is wrong.
    pub fn gemm(&self, product: &Product, effort: &Effort, sets: usize) -> Result<Box<dyn Graph + '_>> {
        let descriptors = Descriptors::new(product)?;
        let mut buffers = self.buffers(product, sets)?;
        let (algorithm, ms) = self.fastest(&descriptors, &buffers)?;

        // Is it right? Gradients are added to what is there.
        self.stream.stream.memset_zeros(&mut buffers.results[0])?;
        self.launch(&descriptors, &algorithm, &buffers, 0)?;
        let checked = self.check(product, &buffers)?;
        ensure!(checked.holds(), "WRONG: error {:.1e}, {:.1e} allowed", checked.error, checked.tolerance);

        let launches = effort.launches(ms);
        let graph = self.stream.capture((descriptors, buffers), launches, |(descriptors, buffers), launch| {
            self.launch(descriptors, &algorithm, buffers, launch % sets)
        })?;
        Ok(Box::new(graph))
    }

    fn buffers(&self, product: &Product, sets: usize) -> Result<Buffers> {
        let stream: &Arc<CudaStream> = &self.stream.stream;
        let (_, _, (rows, columns)) = product.seen();
        let (size, beta) = if product.kind == Kind::WeightGradient { (4, 1.0) } else { (2, 0.0) };
        let bytes = rows * columns * size;
        let mut buffers = Buffers { a: Vec::new(), b: Vec::new(), results: Vec::new(), beta };
        for _ in 0..sets {
            buffers.a.push(stream.clone_htod(&product.a)?);
            buffers.b.push(stream.clone_htod(&product.b)?);
            buffers.results.push(stream.alloc_zeros(bytes)?);
        }
        Ok(buffers)
    }

    /// The fastest proposal, and its milliseconds.
    fn fastest(&self, descriptors: &Descriptors, buffers: &Buffers) -> Result<(sys::cublasLtMatmulAlgo_t, f64)> {
        let [first, second, to] = descriptors.layouts;
        let preference = result::create_matmul_pref()?;
        let mut found = 0;
        // SAFETY: plain data, of which the library fills the first `found`.
        let mut proposals: [sys::cublasLtMatmulHeuristicResult_t; PROPOSALS] = unsafe { std::mem::zeroed() };
        // SAFETY: all descriptors are ours; the attribute has eight bytes, and there is room for the proposals.
        let outcome = unsafe {
            let attribute = sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
            let value = ptr::from_ref(&WORKSPACE).cast();
            let set = result::set_matmul_pref_attribute(preference, attribute, value, size_of::<usize>());
            let asked = sys::cublasLtMatmulAlgoGetHeuristic(
                self.handle,
                descriptors.operation,
                first,
                second,
                to,
                to,
                preference,
                PROPOSALS as i32,
                proposals.as_mut_ptr(),
                &mut found,
            );
            let _ = result::destroy_matmul_pref(preference);
            set.and(asked.result())
        };
        outcome.context("cublasLtMatmulAlgoGetHeuristic")?;

        // Three launches each, after one to warm up.
        let mut best: Option<(sys::cublasLtMatmulAlgo_t, f64)> = None;
        for proposal in proposals.iter().take(usize::try_from(found)?) {
            let launch = |set: usize| self.launch(descriptors, &proposal.algo, buffers, set % buffers.a.len());
            if launch(0).is_err() {
                continue;
            }
            let ms = self.stream.elapsed(|| (1..4).try_for_each(launch))? / 3.0;
            if best.as_ref().is_none_or(|(_, least)| ms < *least) {
                best = Some((proposal.algo, ms));
            }
        }
        best.context("no proposal runs")
    }

    fn launch(
        &self,
        descriptors: &Descriptors,
        algorithm: &sys::cublasLtMatmulAlgo_t,
        buffers: &Buffers,
        set: usize,
    ) -> Result<()> {
        let stream = &self.stream.stream;
        let address = |slice: &CudaSlice<bf16>| slice.device_ptr(stream).0;
        // The library's first operand is our second; a gradient is added to.
        let (first, second) = (address(&buffers.b[set]), address(&buffers.a[set]));
        let to = buffers.results[set].device_ptr(stream).0;
        let scratch = self.workspace.device_ptr(stream).0;
        let (alpha, beta) = (1.0_f32, buffers.beta);
        let [of_first, of_second, of_result] = descriptors.layouts;
        // SAFETY: operands, result and workspace are of the sizes that the layouts and the preference say.
        unsafe {
            result::matmul(
                self.handle,
                descriptors.operation,
                ptr::from_ref(&alpha).cast(),
                ptr::from_ref(&beta).cast(),
                first as *const c_void,
                of_first,
                second as *const c_void,
                of_second,
                to as *const c_void,
                of_result,
                to as *mut c_void,
                of_result,
                algorithm,
                scratch as *mut c_void,
                WORKSPACE,
                stream.cu_stream().cast(),
            )
        }
        .context("cublasLtMatmul")
    }

    fn check(&self, product: &Product, buffers: &Buffers) -> Result<Checked> {
        let bytes = self.stream.stream.clone_dtoh(&buffers.results[0])?;
        let value = |at: usize| match product.kind {
            Kind::WeightGradient => {
                f32::from_le_bytes([bytes[4 * at], bytes[4 * at + 1], bytes[4 * at + 2], bytes[4 * at + 3]])
            }
            _ => bf16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]]).to_f32(),
        };
        // Column-major and transposed is row-major.
        let (_, _, (rows, columns)) = product.seen();
        Ok(Checked::of(spread_over(rows * columns, 64).map(|at| (value(at), product.want(at))), 1.0))
    }
}
