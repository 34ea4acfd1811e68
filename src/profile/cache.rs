//! What L2 still holds of what the launches before have touched.
//!
//! Whole buffers, the last ones touched first, as far as they fit. Half of the cache counts: on cards with two partitions (A100, H100)
//! data may lie in both, and what a kernel streams through pushes others out.

/// Part of L2 that holds data once.
const USABLE: f64 = 0.5;

/// L2, as a list of buffers.
pub struct Cache {
    capacity: f64,
    /// Buffers and their bytes, the last touched first.
    recent: Vec<(u64, f64)>,
}

impl Cache {
    /// Of so many bytes, empty.
    pub fn new(bytes: u32) -> Self {
        Self { capacity: USABLE * f64::from(bytes), recent: Vec::new() }
    }

    /// Touches `bytes` bytes of a buffer; whether they were there.
    pub fn touch(&mut self, buffer: u64, bytes: f64) -> bool {
        let mut before = 0.0;
        let mut found = false;
        if let Some(place) = self.recent.iter().position(|(of, _)| *of == buffer) {
            before = self.recent[..place].iter().map(|(_, bytes)| bytes).sum();
            self.recent.remove(place);
            found = true;
        }
        self.recent.insert(0, (buffer, bytes));

        // What lies behind the capacity is gone.
        let mut sum = 0.0;
        let mut fits = |(_, bytes): &(u64, f64)| {
            sum += bytes;
            sum - bytes <= self.capacity
        };
        let kept = self.recent.iter().map_while(|entry| fits(entry).then_some(())).count();
        self.recent.truncate(kept);
        found && before + bytes <= self.capacity
    }
}

#[test]
fn what_was_touched_last_is_there_and_what_is_too_large_is_not() {
    let mut cache = Cache::new(200);
    assert!(!cache.touch(1, 40.0) && !cache.touch(2, 50.0));
    assert!(cache.touch(1, 40.0) && cache.touch(2, 50.0));
    assert!(!cache.touch(3, 500.0) && !cache.touch(3, 500.0), "larger than the cache");
    assert!(!cache.touch(1, 40.0), "pushed out");
}
