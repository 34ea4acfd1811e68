//! What a launch may use: what every card allows stands here, the rest is its own ([`Card`](crate::card::Card)).

use super::call::refuse;
use super::error::{CudaError, Result};
use super::objects::Function;
use crate::exec::Launch;

/// Blocks of a grid, by dimension.
pub const GRID: [u32; 3] = [0x7fff_ffff, 65535, 65535];
/// Threads of a block, by dimension.
pub const BLOCK: [u32; 3] = [1024, 1024, 64];
/// Threads of a block.
pub const THREADS: u32 = 1024;
/// Shared memory of a block, if the host does not opt in to more.
pub const SHARED: u32 = 48 << 10;
/// Shared memory that the system takes of each block.
pub const SHARED_RESERVED: u32 = 1 << 10;
/// Registers of a block, and of a multiprocessor.
pub const REGISTERS: u32 = 64 << 10;
/// Bytes of parameters.
pub const PARAMETERS: u64 = 32764;

/// Registers of a block of `threads` threads with `registers` each: warps get them in units of 256.
fn registers_of(threads: u32, registers: u32) -> u32 {
    threads.div_ceil(32) * (registers * 32).next_multiple_of(256)
}

/// Blocks of a function that fit a multiprocessor at once.
pub fn resident(function: &Function, threads: u32, dynamic_shared: u32) -> u32 {
    let limits = function.card.limits;
    let threads_limit = limits.threads_per_multiprocessor / threads.next_multiple_of(32).max(32);
    let shared = function.kernel.static_shared as u32 + dynamic_shared + SHARED_RESERVED;
    let shared_limit = limits.shared_per_multiprocessor / shared.next_multiple_of(128);
    let registers_limit = match function.registers {
        0 => limits.blocks_per_multiprocessor,
        registers => REGISTERS / registers_of(threads, registers).max(1),
    };

    if threads > function.max_threads() || dynamic_shared > function.max_dynamic_shared {
        return 0;
    }
    threads_limit.min(shared_limit).min(registers_limit).min(limits.blocks_per_multiprocessor)
}

impl Function {
    /// Threads of a block at most: by the code's bounds and its registers.
    pub fn max_threads(&self) -> u32 {
        let product = |of: [u32; 3]| of.iter().map(|&n| u64::from(n)).product::<u64>().min(THREADS.into()) as u32;
        let bounds = &self.kernel.bounds;
        let stated = bounds.required_threads.or(bounds.max_threads).map_or(THREADS, product);
        let fits = |threads: &u32| self.registers == 0 || registers_of(*threads, self.registers) <= REGISTERS;
        (1..=THREADS / 32).rev().map(|warps| warps * 32).find(fits).map_or(0, |threads| threads.min(stated))
    }

    /// Blocks of a cluster at most.
    pub fn max_cluster(&self) -> u32 {
        let [portable, most] = self.card.limits.clusters;
        if self.non_portable_cluster { most } else { portable }.max(1)
    }

    /// That a launch keeps all limits.
    ///
    /// # Errors
    /// The driver's, with the reason on standard error.
    pub fn check(&self, launch: &Launch) -> Result<()> {
        let Launch { grid, block, cluster, dynamic_shared, .. } = launch;
        let kernel = &self.kernel;
        let name = &kernel.name;
        let invalid = |why: String| Err(refuse(CudaError::InvalidValue, format!("kernel {name}: {why}")));

        // Shape of grid and block: limits of the device.
        for axis in 0..3 {
            if grid[axis] == 0 || grid[axis] > GRID[axis] {
                return invalid(format!("a grid of {grid:?} blocks; each at least 1, at most {GRID:?}"));
            }
            if block[axis] == 0 || block[axis] > BLOCK[axis] {
                return invalid(format!("a block of {block:?} threads; each at least 1, at most {BLOCK:?}"));
            }
        }

        let threads = block.iter().product::<u32>();
        if threads > THREADS {
            return invalid(format!("a block of {threads} threads; at most {THREADS}"));
        }

        // The kernel's own bounds.
        if let Some(required) = kernel.bounds.required_threads.filter(|required| required != block) {
            return invalid(format!("a block of {block:?} threads; the kernel requires {required:?} (.reqntid)"));
        }
        if let Some(max_threads) = kernel.bounds.max_threads {
            let total: u64 = max_threads.iter().map(|&n| u64::from(n)).product();
            if u64::from(threads) > total {
                return invalid(format!("a block of {threads} threads; its launch bounds allow {total} (.maxntid)"));
            }
        }

        // Registers and shared memory of a block.
        let needed = registers_of(threads, self.registers);
        if needed > REGISTERS {
            let why = format!(
                "kernel {name}: {threads} threads of {} registers take {needed} registers; a block has {REGISTERS}",
                self.registers
            );
            return Err(refuse(CudaError::LaunchOutOfResources, why));
        }
        if *dynamic_shared > self.max_dynamic_shared {
            return invalid(format!(
                "{dynamic_shared} bytes of dynamic shared memory; at most {} unless \
                 CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES is set (up to {} for this kernel)",
                self.max_dynamic_shared,
                u64::from(self.card.limits.shared_opt_in).saturating_sub(kernel.static_shared)
            ));
        }

        self.check_cluster(launch)?;
        self.check_cooperative(launch)?;

        debug_assert!(cluster.iter().all(|&n| n > 0));
        Ok(())
    }

    /// All blocks of a cooperative launch are resident at once.
    fn check_cooperative(&self, launch: &Launch) -> Result<()> {
        if !launch.cooperative {
            return Ok(());
        }
        let blocks: u64 = launch.grid.iter().map(|&n| u64::from(n)).product();
        let threads = launch.block.iter().product::<u32>();
        let room = u64::from(resident(self, threads, launch.dynamic_shared)) * u64::from(self.card.multiprocessors);
        if blocks > room {
            let name = &self.kernel.name;
            let why = format!("kernel {name}: {blocks} blocks of a cooperative launch; {room} fit the device at once");
            return Err(refuse(CudaError::CooperativeLaunchTooLarge, why));
        }
        Ok(())
    }

    fn check_cluster(&self, launch: &Launch) -> Result<()> {
        let Launch { grid, cluster, .. } = launch;
        let name = &self.kernel.name;
        let invalid = |why: String| Err(refuse(CudaError::InvalidClusterSize, format!("kernel {name}: {why}")));

        // How many blocks a cluster has.
        let blocks: u64 = cluster.iter().map(|&n| u64::from(n)).product();
        let [portable, most] = self.card.limits.clusters;
        if most == 0 && (blocks > 1 || launch.explicit_cluster) {
            return invalid(format!("a cluster; {} has none", self.card.model));
        }
        if blocks == 0 || blocks > self.max_cluster().into() {
            return invalid(format!(
                "a cluster of {blocks} blocks; at most {portable}, or {most} where \
                 CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED is set"
            ));
        }

        if (0..3).any(|axis| grid[axis] % cluster[axis] != 0) {
            return invalid(format!("a grid of {grid:?} blocks is not whole clusters of {cluster:?}"));
        }

        // The kernel's own bounds.
        let bounds = &self.kernel.bounds;
        if let Some(required) = bounds.required_cluster.filter(|required| required != cluster) {
            return invalid(format!("a cluster of {cluster:?} blocks; the kernel requires {required:?}"));
        }
        if let Some(max_rank) = bounds.max_cluster_rank.filter(|&max_rank| blocks > max_rank.into()) {
            return invalid(format!("a cluster of {blocks} blocks; the kernel allows {max_rank} (.maxclusterrank)"));
        }

        if bounds.explicit_cluster && !launch.explicit_cluster {
            return invalid("the kernel must be launched with a cluster size (.explicitcluster)".into());
        }
        Ok(())
    }
}
