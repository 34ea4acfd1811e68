//! The path of every program: a context, memory, a module, a launch.

use cudarc::driver::{LaunchConfig, PushKernelArg};

use crate::support::{ADD, Device};

#[test]
fn a_vector_is_added() {
    let device = Device::new("");
    let stream = device.context.default_stream();
    let add = device.function(ADD, "add");
    let n = 1000_u32;
    let x: Vec<u32> = (0..n).collect();
    let y: Vec<u32> = (0..n).map(|i| i * i).collect();
    let x_there = stream.clone_htod(&x).unwrap();
    let mut y_there = stream.clone_htod(&y).unwrap();
    let mut launch = stream.launch_builder(&add);
    launch.arg(&mut y_there).arg(&x_there).arg(&n);
    // SAFETY: the arguments are the kernel's, and it stays below n.
    unsafe { launch.launch(LaunchConfig::for_num_elems(n)) }.unwrap();
    let sums = stream.clone_dtoh(&y_there).unwrap();
    assert_eq!(sums, (0..n).map(|i| i + i * i).collect::<Vec<_>>());
    assert_eq!(device.reports(), "");
}
