//! `cargo xtask torture`: commands that are killed (SIGKILL) at random moments and started again until they are done must leave
//! what an undisturbed one leaves, bit for bit, and nothing else.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::{cargo, root, stage};

/// Which command is tortured, how often, and with which program.
#[derive(Args)]
pub struct TortureArgs {
    /// The commands [default: all]
    #[arg(value_enum)]
    pub what: Vec<Victim>,
    /// Runs of each command, each killed several times
    #[arg(long, default_value_t = 50)]
    pub runs: u32,
    /// The igpt-engine to torture [default: it is built]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// Seed of the moments [default: the time]
    #[arg(long)]
    pub seed: Option<u64>,
}

/// A command that can be tortured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Victim {
    Train,
    Finetune,
    Probe,
    Encode,
    Sample,
}

impl Victim {
    const ALL: [Victim; 5] = [Victim::Train, Victim::Finetune, Victim::Probe, Victim::Encode, Victim::Sample];

    fn name(self) -> &'static str {
        match self {
            Victim::Train => "train",
            Victim::Finetune => "finetune",
            Victim::Probe => "probe",
            Victim::Encode => "encode",
            Victim::Sample => "sample",
        }
    }

    /// The command whose results are in `out`; the trained model that some of them start from is `base`.
    fn command(self, program: &Path, base: &Path, out: &Path) -> Command {
        let mut command = Command::new(program);
        let steps = ["--steps", "12", "--save-every", "1", "--eval-images", "8", "--threads", "1"];
        match self {
            Victim::Train => command.arg("train").args(SMALL).args(steps).args([
                "--eval-every",
                "5",
                "--sample-every",
                "0",
                "--resume",
            ]),
            Victim::Finetune => {
                command.args(["finetune", "--batch", "4", "--eval-every", "4", "--resume"]).args(steps);
                command.arg("--checkpoint").arg(base)
            }
            Victim::Probe => {
                command.args(["probe", "--images", "40", "--depth", "0,1", "--c", "0.1", "--threads", "1"]);
                command.arg("--checkpoint").arg(base)
            }
            Victim::Encode => command.args(["data", "encode", "--data", "sample", "--resolution", "8"]),
            Victim::Sample => {
                command.args(["sample", "--count", "1000", "--batch", "16", "--threads", "1", "--checkpoint"]).arg(base)
            }
        };

        // A file for some, a folder for the others.
        let (flag, out) = match self {
            Victim::Encode => ("--out", out.join("tokens.shard")),
            Victim::Sample => ("--npz", out.join("drawings.npz")),
            _ => ("--out", out.to_owned()),
        };
        command.arg(flag).arg(out).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

/// A model of which a step takes milliseconds.
const SMALL: [&str; 10] = ["--layers", "2", "--width", "16", "--heads", "2", "--resolution", "8", "--batch", "4"];

/// Kills per run, at most.
const KILLS: u32 = 4;

/// What was done to one command.
#[derive(Default)]
struct Figures {
    runs: u32,
    kills: u32,
    equal: u32,
}

/// Tortures each of the commands that were asked for and prints the figures.
///
/// # Errors
/// A run that ended elsewhere than the undisturbed one, failed, or left temporary files.
pub fn torture(args: &TortureArgs) -> Result<()> {
    let program = match &args.program {
        Some(program) => program.clone(),
        None => build()?,
    };
    let place = std::env::temp_dir().join(format!("igpt-torture-{}", std::process::id()));
    fs::create_dir_all(&place)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64);
    let mut random = Random(args.seed.unwrap_or(now) | 1);
    println!("seed {}", random.0);

    let base = place.join("base");
    done(&mut Victim::Train.command(&program, &base, &base)).context("the model to start from")?;

    let victims = if args.what.is_empty() { Victim::ALL.to_vec() } else { args.what.clone() };
    let mut failed = Vec::new();
    for victim in victims {
        let start = Instant::now();
        let figures = torture_one(victim, &program, &base, &place, args.runs, &mut random)?;
        let Figures { runs, kills, equal } = figures;
        println!(
            "{:9} {runs} runs, {kills} kills, {equal} equal, {:.0} s",
            victim.name(),
            start.elapsed().as_secs_f64()
        );
        if equal != runs {
            failed.push(victim.name());
        }
    }

    ensure!(failed.is_empty(), "not equal: {}; what they left is in {}", failed.join(", "), place.display());
    fs::remove_dir_all(&place)?;
    Ok(())
}

fn torture_one(
    victim: Victim,
    program: &Path,
    base: &Path,
    place: &Path,
    runs: u32,
    random: &mut Random,
) -> Result<Figures> {
    // Undisturbed, and how long that takes.
    let whole = place.join(format!("{}-whole", victim.name()));
    fs::create_dir_all(whole.parent().unwrap_or(place))?;
    prepare(victim, &whole)?;
    let start = Instant::now();
    done(&mut victim.command(program, base, &whole))?;
    let usual = start.elapsed();
    let expected = left_by(&whole)?;

    let mut figures = Figures::default();
    for run in 0..runs {
        let out = place.join(format!("{}-{run}", victim.name()));
        prepare(victim, &out)?;
        for _ in 0..KILLS {
            let moment = usual.mul_f64(0.9 * random.fraction());
            figures.kills += u32::from(killed_after(&mut victim.command(program, base, &out), moment)?);
        }
        done(&mut victim.command(program, base, &out))?;

        figures.runs += 1;
        let found = left_by(&out)?;
        if found == expected {
            figures.equal += 1;
            fs::remove_dir_all(&out)?;
        } else {
            for difference in differences(&expected, &found) {
                println!("  {} run {run}: {difference}", victim.name());
            }
        }
    }
    Ok(figures)
}

/// The folder that a file goes into; runs make theirs.
fn prepare(victim: Victim, out: &Path) -> Result<()> {
    if matches!(victim, Victim::Encode | Victim::Sample) {
        fs::create_dir_all(out)?;
    }
    Ok(())
}

/// Runs a command to its end.
fn done(command: &mut Command) -> Result<()> {
    let output = command.stderr(Stdio::piped()).output()?;
    if !output.status.success() {
        bail!("{command:?} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Starts a command and kills it after `moment`; whether it was still running.
fn killed_after(command: &mut Command, moment: Duration) -> Result<bool> {
    let mut child = command.spawn()?;
    let start = Instant::now();
    while start.elapsed() < moment {
        if child.try_wait()?.is_some() {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_micros(500).min(moment.saturating_sub(start.elapsed())));
    }
    // SIGKILL, of which a process hears nothing.
    child.kill()?;
    Ok(!child.wait()?.success())
}

/// Every file below a folder by its path, with what must be equal of it.
fn left_by(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(current) = folders.pop() {
        for entry in fs::read_dir(&current)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Some(kept) = comparable(&path)? {
                found.insert(path.strip_prefix(folder)?.display().to_string(), kept);
            }
        }
    }
    Ok(found)
}

/// A file whole or, where the time is in it, reduced to what must be equal; `None` for one that is named for its time.
/// Checkpoints hold their own seconds in `training.json`, whose hash is listed; reports show them, and configurations the path
/// of the run.
fn comparable(path: &Path) -> Result<Option<Vec<u8>>> {
    let bytes = fs::read(path)?;
    Ok(match path.file_name().and_then(|name| name.to_str()).unwrap_or_default() {
        "metrics.jsonl" | "training.json" | "probe.json" | "igpt-engine.sha256" => {
            Some(without_times(&String::from_utf8_lossy(&bytes)).into_bytes())
        }
        // That it is there is all that is compared.
        "report.html" | "config.toml" | "run.lock" => Some(Vec::new()),
        name if name.starts_with("events.out.tfevents") => None,
        _ => Some(bytes),
    })
}

/// Lines of JSON, or of a list of hashes, without what hangs on the time or on the run's own path.
fn without_times(text: &str) -> String {
    const TIMED: [&str; 11] = [
        "\"tokens_per_second\"",
        "\"images_per_second\"",
        "\"data_wait\"",
        "\"mfu",
        "\"save_stall_ms\"",
        "\"save_write_ms\"",
        "\"elapsed\"",
        "\"seconds\"",
        "\"report\"",
        "  training.json",
        "# sha256 of the lines",
    ];
    let timed = |field: &&str| !TIMED.iter().any(|key| field.contains(key));
    text.lines()
        .map(|line| line.trim_end_matches('}').split(',').filter(timed).collect::<Vec<_>>().join(",") + "\n")
        .collect()
}

/// What one has and the other has not, or has otherwise.
fn differences(expected: &BTreeMap<String, Vec<u8>>, found: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let missing = expected.keys().filter(|name| !found.contains_key(*name)).map(|name| format!("{name} is missing"));
    let others = found.iter().filter_map(|(name, bytes)| match expected.get(name) {
        None => Some(format!("{name} was left over")),
        Some(wanted) if wanted != bytes => Some(format!("{name} differs")),
        Some(_) => None,
    });
    missing.chain(others).collect()
}

/// Builds the program, in cargo's dev profile, which is optimised here.
fn build() -> Result<PathBuf> {
    stage("igpt-engine", &mut cargo(["build", "--locked", "--package", "igpt-engine", "--bin", "igpt-engine"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target.join("debug").join(format!("igpt-engine{}", std::env::consts::EXE_SUFFIX)))
}

/// xorshift64: the moments only have to be spread, and the same for the same seed.
struct Random(u64);

impl Random {
    /// 0 to 1.
    fn fraction(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}
