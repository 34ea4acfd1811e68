//! CIFAR-10 and CIFAR-100: what differs between them.

use super::PLANE;
use crate::data::part::Split;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CifarKind {
    /// Ten classes.
    Cifar10,
    /// A hundred classes (the fine labels).
    Cifar100,
}

impl CifarKind {
    /// The name people know.
    pub fn name(self) -> &'static str {
        match self {
            CifarKind::Cifar10 => "CIFAR-10",
            CifarKind::Cifar100 => "CIFAR-100",
        }
    }

    /// Folder inside the official archive.
    pub fn folder(self) -> &'static str {
        match self {
            CifarKind::Cifar10 => "cifar-10-batches-bin",
            CifarKind::Cifar100 => "cifar-100-binary",
        }
    }

    /// Number of classes.
    pub fn classes(self) -> usize {
        match self {
            CifarKind::Cifar10 => 10,
            CifarKind::Cifar100 => 100,
        }
    }

    /// Folder inside the official archive of the Python version.
    pub fn python_folder(self) -> &'static str {
        match self {
            CifarKind::Cifar10 => "cifar-10-batches-py",
            CifarKind::Cifar100 => "cifar-100-python",
        }
    }

    /// The official archives, binary version first.
    pub fn archives(self) -> [&'static str; 2] {
        match self {
            CifarKind::Cifar10 => ["cifar-10-binary.tar.gz", "cifar-10-python.tar.gz"],
            CifarKind::Cifar100 => ["cifar-100-binary.tar.gz", "cifar-100-python.tar.gz"],
        }
    }

    /// The files of a split, each in the binary and the Python version, and the images of each official one. Validation is
    /// held out of train by the caller.
    pub(super) fn files(self, split: Split) -> (&'static [[&'static str; 2]], u64) {
        match (self, split) {
            (CifarKind::Cifar10, Split::Test) => (&[["test_batch.bin", "test_batch"]], 10_000),
            (CifarKind::Cifar10, _) => (
                &[
                    ["data_batch_1.bin", "data_batch_1"],
                    ["data_batch_2.bin", "data_batch_2"],
                    ["data_batch_3.bin", "data_batch_3"],
                    ["data_batch_4.bin", "data_batch_4"],
                    ["data_batch_5.bin", "data_batch_5"],
                ],
                10_000,
            ),
            (CifarKind::Cifar100, Split::Test) => (&[["test.bin", "test"]], 10_000),
            (CifarKind::Cifar100, _) => (&[["train.bin", "train"]], 50_000),
        }
    }

    /// The pickle of the names of the classes, and the key they are under.
    pub(super) fn python_names(self) -> (&'static str, &'static str) {
        match self {
            CifarKind::Cifar10 => ("batches.meta", "label_names"),
            CifarKind::Cifar100 => ("meta", "fine_label_names"),
        }
    }

    /// Bytes before the pixels: the class is the last of them.
    pub(super) fn label_bytes(self) -> usize {
        match self {
            CifarKind::Cifar10 => 1,
            CifarKind::Cifar100 => 2,
        }
    }

    pub(super) fn record(self) -> usize {
        self.label_bytes() + 3 * PLANE
    }

    pub(super) fn names_file(self) -> &'static str {
        match self {
            CifarKind::Cifar10 => "batches.meta.txt",
            CifarKind::Cifar100 => "fine_label_names.txt",
        }
    }
}
