//! How many blocks fit.

use std::ffi::{c_int, c_uint};

use super::error::{CudaError, Result};
use super::exports;
use super::ffi::{Handle, In, Out};
use super::launch::LaunchConfig;
use super::limits;
use super::objects::Function;
use super::state::enter;

/// Shared memory of a block by its threads, as a C function says.
type SharedOf = Option<extern "C" fn(c_int) -> usize>;

fn threads(block: c_int) -> Result<u32> {
    u32::try_from(block).ok().filter(|&threads| threads > 0).ok_or(CudaError::InvalidValue)
}

fn active(blocks: Out<c_int>, function: Handle, block: c_int, shared: usize) -> Result<()> {
    let (mut state, _) = enter()?;
    let shared = u32::try_from(shared).map_err(|_| CudaError::InvalidValue)?;
    blocks.put(limits::resident(state.function(function)?, threads(block)?, shared) as c_int)
}

fn best(
    grid: Out<c_int>,
    block: Out<c_int>,
    function: Handle,
    shared_of: SharedOf,
    shared: usize,
    limit: c_int,
) -> Result<()> {
    let (mut state, _) = enter()?;
    let function: &Function = state.function(function)?;

    let max_threads = function.max_threads().min(u32::try_from(limit).ok().filter(|&n| n > 0).unwrap_or(u32::MAX));
    let resident = |threads: u32| {
        let shared = shared_of.map_or(shared, |of| of(threads as c_int));
        u32::try_from(shared).map_or(0, |shared| limits::resident(function, threads, shared))
    };

    let sizes =
        (1..=max_threads / 32).map(|warps| warps * 32).chain((!max_threads.is_multiple_of(32)).then_some(max_threads));
    let found = sizes.max_by_key(|&threads| (threads * resident(threads), threads)).unwrap_or(0);
    grid.put((resident(found) * function.card.multiprocessors) as c_int)?;
    block.put(found as c_int)
}

impl LaunchConfig {
    fn clusters(&self, function: &Function) -> Result<(u32, u32)> {
        let threads = self.block.iter().product();
        let per_multiprocessor = limits::resident(function, threads, self.shared);
        let cluster = self.cluster()?.or(function.kernel.bounds.required_cluster).unwrap_or([1; 3]);
        let blocks = cluster.iter().product::<u32>().max(1);
        // Not counted: a GPU's groups of multiprocessors, inside which a cluster must find its place.
        let max_cluster = function.max_cluster();
        let room = function.card.multiprocessors * per_multiprocessor;
        let clusters = if blocks > max_cluster { 0 } else { room / blocks };
        Ok((clusters, max_cluster))
    }
}

exports! {
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        blocks: Out<c_int>, function: Handle, block: c_int, shared: usize,
    ) {
        active(blocks, function, block, shared)
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        blocks: Out<c_int>, function: Handle, block: c_int, shared: usize, _flags: c_uint,
    ) {
        active(blocks, function, block, shared)
    }

    fn cuOccupancyMaxPotentialBlockSize(
        grid: Out<c_int>, block: Out<c_int>, function: Handle, shared_of: SharedOf, shared: usize, limit: c_int,
    ) {
        best(grid, block, function, shared_of, shared, limit)
    }

    fn cuOccupancyMaxPotentialBlockSizeWithFlags(
        grid: Out<c_int>, block: Out<c_int>, function: Handle, shared_of: SharedOf, shared: usize, limit: c_int,
        _flags: c_uint,
    ) {
        best(grid, block, function, shared_of, shared, limit)
    }

    fn cuOccupancyAvailableDynamicSMemPerBlock(bytes: Out<usize>, function: Handle, blocks: c_int, block: c_int) {
        let (mut state, _) = enter()?;
        let function = state.function(function)?;
        let (blocks, _) = (threads(blocks)?, threads(block)?);
        let each = function.card.limits.shared_per_multiprocessor / blocks / 128 * 128;
        let taken = function.kernel.static_shared as u32 + limits::SHARED_RESERVED;
        let max_shared = function.card.limits.shared_opt_in.saturating_sub(function.kernel.static_shared as u32);
        bytes.put(each.saturating_sub(taken).min(max_shared) as usize)
    }

    fn cuOccupancyMaxActiveClusters(clusters: Out<c_int>, function: Handle, config: In<LaunchConfig>) {
        let (mut state, _) = enter()?;
        clusters.put(config.get()?.clusters(state.function(function)?)?.0 as c_int)
    }

    fn cuOccupancyMaxPotentialClusterSize(size: Out<c_int>, function: Handle, config: In<LaunchConfig>) {
        let (mut state, _) = enter()?;
        size.put(config.get()?.clusters(state.function(function)?)?.1 as c_int)
    }
}
