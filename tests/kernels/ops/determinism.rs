//! The same inputs give the same bits: run after run, and on the CPU on any number of threads.

use igpt_engine::device::Device;

use super::everything::everything;
use super::support::Tested;

pub fn two_runs_agree<D: Device>(device: &Tested<D>) {
    let results = everything(device);
    assert!(results.iter().flatten().all(|bits| f32::from_bits(*bits).is_finite()));
    assert!(results == everything(device));
}

/// The CPU device promises more: threads change nothing.
#[test]
fn cpu_threads_change_nothing() {
    let [one, two, three] = [1, 2, 3].map(|threads| everything(&super::poisoned_cpu(threads)));
    for (index, ((one, two), three)) in one.iter().zip(&two).zip(&three).enumerate() {
        assert!(one == two && two == three, "result {index} depends on the threads");
    }
}

/// After the first step all memory is there.
#[test]
fn cpu_second_round_allocates_nothing() {
    let device = super::poisoned_cpu(1);
    everything(&device);
    let allocated = device.memory_use().allocated;
    everything(&device);
    assert_eq!(device.memory_use().allocated, allocated);
    assert_eq!(device.memory_use().in_use, 0);
}
