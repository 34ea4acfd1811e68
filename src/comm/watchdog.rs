//! Ends this rank where another has failed or never comes: a collective alone waits for ever.
//!
//! A thread looks every tenth of a second. Each rank writes what it does into a file of its own in a folder that all see, which is
//! how the message of the end knows who is missing; without that folder it names this rank alone. The first rank that gives up writes the
//! message, the others end without one.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a rank waits for at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Until all ranks have met.
    pub init: Duration,
    /// For a step.
    pub step: Duration,
}

/// Five minutes for the start, in which file systems and containers wake up; a hundred seconds for a step, as torchtitan has them.
pub const LIMITS: Limits = Limits { init: Duration::from_secs(300), step: Duration::from_secs(100) };

/// Collectives that are remembered.
const REMEMBERED: usize = 1024;
/// How often the thread looks.
const LOOK: Duration = Duration::from_millis(100);
/// How often a rank writes what it does, and after how many of these without a word rank 0 is taken for dead. Others are judged
/// where something has failed already, after [`JUDGED`] of them. Files are read anew each time, which a network's file systems answer
/// truly; times of theirs need no clocks that agree.
const BEAT: Duration = Duration::from_millis(500);
const SILENT: u32 = 20;
const JUDGED: u32 = 3;

/// How the process ends: cleans up, and does not return.
pub type End = Box<dyn Fn(&str) + Send>;

/// What this rank does now.
#[derive(Default)]
struct Now {
    /// The last thing that was begun.
    what: String,
    /// Until when it should be done; `None` while nothing is waited for, or rank 0 alone works.
    until: Option<(Instant, Duration)>,
    /// While only a dead rank 0 is a reason to end.
    waits_for_leader: bool,
    /// Collectives that were asked for: number, name.
    collectives: VecDeque<(u64, String)>,
    count: u64,
    folder: Option<PathBuf>,
    probe: Option<Box<dyn Fn() -> Option<String> + Send>>,
    over: bool,
}

/// The thread and what it looks at. Dropping it ends the thread.
pub struct Watchdog {
    now: Arc<Mutex<Now>>,
    limits: Limits,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// While it lives the rank waits for others, at most as long as allowed.
pub struct Watched<'w>(&'w Watchdog);

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        let mut now = self.0.lock();
        now.until = None;
        now.waits_for_leader = false;
    }
}

fn lock(now: &Mutex<Now>) -> MutexGuard<'_, Now> {
    now.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watchdog {
    /// Starts to watch this rank. `end` is called at most once, with the message, empty where another rank has given it.
    ///
    /// # Errors
    /// A thread that the operating system refuses.
    pub fn start(rank: usize, size: usize, limits: Limits, end: End) -> std::io::Result<Self> {
        let now = Arc::new(Mutex::new(Now::default()));
        let seen = Arc::clone(&now);
        let watch = move || Thread { rank, size, now: seen, end, beaten: None, beats: 0, leader: None }.run();
        let thread = std::thread::Builder::new().name("watchdog".to_owned()).spawn(watch)?;
        Ok(Self { now, limits, thread: Some(thread) })
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        lock(&self.now)
    }

    /// From here on what the ranks do stands in `folder`, which all of them see.
    pub fn settle(&self, folder: &Path) {
        self.lock().folder = Some(folder.to_owned());
    }

    /// From here on `probe` is asked whether a rank has failed.
    pub fn ask(&self, probe: impl Fn() -> Option<String> + Send + 'static) {
        self.lock().probe = Some(Box::new(probe));
    }

    /// Asks no more: before what the probe looks at is gone.
    pub fn forget(&self) {
        self.lock().probe = None;
    }

    /// Waits for all ranks to meet.
    pub fn meets(&self, what: &str) -> Watched<'_> {
        self.waits(what, Some(self.limits.init))
    }

    /// Waits for a step of all ranks.
    pub fn steps(&self, what: &str) -> Watched<'_> {
        self.waits(what, Some(self.limits.step))
    }

    /// Waits for rank 0, which works alone as long as it takes and lives.
    pub fn leads(&self, what: &str) -> Watched<'_> {
        let watched = self.waits(what, None);
        self.lock().waits_for_leader = true;
        watched
    }

    fn waits(&self, what: &str, limit: Option<Duration>) -> Watched<'_> {
        let mut now = self.lock();
        what.clone_into(&mut now.what);
        now.until = limit.map(|limit| (Instant::now() + limit, limit));
        Watched(self)
    }

    /// Ends the other ranks, for this one has failed and says so itself.
    pub fn give_up(&self, message: &str) {
        let mut now = self.lock();
        // Or the thread would see the failure, and end this process before it has said so.
        now.over = true;
        if let Some(folder) = &now.folder {
            first_to_say(folder, message);
        }
    }

    /// Remembers a collective that was asked for.
    pub fn note(&self, what: &str) {
        let mut now = self.lock();
        now.count += 1;
        let count = now.count;
        if now.collectives.len() == REMEMBERED {
            now.collectives.pop_front();
        }
        now.collectives.push_back((count, what.to_owned()));
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.lock().over = true;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread has.
struct Thread {
    rank: usize,
    size: usize,
    now: Arc<Mutex<Now>>,
    end: End,
    /// When this rank last wrote, and how often it has.
    beaten: Option<Instant>,
    beats: u64,
    /// What rank 0 wrote last, and since when it stands there.
    leader: Option<(String, Instant)>,
}

impl Thread {
    fn run(mut self) {
        loop {
            std::thread::sleep(LOOK);
            let shared = Arc::clone(&self.now);
            let now = lock(&shared);
            if now.over {
                return;
            }
            self.beat(&now);
            let Some(message) = self.reason(&now) else { continue };

            // The first one says it; what each has done lies beside.
            let is_first = now.folder.as_ref().is_none_or(|folder| first_to_say(folder, &message));
            if let Some(folder) = &now.folder {
                let _ = fs::write(folder.join(format!("rank-{}.last", self.rank)), last(&now));
            }
            drop(now);
            return (self.end)(if is_first { &message } else { "" });
        }
    }

    /// Writes what this rank does.
    fn beat(&mut self, now: &Now) {
        let Some(folder) = &now.folder else { return };
        if self.beaten.is_some_and(|beaten| beaten.elapsed() < BEAT) {
            return;
        }
        self.beats += 1;
        self.beaten = Some(Instant::now());
        let _ = fs::write(file_of(folder, self.rank), format!("{}\n{}\n{}\n", now.count, self.beats, now.what));
    }

    /// Why this rank should end.
    fn reason(&mut self, now: &Now) -> Option<String> {
        let (rank, size, what) = (self.rank, self.size, &now.what);
        if let Some(folder) = now.folder.as_ref().filter(|folder| folder.join(FAILURE).exists()) {
            return Some(fs::read_to_string(folder.join(FAILURE)).unwrap_or_default());
        }
        if let Some(why) = now.probe.as_ref().and_then(|probe| probe()) {
            return Some(format!("rank {rank} of {size} cannot go on with {what}: {why}{}", self.missing(now)));
        }
        if now.waits_for_leader && self.leader_is_gone(now) {
            return Some(format!("rank {rank} of {size} waits for rank 0, which was at {what} and is gone"));
        }
        let (until, limit) = now.until?;
        (Instant::now() > until).then(|| {
            let seconds = limit.as_secs_f64();
            format!("rank {rank} of {size} has waited {seconds:.0} s for {what}{}", self.missing(now))
        })
    }

    /// Whether rank 0 has written nothing new for a while.
    fn leader_is_gone(&mut self, now: &Now) -> bool {
        let Some(folder) = now.folder.as_ref().filter(|_| self.rank != 0) else { return false };
        let told = fs::read_to_string(file_of(folder, 0)).unwrap_or_default();
        match &self.leader {
            Some((before, since)) if *before == told => since.elapsed() > BEAT * SILENT,
            _ => {
                self.leader = Some((told, Instant::now()));
                false
            }
        }
    }

    /// Who has done less than this rank, and who is silent.
    fn missing(&self, now: &Now) -> String {
        let mut text = String::new();
        if let Some((number, what)) = now.collectives.back() {
            let _ = write!(text, "; its last collective is number {number}, {what}");
        }
        let Some(folder) = &now.folder else { return text };
        let told = || (0..self.size).map(|rank| fs::read_to_string(file_of(folder, rank)).unwrap_or_default());
        let before: Vec<String> = told().collect();
        std::thread::sleep(BEAT * JUDGED);
        for (rank, (before, told)) in before.iter().zip(told()).enumerate().filter(|(rank, _)| *rank != self.rank) {
            let mut lines = told.lines();
            let count: u64 = lines.next().and_then(|count| count.parse().ok()).unwrap_or(0);
            let what = lines.nth(1).filter(|what| !what.is_empty()).unwrap_or("its start");
            if *before == told {
                let _ = write!(text, "; rank {rank} is gone: it was last seen at {what}, after {count} collectives");
            } else if count < now.count {
                let _ = write!(text, "; rank {rank} never came: it is at {what}, after {count} collectives");
            }
        }
        text
    }
}

/// In the folder, once a rank has given up: the message.
const FAILURE: &str = "failure";

fn file_of(folder: &Path, rank: usize) -> PathBuf {
    folder.join(format!("rank-{rank}"))
}

/// Leaves the message for the others; whether this rank is the first.
fn first_to_say(folder: &Path, message: &str) -> bool {
    use std::io::Write as _;
    let made = fs::File::create_new(folder.join(FAILURE));
    // Where the folder is gone, every rank speaks for itself.
    made.map_or_else(
        |error| error.kind() != std::io::ErrorKind::AlreadyExists,
        |mut file| file.write_all(message.as_bytes()).is_ok(),
    )
}

/// The collectives that are remembered, one a line.
fn last(now: &Now) -> String {
    now.collectives.iter().fold(String::new(), |mut text, (number, what)| {
        let _ = writeln!(text, "{number} {what}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    fn watched(rank: usize, step: u64, folder: Option<&Path>) -> (Watchdog, Receiver<String>) {
        let (sender, receiver) = channel();
        let limits = Limits { init: Duration::from_secs(60), step: Duration::from_millis(step) };
        let end = Box::new(move |message: &str| sender.send(message.to_owned()).unwrap());
        let watchdog = Watchdog::start(rank, 2, limits, end).unwrap();
        if let Some(folder) = folder {
            watchdog.settle(folder);
        }
        (watchdog, receiver)
    }

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn a_rank_that_never_comes_is_named_once() {
        let folder = tempfile::tempdir().unwrap();
        let (one, ends) = watched(0, 700, Some(folder.path()));
        let (two, others) = watched(1, 60_000, Some(folder.path()));
        let _idle = two.steps("the reading of an image");
        one.note("the all-reduce of block 3");
        let waits = one.steps("step 7");
        let message = ends.recv_timeout(SOON).unwrap();
        for part in [
            "rank 0 of 2 has waited 1 s for step 7",
            "number 1, the all-reduce of block 3",
            "rank 1 never came: it is at the reading of an image, after 0",
        ] {
            assert!(message.contains(part), "{message}");
        }
        // The other ends too, and has nothing to add.
        assert_eq!(others.recv_timeout(SOON).unwrap(), "");
        assert_eq!(fs::read_to_string(folder.path().join("rank-0.last")).unwrap(), "1 the all-reduce of block 3\n");
        drop(waits);
    }

    #[test]
    fn a_rank_that_is_gone_and_a_library_that_fails_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(file_of(folder.path(), 1), "4\n9\nstep 6\n").unwrap();
        let (one, ends) = watched(0, 300, Some(folder.path()));
        let _waits = one.steps("step 7");
        let message = ends.recv_timeout(SOON).unwrap();
        assert!(message.contains("rank 1 is gone: it was last seen at step 6, after 4 collectives"), "{message}");

        let folder = tempfile::tempdir().unwrap();
        let (one, _) = watched(0, 60_000, Some(folder.path()));
        let (_two, ends) = watched(1, 60_000, Some(folder.path()));
        one.give_up("a bad image");
        assert_eq!(ends.recv_timeout(SOON).unwrap(), "");

        let (one, ends) = watched(0, 60_000, None);
        one.ask(|| Some("a remote error".to_owned()));
        let message = ends.recv_timeout(SOON).unwrap();
        assert!(message.contains("rank 0 of 2 cannot go on with : a remote error"), "{message}");
    }

    #[test]
    fn who_waits_for_nothing_is_left_alone() {
        let (one, ends) = watched(0, 300, None);
        drop(one.steps("step 7"));
        let _leads = one.leads("the validation");
        assert!(ends.recv_timeout(Duration::from_millis(900)).is_err());
        for number in 0..2000 {
            one.note(&format!("collective {number}"));
        }
        assert_eq!(last(&one.lock()).lines().count(), REMEMBERED);
    }
}
