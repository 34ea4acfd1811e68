//! What goes wrong: codes, sticky contexts, reports, leaks.

use std::ffi::c_void;

use cudarc::driver::sys;

use crate::support::{ADD, Device, EMPTY, code, cu, simulator};

fn null<T>() -> *mut T {
    std::ptr::null_mut()
}

#[test]
fn a_fault_stays_with_its_context_and_names_its_place() {
    let (device, other) = (Device::new("threads=1"), Device::new(""));
    device.context.bind_to_thread().unwrap();
    let add = device.raw_function(ADD, "add");
    let (x, y) = (device.upload(&[1; 40]), device.upload(&[1; 39]));
    device.launch(add, 2, 32, null(), &[y, x, 40]).unwrap();
    assert_eq!(code(cu!(cuCtxSynchronize())), 700);
    assert_eq!(code(device.launch(add, 1, 32, null(), &[y, x, 1])), 700, "the context is lost");
    assert_eq!(code(cu!(cuMemAlloc_v2(&mut 0, 4))), 700);
    let json = device.simulator.take_reports_json(Some(device.ordinal));

    for part in [
        "\"kind\":\"out of bounds\"",
        "\"kernel\":\"add\"",
        "\"block\":[1, 0, 0]",
        "\"thread\":[7, 0, 0]",
        &format!("\"address\":\"{:#x}\"", y + 39 * 4),
        "0 bytes past the end of allocation 1 of 156 bytes",
        "\"instruction\":\"ld.global.u32\"",
        "\"code\":700",
    ] {
        assert!(json.contains(part), "{part} in {json}");
    }

    assert_eq!(device.reports(), "", "reports are taken once");
    other.context.bind_to_thread().unwrap();
    cu!(cuCtxSynchronize()).unwrap();

    // Reset makes the device as new.
    device.simulator.reset(Some(device.ordinal)).unwrap();
    let mut context = null();
    cu!(cuDevicePrimaryCtxRetain(&mut context, device.ordinal as i32)).unwrap();
    cu!(cuCtxSetCurrent(context)).unwrap();
    assert_eq!(device.download(device.upload(&[3]), 1, null()).unwrap(), [3]);
}

#[test]
fn faults_have_the_codes_of_a_gpu() {
    let run = |body: &str| {
        let device = Device::new("");
        let text = format!(".visible .entry k(.param .u64 p) {{ .reg .b32 %r<4>; .reg .b64 %rd<4>; {body} ret; }}");
        let kernel = device.raw_function(&text, "k");
        let memory = device.upload(&[0; 4]);
        device.launch(kernel, 1, 1, null(), &[memory]).unwrap();
        code(cu!(cuCtxSynchronize()))
    };
    assert_eq!(run("ld.param.u64 %rd1, [p]; ld.global.u32 %r1, [%rd1+2];"), 716);
    assert_eq!(run("mov.u64 %rd1, 0; st.global.u32 [%rd1], 1;"), 700);
    assert_eq!(run("trap;"), 719);
}

#[test]
fn freed_memory_is_known() {
    let device = Device::new("");
    let add = device.raw_function(ADD, "add");
    let (x, y) = (device.upload(&[1; 8]), device.upload(&[1; 8]));
    cu!(cuMemFree_v2(x)).unwrap();
    assert_eq!(code(cu!(cuMemFree_v2(x))), 1);
    assert!(device.reports().contains("is freed twice"));
    assert_eq!(code(cu!(cuMemFree_v2(y + 4))), 1);
    assert!(device.reports().contains("is not the start of an allocation: byte 4 of allocation 1"));
    assert_eq!(code(cu!(cuMemcpyDtoDAsync_v2(y, x, 4, null()))), 1);
    // Misuse that the driver refuses leaves the context as it is; a kernel's use does not.
    device.launch(add, 1, 32, null(), &[y, x, 8]).unwrap();
    assert_eq!(code(cu!(cuCtxSynchronize())), 700);
    let reports = device.reports();
    assert!(reports.contains("allocation 0 of 32 bytes") && reports.contains("freed since"), "{reports}");
}

#[test]
fn what_outlives_its_context_is_reported() {
    let device = Device::new("");
    let (ordinal, simulator) = (device.ordinal, device.simulator);
    let memory = device.upload(&[1, 2]);
    let kept = device.upload(&[3]);
    device.stream();
    cu!(cuMemFree_v2(memory)).unwrap();
    drop(device);
    let reports = simulator.take_reports(Some(ordinal));
    assert!(reports.contains(&format!("leak: allocation 1 of 4 bytes at {kept:#x} was never freed")), "{reports}");
    assert!(reports.contains("leak: 1 stream was never destroyed"), "{reports}");
    assert!(!reports.contains("allocation 0"), "{reports}");
    let device = Device::new("leaks=off");
    let ordinal = device.ordinal;
    device.upload(&[1]);
    drop(device);
    assert_eq!(simulator.take_reports(Some(ordinal)), "");
}

#[test]
fn launches_are_counted_on_request() {
    let device = Device::new("counters=on");
    let empty = device.raw_function(EMPTY, "empty");
    device.launch(empty, 3, 64, null(), &[]).unwrap();
    cu!(cuCtxSynchronize()).unwrap();
    let counters = device.simulator.take_counters(Some(device.ordinal));
    assert!(
        counters.starts_with("{\"kernel\":\"empty\",\"launch\":0,\"grid\":[3, 1, 1],\"block\":[64, 1, 1]"),
        "{counters}"
    );
    assert!(counters.contains("\"warp_instructions\":6") && counters.lines().count() == 1, "{counters}");
    assert_eq!(device.simulator.take_counters(Some(device.ordinal)), "");
}

#[test]
fn options_that_are_not_there_are_named() {
    let error = simulator().set_options(Some(0), "sed=1").unwrap_err();
    assert!(error.starts_with("no option `sed`"), "{error}");
    assert!(simulator().set_options(Some(10_000), "seed=1").unwrap_err().contains("no device 10000"));
}

#[test]
fn memory_is_filled_and_copied_by_rows() {
    let device = Device::new("");
    let (mut memory, mut pitch) = (0, 0);
    cu!(cuMemAllocPitch_v2(&mut memory, &mut pitch, 12, 2, 4)).unwrap();
    cu!(cuMemsetD32Async(memory, 7, 2 * pitch / 4, null())).unwrap();
    let words = [1_u32, 2, 3, 4, 5, 6];
    use cudarc::driver::sys::{CUDA_MEMCPY2D, CUmemorytype_enum::*};
    let copy = CUDA_MEMCPY2D {
        srcXInBytes: 4,
        srcY: 0,
        srcMemoryType: CU_MEMORYTYPE_HOST,
        srcHost: words.as_ptr().cast(),
        srcDevice: 0,
        srcArray: null(),
        srcPitch: 12,
        dstXInBytes: 0,
        dstY: 0,
        dstMemoryType: CU_MEMORYTYPE_DEVICE,
        dstHost: null(),
        dstDevice: memory,
        dstArray: null(),
        dstPitch: pitch,
        WidthInBytes: 8,
        Height: 2,
    };

    cu!(cuMemcpy2D_v2(&copy)).unwrap();
    assert_eq!(device.download(memory, 3, null()).unwrap(), [2, 3, 7]);
    assert_eq!(device.download(memory + pitch as u64, 3, null()).unwrap(), [5, 6, 7]);

    // Memory that nothing was written to is not zero.
    let mut fresh = 0;
    cu!(cuMemAlloc_v2(&mut fresh, 4)).unwrap();
    assert_eq!(device.download(fresh, 1, null()).unwrap(), [0xcdcd_cdcd]);
}

#[test]
fn host_memory_is_registered_once_and_seen_by_kernels() {
    let device = Device::new("");
    let add = device.raw_function(ADD, "add");
    let mut words = vec![1_u32; 64];
    let (pointer, bytes) = (words.as_mut_ptr().cast::<c_void>(), 256);

    assert_eq!(code(cu!(cuMemHostUnregister(pointer))), 713);
    cu!(cuMemHostRegister_v2(pointer, bytes, 0)).unwrap();
    assert_eq!(code(cu!(cuMemHostRegister_v2(pointer, 4, 0))), 712);
    let x = device.upload(&[5; 64]);
    device.launch(add, 2, 32, null(), &[pointer as u64, x, 64]).unwrap();
    cu!(cuCtxSynchronize()).unwrap();
    cu!(cuMemHostUnregister(pointer)).unwrap();
    assert_eq!(words, [6; 64]);
    let mut managed = 0;
    cu!(cuMemAllocManaged(&mut managed, 4, 1)).unwrap();
    cu!(cuMemsetD32Async(managed, 9, 1, null())).unwrap();
    cu!(cuCtxSynchronize()).unwrap();
    // SAFETY: managed memory is the host's too.
    assert_eq!(unsafe { *std::ptr::with_exposed_provenance::<u32>(managed as usize) }, 9);
    cu!(cuMemFree_v2(managed)).unwrap();
}

/// What the driver locks is mapped: kernels read and write it where it is, inside a graph too, and no further than it goes.
#[test]
fn page_locked_memory_is_mapped_and_limited() {
    let device = Device::new("pinned=8192");
    let add = device.raw_function(ADD, "add");
    let flags = sys::CU_MEMHOSTALLOC_PORTABLE | sys::CU_MEMHOSTALLOC_DEVICEMAP;
    let lock = |bytes: usize| {
        let mut memory = std::ptr::null_mut();
        cu!(cuMemHostAlloc(&mut memory, bytes, flags)).map(|()| memory)
    };
    let memory = lock(4096).unwrap();
    assert_eq!(code(lock(4097)), 2, "more than may be locked");
    cu!(cuMemFreeHost(lock(4096).unwrap())).unwrap();

    // y += x in place, three times by a graph.
    let mut mapped = 0;
    cu!(cuMemHostGetDevicePointer_v2(&mut mapped, memory, 0)).unwrap();
    assert_eq!(mapped, memory as u64);
    let (x, stream) = (device.upload(&[5; 1024]), device.stream());
    let (mut graph, mut executable) = (std::ptr::null_mut(), std::ptr::null_mut());
    cu!(cuStreamBeginCapture_v2(stream, sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED)).unwrap();
    device.launch(add, 32, 32, stream, &[mapped, x, 1024]).unwrap();
    cu!(cuStreamEndCapture(stream, &mut graph)).unwrap();
    cu!(cuGraphInstantiateWithFlags(&mut executable, graph, 0)).unwrap();
    (0..3).for_each(|_| cu!(cuGraphLaunch(executable, stream)).unwrap());
    cu!(cuStreamSynchronize(stream)).unwrap();
    // SAFETY: 1,024 words that the stream is done with.
    assert_eq!(unsafe { std::slice::from_raw_parts(memory.cast::<u32>(), 1024) }, [15; 1024]);

    // Past its end.
    device.launch(add, 33, 32, stream, &[mapped, x, 1025]).unwrap();
    assert_eq!(code(cu!(cuStreamSynchronize(stream))), 700);
    assert!(device.reports().contains("out of bounds"), "{}", device.reports());
}
