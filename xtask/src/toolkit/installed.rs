//! What is installed in a toolkit folder: nvcc's place, the stamp that marks a finished installation, and whether every
//! file that the wheels brought is still there.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use nvcc::site_packages;

use super::release::Release;

/// The stamp's name in the toolkit folder. It also marks the folder as this command's own, free to be cleared.
pub const STAMP: &str = "toolkit-stamp";

/// What the stamp holds from the first moment of an installation until its last.
pub const UNFINISHED: &str = "unfinished\n";

/// A toolkit folder's state.
#[derive(Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is there, or an empty folder.
    Absent,
    /// Something is there that this command did not make, and must not clear.
    Foreign,
    /// An installation that is unfinished, outdated or damaged, and in what way.
    Broken(String),
    /// Every file of every pinned wheel is there, and the tools run.
    Whole,
}

/// One line of the requirements file.
#[derive(Debug, PartialEq, Eq)]
pub struct Pin<'a> {
    /// The package's name on PyPI.
    pub name: &'a str,
    /// Its exact version.
    pub version: &'a str,
    /// The wheel's SHA-256, in hexadecimal.
    pub sha256: &'a str,
}

/// The pins of a requirements file whose lines read `name==version --hash=sha256:<64 hexadecimal digits>`.
///
/// # Errors
/// The first line that reads otherwise.
pub fn pins(requirements: &str) -> Result<Vec<Pin<'_>>> {
    let lines = requirements.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| pin(line).with_context(|| format!("malformed requirement `{line}`"))).collect()
}

fn pin(line: &str) -> Option<Pin<'_>> {
    let (package, sha256) = line.split_once(" --hash=sha256:")?;
    let (name, version) = package.split_once("==")?;
    let is_name =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    let is_digest = sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit());
    (is_name(name) && is_name(version) && is_digest).then_some(Pin { name, version, sha256 })
}

/// The text of the stamp that stands for these requirements once they are installed: their SHA-256 and a line end.
///
/// # Errors
/// When coreutils' `sha256sum` cannot be run.
pub fn stamp(requirements: &str) -> Result<String> {
    let missing = "cannot run `sha256sum`; it is part of coreutils, install that";
    let piped = |command: &mut Command| command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = piped(&mut Command::new("sha256sum")).context(missing)?;
    // Taking the pipe closes it after the write, which is what tells sha256sum that the text is whole.
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(requirements.as_bytes()).context(missing)?;
    }
    let output = child.wait_with_output().context(missing)?;
    let digest =
        String::from_utf8_lossy(&output.stdout).chars().take_while(char::is_ascii_hexdigit).collect::<String>();
    ensure!(output.status.success() && digest.len() == 64, missing);
    Ok(digest + "\n")
}

/// The state of the toolkit folder `dir`, given the stamp's text for the pinned requirements and their pins.
///
/// Files are held against the sizes in the wheels' own lists, not hashed: that takes milliseconds and finds what
/// interrupted installations and copies leave behind.
///
/// # Errors
/// When the folder cannot be read.
pub fn state(release: Release, dir: &Path, stamp: &str, pins: &[Pin]) -> Result<State> {
    let reading = || format!("cannot read {}", dir.display());
    match fs::read_dir(dir) {
        Ok(mut entries) => {
            if entries.next().is_none() {
                return Ok(State::Absent);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::Absent),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(State::Foreign),
        Err(error) => return Err(error).with_context(reading),
    }

    let broken = |why: &str| Ok(State::Broken(why.to_owned()));
    match fs::read(dir.join(STAMP)) {
        Ok(found) if found == stamp.as_bytes() => {}
        Ok(found) if found.is_empty() || found == UNFINISHED.as_bytes() => {
            return broken("the installation there is unfinished");
        }
        Ok(_) => return broken("the versions there are not the ones pinned now"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::Foreign),
        Err(error) => return Err(error).with_context(reading),
    }

    match check(release, dir, pins) {
        Ok(()) => Ok(State::Whole),
        Err(error) => broken(&format!("{error:#}")),
    }
}

/// Checks that the files of every pinned wheel are in `dir`, that the tools run and that nvcc is of the pinned release.
///
/// # Errors
/// The first thing that is not as it should be.
pub fn check(release: Release, dir: &Path, pins: &[Pin]) -> Result<()> {
    let site = site_packages(dir).context("lib/python3*/site-packages is missing")?;
    for pin in pins {
        check_wheel(&site, pin)?;
    }
    ensure!(release.is_complete(dir), "what stands in for nvcc is missing, or of another version");
    for (index, tool) in release.tools(dir)?.iter().enumerate() {
        let text = output(Command::new(tool).arg("--version"))?;
        let says = format!("release {}", release.name());
        ensure!(index > 0 || text.contains(&says), "nvcc does not say `{says}` but:\n{text}");
    }
    Ok(())
}

/// Holds the files of one wheel against its `RECORD`: lines of path, hash and size in bytes.
fn check_wheel(site: &Path, pin: &Pin) -> Result<()> {
    let info = format!("{}-{}.dist-info", pin.name.replace('-', "_"), pin.version);
    let record = fs::read_to_string(site.join(&info).join("RECORD"))
        .with_context(|| format!("{}=={} is not installed", pin.name, pin.version))?;
    ensure!(!record.is_empty(), "{info}/RECORD is empty");
    for line in record.lines() {
        let mut fields = line.rsplitn(3, ',');
        let (Some(size), Some(_hash), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            bail!("{info}/RECORD: malformed line `{line}`");
        };
        let path = path.trim_matches('"');
        let found = fs::metadata(site.join(path)).with_context(|| format!("{path} is missing"))?.len();
        // RECORD cannot state its own size, and leaves it empty.
        ensure!(size.is_empty() || size.parse() == Ok(found), "{path} has {found} bytes instead of {size}");
    }
    Ok(())
}

/// A command's standard output, once it has succeeded.
///
/// # Errors
/// When it cannot be started or fails; the error carries what it printed.
pub fn output(command: &mut Command) -> Result<String> {
    let name = Path::new(command.get_program()).file_name().unwrap_or_default().display().to_string();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{name} cannot be run"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} failed ({}):\n{stdout}{stderr}", output.status);
    Ok(stdout)
}

#[cfg(test)]
pub mod tests {
    use std::{
        env,
        path::PathBuf,
        process,
        sync::{Mutex, MutexGuard, PoisonError},
    };

    use super::*;

    /// A folder below the system's temporary one, removed when dropped.
    pub struct Scratch(PathBuf);

    impl Scratch {
        /// A new, empty folder; `test` must differ between tests.
        pub fn new(test: &str) -> Self {
            let path = env::temp_dir().join(format!("xtask-{}-{test}", process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        /// The folder.
        pub fn path(&self) -> &Path {
            &self.0
        }

        /// Writes a file, and the folders it lies in.
        pub fn write(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    /// Held by tests that start programs, and by those that mind it: a child holds copies of all open files between its
    /// fork and its exec, which keeps a lock held, and a script that is being written from being executed.
    pub fn alone() -> MutexGuard<'static, ()> {
        static SPAWNING: Mutex<()> = Mutex::new(());
        SPAWNING.lock().unwrap_or_else(PoisonError::into_inner)
    }

    const TOOLS: [&str; 5] = ["nvcc", "ptxas", "fatbinary", "nvdisasm", "cuobjdump"];
    const SITE: &str = "lib/python3.11/site-packages";
    const PINS: [Pin; 1] = [Pin { name: "nvidia-cuda-nvcc", version: "13.0.88", sha256: "" }];
    const WHOLE: &str = "the stamp\n";

    /// A folder like an installed one: the tools are shell scripts that answer `--version`, and one wheel lists them.
    #[cfg(unix)]
    fn toolkit(test: &str) -> Scratch {
        use std::os::unix::fs::PermissionsExt;

        let scratch = Scratch::new(test);
        let script = "#!/bin/sh\necho release 13.0, V13.0.88\n";
        let mut record = String::new();
        for tool in TOOLS {
            let path = format!("nvidia/cu13/bin/{tool}");
            scratch.write(&format!("{SITE}/{path}"), script);
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(scratch.path().join(SITE).join(&path), mode).unwrap();
            record += &format!("{path},sha256=x,{}\n", script.len());
        }
        scratch.write(&format!("{SITE}/nvidia/with,comma.h"), "four");
        record += "\"nvidia/with,comma.h\",sha256=x,4\nnvidia_cuda_nvcc-13.0.88.dist-info/RECORD,,\n";
        scratch.write(&format!("{SITE}/nvidia_cuda_nvcc-13.0.88.dist-info/RECORD"), &record);
        scratch.write(STAMP, WHOLE);
        scratch
    }

    /// The reason why the folder counts as broken.
    fn why(scratch: &Scratch) -> String {
        match state(Release::Thirteen, scratch.path(), WHOLE, &PINS).unwrap() {
            State::Broken(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pins_are_read_and_malformed_ones_refused() {
        let digest = "0123456789abcdef".repeat(4);
        let good = format!("# a comment\n\nname-1==1.2 --hash=sha256:{digest}\n");
        assert_eq!(pins(&good).unwrap(), [Pin { name: "name-1", version: "1.2", sha256: &digest }]);
        for bad in [
            "name".to_owned(),
            "name==1.2".to_owned(),
            format!("name --hash=sha256:{digest}"),
            format!("name>=1.2 --hash=sha256:{digest}"),
            format!("==1.2 --hash=sha256:{digest}"),
            format!("name== --hash=sha256:{digest}"),
            format!("name==1.2 --hash=sha256:{digest}0"),
            format!("name==1.2 --hash=sha256:{}g", &digest[1..]),
            format!("name==1.2 --hash=md5:{digest}"),
            format!("name==1.2 --hash=sha256:{digest} --hash=sha256:{digest}"),
        ] {
            let error = pins(&bad).unwrap_err().to_string();
            assert_eq!(error, format!("malformed requirement `{bad}`"));
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_stamp_is_the_sha256_of_the_requirements() {
        let _alone = alone();
        // FIPS 180-4's example.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n";
        assert_eq!(stamp("abc").unwrap(), expected);
    }

    #[test]
    fn nothing_is_absent_and_anything_unmarked_is_foreign() {
        let scratch = Scratch::new("absent");
        let of = |path: &Path| state(Release::Thirteen, path, WHOLE, &PINS).unwrap();
        assert_eq!(of(&scratch.path().join("none")), State::Absent);
        assert_eq!(of(scratch.path()), State::Absent);
        scratch.write("thesis.tex", "");
        assert_eq!(of(scratch.path()), State::Foreign);
        assert_eq!(of(&scratch.path().join("thesis.tex")), State::Foreign);
    }

    #[test]
    fn nvcc_is_found_under_any_python_and_only_as_a_file() {
        let scratch = Scratch::new("nvcc");
        assert_eq!(Release::Thirteen.nvcc(scratch.path()), None);
        scratch.write("lib/readme", "");
        scratch.write("lib/python3.13/site-packages/nvidia/cu13/bin/nvcc/not-a-file", "");
        assert_eq!(Release::Thirteen.nvcc(scratch.path()), None);
        let other = Scratch::new("nvcc-other");
        other.write("lib/python3.9/site-packages/nvidia/cu13/bin/nvcc", "");
        let expected = other.path().join("lib/python3.9/site-packages/nvidia/cu13/bin/nvcc");
        assert_eq!(Release::Thirteen.nvcc(other.path()), Some(expected));
    }

    #[test]
    #[cfg(unix)]
    fn a_whole_toolkit_is_whole_wherever_it_is_moved() {
        let _alone = alone();
        let scratch = toolkit("whole");
        assert_eq!(state(Release::Thirteen, scratch.path(), WHOLE, &PINS).unwrap(), State::Whole);
        let moved = Scratch::new("moved");
        fs::remove_dir(moved.path()).unwrap();
        fs::rename(scratch.path(), moved.path()).unwrap();
        assert_eq!(state(Release::Thirteen, moved.path(), WHOLE, &PINS).unwrap(), State::Whole);
        assert_eq!(Release::Thirteen.nvcc(moved.path()), Some(moved.path().join(SITE).join("nvidia/cu13/bin/nvcc")));
        fs::create_dir(scratch.path()).unwrap();
    }

    #[test]
    #[cfg(unix)]
    fn an_unfinished_or_outdated_stamp_is_never_whole() {
        let _alone = alone();
        let scratch = toolkit("stamps");
        for unfinished in ["", UNFINISHED] {
            scratch.write(STAMP, unfinished);
            assert!(why(&scratch).contains("unfinished"));
        }
        for outdated in ["another stamp\n", "the sta", "the stamp", "the stamp\n\n"] {
            scratch.write(STAMP, outdated);
            assert!(why(&scratch).contains("versions"));
        }
    }

    #[test]
    #[cfg(unix)]
    fn every_kind_of_damage_is_noticed_and_named() {
        let _alone = alone();
        let damage = |test: &str, harm: &dyn Fn(&Scratch, &Path)| {
            let scratch = toolkit(test);
            harm(&scratch, &scratch.path().join(SITE));
            why(&scratch)
        };

        let record = "nvidia_cuda_nvcc-13.0.88.dist-info/RECORD";
        let lost = damage("lost", &|_, site| fs::remove_file(site.join("nvidia/with,comma.h")).unwrap());
        assert!(lost.starts_with("nvidia/with,comma.h is missing"), "{lost}");
        let cut = damage("cut", &|_, site| fs::write(site.join("nvidia/cu13/bin/ptxas"), "#!/bin/sh\n").unwrap());
        assert!(cut.starts_with("nvidia/cu13/bin/ptxas has 10 bytes instead of"), "{cut}");

        let wheel = damage("wheel", &|_, site| fs::remove_file(site.join(record)).unwrap());
        assert!(wheel.starts_with("nvidia-cuda-nvcc==13.0.88 is not installed"), "{wheel}");
        let empty = damage("empty", &|_, site| fs::write(site.join(record), "").unwrap());
        assert!(empty.ends_with("RECORD is empty"), "{empty}");
        let torn = damage("torn", &|_, site| fs::write(site.join(record), "nvidia/cu13/bin/nvcc").unwrap());
        assert!(torn.contains("malformed line `nvidia/cu13/bin/nvcc`"), "{torn}");

        let python = damage("python", &|scratch, _| fs::remove_dir_all(scratch.path().join("lib")).unwrap());
        assert!(python.contains("site-packages is missing"), "{python}");

        let mode = damage("mode", &|_, site| {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::Permissions::from_mode(0o644);
            fs::set_permissions(site.join("nvidia/cu13/bin/cuobjdump"), mode).unwrap();
        });
        assert!(mode.starts_with("cuobjdump cannot be run"), "{mode}");

        let release = damage("release", &|scratch, site| {
            let path = "nvidia/cu13/bin/nvcc";
            let script = fs::read_to_string(site.join(path)).unwrap().replace("13.0", "12.9");
            scratch.write(&format!("{SITE}/{path}"), &script);
        });
        assert!(release.contains("does not say `release 13.0`"), "{release}");
    }
}
