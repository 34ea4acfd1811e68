//! Fixtures that lie in one archive, unpacked where a test can change them.

use std::fs::File;
use std::path::Path;

/// Unpacks the archive `name` of `tests/fixtures` into a folder that vanishes with the value.
pub fn unpacked(name: &str) -> tempfile::TempDir {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let archive = File::open(fixtures.join(name)).expect("the fixture");
    tar::Archive::new(flate2::read::GzDecoder::new(archive)).unpack(folder.path()).expect("a sound fixture");
    folder
}
