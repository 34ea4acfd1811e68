//! Work beside the main order: what orders it, and that whatever nothing orders is found.

use igpt_engine::device::cuda::{Wait, plant_missing};
use igpt_engine::device::prelude::*;
use igpt_engine::device::{CpuDevice, CudaDevice, Device, Precision, Result};
use test_support::devices;

const COUNT: usize = 5000;

/// A card of the simulator that no other test has: a fault of one ends what others do on it.
fn card(ordinal: u32, options: &str) -> Option<CudaDevice> {
    let simulator = devices::simulator()?;
    simulator.set_options(None, "devices=12").unwrap();
    simulator.set_options(Some(ordinal), options).unwrap();
    Some(CudaDevice::new(ordinal as usize, Precision::F32).unwrap())
}

/// Sums made beside the main order of what that has written before, which it reads once it has met them, and writes on meanwhile; three
/// times, recorded from the second time on or never.
fn sums<D: Device>(device: &D, recorded: bool) -> Result<Vec<f32>> {
    let one = device.upload(&[COUNT], &[1.0; COUNT])?;
    let zeros = || device.zeros(&[COUNT]);
    let (mut terms, mut sums, mut total) = ([zeros()?, zeros()?], [zeros()?, zeros()?], zeros()?);
    let mut work = || {
        for index in [0, 1] {
            device.add_assign(&mut terms[index], &one)?;
            let mark = device.beside(|| device.add_assign(&mut sums[index], &terms[index]))?;
            device.add_assign(&mut total, &one)?;
            device.meet(&mark)?;
            assert!(device.has_met(&mark));
            device.add_assign(&mut terms[index], &one)?;
            device.add_assign(&mut total, &sums[index])?;
        }
        for sum in &mut sums {
            device.beside(|| device.add_assign(sum, &one))?;
        }
        device.join()?;
        sums.iter().try_for_each(|sum| device.add_assign(&mut total, sum))
    };

    work()?;
    match recorded {
        true => {
            let ((), recording) = device.record(&mut work)?;
            recording.iter().try_for_each(|recording| device.replay(recording))?;
            // Where nothing is recorded, nothing is replayed.
            if recording.is_none() {
                work()?;
            }
        }
        false => (0..2).try_for_each(|_| work())?,
    }
    let parts = [&terms[0], &terms[1], &sums[0], &sums[1], &total].map(|tensor| device.download(tensor));
    parts.into_iter().collect::<Result<Vec<_>>>().map(|parts| parts.concat())
}

/// The orders in which a device may do what nothing orders.
fn schedules() -> impl Iterator<Item = String> {
    let eager = ["streams=eager".to_owned(), "streams=late".to_owned()].into_iter();
    (0..6).map(|seed| format!("seed={seed},streams=random")).chain(eager)
}

#[test]
fn marks_and_joins_order_what_is_done_beside() {
    let expected = sums(&CpuDevice::new(Some(1)).unwrap(), true).unwrap();
    for options in schedules() {
        let Some(device) = card(8, &options) else { return };
        for recorded in [false, true] {
            assert!(sums(&device, recorded).unwrap() == expected, "{options}, recorded: {recorded}");
        }
    }
}

/// Each kind of wait left out, while the host believes that it was asked for: other numbers in some schedule, or a capture that the driver
/// refuses.
#[test]
fn the_simulator_finds_a_wait_that_is_missing() {
    let expected = sums(&CpuDevice::new(Some(1)).unwrap(), true).unwrap();
    for (wait, recorded) in
        [Wait::Fork, Wait::Meet, Wait::Join].into_iter().flat_map(|wait| [(wait, false), (wait, true)])
    {
        let found = schedules().any(|options| {
            let device = card(9, &options);
            plant_missing(Some(wait));
            let got = device.as_ref().map(|device| sums(device, recorded));
            plant_missing(None);
            got.is_none_or(|got| got.ok().as_ref() != Some(&expected))
        });
        assert!(found, "nothing shows that {wait:?} is missing, recorded: {recorded}");
    }
}

/// What the host itself sees: also on a device that only counts.
#[test]
fn what_is_touched_too_early_is_refused_at_once() {
    let counting = CudaDevice::counting(Precision::F32);
    for device in card(10, "seed=1").into_iter().chain([counting]) {
        let one = device.upload(&[COUNT], &[1.0; COUNT]).unwrap();
        let [mut sum, mut total] = [(); 2].map(|()| device.zeros(&[COUNT]).unwrap());
        let mark = device.beside(|| device.add_assign(&mut sum, &one)).unwrap();
        let later = device.beside(|| device.add_assign(&mut total, &one)).unwrap();

        // Read, written, copied, downloaded.
        let refused = |result: Result<()>| {
            let error = result.expect_err("nothing was met yet").to_string();
            assert!(error.contains("work beside it may still be using"), "{error}");
        };
        assert!(!device.has_met(&mark));
        refused(device.add_assign(&mut sum, &one));
        refused(device.zero(&mut sum));
        refused(device.copy(&one, 0, &mut sum, 0, 7));
        refused(device.download(&sum).map(drop));
        refused(device.read(&[&sum]).map(drop));
        refused(device.gpu_memory(&mut sum).map(drop));

        // What was met, and what was not.
        device.meet(&mark).unwrap();
        device.add_assign(&mut sum, &sum_of(&device)).unwrap();
        refused(device.add_assign(&mut total, &sum));
        device.meet(&later).unwrap();
        device.add_assign(&mut total, &sum).unwrap();

        // What is beside moves no numbers, and asks for nothing beside itself.
        let moved =
            device.beside(|| device.overwrite(&mut sum, &[0.0; COUNT])).err().expect("numbers are moved").to_string();
        assert!(moved.contains("moves numbers between host and device"), "{moved}");
        let nested = device.beside(|| device.beside(|| Ok(())).map(drop)).err().expect("nested").to_string();
        assert!(nested.contains("asks for more beside it"), "{nested}");
        device.join().unwrap();
        device.download(&total).unwrap();
    }
}

/// A tensor of the main order.
fn sum_of(device: &CudaDevice) -> <CudaDevice as Tensors>::Tensor {
    device.upload(&[COUNT], &[2.0; COUNT]).unwrap()
}

/// Memory of a tensor that is dropped while it may be in use beside is nobody's until the orders join.
#[test]
fn memory_in_use_beside_is_handed_to_nobody() {
    let Some(device) = card(11, "streams=late") else { return };
    let mut sum = device.zeros(&[COUNT]).unwrap();
    let run = |device: &CudaDevice, sum: &mut <CudaDevice as Tensors>::Tensor| {
        let term = device.upload(&[COUNT], &[3.0; COUNT]).unwrap();
        device.beside(|| device.add_assign(sum, &term)).unwrap();
        drop(term);
        let before = device.memory_use().allocated;
        let other = device.upload(&[COUNT], &[100.0; COUNT]).unwrap();
        let grown = device.memory_use().allocated - before;
        device.join().unwrap();
        (other, grown)
    };
    let (other, grown) = run(&device, &mut sum);
    assert!(grown >= 4 * COUNT, "the memory was handed on");
    assert_eq!(device.download(&sum).unwrap(), [3.0; COUNT]);
    // After the join it is free again.
    drop(other);
    let (_, grown) = run(&device, &mut sum);
    assert_eq!(grown, 0);
    assert_eq!(device.download(&sum).unwrap(), [6.0; COUNT]);

    // A device ends after what is beside has.
    let term = device.upload(&[COUNT], &[1.0; COUNT]).unwrap();
    device.beside(|| device.add_assign(&mut sum, &term)).unwrap();
    drop((sum, term));
    drop(device);
}
