//! What is installed in a toolkit folder: nvcc's place, the stamp that marks a finished installation, and whether every
//! file that the wheels brought is still there.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

/// The stamp's name in the toolkit folder. It also marks the folder as this command's own, free to be cleared.
pub const STAMP: &str = "toolkit-stamp";

/// What the stamp holds from the first moment of an installation until its last.
pub const UNFINISHED: &str = "unfinished\n";

/// The programs beside nvcc that the engine's build and its tests call.
pub const TOOLS: [&str; 5] = ["nvcc", "ptxas", "fatbinary", "nvdisasm", "cuobjdump"];

/// A toolkit folder's state.
#[derive(Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is there, or an empty folder.
    Absent,
    /// Something is there that this command did not make, and must not clear.
    Foreign,
    /// An installation that is unfinished, outdated or damaged, and in what way.
    Broken(String),
    /// Every file of every pinned wheel is there; `nvcc` is the compiler's path.
    Whole {
        /// The compiler.
        nvcc: PathBuf,
    },
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

/// The compiler in the toolkit folder `dir`, where the wheels put it, if it is there.
pub fn nvcc(dir: &Path) -> Option<PathBuf> {
    let nvcc = site_packages(dir)?.join("nvidia/cu13/bin/nvcc");
    nvcc.is_file().then_some(nvcc)
}

/// `dir/lib/python3.<minor>/site-packages`; a virtual environment has one.
fn site_packages(dir: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(dir.join("lib")).ok()?.flatten();
    let is_python = |name: &str| name.starts_with("python3");
    let pythons = versions.filter(|entry| entry.file_name().to_str().is_some_and(is_python));
    pythons.map(|entry| entry.path().join("site-packages")).filter(|path| path.is_dir()).max()
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
pub fn state(dir: &Path, stamp: &str, pins: &[Pin]) -> Result<State> {
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
            return broken("the installation there was interrupted");
        }
        Ok(_) => return broken("the versions there are not the ones pinned now"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::Foreign),
        Err(error) => return Err(error).with_context(reading),
    }
    match check(dir, pins) {
        Ok(nvcc) => Ok(State::Whole { nvcc }),
        Err(error) => broken(&format!("{error:#}")),
    }
}

/// Checks that the files of every pinned wheel are in `dir`, that the tools can be executed and that nvcc is the pinned
/// release; returns nvcc's path.
///
/// # Errors
/// The first thing that is not as it should be.
pub fn check(dir: &Path, pins: &[Pin]) -> Result<PathBuf> {
    let site = site_packages(dir).context("lib/python3*/site-packages is missing")?;
    for pin in pins {
        check_wheel(&site, pin)?;
    }
    let nvcc = nvcc(dir).context("nvcc is missing")?;
    for tool in TOOLS {
        let text = output(Command::new(nvcc.with_file_name(tool)).arg("--version"))?;
        ensure!(tool != "nvcc" || text.contains("release 13.0"), "nvcc does not say `release 13.0` but:\n{text}");
    }
    Ok(nvcc)
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
