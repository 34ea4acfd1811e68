//! Several ranks: processes of the shipped binary that train together, on the simulators of a GPU and of NCCL.
//!
//! The test itself starts them with torchrun's variables, so neither MPI nor a GPU is needed. Ranks on CPUs, under a real `mpirun`,
//! are in `mpi`, which `cargo xtask test --mpi` builds with that feature.

mod collectives;
mod fabric;
mod faults;
mod launching;
mod memory;
#[cfg(feature = "mpi")]
mod mpi;
mod offload;
mod overlap;
mod real_nccl;
mod saving;
mod stopping;
mod training;
mod transformers;
mod validation;
mod xl;
mod zero;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use igpt_engine::checkpoint::tensors::TensorFile;
use serde_json::Value;
use tempfile::TempDir;
use test_support::devices::{Wanted, nccl_library, simulator_library, wanted};

/// A model and steps of six micro-batches, which one, two and three ranks share, small enough that the simulator takes a fraction of a
/// second for a step.
const RUN: [&str; 26] = [
    "train",
    "--layers",
    "1",
    "--width",
    "64",
    "--heads",
    "2",
    "--resolution",
    "4",
    "--batch",
    "1",
    "--global-batch",
    "6",
    "--lr",
    "0.01",
    "--schedule",
    "constant",
    "--warmup",
    "1",
    "--eval-every",
    "0",
    "--sample-every",
    "0",
    "--save-every",
    "0",
    "--no-tensorboard",
];

/// A folder whose `libcuda.so` and `libnccl.so.2` are the simulators; nothing where tests run on no simulator.
struct Libraries(TempDir);

impl Libraries {
    fn new() -> Option<Self> {
        if wanted() != Wanted::Simulator {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        for (library, name) in [(simulator_library(), "libcuda.so"), (nccl_library(), "libnccl.so.2")] {
            std::os::unix::fs::symlink(library, folder.path().join(name)).unwrap();
        }
        Some(Self(folder))
    }

    /// A command as rank `rank` of `ranks` that meet at `port`.
    fn rank(&self, program: &Path, [rank, ranks]: [usize; 2], port: u16) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).env("NO_COLOR", "1").env_remove("RUST_BACKTRACE").env_remove("NCCL_COMM_ID");
        command.env("LD_LIBRARY_PATH", self.0.path()).env("CUDASIM", "stop=warning,seed=3");
        // A rank that waits for ever would outlive its test.
        command.env("NCCLSIM_TIMEOUT_MS", "180000").env("RAYON_NUM_THREADS", "1");
        if ranks > 1 {
            let variables = [("RANK", rank), ("WORLD_SIZE", ranks), ("LOCAL_RANK", rank)];
            command.envs(variables.map(|(name, value)| (name, value.to_string())));
            command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
        }
        command
    }

    /// The binary as each of `ranks` ranks, with flags and variables.
    fn train(&self, ranks: usize, out: &Path, flags: &[&str], variables: &[(&str, &str)]) -> Ranks {
        let port = port();
        let start = |rank| {
            let mut command = self.rank(engine(), [rank, ranks], port);
            command.args(RUN).args(["--device", "cuda"]).args(flags).arg("--out").arg(out);
            command.envs(variables.iter().copied());
            Rank::start(&mut command)
        };
        Ranks { ranks: (0..ranks).map(start).collect(), port }
    }
}

/// The binary under test.
fn engine() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_igpt-engine"))
}

/// A port that no other test of this process has. Nobody listens there: it names the ranks' shared memory.
fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = 20_000 + (std::process::id() % 400) as u16 * 100;
    own + 2 * NEXT.fetch_add(1, Ordering::SeqCst)
}

/// A rank that runs. What it prints is read on threads of their own, so that it never waits for a reader.
struct Rank {
    child: Child,
    printed: [std::thread::JoinHandle<String>; 2],
}

impl Rank {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        fn reader(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                let _ = from.read_to_end(&mut bytes);
                String::from_utf8_lossy(&bytes).into_owned()
            })
        }
        let printed = [reader(child.stdout.take().unwrap()), reader(child.stderr.take().unwrap())];
        Self { child, printed }
    }
}

/// Ranks that run together.
struct Ranks {
    ranks: Vec<Rank>,
    port: u16,
}

/// How a rank ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    output: String,
    error: String,
}

impl Ranks {
    /// Waits for all of them: minutes only where they hang, or the machine is far too busy.
    #[track_caller]
    fn end(self) -> Vec<Ended> {
        self.end_within(Duration::from_secs(200))
    }

    #[track_caller]
    fn end_within(self, limit: Duration) -> Vec<Ended> {
        let until = Instant::now() + limit;
        let mut late = false;
        let ended = |mut rank: Rank| {
            let code = loop {
                match rank.child.try_wait().unwrap() {
                    Some(status) => break status.code(),
                    None if Instant::now() > until => {
                        late = true;
                        let _ = rank.child.kill();
                        break rank.child.wait().unwrap().code();
                    }
                    None => std::thread::sleep(Duration::from_millis(5)),
                }
            };
            let [output, error] = rank.printed.map(|printed| printed.join().unwrap());
            Ended { code, output, error }
        };
        let ended: Vec<Ended> = self.ranks.into_iter().map(ended).collect();
        // Ranks that died before they had met have left their memory's name.
        let meeting = format!("127.0.0.1:{}", self.port + 1);
        let _ =
            std::fs::remove_file(Path::new("/dev/shm").join(ncclsim::api::name_at(&meeting).trim_start_matches('/')));
        assert!(!late, "ranks ran for more than {limit:?}: {ended:#?}");
        ended
    }

    /// Waits for all of them, which must succeed; what rank 0 printed. Others print nothing.
    #[track_caller]
    fn succeed(self) -> String {
        self.succeed_within(Duration::from_secs(200))
    }

    #[track_caller]
    fn succeed_within(self, limit: Duration) -> String {
        let mut ended = self.end_within(limit);
        assert!(ended.iter().all(|rank| rank.code == Some(0)), "{ended:#?}");
        let silent = |rank: &Ended| rank.output.is_empty() && rank.error.is_empty();
        assert!(ended[1..].iter().all(silent), "another rank than 0 speaks: {ended:#?}");
        ended.swap_remove(0).output
    }
}

/// Weights, averages and moments after `step`, by name of file and tensor: to the bit, whichever files they are in.
fn state(run: &Path, step: u64) -> BTreeMap<String, Vec<u32>> {
    let folder = run.join("checkpoints").join(format!("step-{step:08}"));
    let mut state = BTreeMap::new();
    for path in tensor_files(&folder) {
        let mut file = TensorFile::open(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let kind = name.split(['-', '.']).next().unwrap();
        let tensors: Vec<String> = file.tensors().map(|(name, _)| name.to_owned()).collect();
        for tensor in tensors {
            let bits = file.read(&tensor).unwrap().into_iter().map(f32::to_bits).collect();
            assert!(state.insert(format!("{kind}: {tensor}"), bits).is_none(), "{tensor} is in two files");
        }
    }
    assert!(state.contains_key("optimizer: second_moment.lm_head.weight"), "{:?}", state.keys());
    state
}

/// The files of tensors of a folder, in order.
fn tensor_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "safetensors")).collect();
    files.sort();
    files
}

/// Step, loss and norm of the gradient of a run's steps.
fn numbers(run: &Path) -> Vec<(u64, f64, f64)> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let of = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        Some((line.get("step")?.as_u64()?, line.get("loss")?.as_f64()?, line.get("grad_norm")?.as_f64()?))
    };
    text.lines().filter_map(of).collect()
}

/// A place for runs.
fn place() -> (TempDir, impl Fn(&str) -> PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_owned();
    (folder, move |name| root.join(name))
}
