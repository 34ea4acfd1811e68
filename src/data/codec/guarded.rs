//! Decoders of other crates, whose panics are errors of the file.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// Whether this thread decodes, so that a panic is no news for people.
    static DECODES: Cell<bool> = const { Cell::new(false) };
}

/// What `decode` gives; `None` if it panicked: zune-jpeg indexes out of range for some damaged JPEGs. Nothing is printed then,
/// for which the process's panic hook is wrapped once; all other panics reach it.
pub(super) fn guarded<T>(decode: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !DECODES.get() {
                others(info);
            }
        }));
    });

    let outer = DECODES.replace(true);
    // What a decoder has half done is dropped with it.
    let decoded = panic::catch_unwind(AssertUnwindSafe(decode));
    DECODES.set(outer);
    decoded.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_none_and_the_next_call_is_as_ever() {
        assert_eq!(guarded(|| 3), Some(3));
        assert_eq!(guarded(|| [1, 2][std::hint::black_box(2)]), None);
        assert!(!DECODES.get());
        assert_eq!(guarded(|| 4), Some(4));
    }
}
