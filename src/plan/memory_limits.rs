//! Limits on memory that are lower than what the machine has: those of a container (cgroups) and of a shell (`ulimit`).
//!
//! All are read from files below `/proc` and `/sys`; where there are none (not Linux), there are no limits to see. A root
//! folder stands before every path, so that tests can bring files of their own.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Limits of version 1 from here on mean "none": its largest value, in pages, is a little below 2⁶³.
const UNLIMITED: f64 = (1_u64 << 60) as f64;

/// Whom a limit holds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// This process alone.
    Process,
    /// A cgroup: this process and those that run beside it in the same container, service or job.
    Container,
}

/// A limit and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemoryLimit {
    /// Bytes that may be used.
    pub bytes: f64,
    /// Bytes of them that are in use already, less those that the kernel would give up.
    pub used: f64,
    /// Whom it holds for.
    pub scope: Scope,
    /// What to look at to change it: `ulimit -v`, or the cgroup's file.
    pub source: String,
}

impl MemoryLimit {
    /// Bytes that this process could reach if it had the container to itself: what is decided at the start should not hang
    /// on what others happen to use then. What this process itself has mapped is gone, though.
    pub fn reachable(&self) -> f64 {
        match self.scope {
            Scope::Process => (self.bytes - self.used).max(0.0),
            Scope::Container => self.bytes,
        }
    }

    /// Bytes that could be used now.
    pub fn free(&self) -> f64 {
        (self.bytes - self.used).max(0.0)
    }

    /// Who has no more than that, as the subject of a sentence.
    pub fn owner(&self) -> &'static str {
        match self.scope {
            Scope::Process => "this process",
            Scope::Container => "this container",
        }
    }
}

/// All limits on memory that hold for this process, below the folder `root`, which is `/` but in tests.
pub fn limits(root: &Path) -> Vec<MemoryLimit> {
    let mut limits = of_process(root);
    limits.extend(of_cgroups(root));
    limits
}

/// The limit of `limits` that leaves the least.
pub fn tightest(limits: &[MemoryLimit]) -> Option<&MemoryLimit> {
    limits.iter().min_by(|a, b| a.reachable().total_cmp(&b.reachable()))
}

/// RLIMIT_AS and RLIMIT_DATA, as `ulimit -v` and `ulimit -d` set them.
fn of_process(root: &Path) -> Vec<MemoryLimit> {
    let text = fs::read_to_string(root.join("proc/self/limits")).unwrap_or_default();
    let status = fs::read_to_string(root.join("proc/self/status")).unwrap_or_default();
    let used = |key| value_of(&status, key).map_or(0.0, |kibibytes| kibibytes * 1024.0);

    [("Max address space", "VmSize:", "ulimit -v"), ("Max data size", "VmData:", "ulimit -d")]
        .into_iter()
        .filter_map(|(name, used_key, source)| {
            // `Max data size   unlimited   unlimited   bytes`: the first value is the one in force.
            let bytes = value_of(&text, name)?;
            Some(MemoryLimit { bytes, used: used(used_key), scope: Scope::Process, source: source.to_owned() })
        })
        .collect()
}

/// The number behind `key` on its line.
fn value_of(text: &str, key: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A version of cgroups: what its files are called.
struct Version {
    file_system: &'static str,
    /// Where it is mounted when the list of mounts does not say.
    usual_mount: &'static str,
    limits: &'static [&'static str],
    usage: &'static str,
    /// Memory of files that are only cached, in `memory.stat`.
    cached: &'static str,
}

const V2: Version = Version {
    file_system: "cgroup2",
    usual_mount: "/sys/fs/cgroup",
    // Above memory.high the kernel slows a process down until it hardly moves.
    limits: &["memory.max", "memory.high"],
    usage: "memory.current",
    cached: "inactive_file ",
};

const V1: Version = Version {
    file_system: "cgroup",
    usual_mount: "/sys/fs/cgroup/memory",
    limits: &["memory.limit_in_bytes"],
    usage: "memory.usage_in_bytes",
    cached: "total_inactive_file ",
};

/// The limits of the cgroup of this process and of all above it.
fn of_cgroups(root: &Path) -> Vec<MemoryLimit> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut limits = Vec::new();

    for line in text.lines() {
        // `0::/user.slice` in version 2, `4:memory:/docker/1234` in version 1.
        let mut fields = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let version = match (number, controllers) {
            ("0", "") => V2,
            (_, controllers) if controllers.split(',').any(|name| name == "memory") => V1,
            _ => continue,
        };

        let (mount, inside) = place(root, &version, path);
        // The cgroup itself first, then those around it, up to the mount.
        for folder in Path::new(&inside).ancestors() {
            let folder = mount.join(folder.strip_prefix("/").unwrap_or(folder));
            limits.extend(of_folder(root, &version, &folder));
        }
    }
    limits
}

/// Where a version is mounted, and the path of the cgroup from there: a container often sees only its own part of the tree.
fn place(root: &Path, version: &Version, path: &str) -> (PathBuf, String) {
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).unwrap_or_default();
    let found = mounts.lines().find_map(|line| {
        // `35 31 0:32 /docker/1234 /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory`
        let (before, after) = line.split_once(" - ")?;
        let before: Vec<&str> = before.split_whitespace().collect();
        let after: Vec<&str> = after.split_whitespace().collect();
        let of_memory = version.file_system == V2.file_system
            || after.last().is_some_and(|options| options.split(',').any(|option| option == "memory"));
        (after.first() == Some(&version.file_system) && of_memory).then_some(())?;
        Some(((*before.get(3)?).to_owned(), (*before.get(4)?).to_owned()))
    });
    let (shown, mount) = found.unwrap_or_else(|| ("/".to_owned(), version.usual_mount.to_owned()));

    let inside = match path.strip_prefix(shown.trim_end_matches('/')) {
        Some(inside) if inside.is_empty() || inside.starts_with('/') => inside,
        // Outside what is mounted: all that can be seen is the mount's own folder.
        _ => "/",
    };
    // `/../..` where the cgroup lies outside the container's view.
    let inside = if inside.split('/').any(|part| part == "..") { "/" } else { inside };
    (PathBuf::from(mount), inside.to_owned())
}

/// The limits of one cgroup, whose `folder` is named without the root.
fn of_folder(root: &Path, version: &Version, folder: &Path) -> Vec<MemoryLimit> {
    let real = root.join(folder.strip_prefix("/").unwrap_or(folder));
    let number = |name: &str| fs::read_to_string(real.join(name)).ok()?.trim().parse::<f64>().ok();
    let used = || {
        let stat = fs::read_to_string(real.join("memory.stat")).unwrap_or_default();
        let cached = value_of(&stat, version.cached).unwrap_or(0.0);
        (number(version.usage).unwrap_or(0.0) - cached).max(0.0)
    };

    let limited = version.limits.iter().filter_map(|name| Some((name, number(name).filter(|&n| n < UNLIMITED)?)));
    limited
        .map(|(name, bytes)| {
            let source = folder.join(name).display().to_string();
            MemoryLimit { bytes, used: used(), scope: Scope::Container, source }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: f64 = (1_u64 << 20) as f64;

    /// A folder with these files.
    fn root_of(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    /// The tightest limit that these files set, in MiB, and its source.
    fn tightest_of(files: &[(&str, &str)]) -> Option<(f64, String)> {
        let root = root_of(files);
        let limits = limits(root.path());
        tightest(&limits).map(|limit| (limit.bytes / MIB, limit.source.clone()))
    }

    #[test]
    fn without_files_there_is_no_limit() {
        assert_eq!(tightest_of(&[]), None);
        let nonsense = [("proc/self/limits", "Max address space\n\u{0}"), ("proc/self/cgroup", "::\n7\n0::\n")];
        assert_eq!(tightest_of(&nonsense), None);
    }

    #[test]
    fn a_shells_limits_are_seen_less_what_is_mapped() {
        let files = [
            (
                "proc/self/limits",
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max data size             unlimited            unlimited            bytes     \n\
                 Max address space         104857600            unlimited            bytes     \n",
            ),
            ("proc/self/status", "Name:\tigpt-engine\nVmSize:\t   10240 kB\nVmData:\t    1024 kB\n"),
        ];
        let root = root_of(&files);
        let limits = limits(root.path());
        let [limit] = &limits[..] else { panic!("{limits:?}") };
        assert_eq!((limit.source.as_str(), limit.owner()), ("ulimit -v", "this process"));
        assert_eq!((limit.bytes, limit.reachable()), (100.0 * MIB, 90.0 * MIB));
    }

    #[test]
    fn a_limit_of_a_cgroup_further_up_counts() {
        let files = [
            ("proc/self/cgroup", "0::/user.slice/job/step\n"),
            ("sys/fs/cgroup/user.slice/job/step/memory.max", "max\n"),
            ("sys/fs/cgroup/user.slice/job/memory.max", "524288000\n"),
            ("sys/fs/cgroup/user.slice/job/memory.current", "209715200\n"),
            ("sys/fs/cgroup/user.slice/job/memory.stat", "anon 1\ninactive_file 104857600\n"),
            ("sys/fs/cgroup/user.slice/memory.max", "1048576000\n"),
        ];
        let source = "/sys/fs/cgroup/user.slice/job/memory.max".to_owned();
        assert_eq!(tightest_of(&files), Some((500.0, source)));
        let root = root_of(&files);
        let limits = limits(root.path());
        let limit = tightest(&limits).unwrap();
        // Others' use, less the cache, counts for what is free now and not for what could be reached.
        assert_eq!((limit.reachable() / MIB, limit.free() / MIB), (500.0, 400.0));
    }

    #[test]
    fn a_lower_memory_high_is_the_limit() {
        let files = [
            ("proc/self/cgroup", "0::/job\n"),
            ("sys/fs/cgroup/job/memory.max", "524288000\n"),
            ("sys/fs/cgroup/job/memory.high", "314572800\n"),
        ];
        assert_eq!(tightest_of(&files), Some((300.0, "/sys/fs/cgroup/job/memory.high".to_owned())));
    }

    #[test]
    fn the_first_version_of_cgroups_is_read_and_its_largest_value_is_no_limit() {
        let mut files = vec![
            ("proc/self/cgroup", "5:cpu:/docker/12\n4:hugetlb,memory:/docker/12\n0::/\n"),
            ("sys/fs/cgroup/memory/docker/12/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        assert_eq!(tightest_of(&files), None);
        files.push(("sys/fs/cgroup/memory/docker/memory.limit_in_bytes", "104857600\n"));
        let source = "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes".to_owned();
        assert_eq!(tightest_of(&files), Some((100.0, source)));
    }

    #[test]
    fn a_container_that_sees_only_its_own_part_of_the_tree() {
        let mount = "35 31 0:32 /docker/12 /cg/memory ro,relatime - cgroup cgroup rw,memory\n";
        for path in ["/docker/12", "/docker/12/inner", "/elsewhere", "/../.."] {
            let cgroup = format!("4:memory:{path}\n");
            let files = [
                ("proc/self/cgroup", cgroup.as_str()),
                ("proc/self/mountinfo", mount),
                ("cg/memory/memory.limit_in_bytes", "104857600\n"),
            ];
            let expected = Some((100.0, "/cg/memory/memory.limit_in_bytes".to_owned()));
            assert_eq!(tightest_of(&files), expected, "{path}");
        }
    }
}
