//! Sizes and hashes of the official files, so that a damaged or truncated download is found before it is trained on.

use crate::data::fetch::CIFAR10_FILES;
use crate::data::files::hash::PublishedHash::{self, Md5, Sha256};
use crate::data::sources::imagenet::{DEVKIT_TAR, TRAIN_TAR, VAL_TAR};
use crate::data::spec::DataSpec;

/// A file of a data set as it was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfficialFile {
    /// Its name, without folders.
    pub name: &'static str,
    /// Its length, where it is known.
    pub bytes: Option<u64>,
    /// Its hash, where it is known.
    pub hash: Option<PublishedHash>,
}

const fn file(name: &'static str, bytes: u64, hash: PublishedHash) -> OfficialFile {
    OfficialFile { name, bytes: Some(bytes), hash: Some(hash) }
}

const CIFAR10: [OfficialFile; 15] = {
    let mut files = [file("cifar-10-binary.tar.gz", 170_052_171, Md5("c32a1d4ab5d03f1284b67883e8d87530")); 15];
    let mut at = 0;
    while at < CIFAR10_FILES.len() {
        files[at + 1] = file(CIFAR10_FILES[at].0, 30_730_000, Sha256(CIFAR10_FILES[at].1));
        at += 1;
    }
    files[7] = file("cifar-10-python.tar.gz", 170_498_071, Md5("c58f30108f718f92721af3b95e74349a"));
    at = 0;
    while at < CIFAR10_PYTHON.len() {
        files[at + 8] = hashed(CIFAR10_PYTHON[at].0, CIFAR10_PYTHON[at].1);
        at += 1;
    }
    files
};

/// The pickles of the Python version and their MD5; their lengths were not published.
const CIFAR10_PYTHON: [(&str, &str); 7] = [
    ("data_batch_1", "c99cafc152244af753f735de768cd75f"),
    ("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"),
    ("data_batch_3", "54ebc095f3ab1f0389bbae665268c751"),
    ("data_batch_4", "634d18415352ddfa80567beed471001a"),
    ("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"),
    ("test_batch", "40351d587109b95175f43aff81a1287e"),
    ("batches.meta", "5ff9c542aee3614f3951f8cda6e48888"),
];

const fn hashed(name: &'static str, md5: &'static str) -> OfficialFile {
    OfficialFile { name, bytes: None, hash: Some(Md5(md5)) }
}

const CIFAR100: [OfficialFile; 7] = [
    file("cifar-100-binary.tar.gz", 168_513_733, Md5("03b5dce01913d631647c71ecec9e9cb8")),
    OfficialFile { name: "train.bin", bytes: Some(50_000 * 3074), hash: None },
    OfficialFile { name: "test.bin", bytes: Some(10_000 * 3074), hash: None },
    hashed("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),
    hashed("train", "16019d7e3df5f24257cddd939b257f8d"),
    hashed("test", "f0ef6b0ae62326f3e7ffdfab6717acfc"),
    hashed("meta", "7973b15100ade9c7d40fb424638fde48"),
];

const STL10: [OfficialFile; 8] = [
    file("stl10_binary.tar.gz", 2_640_397_119, Md5("91f7769df0f17e558f3565bffb0c7dfb")),
    file("train_X.bin", 138_240_000, Md5("918c2871b30a85fa023e0c44e0bee87f")),
    file("train_y.bin", 5_000, Md5("5a34089d4802c674881badbb80307741")),
    file("test_X.bin", 221_184_000, Md5("7f263ba9f9e0b06b93213547f721ac82")),
    file("test_y.bin", 8_000, Md5("36f9794fa4beb8a2c72628de14fa638e")),
    file("unlabeled_X.bin", 2_764_800_000, Md5("5242ba1fed5e4be9e1e742405eb56ca4")),
    file("class_names.txt", 55, Md5("6de44d022411c4d5cda4673b7f147c3f")),
    file("fold_indices.txt", 47_794, Md5("4bbf8cd098ab9f87fe03fbcb37c06b28")),
];

const IMAGENET: [OfficialFile; 3] = [
    file(TRAIN_TAR, 147_897_477_120, Md5("1d675b47d978889d74fa0da5fadfb00e")),
    file(VAL_TAR, 6_744_924_160, Md5("29b22e2961454d5413ddabcf34fc5622")),
    OfficialFile { name: DEVKIT_TAR, bytes: None, hash: Some(Md5("fa75699e90414af021442c21a62c3abf")) },
];

/// The official files of a kind of data set that has some.
pub fn official_files(spec: &DataSpec) -> &'static [OfficialFile] {
    match spec {
        DataSpec::Cifar10(_) => &CIFAR10,
        DataSpec::Cifar100(_) => &CIFAR100,
        DataSpec::Stl10(_) => &STL10,
        DataSpec::ImageNet(_) | DataSpec::ImageNetTar(_) => &IMAGENET,
        DataSpec::Sample | DataSpec::Images(_) | DataSpec::Tokens { .. } | DataSpec::Shard(_) => &[],
    }
}
