//! `cargo xtask toolkit`: the pinned CUDA compilers, from NVIDIA's wheels on PyPI, each into a folder of its own.
//!
//! The folder is a Python virtual environment, because pip is the one downloader at hand that checks hashes, caches and
//! honours the user's proxies and mirrors. Nothing of Python is needed once the wheels are unpacked.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File, TryLockError},
    io::{self, BufRead, BufReader, Seek, Write},
    path::{self, Path},
    process::{Command, Stdio},
    time::{Instant, SystemTime},
};

use anyhow::{Context, Result, bail, ensure};

mod installed;
mod release;

use installed::{Pin, STAMP, State, UNFINISHED};
pub use release::Release;

/// A kernel that touches what each wheel brings: the runtime's and crt's headers, and cccl's through `cuda_bf16.h`.
const PROBE: &str = "#include <cuda_bf16.h>
extern \"C\" __global__ void probe(__nv_bfloat16 *x, float a) {
    x[threadIdx.x] = __float2bfloat16(a * expf(__bfloat162float(x[threadIdx.x])));
}
";

/// Variables that would send pip's installation somewhere else than into the virtual environment.
const PIP_DETOURS: [&str; 4] = ["PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER"];

/// Puts the compiler of a release into `dir` unless it is there already, whole; `python` makes the virtual environment.
///
/// A folder that is unfinished, damaged or of other versions is cleared and filled again; one that this command did not
/// make is left alone. A run that finds another at work in the same folder waits for it.
///
/// # Errors
/// On other machines than x86_64 Linux; when gcc, g++, Python or the network is missing; when a wheel is not the one
/// pinned or the compiler does not work. Each says what to do.
pub fn install(release: Release, dir: &Path, python: &Path) -> Result<()> {
    let start = Instant::now();
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "the pinned CUDA compiler is built for x86_64 Linux only, and this is {} {}; \
         without it the engine builds and runs on the CPU",
        env::consts::ARCH,
        env::consts::OS
    );
    host_compilers(&env::var_os("PATH").unwrap_or_default())?;
    let dir = path::absolute(dir).with_context(|| format!("{}: not a usable folder", dir.display()))?;
    let pins = installed::pins(release.requirements())?;
    let stamp = installed::stamp(release.requirements())?;

    match installed::state(release, &dir, &stamp, &pins)? {
        State::Whole => {}
        State::Foreign => bail!(
            "{} exists and was not made by `cargo xtask toolkit`; remove it, or name another folder with --dir",
            dir.display()
        ),
        found @ (State::Absent | State::Broken(_)) => {
            check_python(python)?;
            let mut claim = claim(&dir)?;
            // Another run may have filled the folder while this one waited for its claim.
            if installed::state(release, &dir, &stamp, &pins)? != State::Whole {
                if let State::Broken(why) = found {
                    eprintln!("==> {}: {why}; installing afresh", dir.display());
                }
                fill(release, &dir, python, &pins, &mut claim)?;
                release.complete(&dir)?;
                installed::check(release, &dir, &pins).context("the installation is not whole; run this again")?;
                probe(release, &dir)?;
                mark(&mut claim, &stamp)?;
                wake_build_script()?;
            }
        }
    }
    let nvcc =
        release.nvcc(&dir).with_context(|| format!("{}: nvcc has just vanished; run this again", dir.display()))?;
    println!("CUDA {} compiler: {}", release.name(), nvcc.display());
    println!("{:.0} MB, ready in {:.2} s", size(&dir)? as f64 / 1e6, start.elapsed().as_secs_f64());
    match release {
        Release::Thirteen => {
            println!(
                "Builds look for it in `.cuda`, in the workspace's root; the folder may be moved or copied there as it is."
            );
            println!("By hand, call it by that path: through a symbolic link nvcc does not find its own headers.");
        }
        Release::Twelve => println!("To build with it, set NVCC to that path."),
    }
    Ok(())
}

/// Makes the next build look for a compiler again. One that found none had no file to watch for.
fn wake_build_script() -> Result<()> {
    let path = crate::root().join("build/main.rs");
    let touch = || File::options().append(true).open(&path)?.set_modified(SystemTime::now());
    touch().with_context(|| format!("cannot touch {}; run `cargo clean -p igpt-engine`", path.display()))
}

/// Checks that nvcc will find its host compiler: it runs gcc to preprocess, and gcc's C++ half comes with g++.
fn host_compilers(search_path: &OsStr) -> Result<()> {
    for name in ["gcc", "g++"] {
        ensure!(
            env::split_paths(search_path).any(|folder| folder.join(name).is_file()),
            "{name} is not on PATH, and nvcc needs gcc and g++; install them with \
             `sudo apt install gcc g++` (Debian, Ubuntu) or `sudo dnf install gcc gcc-c++` (Fedora)"
        );
    }
    Ok(())
}

/// Makes the folder this process's own until the returned file is closed, and marks what is in it as unfinished.
fn claim(dir: &Path) -> Result<File> {
    let failed = || format!("cannot write to {}; name another folder with --dir", dir.display());
    fs::create_dir_all(dir).with_context(failed)?;
    let stamp = File::options().read(true).write(true).create(true).truncate(false).open(dir.join(STAMP));
    let stamp = stamp.with_context(failed)?;
    match stamp.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("==> {}: another run is installing there; waiting for it", dir.display());
            stamp.lock().with_context(failed)?;
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(failed),
    }
    Ok(stamp)
}

/// Writes the stamp. In place, since renaming another file over it would leave the lock on the one that is gone.
fn mark(claim: &mut File, text: &str) -> Result<()> {
    let mut write = || {
        claim.set_len(0)?;
        claim.rewind()?;
        claim.write_all(text.as_bytes())?;
        claim.sync_all()
    };
    write().with_context(|| format!("cannot write {STAMP}"))
}

/// Clears the folder and installs the wheels into it. Starting over leaves no room for remains of an installation that
/// was interrupted or differed, and costs seconds: pip keeps what PyPI served in its own cache.
fn fill(release: Release, dir: &Path, python: &Path, pins: &[Pin], claim: &mut File) -> Result<()> {
    mark(claim, UNFINISHED)?;
    clear(dir).with_context(|| format!("cannot clear {}; remove it by hand", dir.display()))?;
    installed::output(Command::new(python).args(["-I", "-m", "venv"]).arg(dir))
        .with_context(|| format!("cannot make a Python virtual environment in {}", dir.display()))?;
    let requirements = dir.join("requirements.txt");
    fs::write(&requirements, release.requirements())
        .with_context(|| format!("cannot write {}", requirements.display()))?;

    let mut pip = Command::new(dir.join("bin/python"));
    pip.args(["-I", "-m", "pip", "install", "--no-deps", "--require-hashes", "--only-binary=:all:", "--no-compile"]);
    pip.args(["--no-input", "--disable-pip-version-check", "-r"]).arg(requirements);
    for variable in PIP_DETOURS {
        pip.env_remove(variable);
    }
    // The lock belongs to the open file: as pip's input it outlives this process where only this process is killed, so
    // that the next run does not clear the folder under a pip that is still writing.
    pip.stdin(claim.try_clone().context("cannot share the lock with pip")?);
    // Standard output is for the result, so pip's own output joins the progress on standard error.
    let mut child = pip.stdout(io::stderr()).stderr(Stdio::piped()).spawn().context("cannot start pip")?;
    let complaints = child.stderr.take().map(relay).unwrap_or_default();
    let status = child.wait().context("cannot wait for pip")?;
    ensure!(
        status.success(),
        "pip failed ({status}); its messages are above. {}",
        advice(release, &complaints, dir, pins)
    );
    Ok(())
}

/// Passes pip's messages on as they come, and returns them.
fn relay(stream: impl io::Read) -> String {
    let mut seen = String::new();
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    while stream.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        let text = String::from_utf8_lossy(&line);
        eprint!("{text}");
        seen.push_str(&text);
        line.clear();
    }
    seen
}

/// What to do about a failed pip, by what it said.
fn advice(release: Release, complaints: &str, dir: &Path, pins: &[Pin]) -> String {
    let dir = dir.display();
    if complaints.contains("DO NOT MATCH THE HASHES") {
        return format!(
            "A downloaded wheel is not the one that xtask/toolkit*-requirements.txt pins by its SHA-256: it was damaged on \
             the way, or a mirror serves another file. Run `{dir}/bin/python -m pip cache purge` and this again, without \
             the mirror"
        );
    }
    let offline = match complaints.contains("connection broken by") {
        true => "The package index cannot be reached. ",
        false => "",
    };
    let packages = pins.iter().map(|pin| format!("  {}=={}\n", pin.name, pin.version)).collect::<String>();
    format!(
        "{offline}These packages come from PyPI ({} MB) and need Python 3.9 or newer and glibc:\n{packages}\
         Without a network, run `cargo xtask toolkit` on another x86_64 Linux machine and copy its whole folder here, in \
         place of {dir}; it works wherever it lies. Behind a proxy or with a mirror, set HTTPS_PROXY or PIP_INDEX_URL",
        release.download()
    )
}

/// Checks that Python runs and brings what a virtual environment with pip is made of.
fn check_python(python: &Path) -> Result<()> {
    let name = python.display();
    installed::output(Command::new(python).arg("--version")).with_context(|| {
        format!(
            "Python is missing (tried `{name}`); install it with `sudo apt install python3 python3-venv` (Debian, Ubuntu) \
             or `sudo dnf install python3` (Fedora), or name one with --python"
        )
    })?;
    installed::output(Command::new(python).args(["-I", "-c", "import venv, ensurepip"])).with_context(|| {
        format!(
            "`{name}` lacks the modules venv and ensurepip; install them with `sudo apt install python3-venv` \
             (Debian, Ubuntu), or name another Python with --python"
        )
    })?;
    Ok(())
}

/// Removes everything in the folder but the stamp, which keeps saying whose folder it is.
fn clear(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name() == STAMP {
            continue;
        }
        // The entry's own type: a link to a folder is removed, not followed.
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}

/// Compiles a kernel to PTX and to Hopper's machine code, as the build does, and looks at what comes out.
fn probe(release: Release, dir: &Path) -> Result<()> {
    let nvcc = release.nvcc(dir).context("nvcc is missing")?;
    let folder = dir.join("probe");
    let path = |name: &str| folder.join(name);

    // The kernel, and how it is compiled.
    fs::create_dir_all(&folder).with_context(|| format!("cannot write to {}", folder.display()))?;
    fs::write(path("probe.cu"), PROBE).with_context(|| format!("cannot write to {}", folder.display()))?;
    let compile = |arguments: &[&str], output: &str| {
        let mut command = Command::new(&nvcc);
        command.args(arguments).args(["-O3", "-std=c++17", "-o"]).arg(path(output)).arg(path("probe.cu"));
        installed::output(&mut command).context("the installed nvcc does not compile a small kernel")
    };

    // PTX of the release that the drivers are asked for.
    compile(&["-ptx", "-arch=compute_80"], "probe.ptx")?;
    let ptx = fs::read_to_string(path("probe.ptx")).context("nvcc wrote no PTX")?;
    ensure!(
        ptx.lines().any(|line| line.trim() == format!(".version {}", release.ptx())),
        "nvcc wrote PTX of another version than {}:\n{ptx}",
        release.ptx()
    );

    // Machine code of Hopper. The wheels of CUDA 12 have nothing to disassemble it with.
    if release == Release::Thirteen {
        compile(&["-cubin", "-gencode", "arch=compute_90a,code=sm_90a"], "probe.cubin")?;
        let assembly = installed::output(Command::new(nvcc.with_file_name("nvdisasm")).arg(path("probe.cubin")))?;
        ensure!(assembly.contains("sm_90a"), "nvdisasm does not say `sm_90a` but:\n{assembly}");
    } else {
        compile(&["-fatbin", "-gencode=arch=compute_90a,code=sm_90a"], "probe.fatbin")?;
    }
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
}

/// The bytes of all files below a folder; links count nothing.
fn size(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let reading = || format!("cannot read {}", folder.display());
        for entry in fs::read_dir(&folder).with_context(reading)? {
            let entry = entry.with_context(reading)?;
            let metadata = entry.metadata().with_context(reading)?;
            match metadata.is_dir() {
                true => folders.push(entry.path()),
                false if metadata.is_file() => bytes += metadata.len(),
                false => {}
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::{
        installed::tests::{Scratch, alone},
        *,
    };

    #[test]
    fn the_requirements_are_the_seven_wheels_of_cuda_13_0() {
        let pins = installed::pins(Release::Thirteen.requirements()).unwrap();
        let versions: Vec<_> = pins.iter().map(|pin| (pin.name, pin.version)).collect();
        let expected = [
            ("nvidia-cuda-nvcc", "13.0.88"),
            ("nvidia-nvvm", "13.0.88"),
            ("nvidia-cuda-crt", "13.0.88"),
            ("nvidia-cuda-runtime", "13.0.96"),
            ("nvidia-cuda-cccl", "13.0.85"),
            ("nvidia-cuda-nvdisasm", "13.2.86"),
            ("nvidia-cuda-cuobjdump", "13.2.86"),
        ];
        assert_eq!(versions, expected);
        let digests: std::collections::HashSet<_> = pins.iter().map(|pin| pin.sha256).collect();
        assert_eq!(digests.len(), 7, "two wheels cannot have one hash");
    }

    #[test]
    fn the_other_toolkit_is_of_cuda_12_4() {
        let pins = installed::pins(Release::Twelve.requirements()).unwrap();
        assert!(
            pins.len() == 4 && pins.iter().all(|pin| pin.name.ends_with("-cu12") && pin.version.starts_with("12.4."))
        );
    }

    #[test]
    fn a_missing_host_compiler_is_named_with_its_packages() {
        let scratch = Scratch::new("host-compilers");
        let error = host_compilers(scratch.path().as_os_str()).unwrap_err().to_string();
        assert!(error.starts_with("gcc is not on PATH") && error.contains("apt install gcc g++"), "{error}");
        scratch.write("gcc", "");
        let error = host_compilers(scratch.path().as_os_str()).unwrap_err().to_string();
        assert!(error.starts_with("g++ is not on PATH"), "{error}");
        scratch.write("g++", "");
        host_compilers(scratch.path().as_os_str()).unwrap();
    }

    #[test]
    fn a_missing_python_is_named_with_its_packages() {
        let _alone = alone();
        let error = check_python(Path::new("/nonexistent/python3")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/python3") && error.contains("python3-venv"), "{error}");
    }

    #[test]
    fn advice_tells_a_wrong_wheel_from_a_missing_network() {
        let pins = installed::pins(Release::Thirteen.requirements()).unwrap();
        let of = |complaints| advice(Release::Thirteen, complaints, Path::new("/there/.cuda"), &pins);
        let wrong = of("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.");
        assert!(wrong.contains("SHA-256") && !wrong.contains("network"), "{wrong}");
        let offline = of("WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'");
        for part in ["be reached", "nvidia-cuda-nvcc==13.0.88\n", "nvidia-cuda-cuobjdump==13.2.86\n", "of /there/.cuda"]
        {
            assert!(offline.contains(part), "{part} is not in: {offline}");
        }
        let other = of("ERROR: No matching distribution found for nvidia-cuda-nvcc==13.0.88");
        assert!(!other.contains("be reached") && other.contains("Python 3.9"), "{other}");
    }

    #[test]
    fn clearing_keeps_the_stamp_and_follows_no_link() {
        let scratch = Scratch::new("clear");
        scratch.write("kept/by-the-user", "");
        scratch.write("folder/lib/python3.11/file", "");
        scratch.write("folder/pyvenv.cfg", "");
        let folder = scratch.path().join("folder");
        let mut claim = claim(&folder).unwrap();
        mark(&mut claim, UNFINISHED).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(scratch.path().join("kept"), folder.join("lib64")).unwrap();
        clear(&folder).unwrap();
        let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [STAMP]);
        assert!(scratch.path().join("kept/by-the-user").is_file());
    }

    #[test]
    fn a_claim_holds_until_its_last_copy_is_closed_and_rewrites_the_stamp_in_place() {
        let _alone = alone();
        let scratch = Scratch::new("claim");
        let mut first = claim(scratch.path()).unwrap();
        let copy = first.try_clone().unwrap();
        mark(&mut first, "a rather long stamp\n").unwrap();
        mark(&mut first, "short\n").unwrap();
        assert_eq!(fs::read_to_string(scratch.path().join(STAMP)).unwrap(), "short\n");
        let second = File::options().write(true).open(scratch.path().join(STAMP)).unwrap();
        drop(first);
        assert!(matches!(second.try_lock(), Err(TryLockError::WouldBlock)));
        drop(copy);
        second.try_lock().unwrap();
    }
}
