//! The folder that a target's input is laid into, since the engine's readers take paths: in memory where the system has `/dev/shm`.

use std::path::{Path, PathBuf};

/// A folder of this process.
pub struct Place {
    folder: PathBuf,
}

impl Place {
    /// An empty one.
    pub fn new(target: &str) -> Self {
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = root.join(format!("igpt-fuzz-{target}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("the folder of a fuzz target can be made");
        Place { folder }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The path of a file in it that holds `bytes`. The file keeps its place where it is there already, which is faster than a
    /// new one: no reader has it open between two inputs.
    pub fn with(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.file(name);
        std::fs::write(&path, bytes).expect("the input of a fuzz target can be written");
        path
    }
}
