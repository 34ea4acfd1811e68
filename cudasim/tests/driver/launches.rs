//! Limits of launches, and the ways to pass parameters.

use std::ffi::c_void;

use cudarc::driver::sys;

use crate::support::{ADD, Device, EMPTY, code, cu};

fn null<T>() -> *mut T {
    std::ptr::null_mut()
}

/// The code of a launch of a kernel without parameters; 0 where it is accepted.
fn shape(function: sys::CUfunction, grid: [u32; 3], block: [u32; 3], shared: u32) -> i32 {
    let ([gx, gy, gz], [bx, by, bz]) = (grid, block);
    cu!(cuLaunchKernel(function, gx, gy, gz, bx, by, bz, shared, null(), null(), null()))
        .map_or_else(|error| error.0 as i32, |()| 0)
}

#[test]
fn shapes_are_limited() {
    let device = Device::new("");
    let empty = device.raw_function(EMPTY, "empty");

    for (grid, block, expected) in [
        ([1, 1, 1], [1024, 1, 1], 0),
        ([1, 1, 1], [1025, 1, 1], 1),
        ([1, 1, 1], [32, 33, 1], 1),
        ([1, 1, 1], [1, 1, 65], 1),
        ([0, 1, 1], [1, 1, 1], 1),
        ([1, 1, 1], [1, 0, 1], 1),
        ([1, 65536, 1], [1, 1, 1], 1),
        ([1, 1, 65536], [1, 1, 1], 1),
    ] {
        assert_eq!(shape(empty, grid, block, 0), expected, "{grid:?} {block:?}");
    }

    let bounded = device.raw_function(".visible .entry bounded() .maxntid 128, 1, 1 { ret; }", "bounded");
    assert_eq!((shape(bounded, [1; 3], [128, 1, 1], 0), shape(bounded, [1; 3], [129, 1, 1], 0)), (0, 1));

    let exact = device.raw_function(".visible .entry exact() .reqntid 8, 4, 1 { ret; }", "exact");
    assert_eq!((shape(exact, [1; 3], [8, 4, 1], 0), shape(exact, [1; 3], [4, 8, 1], 0)), (0, 1));
    cu!(cuCtxSynchronize()).unwrap();
}

#[test]
fn more_shared_memory_is_asked_for() {
    let device = Device::new("");
    let text = ".visible .entry k() { .shared .align 4 .b8 own[1024]; .reg .b32 %r<2>; mov.u32 %r1, own; ret; }";
    let kernel = device.raw_function(text, "k");
    use sys::CUfunction_attribute_enum::*;
    let set = |bytes| cu!(cuFuncSetAttribute(kernel, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes));
    let launch = |shared| shape(kernel, [1; 3], [32, 1, 1], shared);
    assert_eq!((launch(47 * 1024), launch(47 * 1024 + 1)), (0, 1));
    assert_eq!(code(set(226 * 1024 + 1)), 1);
    set(226 * 1024).unwrap();
    assert_eq!((launch(226 * 1024), launch(226 * 1024 + 1)), (0, 1));
    let mut value = 0;
    cu!(cuFuncGetAttribute(&mut value, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, kernel)).unwrap();
    assert_eq!(value, 1024);
}

#[test]
fn registers_limit_threads_where_they_are_known() {
    let device = Device::new("");
    device.simulator.set_registers(Some(device.ordinal), "empty", 128).unwrap();
    let empty = device.raw_function(EMPTY, "empty");
    assert_eq!((shape(empty, [1; 3], [512, 1, 1], 0), shape(empty, [1; 3], [513, 1, 1], 0)), (0, 701));
    let mut blocks = 0;
    cu!(cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut blocks, empty, 128, 0)).unwrap();
    assert_eq!(blocks, 4, "65,536 / (128 x 128)");
    let free = device.raw_function(".visible .entry free() { ret; }", "free");
    cu!(cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut blocks, free, 128, 100 * 1024)).unwrap();
    assert_eq!(blocks, 0, "so much dynamic shared memory must be asked for");
    let allow = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    cu!(cuFuncSetAttribute(free, allow, 100 * 1024)).unwrap();
    cu!(cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut blocks, free, 128, 100 * 1024)).unwrap();
    assert_eq!(blocks, 2, "228 KiB / 101 KiB");
}

#[test]
fn cooperative_blocks_must_fit_at_once() {
    let device = Device::new("");
    let empty = device.raw_function(EMPTY, "empty");
    let launch = |blocks| cu!(cuLaunchCooperativeKernel(empty, blocks, 1, 1, 1024, 1, 1, 0, null(), null()));
    launch(264).unwrap();
    assert_eq!(code(launch(265)), 720);
    cu!(cuCtxSynchronize()).unwrap();
}

#[test]
fn clusters_are_limited() {
    let device = Device::new("");
    let empty = device.raw_function(EMPTY, "empty");
    let launch = |grid: u32, cluster: u32| {
        // SAFETY: all zeros are a value of it.
        let mut attribute: sys::CUlaunchAttribute = unsafe { std::mem::zeroed() };
        attribute.id = sys::CUlaunchAttributeID_enum::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
        attribute.value.clusterDim = sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x: cluster, y: 1, z: 1 };
        let config = sys::CUlaunchConfig {
            gridDimX: grid,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: 32,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: 0,
            hStream: null(),
            attrs: &mut attribute,
            numAttrs: 1,
        };
        cu!(cuLaunchKernelEx(&config, empty, null(), null())).map_or_else(|error| error.0 as i32, |()| 0)
    };

    assert_eq!((launch(16, 8), launch(16, 16), launch(12, 8)), (0, 912, 912));
    let allow = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED;
    cu!(cuFuncSetAttribute(empty, allow, 1)).unwrap();
    assert_eq!((launch(16, 16), launch(17, 17)), (0, 912));

    let fixed = device.raw_function(".visible .entry fixed() .reqnctapercluster 2 { ret; }", "fixed");
    assert_eq!((shape(fixed, [4, 1, 1], [1; 3], 0), shape(fixed, [3, 1, 1], [1; 3], 0)), (0, 912));
    cu!(cuCtxSynchronize()).unwrap();
}

#[test]
fn parameters_come_as_pointers_or_as_a_buffer() {
    let device = Device::new("");
    let add = device.raw_function(ADD, "add");
    let (x, y) = (device.upload(&[5]), device.upload(&[1]));
    let mut buffer = [y, x, 1_u64];
    let size = std::cell::Cell::new(size_of_val(&buffer));
    let number = std::ptr::without_provenance_mut::<c_void>;
    let mut extra = [number(1), buffer.as_mut_ptr().cast(), number(2), size.as_ptr().cast(), number(0)];
    let pointer = extra.as_mut_ptr();
    cu!(cuLaunchKernel(add, 1, 1, 1, 32, 1, 1, 0, null(), null(), pointer)).unwrap();
    assert_eq!(device.download(y, 1, null()).unwrap(), [6]);
    size.set(16);
    assert_eq!(code(cu!(cuLaunchKernel(add, 1, 1, 1, 32, 1, 1, 0, null(), null(), pointer))), 1);
    assert_eq!(shape(add, [1; 3], [32, 1, 1], 0), 1, "no parameters at all");
}
