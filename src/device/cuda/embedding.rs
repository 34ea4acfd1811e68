//! Token and position embeddings (`embedding.cu`).

use super::CudaDevice;
use super::kernel::{Grid, Kernel, kernel};
use super::pointer::{NULL, Pointer};
use super::tensor::{CudaTensor, Operand, int};
use super::tokens::CudaTokens;
use crate::device::ops::embedding::{EmbeddingOps, check, check_backward};
use crate::device::shape::Shape;
use crate::device::{Beta, Precision, Result};

type Forward = Kernel<(Pointer, Pointer, Pointer, Pointer, Pointer, i32, i32)>;
const FORWARD_F32: Forward = kernel!(EMBEDDING_F32);
const FORWARD_BF16: Forward = kernel!(EMBEDDING_BF16);

type Table = Kernel<(Pointer, Pointer, Pointer, Pointer, Pointer, i32, i32, i32)>;
const TABLE_F32: Table = kernel!(EMBEDDING_TABLE_F32);
const TABLE_BF16: Table = kernel!(EMBEDDING_TABLE_BF16);

const CHUNKS: Kernel<(Pointer, Pointer, Pointer, i32, i32, i32)> = kernel!(EMBEDDING_CHUNKS);

type Positions = Kernel<(Pointer, Pointer, i32, i32, i32, i32)>;
const POSITIONS_F32: Positions = kernel!(EMBEDDING_POSITIONS_F32);
const POSITIONS_BF16: Positions = kernel!(EMBEDDING_POSITIONS_BF16);

/// Tokens that a block of the table's backward searches: `CHUNK` of `embedding.cu`.
const CHUNK: usize = 4096;

impl EmbeddingOps for CudaDevice {
    fn embedding(
        &self,
        table: &CudaTensor,
        positions: &CudaTensor,
        ids: &CudaTokens,
        first: Option<&CudaTokens>,
    ) -> Result<CudaTensor> {
        let first_shape = first.map(|first| first.shape);
        let dims = check(table.dimensions(), positions.dimensions(), ids.shape, first_shape)?;
        ids.check_rows(dims.rows)?;
        let last = positions.dimensions()[0];
        first.map_or(Ok(()), |first| first.check_first(last, dims.tokens))?;
        let y = self.tensor(Shape::new("embedding", &[dims.batch, dims.tokens, dims.width])?)?;

        let (table, positions) = (self.floats(table)?, self.floats(positions)?);
        let first = first.map_or(NULL, |first| first.ids.pointer());
        let kernel = match self.precision {
            Precision::F32 => &FORWARD_F32,
            Precision::Bf16 => &FORWARD_BF16,
        };

        // A block per token.
        let grid = Grid::line(dims.batch * dims.tokens, 128);
        let (read, tokens, width) = ([&table, &positions].map(Operand::pointer), int(dims.tokens)?, int(dims.width)?);
        let arguments = (read[0], read[1], first, ids.ids.pointer(), y.pointer(), tokens, width);
        // SAFETY: `check` has checked the shapes and `check_first` that the positions reach (of replays their caller); every id is a row of
        // the table or blank.
        unsafe { self.driver.launch(kernel, grid, arguments)? };
        Ok(y)
    }

    fn embedding_backward(
        &self,
        dy: &CudaTensor,
        ids: &CudaTokens,
        d_table: &mut CudaTensor,
        d_positions: &mut CudaTensor,
        beta: Beta,
    ) -> Result<()> {
        const OP: &str = "embedding_backward";
        let dims = check_backward(dy.dimensions(), ids.shape, d_table.dimensions(), d_positions.dimensions())?;
        ids.check_rows(dims.rows)?;
        let dy = self.operand(dy)?;
        let all_positions = d_positions.shape.volume();
        let d_table = d_table.floats_mut(OP, "d_table")?;
        let d_positions = d_positions.floats_mut(OP, "d_positions")?;
        let (table, positions) = match self.precision {
            Precision::F32 => (&TABLE_F32, &POSITIONS_F32),
            Precision::Bf16 => (&TABLE_BF16, &POSITIONS_BF16),
        };

        // Partial sums of the table's gradient, [chunks, rows, width], and how many tokens each has, [chunks, rows]. A
        // single chunk adds to the gradient itself.
        let count = dims.batch * dims.tokens;
        let chunks = count.div_ceil(CHUNK);
        let scratch = match chunks {
            1 => None,
            _ => Some((self.scratch(chunks * dims.rows * dims.width)?, self.scratch(chunks * dims.rows)?)),
        };
        let (partials, counts) =
            scratch.as_ref().map_or((NULL, NULL), |(partials, counts)| (partials.pointer(), counts.pointer()));

        // d_table by chunks of tokens, the chunks in order, then d_positions.
        let (width, add) = (int(dims.width)?, i32::from(beta.adds()));
        let grid = Grid { blocks: [dims.rows, chunks, 1], ..Grid::line(1, 256) };
        let arguments = (dy, ids.ids.pointer(), d_table, partials, counts, int(count)?, width, add);
        // SAFETY: `check_backward` has checked the shapes; the scratch is as large as the kernels say.
        unsafe {
            self.driver.launch(table, grid, arguments)?;
            if chunks > 1 {
                let grid = Grid { blocks: [dims.width.div_ceil(256), dims.rows, 1], ..Grid::line(1, 256) };
                self.driver.launch(&CHUNKS, grid, (partials, counts, d_table, int(chunks)?, width, add))?;
            }

            // Positions without tokens have a gradient to store, and none to add.
            let length = dims.tokens * dims.width;
            let whole = if beta.adds() { length } else { all_positions };
            let arguments = (dy, d_positions, int(dims.batch)?, int(length)?, int(whole)?, add);
            self.driver.launch(positions, Grid::line(whole.div_ceil(256), 256), arguments)
        }
    }
}
