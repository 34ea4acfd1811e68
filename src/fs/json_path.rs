//! Paths in JSON. JSON is Unicode and paths are not: what is not UTF-8 is shown with replacement characters, as
//! [`Path::display`] shows it to people; serde's own way is an error, and a panic within `json!`.

use std::path::Path;

use serde::Serializer;

/// A path as a text for `json!`.
pub(crate) fn path_text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_string_lossy().into_owned()
}

/// For `#[serde(serialize_with = "serialize_path")]`.
pub(crate) fn serialize_path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}
