//! A card that is watched while it computes: on a thread of its own, which asks nothing of CUDA.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::card::{Card, Sample, Sensors};
use super::energy::{Energy, Point};
use super::reading::Reading;

/// Time between two readings. NVML's power is a mean over about as long, and a reading takes a thousandth of it.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// A card that is watched until this is dropped.
#[derive(Debug)]
pub struct Monitor {
    seen: Arc<Mutex<Seen>>,
    /// Dropping it ends the thread, which is not waited for: NVML may hang where a card does.
    _stop: Sender<()>,
}

/// What was seen so far.
#[derive(Debug)]
struct Seen {
    /// `None` while the sensors do not answer.
    latest: Option<Reading>,
    /// Whether it was not asked for yet.
    is_new: bool,
    energy: Energy,
    /// Why the sensors stopped answering, until that was asked for; it is told once.
    complaint: Option<String>,
    has_complained: bool,
}

impl Monitor {
    /// Watches the card at this place on the bus, whose run has used `joules` so far. The first reading is there at once.
    ///
    /// # Errors
    /// In words: there is no NVML, or it does not know the card, or the card does not answer.
    pub fn start(pci_bus_id: &str, joules: f64) -> Result<Self, String> {
        Self::watch(Card::open(pci_bus_id)?, joules, INTERVAL)
    }

    fn watch(sensors: impl Sensors, joules: f64, interval: Duration) -> Result<Self, String> {
        let mut seen =
            Seen { latest: None, is_new: false, energy: Energy::after(joules), complaint: None, has_complained: false };
        seen.take(Ok(sensors.sample()?), Instant::now());

        let seen = Arc::new(Mutex::new(seen));
        let (stop, stopped) = channel();
        let shared = Arc::clone(&seen);
        let watching = move || keep_watching(&sensors, &shared, interval, &stopped);
        thread::Builder::new().name("nvml".to_owned()).spawn(watching).map_err(|error| error.to_string())?;
        Ok(Self { seen, _stop: stop })
    }

    /// The last reading, and whether it was not given before; `None` while the sensors do not answer. Costs a lock that is free.
    pub fn latest(&self) -> Option<(Reading, bool)> {
        let mut seen = lock(&self.seen);
        let is_new = std::mem::take(&mut seen.is_new);
        seen.latest.map(|reading| (reading, is_new))
    }

    /// Why the sensors stopped answering; told once.
    pub fn complaint(&self) -> Option<String> {
        lock(&self.seen).complaint.take()
    }
}

/// Reads the sensors at every interval, until nobody listens any more.
fn keep_watching(sensors: &impl Sensors, seen: &Mutex<Seen>, interval: Duration, stopped: &Receiver<()>) {
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(interval) {
        let sample = sensors.sample();
        lock(seen).take(sample, Instant::now());
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    // Whatever panicked left whole values behind.
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seen {
    fn take(&mut self, sample: Result<Sample, String>, at: Instant) {
        match sample {
            Ok(Sample { reading, counter }) => {
                self.energy.take(Point { at, counter, watts: reading.watts });
                self.latest = Some(Reading { joules: self.energy.joules(), ..reading });
                self.is_new = true;
            }
            Err(why) => {
                self.energy.lose();
                self.latest = None;
                if !std::mem::replace(&mut self.has_complained, true) {
                    self.complaint = Some(why);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Sensors that answer twice, fail twice, and answer again.
    struct Flaky(AtomicU32);

    impl Sensors for Flaky {
        fn sample(&self) -> Result<Sample, String> {
            let call = self.0.fetch_add(1, Ordering::Relaxed);
            if (2..4).contains(&call) {
                return Err(format!("failure {call}"));
            }
            let reading = Reading { celsius: Some(50 + call), ..Reading::default() };
            Ok(Sample { reading, counter: Some(u64::from(call) * 7000) })
        }
    }

    fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "nothing came");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn sensors_that_fail_in_the_middle_are_told_of_once_and_come_back() {
        let monitor = Monitor::watch(Flaky(AtomicU32::new(0)), 5.0, Duration::from_millis(5)).unwrap();
        let (first, is_new) = monitor.latest().unwrap();
        assert_eq!((first.celsius, first.joules, is_new), (Some(50), Some(5.0), true));

        let complaint = wait_for(|| monitor.complaint());
        assert_eq!(complaint, "failure 2");
        let back = wait_for(|| monitor.latest().filter(|(reading, _)| reading.celsius >= Some(54)));
        // The card's counter went on while nobody could read it.
        let calls = f64::from(back.0.celsius.unwrap() - 50);
        assert_eq!(back.0.joules, Some(5.0 + 7.0 * calls));
        assert_eq!(monitor.complaint(), None);
    }

    #[test]
    fn a_reading_is_new_once() {
        let monitor = Monitor::watch(Flaky(AtomicU32::new(9)), 0.0, Duration::from_secs(3600)).unwrap();
        let [first, second] = [(); 2].map(|()| monitor.latest().unwrap());
        assert!(first.1 && !second.1 && first.0 == second.0);
    }

    #[test]
    fn the_thread_ends_with_its_monitor() {
        struct Counted {
            _alive: Arc<()>,
        }
        impl Sensors for Counted {
            fn sample(&self) -> Result<Sample, String> {
                Ok(Sample::default())
            }
        }
        let alive = Arc::new(());
        let monitor = Monitor::watch(Counted { _alive: Arc::clone(&alive) }, 0.0, Duration::from_secs(3600)).unwrap();
        assert_eq!(Arc::strong_count(&alive), 2);
        drop(monitor);
        wait_for(|| (Arc::strong_count(&alive) == 1).then_some(()));
    }
}
