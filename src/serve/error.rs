//! Why the page cannot be served.

use std::io;

use crate::checkpoint::CheckpointError;
use crate::checkpoint::images::ImagesError;
use crate::device;
use crate::model::ConfigError;
use crate::run::folder::RunFolderError;

/// An error of the start. The text says what to do. What goes wrong later is told to the client whose request it was.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint's configuration does not describe a model.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The device has no memory for what drawing takes.
    #[error(transparent)]
    Device(#[from] device::Error),
    /// The run that the checkpoint is of cannot be read.
    #[error(transparent)]
    Run(#[from] RunFolderError),
    /// The model's images are not square, or its palette cannot be read.
    #[error(transparent)]
    Images(#[from] ImagesError),
    /// The address is taken, not this machine's, or not allowed.
    #[error("cannot listen on {host} port {port}: {source}. Choose another --port (0 takes a free one) or --host")]
    Listen {
        /// The name or address.
        host: String,
        /// The port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The system gives no thread to take connections.
    #[error(
        "cannot start the thread that takes connections: {0}. Close other programs, or raise the limit of processes"
    )]
    Thread(#[source] io::Error),
}
