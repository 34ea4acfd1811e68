//! Every collective against what it should give, between two and three processes: this program starts itself once more as each rank.

use igpt_engine::comm::{self, Comm, Launch, Reduction};
use igpt_engine::device::{CudaDevice, Device, Precision, Tensors};

use crate::{Libraries, Rank, Ranks, port};

/// Set in the processes that are ranks.
const AS_RANK: &str = "IGPT_TEST_AS_RANK";

#[test]
fn collectives_of_two_and_three_ranks() {
    let Some(libraries) = Libraries::new() else { return };
    for ranks in [2, 3] {
        let port = port();
        let start = |rank| {
            let mut command = libraries.rank(&std::env::current_exe().unwrap(), [rank, ranks], port);
            Rank::start(command.args(["--exact", "collectives::as_rank", "--nocapture"]).env(AS_RANK, "1"))
        };
        let ended = Ranks { ranks: (0..ranks).map(start).collect(), port }.end();
        assert!(
            ended.iter().all(|rank| rank.code == Some(0) && rank.output.contains("all as they should be")),
            "{ended:#?}"
        );
    }
}

/// What a rank does; nothing in an ordinary run of the tests.
#[test]
fn as_rank() {
    if std::env::var_os(AS_RANK).is_none() {
        return;
    }
    let launch = Launch::from_environment().unwrap();
    let device = CudaDevice::new(0, Precision::Bf16).unwrap();
    let comm = comm::open(&launch, &device, Reduction::Exact, None).unwrap();
    assert_eq!((comm.rank(), comm.size()), (launch.rank, launch.size));
    check(&device, &*comm);

    // A group of the odd ranks and one of the even, in reverse order.
    let group = comm.split(&device, launch.rank % 2, launch.size - launch.rank).unwrap();
    let colour = (0..launch.size).filter(|rank| rank % 2 == launch.rank % 2).count();
    assert_eq!(group.size(), colour);
    assert_eq!(group.rank(), (launch.rank + 1..launch.size).filter(|rank| rank % 2 == launch.rank % 2).count());
    check(&device, &*group);
    println!("all as they should be");
}

/// Two communicators of the same ranks, which rank 1 calls the other way round.
#[test]
fn communicators_in_opposite_orders_are_reported() {
    let Some(libraries) = Libraries::new() else { return };
    let port = port();
    let start = |rank| {
        let mut command = libraries.rank(&std::env::current_exe().unwrap(), [rank, 2], port);
        command.args(["--exact", "collectives::out_of_order", "--nocapture"]).env(AS_RANK, "1");
        // The other rank waits in the communicator that this is not reported of.
        Rank::start(command.env("NCCLSIM_TIMEOUT_MS", "4000"))
    };
    let ended = Ranks { ranks: (0..2).map(start).collect(), port }.end();
    let told: String = ended.iter().map(|rank| rank.error.as_str()).collect();
    assert!(told.contains("call two communicators in opposite orders"), "{ended:#?}");
    assert!(ended.iter().all(|rank| rank.output.contains("refused")), "{ended:#?}");
}

/// What a rank of that does; nothing in an ordinary run of the tests.
#[test]
fn out_of_order() {
    if std::env::var_os(AS_RANK).is_none() {
        return;
    }
    let launch = Launch::from_environment().unwrap();
    let device = CudaDevice::new(0, Precision::Bf16).unwrap();
    let all = comm::open(&launch, &device, Reduction::Exact, None).unwrap();
    let group = all.split(&device, 0, launch.rank).unwrap();
    let (mut one, mut other) = (device.zeros(&[8]).unwrap(), device.zeros(&[8]).unwrap());

    // In one order it is allowed.
    all.all_reduce(&device, &mut one).unwrap();
    group.all_reduce(&device, &mut other).unwrap();
    group.barrier(&device).unwrap();

    let [first, second] = if launch.rank == 0 { [&all, &group] } else { [&group, &all] };
    let outcome = first.all_reduce(&device, &mut one).and_then(|()| second.all_reduce(&device, &mut other));
    let waited = device.download(&other).and_then(|_| all.check()).and_then(|()| group.check());
    assert!(outcome.is_err() || waited.is_err(), "both ranks go on");
    println!("refused");
}

/// Element `index` of what rank `rank` starts with: sums of three of them are rounded.
fn number(rank: usize, index: usize) -> f32 {
    ((index * 7 + rank * 13) as f32 * 0.618_034).fract() - 0.3
}

/// Sizes beside a vector, and more than the stand-in moves at once.
fn check<D: Device>(device: &D, comm: &dyn Comm<D>) {
    let (rank, size) = (comm.rank(), comm.size());
    for part in [1, 3, 64, 300_001] {
        let numbers = |rank: usize, count: usize| (0..count).map(|index| number(rank, index)).collect::<Vec<_>>();
        let upload = |values: &[f32]| device.upload(&[values.len()], values).unwrap();
        let whole = size * part;
        let sum = |index: usize| (1..size).fold(number(0, index), |sum, rank| sum + number(rank, index));

        let mut tensor = upload(&numbers(rank, part));
        comm.all_reduce(device, &mut tensor).unwrap();
        assert_eq!(device.download(&tensor).unwrap(), (0..part).map(sum).collect::<Vec<_>>());

        let mut receive = device.zeros(&[part]).unwrap();
        comm.reduce_scatter(device, &mut upload(&numbers(rank, whole)), &mut receive).unwrap();
        let expected: Vec<f32> = (rank * part..(rank + 1) * part).map(sum).collect();
        assert_eq!(device.download(&receive).unwrap(), expected);

        let mut all = device.zeros(&[whole]).unwrap();
        comm.all_gather(device, &mut upload(&numbers(rank, part)), &mut all).unwrap();
        assert_eq!(device.download(&all).unwrap(), (0..size).flat_map(|rank| numbers(rank, part)).collect::<Vec<_>>());

        comm.all_to_all(device, &mut upload(&numbers(rank, whole)), &mut all).unwrap();
        let expected = (0..size).flat_map(|peer| numbers(peer, whole)[rank * part..][..part].to_vec());
        assert_eq!(device.download(&all).unwrap(), expected.collect::<Vec<_>>());

        let mut tensor = upload(&numbers(rank, part));
        comm.broadcast(device, &mut tensor, size - 1).unwrap();
        assert_eq!(device.download(&tensor).unwrap(), numbers(size - 1, part));
    }
    assert!(
        comm.all_gather(device, &mut device.zeros(&[2]).unwrap(), &mut device.zeros(&[2 * size + 1]).unwrap()).is_err()
    );

    // Captured, and replayed three times: each replay is a collective.
    let mut tensor = device.upload(&[2], &[1.0, 2.0]).unwrap();
    comm.all_reduce(device, &mut tensor).unwrap();
    device.overwrite(&mut tensor, &[1.0, 2.0]).unwrap();
    let (_, recording) = device.record(|| comm.all_reduce(device, &mut tensor)).unwrap();
    let recording = recording.expect("a graph");
    (0..2).for_each(|_| device.replay(&recording).unwrap());
    let grown = (size * size * size) as f32;
    assert_eq!(device.download(&tensor).unwrap(), [grown, 2.0 * grown]);
    comm.barrier(device).unwrap();
    comm.check().unwrap();
}
