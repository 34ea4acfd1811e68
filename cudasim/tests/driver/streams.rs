//! Streams run as late as they may: what host code forgets to wait for is not there.

use std::ffi::c_void;
use std::sync::atomic::{AtomicI32, Ordering};

use cudarc::driver::sys;

use crate::support::{ADD, Device, EMPTY, code, cu};

#[test]
fn a_copy_to_page_locked_memory_is_not_there_before_its_stream_is_waited_for() {
    for seed in 0..4 {
        let device = Device::new(&format!("seed={seed}"));
        let (memory, stream) = (device.upload(&[1, 2, 3, 4]), device.stream());
        let host = device.pinned(4);
        cu!(cuMemcpyDtoHAsync_v2(host.as_mut_ptr().cast(), memory, 16, stream)).unwrap();
        assert_eq!(host, [0; 4], "read too early");
        cu!(cuStreamSynchronize(stream)).unwrap();
        assert_eq!(host, [1, 2, 3, 4]);
    }
}

#[test]
fn page_locked_memory_is_read_when_the_copy_runs_and_pageable_memory_when_it_is_queued() {
    let device = Device::new("");
    let (memory, stream) = (device.upload(&[0; 2]), device.stream());
    let (host, mut pageable) = (device.pinned(1), [7_u32]);
    host[0] = 1;
    cu!(cuMemcpyHtoDAsync_v2(memory, host.as_ptr().cast(), 4, stream)).unwrap();
    cu!(cuMemcpyHtoDAsync_v2(memory + 4, pageable.as_ptr().cast(), 4, stream)).unwrap();
    // Both are changed too early; for the second it does no harm.
    host[0] = 2;
    pageable[0] = 8;
    assert_eq!(device.download(memory, 2, stream).unwrap(), [2, 7]);
    assert_eq!(pageable, [8]);
}

/// One stream adds to what the other reads; returns what is read.
fn across(options: &str, ordered: bool, flags: sys::CUstream_flags) -> u32 {
    let device = Device::new(options);
    let add = device.raw_function(ADD, "add");
    let (x, y) = (device.upload(&[5]), device.upload(&[1]));
    let (producer, consumer) = (device.stream_with(flags), device.stream_with(flags));
    device.launch(add, 1, 32, producer, &[y, x, 1]).unwrap();
    if ordered {
        let event = device.event();
        cu!(cuEventRecord(event, producer)).unwrap();
        cu!(cuStreamWaitEvent(consumer, event, 0)).unwrap();
    }
    device.download(y, 1, consumer).unwrap()[0]
}

#[test]
fn streams_are_ordered_by_events_alone() {
    let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING;
    assert_eq!(across("streams=late", false, flags), 1, "the missing event shows");
    assert_eq!(across("streams=eager", false, flags), 6, "and is hidden where streams are not lazy");
    for seed in 0..8 {
        assert_eq!(across(&format!("seed={seed}"), true, flags), 6);
    }
}

#[test]
fn the_default_stream_waits_for_blocking_streams_and_they_for_it() {
    let null = std::ptr::null_mut();
    let run = |flags| {
        let device = Device::new("streams=late");
        let add = device.raw_function(ADD, "add");
        let (x, y) = (device.upload(&[5]), device.upload(&[1]));
        let (before, after) = (device.stream_with(flags), device.stream_with(flags));
        device.launch(add, 1, 32, before, &[y, x, 1]).unwrap();
        device.launch(add, 1, 32, null, &[y, y, 1]).unwrap();
        device.download(y, 1, after).unwrap()[0]
    };
    assert_eq!(run(sys::CUstream_flags::CU_STREAM_DEFAULT), 12);
    assert_eq!(run(sys::CUstream_flags::CU_STREAM_NON_BLOCKING), 1);
}

#[test]
fn memory_of_a_stream_is_there_when_the_stream_gets_so_far() {
    let device = Device::new("streams=late");
    let (one, other) = (device.stream(), device.stream());
    let mut memory = 0;
    cu!(cuMemAllocAsync(&mut memory, 16, one)).unwrap();
    cu!(cuMemsetD32Async(memory, 3, 4, one)).unwrap();
    assert_eq!(device.download(memory, 4, one).unwrap(), [3; 4]);
    cu!(cuMemFreeAsync(memory, one)).unwrap();
    cu!(cuMemAllocAsync(&mut memory, 16, one)).unwrap();
    // The other stream does not wait for the allocation.
    assert_eq!(code(device.download(memory, 4, other)), 700);
    let reports = device.reports();
    assert!(reports.contains("out of bounds: copies at") && reports.contains("cuMemcpyDtoHAsync_v2"), "{reports}");
}

static ORDER: AtomicI32 = AtomicI32::new(0);

extern "C" fn host_function(data: *mut c_void) {
    let mut count = 0;
    // The driver cannot be called from here.
    ORDER.store(if code(cu!(cuDeviceGetCount(&mut count))) == 800 { 1 } else { -1 }, Ordering::SeqCst);
    // SAFETY: the word of page-locked memory that the test passed.
    unsafe { *data.cast::<u32>() += 1 };
}

#[test]
fn host_functions_run_in_their_place() {
    let device = Device::new("");
    let (memory, stream) = (device.upload(&[41]), device.stream());
    let host = device.pinned(1);
    let pointer = host.as_mut_ptr().cast::<c_void>();
    cu!(cuMemcpyDtoHAsync_v2(pointer, memory, 4, stream)).unwrap();
    cu!(cuLaunchHostFunc(stream, Some(host_function), pointer)).unwrap();
    cu!(cuMemcpyHtoDAsync_v2(memory, pointer, 4, stream)).unwrap();
    assert_eq!(ORDER.load(Ordering::SeqCst), 0);
    assert_eq!(device.download(memory, 1, stream).unwrap(), [42]);
    assert_eq!(ORDER.load(Ordering::SeqCst), 1);
}

#[test]
fn polling_ends() {
    let device = Device::new("");
    let (empty, stream, event) = (device.raw_function(EMPTY, "empty"), device.stream(), device.event());
    for _ in 0..5 {
        device.launch(empty, 1, 1, stream, &[]).unwrap();
    }
    cu!(cuEventRecord(event, stream)).unwrap();
    assert_eq!(code(cu!(cuEventQuery(event))), 600);
    assert!((0..1000).any(|_| cu!(cuEventQuery(event)).is_ok()));
    cu!(cuStreamQuery(stream)).unwrap();
}

#[test]
fn events_measure_time() {
    let device = Device::new("");
    let (empty, stream) = (device.raw_function(EMPTY, "empty"), device.stream());
    let (start, end) = (device.event(), device.event());
    let mut milliseconds = -1.0;
    cu!(cuEventRecord(start, stream)).unwrap();
    device.launch(empty, 64, 128, stream, &[]).unwrap();
    cu!(cuEventRecord(end, stream)).unwrap();
    assert_eq!(code(cu!(cuEventElapsedTime(&mut milliseconds, start, end))), 600);
    cu!(cuEventSynchronize(end)).unwrap();
    cu!(cuEventElapsedTime(&mut milliseconds, start, end)).unwrap();
    assert!((0.0..60_000.0).contains(&milliseconds) && milliseconds > 0.0, "{milliseconds} ms");
    let mut untimed = std::ptr::null_mut();
    cu!(cuEventCreate(&mut untimed, sys::CUevent_flags::CU_EVENT_DISABLE_TIMING as u32)).unwrap();
    cu!(cuEventRecord(untimed, stream)).unwrap();
    assert_eq!(code(cu!(cuEventElapsedTime(&mut milliseconds, start, untimed))), 400);
}

#[test]
fn a_destroyed_stream_still_does_its_work() {
    let device = Device::new("streams=late");
    let (memory, stream, event) = (device.upload(&[1]), device.stream(), device.event());
    cu!(cuMemsetD32Async(memory, 9, 1, stream)).unwrap();
    cu!(cuEventRecord(event, stream)).unwrap();
    cu!(cuStreamDestroy_v2(stream)).unwrap();
    assert_eq!(code(cu!(cuStreamSynchronize(stream))), 400);
    cu!(cuEventSynchronize(event)).unwrap();
    assert_eq!(device.download(memory, 1, std::ptr::null_mut()).unwrap(), [9]);
}

#[test]
fn threads_share_a_context() {
    let device = Device::new("");
    let add = device.raw_function(ADD, "add") as usize;
    let x = device.upload(&[1; 1024]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                device.context.bind_to_thread().unwrap();
                let (y, stream) = (device.upload(&[0; 1024]), device.stream());
                let add = std::ptr::with_exposed_provenance_mut(add);
                for _ in 0..5 {
                    device.launch(add, 8, 128, stream, &[y, x, 1024]).unwrap();
                }
                assert_eq!(device.download(y, 1024, stream).unwrap(), [5; 1024]);
            });
        }
    });
}
