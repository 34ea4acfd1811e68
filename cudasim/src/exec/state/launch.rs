//! What is launched how.

/// What is launched how.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Blocks of the grid.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Blocks of a cluster; divides the grid.
    pub cluster: [u32; 3],
    /// Whether the launch or the kernel asked for clusters.
    pub explicit_cluster: bool,
    /// All blocks are resident at once.
    pub cooperative: bool,
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u32,
    /// The parameter block.
    pub parameters: Vec<u8>,
}

impl Launch {
    /// A launch of single blocks.
    pub fn new(grid: [u32; 3], block: [u32; 3], dynamic_shared: u32, parameters: Vec<u8>) -> Self {
        let cluster = [1; 3];
        Self { grid, block, cluster, explicit_cluster: false, cooperative: false, dynamic_shared, parameters }
    }

    /// Threads of a block.
    pub fn threads(&self) -> u32 {
        self.block.iter().product()
    }

    /// Blocks of a cluster.
    pub fn cluster_size(&self) -> u32 {
        self.cluster.iter().product()
    }

    /// Clusters of the grid.
    pub fn clusters(&self) -> u64 {
        (0..3).map(|axis| u64::from(self.grid[axis] / self.cluster[axis])).product()
    }
}
