//! Launches.

use std::ffi::{c_int, c_uint};
use std::sync::Arc;

use super::call::refuse;
use super::error::{CudaError, Result};
use super::exports;
use super::ffi::{Handle, In};
use super::limits;
use super::objects::Function;
use super::queue::submit;
use super::state::enter;
use super::work::{KernelLaunch, Work};
use crate::exec::Launch;

/// `CUlaunchConfig`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LaunchConfig {
    /// Blocks of the grid.
    pub grid: [c_uint; 3],
    /// Threads of a block.
    pub block: [c_uint; 3],
    /// Bytes of dynamic shared memory.
    pub shared: c_uint,
    stream: Handle,
    attributes: In<LaunchAttribute>,
    count: c_uint,
}

impl LaunchConfig {
    /// The cluster that its attributes ask for.
    ///
    /// # Errors
    /// An attribute that is not supported.
    pub fn cluster(&self) -> Result<Option<[u32; 3]>> {
        Ok(Asked::read(self.attributes, self.count as usize)?.cluster)
    }
}

/// `CUlaunchAttribute`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LaunchAttribute {
    id: c_int,
    // The value is aligned to 8 bytes.
    _padding: c_int,
    value: [c_uint; 16],
}

const _: () = assert!(size_of::<LaunchConfig>() == 56 && size_of::<LaunchAttribute>() == 72);

/// What attributes ask of a launch.
#[derive(Clone, Copy, Default)]
struct Asked {
    cluster: Option<[u32; 3]>,
    cooperative: bool,
}

impl Asked {
    fn read(attributes: In<LaunchAttribute>, count: usize) -> Result<Self> {
        let mut asked = Self::default();
        for index in 0..count {
            let LaunchAttribute { id, value, .. } = attributes.at(index)?;
            match id {
                2 => asked.cooperative = value[0] != 0,
                4 => asked.cluster = Some([value[0], value[1], value[2]]),
                // Hints; and dependent launches, which may but need not begin early.
                0 | 1 | 3 | 5 | 6 | 8..=11 | 14..=16 => {}
                _ => return Err(refuse(CudaError::NotSupported, format!("launch attribute {id}"))),
            }
        }
        Ok(asked)
    }
}

/// `CU_LAUNCH_PARAM_*`
const EXTRA_END: usize = 0;
const EXTRA_BUFFER: usize = 1;
const EXTRA_SIZE: usize = 2;

/// The parameter block of a launch, from an array of pointers or from a buffer that is laid out already.
fn parameters(function: &Function, pointers: In<In<u8>>, extra: In<usize>) -> Result<Vec<u8>> {
    let kernel = &function.kernel;
    let mut block = vec![0; kernel.parameter_bytes as usize];

    if kernel.parameter_bytes > limits::PARAMETERS {
        let why = format!("{} bytes of parameters; at most {}", kernel.parameter_bytes, limits::PARAMETERS);
        return Err(refuse(CudaError::LaunchOutOfResources, why));
    }
    if !extra.is_null() {
        if !pointers.is_null() {
            return Err(refuse(CudaError::InvalidValue, "both kernelParams and extra are given"));
        }
        return buffered_parameters(block.len(), extra);
    }

    for (index, parameter) in kernel.parameters.iter().enumerate() {
        let pointer = pointers.at(index)?;
        let bytes = pointer
            .list(parameter.size as usize)
            .map_err(|error| refuse(error, format!("kernel {}: parameter {index} is a null pointer", kernel.name)))?;
        let start = parameter.offset as usize;
        let place = block.get_mut(start..start + bytes.len()).ok_or(CudaError::InvalidValue)?;
        place.copy_from_slice(&bytes);
    }
    Ok(block)
}

/// A parameter block of `bytes` bytes from a buffer that is laid out already; `extra` is a list of keys and values.
fn buffered_parameters(bytes: usize, extra: In<usize>) -> Result<Vec<u8>> {
    let (mut buffer, mut size) = (In::of_address(0), bytes);
    let mut at = 0;
    loop {
        match extra.at(at)? {
            EXTRA_END => break,
            EXTRA_BUFFER => buffer = In::<u8>::of_address(extra.at(at + 1)? as u64),
            EXTRA_SIZE => size = In::<usize>::of_address(extra.at(at + 1)? as u64).get()?,
            other => return Err(refuse(CudaError::InvalidValue, format!("extra holds {other}"))),
        }
        at += 2;
    }

    // Trailing padding may be left out or added.
    if size > bytes.next_multiple_of(16) || size < bytes {
        let why = format!("{size} bytes in the buffer of parameters; the kernel takes {bytes}");
        return Err(refuse(CudaError::InvalidValue, why));
    }
    buffer.list(bytes)
}

fn launch(
    handle: Handle,
    (grid, block): ([u32; 3], [u32; 3]),
    dynamic_shared: u32,
    stream: Handle,
    (pointers, extra): (In<In<u8>>, In<usize>),
    asked: Asked,
) -> Result<()> {
    let (mut state, context) = enter()?;
    let stream = state.resolve_stream(context, stream)?;
    let function = state.functions.get(&handle).ok_or(CudaError::InvalidHandle)?;
    if function.context != context {
        return Err(refuse(CudaError::InvalidHandle, "the function belongs to another context"));
    }

    // The cluster: of the launch, of the function's attributes, or of the code.
    let stated = function.kernel.bounds.required_cluster;
    let set = (function.cluster != [0; 3]).then(|| function.cluster.map(|n| n.max(1)));
    let cluster = asked.cluster.or(set).or(stated);

    let launch = Launch {
        cluster: cluster.unwrap_or([1; 3]),
        explicit_cluster: cluster.is_some(),
        cooperative: asked.cooperative,
        ..Launch::new(grid, block, dynamic_shared, Vec::new())
    };
    function.check(&launch)?;

    let launch = Launch { parameters: parameters(function, pointers, extra)?, ..launch };
    let (kernel, alive) = (Arc::clone(&function.kernel), Arc::clone(&function.alive));
    let work = Work::Launch(Arc::new(KernelLaunch { kernel, launch, alive }));
    submit(state, context, stream, work).map(drop)
}

exports! {
    fn cuLaunchKernel(
        function: Handle, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint, block_y: c_uint,
        block_z: c_uint, shared: c_uint, stream: Handle, parameters: In<In<u8>>, extra: In<usize>,
    ) {
        let shape = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        launch(function, shape, shared, stream, (parameters, extra), Asked::default())
    }

    fn cuLaunchKernelEx(config: In<LaunchConfig>, function: Handle, parameters: In<In<u8>>, extra: In<usize>) {
        let config = config.get()?;
        let asked = Asked::read(config.attributes, config.count as usize)?;
        launch(function, (config.grid, config.block), config.shared, config.stream, (parameters, extra), asked)
    }

    fn cuLaunchCooperativeKernel(
        function: Handle, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint, block_y: c_uint,
        block_z: c_uint, shared: c_uint, stream: Handle, parameters: In<In<u8>>,
    ) {
        let shape = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        let asked = Asked { cooperative: true, ..Asked::default() };
        launch(function, shape, shared, stream, (parameters, In::of_address(0)), asked)
    }
}
