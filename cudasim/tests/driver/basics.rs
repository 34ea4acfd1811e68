//! The path of every program: a context, memory, a module, a launch.

use std::ffi::{CStr, CString, c_int, c_void};

use cudarc::driver::{LaunchConfig, PushKernelArg, result, sys};

use crate::support::{ADD, Device, code, cu, simulator};

#[test]
fn a_vector_is_added() {
    let device = Device::new("");
    let stream = device.context.default_stream();
    let add = device.function(ADD, "add");
    let n = 1000_u64;
    let x: Vec<u32> = (0..n as u32).collect();
    let y: Vec<u32> = x.iter().map(|i| i * i).collect();
    let x_there = stream.clone_htod(&x).unwrap();
    let mut y_there = stream.clone_htod(&y).unwrap();
    let mut launch = stream.launch_builder(&add);
    launch.arg(&mut y_there).arg(&x_there).arg(&n);
    // SAFETY: the arguments are the kernel's, and it stays below n.
    unsafe { launch.launch(LaunchConfig::for_num_elems(n as u32)) }.unwrap();
    let sums = stream.clone_dtoh(&y_there).unwrap();
    assert_eq!(sums, x.iter().map(|i| i + i * i).collect::<Vec<_>>());
    assert_eq!(device.reports(), "");
}

#[test]
fn the_device_is_like_an_h100_but_does_not_say_that_it_is_one() {
    let device = Device::new("");
    let attribute = |which| device.context.attribute(which).unwrap();
    use sys::CUdevice_attribute_enum::*;
    assert_eq!(device.context.compute_capability().unwrap(), (9, 0));
    assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT), 132);
    assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN), 227 * 1024);
    assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK), 65536);
    assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED), 1);
    assert!(device.context.name().unwrap().contains("cudasim"));
    let mut value = 0;
    // SAFETY: a place for the value; the number is one that cuda.h does not have.
    let unknown = unsafe { raw_attribute()(&mut value, 148, device.ordinal as c_int) };
    assert_eq!(unknown, 1);
}

type GetAttribute = unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int;

/// `cuDeviceGetAttribute` for numbers that the enum of cudarc does not have.
fn raw_attribute() -> GetAttribute {
    let address = address_of("cuDeviceGetAttribute").unwrap();
    // SAFETY: the function of this name has this type.
    unsafe { std::mem::transmute::<*mut c_void, GetAttribute>(address) }
}

fn address_of(name: &str) -> Option<*mut c_void> {
    let name = CString::new(name).unwrap();
    let mut address = std::ptr::null_mut();
    let mut status = sys::CUdriverProcAddressQueryResult_enum::CU_GET_PROC_ADDRESS_SUCCESS;
    cu!(cuGetProcAddress_v2(name.as_ptr(), &mut address, 13000, 0, &mut status)).ok()?;
    Some(address)
}

#[test]
fn functions_are_found_by_name_without_their_version() {
    let _device = Device::new("");
    let newest = address_of("cuMemAlloc").unwrap();
    assert_eq!(newest, address_of("cuMemAlloc_v2").unwrap());
    assert!(address_of("cuMemAllocate").is_none() && address_of("malloc").is_none());
}

#[test]
fn errors_have_names() {
    simulator();
    assert_eq!(
        sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS.result().unwrap_err().error_name().unwrap(),
        c"CUDA_ERROR_ILLEGAL_ADDRESS"
    );
    let mut text = std::ptr::null();
    cu!(cuGetErrorString(sys::CUresult::CUDA_ERROR_INVALID_VALUE, &mut text)).unwrap();
    // SAFETY: the call succeeded, so it is a C string.
    assert_eq!(unsafe { CStr::from_ptr(text) }, c"invalid argument");
}

#[test]
fn contexts_are_current_by_thread_and_stacked() {
    let device = Device::new("");
    let current = || {
        let mut context = std::ptr::null_mut();
        cu!(cuCtxGetCurrent(&mut context)).unwrap();
        context
    };

    let primary = current();
    let mut other = std::ptr::null_mut();
    cu!(cuCtxCreate_v4(&mut other, std::ptr::null_mut(), 0, device.ordinal as c_int)).unwrap();
    assert_eq!(current(), other);
    let mut popped = std::ptr::null_mut();
    cu!(cuCtxPopCurrent_v2(&mut popped)).unwrap();
    assert_eq!((popped, current()), (other, primary));

    // Memory of one context does not belong to the other.
    let memory = device.upload(&[1, 2, 3]);
    cu!(cuCtxPushCurrent_v2(other)).unwrap();
    assert_eq!(code(cu!(cuMemsetD32Async(memory, 0, 3, std::ptr::null_mut()))), 1);
    cu!(cuCtxDestroy_v2(other)).unwrap();
    assert_eq!(current(), primary);
    cu!(cuMemFree_v2(memory)).unwrap();
    std::thread::spawn(|| {
        let mut memory = 0;
        assert_eq!(code(cu!(cuMemAlloc_v2(&mut memory, 4))), 201, "no context is current in a new thread");
    })
    .join()
    .unwrap();
}

#[test]
fn null_pointers_and_foreign_handles_are_refused() {
    let device = Device::new("");
    let null = std::ptr::null_mut::<u64>();
    assert_eq!(code(cu!(cuMemAlloc_v2(null, 4))), 1);
    assert_eq!(code(cu!(cuDeviceGetCount(null.cast()))), 1);
    assert_eq!(code(cu!(cuModuleLoadData(null.cast(), std::ptr::null()))), 1);
    let wrong = std::ptr::without_provenance_mut::<u64>(0x1234);
    assert_eq!(code(cu!(cuStreamSynchronize(wrong.cast()))), 400);
    assert_eq!(code(cu!(cuEventRecord(wrong.cast(), null.cast()))), 400);
    assert_eq!(code(cu!(cuGraphLaunch(wrong.cast(), null.cast()))), 400);
    assert_eq!(code(device.launch(wrong.cast(), 1, 1, null.cast(), &[])), 400);
    assert_eq!(code(cu!(cuModuleUnload(wrong.cast()))), 400);
    assert_eq!(code(result::device::get(200)), 101);
    let mut bytes = 0;
    assert_eq!(code(cu!(cuMemAlloc_v2(&mut bytes, 0))), 1);
    assert_eq!(code(cu!(cuMemAlloc_v2(&mut bytes, usize::MAX / 2))), 2);
}
