//! Capture and graphs.

use cudarc::driver::{DevicePtr, LaunchConfig, PushKernelArg, sys};

use crate::support::{ADD, Device, EMPTY, code, cu};

const GLOBAL: sys::CUstreamCaptureMode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_GLOBAL;
const RELAXED: sys::CUstreamCaptureMode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_RELAXED;

#[test]
fn work_of_two_streams_is_captured_and_replayed() {
    for seed in 0..8 {
        let device = Device::new(&format!("seed={seed}"));
        // SAFETY: the test itself keeps memory alive and in order.
        unsafe { device.context.disable_event_tracking() };
        let add = device.function(ADD, "add");
        let (one, other) = (device.context.new_stream().unwrap(), device.context.new_stream().unwrap());
        let n = 100_u64;
        let x = one.clone_htod(&vec![1_u32; n as usize]).unwrap();
        let (y, z) = (one.alloc_zeros::<u32>(n as usize).unwrap(), one.alloc_zeros::<u32>(n as usize).unwrap());
        one.synchronize().unwrap();
        let launch = |stream: &std::sync::Arc<cudarc::driver::CudaStream>, to: u64, from: u64| {
            let mut launch = stream.launch_builder(&add);
            launch.arg(&to).arg(&from).arg(&n);
            // SAFETY: the arguments are the kernel's, and it stays below n.
            unsafe { launch.launch(LaunchConfig::for_num_elems(n as u32)) }.unwrap();
        };

        let address = |slice: &cudarc::driver::CudaSlice<u32>| slice.device_ptr(&one).0;
        let (x_at, y_at, z_at) = (address(&x), address(&y), address(&z));
        one.begin_capture(GLOBAL).unwrap();
        launch(&one, y_at, x_at);

        // y += x is done before z += y on the other stream, and that before y += z on this one.
        other.join(&one).unwrap();
        launch(&other, z_at, y_at);
        one.join(&other).unwrap();
        launch(&one, y_at, z_at);
        let graph =
            one.end_capture(sys::CUgraphInstantiate_flags_enum::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH);

        let graph = graph.unwrap().expect("a graph");
        assert_eq!(one.clone_dtoh(&y).unwrap(), vec![0; n as usize], "nothing ran yet");
        let (mut y_here, mut z_here) = (0, 0);
        for _ in 0..3 {
            graph.launch().unwrap();
            y_here += 1;
            z_here += y_here;
            y_here += z_here;
        }

        assert_eq!(one.clone_dtoh(&y).unwrap(), vec![y_here; n as usize]);
        assert_eq!(one.clone_dtoh(&z).unwrap(), vec![z_here; n as usize]);
        assert_eq!(device.reports(), "");
    }
}

/// Begins a capture, does something, and ends it: the codes of both.
fn capture(mode: sys::CUstreamCaptureMode, body: impl FnOnce(&Device, sys::CUstream) -> i32) -> (i32, i32) {
    let device = Device::new("");
    let stream = device.stream_with(sys::CUstream_flags::CU_STREAM_DEFAULT);
    cu!(cuStreamBeginCapture_v2(stream, mode)).unwrap();
    let inside = body(&device, stream);
    let mut graph = std::ptr::without_provenance_mut(1);
    let end = cu!(cuStreamEndCapture(stream, &mut graph)).map_or_else(|error| error.0 as i32, |()| 0);
    assert_eq!(graph.is_null(), end != 0);
    // The stream works again.
    cu!(cuStreamSynchronize(stream)).unwrap();
    (inside, end)
}

#[test]
fn what_a_capture_forbids_invalidates_it() {
    assert_eq!(capture(GLOBAL, |_, stream| code(cu!(cuStreamSynchronize(stream)))), (900, 901));
    assert_eq!(capture(GLOBAL, |_, _| code(cu!(cuCtxSynchronize()))), (900, 901));
    let allocate = |_: &Device, _| cu!(cuMemAlloc_v2(&mut 0, 16)).map_or_else(|error| error.0 as i32, |()| 0);
    assert_eq!(capture(GLOBAL, allocate), (900, 901));
    assert_eq!(capture(RELAXED, allocate), (0, 0));

    let legacy = |device: &Device, _| {
        let empty = device.raw_function(EMPTY, "empty");
        code(device.launch(empty, 1, 1, std::ptr::null_mut(), &[]))
    };
    assert_eq!(capture(RELAXED, legacy), (906, 901));
    let isolated = |device: &Device, stream| {
        let (event, outside) = (device.event(), device.stream());
        cu!(cuEventRecord(event, outside)).unwrap();
        code(cu!(cuStreamWaitEvent(stream, event, 0)))
    };
    assert_eq!(capture(GLOBAL, isolated), (905, 901));
    let captured = |device: &Device, stream| {
        let event = device.event();
        cu!(cuEventRecord(event, stream)).unwrap();
        code(cu!(cuEventSynchronize(event)))
    };
    assert_eq!(capture(GLOBAL, captured), (907, 901));
}

#[test]
fn a_capture_ends_joined_and_where_it_began() {
    let fork = |device: &Device, stream| {
        let (event, other) = (device.event(), device.stream());
        cu!(cuEventRecord(event, stream)).unwrap();
        cu!(cuStreamWaitEvent(other, event, 0)).unwrap();
        let empty = device.raw_function(EMPTY, "empty");
        device.launch(empty, 1, 1, other, &[]).unwrap();
        other
    };

    assert_eq!(
        capture(RELAXED, |device, stream| {
            fork(device, stream);
            0
        }),
        (0, 904)
    );

    let elsewhere = |device: &Device, stream| {
        let other = fork(device, stream);
        code(cu!(cuStreamEndCapture(other, &mut std::ptr::null_mut())))
    };
    assert_eq!(capture(RELAXED, elsewhere), (903, 901));

    let device = Device::new("");
    let stream = device.stream();
    assert_eq!(code(cu!(cuStreamEndCapture(stream, &mut std::ptr::null_mut()))), 401);
    assert_eq!(code(cu!(cuStreamBeginCapture_v2(std::ptr::null_mut(), GLOBAL))), 900);
    cu!(cuStreamBeginCapture_v2(stream, GLOBAL)).unwrap();
    assert_eq!(code(cu!(cuStreamBeginCapture_v2(stream, GLOBAL))), 401);

    let ended = std::thread::scope(|scope| {
        let (stream, context) = (stream as usize, &device.context);
        let end = move || {
            context.bind_to_thread().unwrap();
            code(cu!(cuStreamEndCapture(std::ptr::with_exposed_provenance_mut(stream), &mut std::ptr::null_mut())))
        };
        scope.spawn(end).join().unwrap()
    });
    assert_eq!(ended, 908);
    cu!(cuStreamEndCapture(stream, &mut std::ptr::null_mut())).unwrap();
}

#[test]
fn copies_and_fills_of_a_graph_see_memory_as_it_is_at_each_launch() {
    let device = Device::new("");
    let (memory, stream, host) = (device.upload(&[0, 0]), device.stream(), device.pinned(2));
    cu!(cuStreamBeginCapture_v2(stream, GLOBAL)).unwrap();
    cu!(cuMemcpyHtoDAsync_v2(memory, host.as_ptr().cast(), 4, stream)).unwrap();
    cu!(cuMemcpyDtoDAsync_v2(memory + 4, memory, 4, stream)).unwrap();
    cu!(cuMemsetD32Async(memory, 100, 1, stream)).unwrap();

    let (mut graph, mut executable) = (std::ptr::null_mut(), std::ptr::null_mut());
    cu!(cuStreamEndCapture(stream, &mut graph)).unwrap();
    let mut nodes = 0;
    cu!(cuGraphGetNodes(graph, std::ptr::null_mut(), &mut nodes)).unwrap();
    assert_eq!(nodes, 3);
    cu!(cuGraphInstantiateWithFlags(&mut executable, graph, 0)).unwrap();
    cu!(cuGraphDestroy(graph)).unwrap();

    for value in [7, 8] {
        host[0] = value;
        cu!(cuGraphLaunch(executable, stream)).unwrap();
        assert_eq!(device.download(memory, 2, stream).unwrap(), [100, value]);
    }
    cu!(cuGraphExecDestroy(executable)).unwrap();
    assert_eq!(code(cu!(cuGraphExecDestroy(executable))), 400);
}
