//! Whether ranks reach each other: every collective with numbers that are known, and how fast it is.

use std::time::Instant;

use serde::Serialize;

use super::Comm;
use crate::device::{Device, Error, Result, Tensors};

/// A collective, tried at one size.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trial {
    /// Which.
    pub collective: &'static str,
    /// Bytes of the larger of a rank's two tensors.
    pub bytes: usize,
    /// What it took, the median of some rounds.
    pub seconds: f64,
    /// Bytes a second that a rank's link carried at least: whatever the algorithm, as nccl-tests count (`doc/PERFORMANCE.md`).
    pub bus_bytes_per_second: f64,
}

/// Rounds that are timed.
const ROUNDS: usize = 5;
/// Elements up to which a round has several calls, so that the clock is not what is measured.
const SMALL: usize = 1 << 16;

/// Element `index` of what rank `rank` sends: small whole numbers, whose sums have no rounding.
fn sent(rank: usize, index: usize) -> f32 {
    ((index * 7 + rank * 13) % 251) as f32
}

/// This rank of a group, and the elements of a part and of the whole.
#[derive(Clone, Copy)]
struct Place {
    rank: usize,
    size: usize,
    part: usize,
}

impl Place {
    fn sum(self, index: usize) -> f32 {
        (0..self.size).map(|rank| sent(rank, index)).sum()
    }
}

/// How it is called: with what is sent, and where that goes which is received.
type Call<D> = fn(&dyn Comm<D>, &D, &mut <D as Tensors>::Tensor, &mut <D as Tensors>::Tensor) -> Result<()>;

/// A collective between a tensor that is sent and one that is received.
struct Collective<D: Device> {
    name: &'static str,
    call: Call<D>,
    /// Parts in what is sent and in what is received; 0 where there is one tensor for both.
    parts: fn(usize) -> [usize; 2],
    /// Element of what this rank should have then.
    expected: fn(Place, usize) -> f32,
    /// Bytes that a link carries for one of the tensor.
    share: fn(f64) -> f64,
}

fn collectives<D: Device>() -> [Collective<D>; 5] {
    [
        Collective {
            name: "all-reduce",
            call: |comm, device, send, _| comm.all_reduce(device, send),
            parts: |size| [size, 0],
            expected: |place, index| place.sum(index),
            share: |size| 2.0 * (size - 1.0) / size,
        },
        Collective {
            name: "reduce-scatter",
            call: |comm, device, send, receive| comm.reduce_scatter(device, send, receive),
            parts: |size| [size, 1],
            expected: |place, index| place.sum(place.rank * place.part + index),
            share: |size| (size - 1.0) / size,
        },
        Collective {
            name: "all-gather",
            call: |comm, device, send, receive| comm.all_gather(device, send, receive),
            parts: |size| [1, size],
            expected: |place, index| sent(index / place.part, index % place.part),
            share: |size| (size - 1.0) / size,
        },
        Collective {
            name: "all-to-all",
            call: |comm, device, send, receive| comm.all_to_all(device, send, receive),
            parts: |size| [size, size],
            expected: |place, index| sent(index / place.part, place.rank * place.part + index % place.part),
            share: |size| (size - 1.0) / size,
        },
        Collective {
            name: "broadcast",
            call: |comm, device, send, _| comm.broadcast(device, send, comm.size() - 1),
            parts: |size| [size, 0],
            expected: |place, index| sent(place.size - 1, index),
            share: |_| 1.0,
        },
    ]
}

/// Tries every collective with tensors of about `bytes` each; `begin` is told of each before, `done` after. All ranks call it alike.
///
/// # Errors
/// [`Error::Peer`] where a number is wrong, on every rank; those of the collectives.
pub fn try_all<D: Device>(
    device: &D,
    comm: &dyn Comm<D>,
    bytes: &[usize],
    begin: impl Fn(&str, usize),
    mut done: impl FnMut(&Trial) -> Result<()>,
) -> Result<()> {
    for collective in collectives() {
        for bytes in bytes {
            let part = (bytes / size_of::<f32>()).div_ceil(comm.size()).max(1);
            begin(collective.name, *bytes);
            done(&try_one(device, comm, &collective, part)?)?;
        }
    }
    Ok(())
}

/// One collective with `part` elements of each rank.
fn try_one<D: Device>(device: &D, comm: &dyn Comm<D>, collective: &Collective<D>, part: usize) -> Result<Trial> {
    let place = Place { rank: comm.rank(), size: comm.size(), part };
    let [sends, receives] = (collective.parts)(place.size).map(|parts| parts * part);

    // Once for the numbers, into a tensor that has none of them.
    let values: Vec<f32> = (0..sends).map(|index| sent(place.rank, index)).collect();
    let mut send = device.upload(&[sends], &values)?;
    let mut receive = device.upload(&[receives.max(1)], &vec![f32::NAN; receives.max(1)])?;
    (collective.call)(comm, device, &mut send, &mut receive)?;
    let got = device.download(if receives == 0 { &send } else { &receive })?;
    let wrong = (0..got.len()).find(|index| got[*index] != (collective.expected)(place, *index));
    agree(device, comm, collective.name, wrong.map(|index| (index, got[index])))?;

    // Then for the time. Sums of sums grow, which costs no more.
    let calls = if sends.max(receives) <= SMALL { 8 } else { 1 };
    let mut seconds = Vec::new();
    let last = device.zeros(&[1])?;
    for _ in 0..ROUNDS {
        comm.barrier(device)?;
        let start = Instant::now();
        (0..calls).try_for_each(|_| (collective.call)(comm, device, &mut send, &mut receive))?;
        // What comes behind them in the device's order of work.
        device.wait(device.read(&[&last])?)?;
        seconds.push(start.elapsed().as_secs_f64() / calls as f64);
    }
    seconds.sort_by(f64::total_cmp);

    let (seconds, bytes) = (seconds[ROUNDS / 2], sends.max(receives) * size_of::<f32>());
    let bus_bytes_per_second = (collective.share)(place.size as f64) * bytes as f64 / seconds;
    Ok(Trial { collective: collective.name, bytes, seconds, bus_bytes_per_second })
}

/// All ranks learn whether any of them has got a wrong number; that one says which.
fn agree<D: Device>(device: &D, comm: &dyn Comm<D>, collective: &str, wrong: Option<(usize, f32)>) -> Result<()> {
    let mut flags = device.zeros(&[comm.size()])?;
    let mut own = device.upload(&[1], &[f32::from(u8::from(wrong.is_some()))])?;
    comm.all_gather(device, &mut own, &mut flags)?;
    let rank = device.download(&flags)?.iter().position(|flag| *flag != 0.0);
    comm.check()?;

    let (own, size) = (comm.rank(), comm.size());
    match (wrong, rank) {
        (None, None) => Ok(()),
        (Some((index, value)), _) => Err(Error::Peer(format!(
            "rank {own} of {size}: the {collective} gave {value} as element {index}, which is wrong; its cable, its card or its \
             driver spoils numbers (NCCL_DEBUG=INFO names the way that they took)"
        ))),
        (None, Some(rank)) => Err(Error::Peer(format!("rank {rank} has got wrong numbers by {collective}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::Single;
    use crate::device::CpuDevice;

    #[test]
    fn a_group_of_one_agrees_with_itself() {
        let device = CpuDevice::new(Some(1)).unwrap();
        let mut trials = Vec::new();
        try_all(
            &device,
            &Single,
            &[4, 4096],
            |_, _| (),
            |trial| {
                trials.push((trial.collective, trial.bytes));
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(trials.len(), 10);
        assert_eq!(trials[..2], [("all-reduce", 4), ("all-reduce", 4096)]);
        let wrong = agree(&device, &Single, "all-reduce", Some((3, 0.5))).unwrap_err().to_string();
        assert!(wrong.contains("0.5 as element 3"), "{wrong}");
    }
}
