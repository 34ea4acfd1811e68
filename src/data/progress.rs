//! Progress bars on stderr. indicatif draws them on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `total` things.
pub(crate) fn count(message: &str, total: u64, show: bool) -> ProgressBar {
    styled(message, total, show, "{msg} [{bar:30}] {pos}/{len} {eta}")
}

/// A bar over `total` bytes.
pub(crate) fn bytes(message: &str, total: u64, show: bool) -> ProgressBar {
    styled(message, total, show, "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}")
}

/// A turning sign for work of unknown length.
pub(crate) fn spinner(message: &str, show: bool) -> ProgressBar {
    if !show {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(message.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn styled(message: &str, total: u64, show: bool, template: &str) -> ProgressBar {
    if !show {
        return ProgressBar::hidden();
    }
    // The templates above are constants; the default style replaces one that does not parse.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style).with_message(message.to_owned())
}
