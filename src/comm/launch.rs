//! Which rank this process is, from what started it: MPI, torchrun, Slurm, or nobody.
//!
//! | started by | rank, ranks, rank on its machine | where rank 0 is |
//! |---|---|---|
//! | `torchrun --no-python` | `RANK`, `WORLD_SIZE`, `LOCAL_RANK` | `MASTER_ADDR`, at the port after `MASTER_PORT`, which is torchrun's own |
//! | `srun` | `SLURM_PROCID`, `SLURM_NTASKS`, `SLURM_LOCALID` | the first machine of `SLURM_STEP_NODELIST`, at a port of the job's number |
//! | `mpirun` | `OMPI_COMM_WORLD_RANK`, `_SIZE`, `_LOCAL_RANK` | MPI tells (feature `mpi`); on one machine this one |
//!
//! `NCCL_COMM_ID=HOST:PORT` says where rank 0 is in the place of the last column.

use std::fmt;

/// What started the ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// A shell: there is one process.
    Alone,
    /// torchrun, or whatever sets its variables.
    Torchrun,
    /// Slurm's srun.
    Slurm,
    /// Open MPI's mpirun.
    Mpi,
}

impl fmt::Display for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alone => "one process",
            Self::Torchrun => "torchrun's variables",
            Self::Slurm => "Slurm",
            Self::Mpi => "mpirun",
        })
    }
}

/// Why the environment does not say which rank this is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LaunchError(String);

/// This process among the ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Which, from 0.
    pub rank: usize,
    /// How many there are.
    pub size: usize,
    /// Which of those on this machine: the number of its GPU.
    pub local_rank: usize,
    /// How many there are on this machine; all of them where the launcher does not say.
    pub local_size: usize,
    /// What started them.
    pub launcher: Launcher,
    /// `HOST:PORT` at which rank 0 meets the others; `None` where MPI tells, and of one rank.
    pub meeting: Option<String>,
}

/// The names of rank, number of ranks, rank on its machine, and number of ranks there.
const TORCHRUN: [&str; 4] = ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"];
const SLURM: [&str; 4] = ["SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE"];
const OPEN_MPI: [&str; 4] =
    ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"];

impl Launch {
    /// The only process.
    pub const ALONE: Self =
        Self { rank: 0, size: 1, local_rank: 0, local_size: 1, launcher: Launcher::Alone, meeting: None };

    /// From the environment.
    ///
    /// # Errors
    /// Variables of which some are missing, or are no numbers, or do not fit each other.
    pub fn from_environment() -> Result<Self, LaunchError> {
        Self::from(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// The same, from any environment.
    fn from(get: impl Fn(&str) -> Option<String>) -> Result<Self, LaunchError> {
        let ranks = |launcher, names| Self::ranks(&get, launcher, names);
        // mpirun first, as it may run inside of a Slurm job; torchrun's are set by hand over Slurm's.
        let mut launch = if get(OPEN_MPI[1]).is_some() {
            ranks(Launcher::Mpi, OPEN_MPI)?
        } else if TORCHRUN[..2].iter().any(|name| get(name).is_some()) {
            ranks(Launcher::Torchrun, TORCHRUN)?
        } else if get("SLURM_STEP_ID").is_some() && get(SLURM[0]).is_some() {
            // Not in a batch script itself, which has SLURM_PROCID=0 and SLURM_NTASKS too and is one process.
            ranks(Launcher::Slurm, SLURM)?
        } else {
            return Ok(Self::ALONE);
        };

        if launch.size > 1 {
            launch.meeting = match get("NCCL_COMM_ID") {
                Some(given) => Some(given),
                None => meeting(&get, launch.launcher)?,
            };
        }
        Ok(launch)
    }

    fn ranks(get: &impl Fn(&str) -> Option<String>, launcher: Launcher, names: [&str; 4]) -> Result<Self, LaunchError> {
        let [rank, size, local, local_size] = names;
        let number = |name: &str, other: &str| match get(name) {
            None => Err(LaunchError(format!(
                "{other} is set and {name} is not, so it is not known which of several ranks this is; start ranks by torchrun, \
                 srun or mpirun, which set both, or unset {other} to train alone"
            ))),
            Some(text) => text.parse::<usize>().map_err(|_| {
                LaunchError(format!("{name}={text} is not a number; it is set by what starts the ranks ({launcher})"))
            }),
        };
        let all = number(size, rank)?;
        let beside = get(local_size).and_then(|text| text.parse().ok());
        let launch = Self {
            rank: number(rank, size)?,
            size: all,
            local_size: beside.unwrap_or(all).clamp(1, all.max(1)),
            // Ranks of one machine count alike.
            local_rank: if get(local).is_some() { number(local, rank)? } else { number(rank, size)? },
            launcher,
            meeting: None,
        };
        if launch.rank >= launch.size {
            let (rank_is, size_is) = (launch.rank, launch.size);
            return Err(LaunchError(format!(
                "{rank}={rank_is} is not one of {size}={size_is} ranks, which count from 0"
            )));
        }
        Ok(launch)
    }
}

/// Where rank 0 meets the others.
fn meeting(get: &impl Fn(&str) -> Option<String>, launcher: Launcher) -> Result<Option<String>, LaunchError> {
    match launcher {
        Launcher::Alone => Ok(None),
        Launcher::Torchrun => {
            let lacks = |name: &str| {
                LaunchError(format!(
                    "{name} is not set, so the ranks cannot find rank 0; torchrun sets it, or give NCCL_COMM_ID=HOST:PORT, the \
                     same for all ranks, with a free port of rank 0's machine"
                ))
            };
            let address = get("MASTER_ADDR").ok_or_else(|| lacks("MASTER_ADDR"))?;
            let port = get("MASTER_PORT").ok_or_else(|| lacks("MASTER_PORT"))?;
            let port: u16 =
                port.parse().map_err(|_| LaunchError(format!("MASTER_PORT={port} is not a port, 1 to 65535")))?;
            // torchrun listens at the port itself.
            let beside = port.checked_add(1).unwrap_or(port - 1);
            Ok(Some(at(&address, beside)))
        }
        Launcher::Slurm => {
            let list = get("SLURM_STEP_NODELIST").or_else(|| get("SLURM_NODELIST"));
            let first = list.as_deref().and_then(first_host).ok_or_else(|| {
                LaunchError(
                    "SLURM_STEP_NODELIST names no machine, so the ranks cannot find rank 0; give NCCL_COMM_ID=HOST:PORT, the \
                     same for all ranks"
                        .to_owned(),
                )
            })?;
            let numbers =
                [get("SLURM_JOB_ID"), get("SLURM_STEP_ID")].map(|id| id.and_then(|id| id.parse::<u64>().ok()));
            let job = numbers[0].unwrap_or(0).wrapping_mul(31).wrapping_add(numbers[1].unwrap_or(0));
            Ok(Some(at(&first, own_port(job))))
        }
        Launcher::Mpi => {
            let on_one = get(OPEN_MPI[3]) == get(OPEN_MPI[1]);
            let job = get("PMIX_NAMESPACE").or_else(|| get("OMPI_MCA_ess_base_jobid")).unwrap_or_default();
            // FNV-1a.
            let hash = job
                .bytes()
                .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
            Ok(on_one.then(|| at("127.0.0.1", own_port(hash))))
        }
    }
}

/// A port of the job's own, above those of servers and below those that systems give out themselves.
fn own_port(job: u64) -> u16 {
    15_000 + (job % 15_000) as u16
}

fn at(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The first machine of a list as Slurm writes it: `gpu[03-07,12],other` begins with `gpu03`.
fn first_host(list: &str) -> Option<String> {
    let end = list.find([',', '[']).unwrap_or(list.len());
    let (name, rest) = list.split_at(end);
    let Some(ranges) = rest.strip_prefix('[') else { return (!name.is_empty()).then(|| name.to_owned()) };
    let (ranges, after) = ranges.split_once(']')?;
    let first = ranges.split([',', '-']).next().filter(|first| !first.is_empty())?;
    let after = after.split(',').next().unwrap_or("");
    Some(format!("{name}{first}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(variables: &[(&str, &str)]) -> Result<Launch, String> {
        let get = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Launch::from(get).map_err(|error| error.to_string())
    }

    #[test]
    fn each_launcher_tells_rank_and_meeting() {
        assert_eq!(launch(&[]), Ok(Launch::ALONE));
        let torchrun = [
            ("RANK", "3"),
            ("WORLD_SIZE", "8"),
            ("LOCAL_RANK", "1"),
            ("MASTER_ADDR", "gpu1"),
            ("MASTER_PORT", "29500"),
        ];
        let got = launch(&torchrun).unwrap();
        assert_eq!((got.rank, got.size, got.local_rank, got.launcher), (3, 8, 1, Launcher::Torchrun));
        assert_eq!(got.local_size, 8, "where nobody says otherwise all are on one machine");
        assert_eq!(got.meeting.as_deref(), Some("gpu1:29501"));

        let slurm = [
            ("SLURM_PROCID", "5"),
            ("SLURM_NTASKS", "16"),
            ("SLURM_LOCALID", "5"),
            ("SLURM_STEP_ID", "0"),
            ("SLURM_JOB_ID", "77"),
            ("SLURM_STEP_NODELIST", "gpu[03-04]"),
        ];
        let got = launch(&slurm).unwrap();
        assert_eq!((got.rank, got.size, got.launcher), (5, 16, Launcher::Slurm));
        assert_eq!(got.meeting.as_deref(), Some("gpu03:17387"));
        // The batch script itself is no step.
        let batch: Vec<_> = slurm.into_iter().filter(|(name, _)| !name.starts_with("SLURM_STEP")).collect();
        assert_eq!(launch(&batch), Ok(Launch::ALONE));

        let mpirun = [
            ("OMPI_COMM_WORLD_RANK", "1"),
            ("OMPI_COMM_WORLD_SIZE", "2"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
        ];
        let got = launch(&[&mpirun[..], &slurm].concat()).unwrap();
        assert_eq!((got.rank, got.size, got.launcher), (1, 2, Launcher::Mpi));
        assert!(got.meeting.unwrap().starts_with("127.0.0.1:"));
        assert_eq!(got.local_size, 2);
        let far = [&mpirun[..3], &[("OMPI_COMM_WORLD_LOCAL_SIZE", "1")]].concat();
        let got = launch(&far).unwrap();
        assert_eq!((got.meeting, got.local_size), (None, 1));
        let told = [&far[..], &[("NCCL_COMM_ID", "gpu9:1234")]].concat();
        assert_eq!(launch(&told).unwrap().meeting.as_deref(), Some("gpu9:1234"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let refused = |variables: &[(&str, &str)], words: &[&str]| {
            let error = launch(variables).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        };
        refused(&[("RANK", "0")], &["WORLD_SIZE is not", "unset RANK"]);
        refused(&[("WORLD_SIZE", "2")], &["RANK is not", "torchrun"]);
        refused(&[("RANK", "x"), ("WORLD_SIZE", "2")], &["RANK=x is not a number"]);
        refused(&[("RANK", "2"), ("WORLD_SIZE", "2")], &["RANK=2 is not one of WORLD_SIZE=2"]);
        refused(&[("RANK", "0"), ("WORLD_SIZE", "2")], &["MASTER_ADDR is not set", "NCCL_COMM_ID"]);
        let address = [("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "a")];
        refused(&[&address[..], &[("MASTER_PORT", "70000")]].concat(), &["MASTER_PORT=70000"]);
        // One rank needs nobody.
        assert_eq!(launch(&[("RANK", "0"), ("WORLD_SIZE", "1")]).unwrap().meeting, None);
    }

    #[test]
    fn machines_are_read_as_slurm_writes_them() {
        for (list, first) in [
            ("gpu1", Some("gpu1")),
            ("gpu1,gpu2", Some("gpu1")),
            ("gpu[03-07,12],x", Some("gpu03")),
            ("gpu[7,9].cluster,x", Some("gpu7.cluster")),
            ("", None),
            ("gpu[", None),
            ("gpu[]", None),
        ] {
            assert_eq!(first_host(list).as_deref(), first, "{list}");
        }
        assert_eq!(at("::1", 5), "[::1]:5");
    }
}
