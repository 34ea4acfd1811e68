//! Steps that follow each other whatever becomes of them, each within its time.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Passed,
    /// With an error, a wrong number or no end.
    Failed(String),
    /// It was not tried, and why.
    NotRun(String),
}

/// A step that was run.
#[derive(Clone, Debug)]
pub struct Done {
    pub name: String,
    pub outcome: Outcome,
    pub seconds: f64,
    /// Files in the folder that say more.
    pub files: Vec<String>,
}

/// Runs steps and keeps what they say.
pub struct Runner {
    folder: PathBuf,
    pub done: Vec<Done>,
}

impl Runner {
    /// One that writes into `folder`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder: folder.to_owned(), done: Vec::new() })
    }

    /// Runs a step; an error is its failure, and the next one runs.
    pub fn step(&mut self, name: &str, work: impl FnOnce(&mut Step<'_>) -> Result<Outcome>) {
        eprintln!("==> {name}");
        let start = Instant::now();
        let mut step = Step { folder: &self.folder, files: Vec::new() };
        let outcome = work(&mut step).unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        let files = step.files;
        let seconds = start.elapsed().as_secs_f64();
        let (word, why) = match &outcome {
            Outcome::Passed => ("passed", ""),
            Outcome::Failed(why) => ("FAILED: ", why.as_str()),
            Outcome::NotRun(why) => ("NOT RUN: ", why.as_str()),
        };
        eprintln!("==> {name}: {word}{why} ({seconds:.0} s)");
        self.done.push(Done { name: name.to_owned(), outcome, seconds, files });
    }
}

/// A step in progress.
pub struct Step<'r> {
    folder: &'r Path,
    files: Vec<String>,
}

impl Step<'_> {
    /// Names a file of the folder that says more.
    pub fn mention(&mut self, file: &str) -> PathBuf {
        if !self.files.iter().any(|known| known == file) {
            self.files.push(file.to_owned());
        }
        self.folder.join(file)
    }

    /// Runs a command, with both outputs in `log`, for at most `limit`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&mut self, command: &mut Command, log: &str, limit: Duration) -> Result<Outcome> {
        let path = self.mention(log);
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        command.stdin(std::process::Stdio::null()).stderr(file.try_clone()?).stdout(file);
        own_group(command);
        let mut child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;

        Ok(match wait(&mut child, limit)? {
            Some(status) if status.success() => Outcome::Passed,
            Some(status) => Outcome::Failed(format!("{status}; see {log}")),
            None => Outcome::Failed(format!("no end within {} s; see {log}", limit.as_secs())),
        })
    }
}

/// A process group of its own, so that all that a command started ends with it.
fn own_group(command: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    #[cfg(not(unix))]
    let _ = command;
}

/// Waits, and ends what takes too long; then nothing.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }

    // Its group, then itself where there are no groups.
    let group = format!("-{}", child.id());
    let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
    let _ = child.kill();
    child.wait()?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::{Outcome, Runner};

    const LONG: Duration = Duration::from_secs(60);

    fn shell(text: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", text]);
        command
    }

    #[test]
    fn a_step_that_fails_stops_no_other_and_its_words_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut runner = Runner::new(folder.path()).unwrap();
        runner.step("fails", |step| step.run(&mut shell("echo out; echo err >&2; exit 3"), "fails.txt", LONG));
        runner.step("is not there", |step| step.run(&mut Command::new("/no/such/program"), "absent.txt", LONG));
        runner.step("passes", |step| step.run(&mut shell("true"), "passes.txt", LONG));

        let outcomes: Vec<&Outcome> = runner.done.iter().map(|done| &done.outcome).collect();
        assert!(
            matches!(outcomes[0], Outcome::Failed(why) if why.contains("3") && why.contains("fails.txt")),
            "{outcomes:?}"
        );
        assert!(matches!(outcomes[1], Outcome::Failed(why) if why.contains("/no/such/program")), "{outcomes:?}");
        assert_eq!(*outcomes[2], Outcome::Passed);
        let log = std::fs::read_to_string(folder.path().join("fails.txt")).unwrap();
        assert!(log.contains("out") && log.contains("err"), "{log}");
    }

    /// What it started ends with it, or a benchmark would have company.
    #[test]
    fn a_step_without_an_end_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let mut runner = Runner::new(folder.path()).unwrap();
        let start = Instant::now();
        let mut command = shell("sleep 60 & echo $!; wait");
        runner.step("endless", |step| step.run(&mut command, "endless.txt", Duration::from_millis(500)));
        assert!(matches!(&runner.done[0].outcome, Outcome::Failed(why) if why.contains("no end")), "{:?}", runner.done);
        assert!(start.elapsed() < Duration::from_secs(30));

        let child = std::fs::read_to_string(folder.path().join("endless.txt")).unwrap();
        let alive = || Command::new("kill").args(["-0", child.trim()]).output().unwrap().status.success();
        // Whoever inherits it may take a moment to collect it.
        let end = Instant::now() + Duration::from_secs(10);
        while alive() && !zombie(child.trim()) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(!alive() || zombie(child.trim()));
    }

    fn zombie(process: &str) -> bool {
        std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| stat.contains(") Z"))
    }
}
