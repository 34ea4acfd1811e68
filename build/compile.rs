//! Runs the compiler: one fatbin a file, several at a time, and only what no build of this target folder has compiled yet.

use std::{
    env, fs, iter,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    thread,
    time::SystemTime,
};

use nvcc::Nvcc;

use crate::Result;

/// Uncompressed: the simulator reads the PTX, and so does `tables`.
const OPTIONS: &[&str] = &["-fatbin", "-std=c++17", "-O3", "-lineinfo", "-Xptxas=-v"];

/// Machine code for the A100's and the H100's generations, which their successors of the same major version run as well, and
/// PTX from which the driver makes code for all others; all of the same PTX, so that a source is compiled once.
const ANY: &[&str] = &["-gencode=arch=compute_80,code=[sm_80,sm_90,compute_80]"];

/// What has instructions of compute capability 9.0 alone.
const SM90: &[&str] = &["-gencode=arch=compute_90a,code=[sm_90a,compute_90a]"];

/// What became of one file.
pub struct Object {
    /// The file's name without `.cu`.
    pub name: String,
    pub fatbin: PathBuf,
    /// The output of `ptxas -v`.
    pub log: String,
}

impl Object {
    /// What the compiler warned of; that it lets one wgmma wait for another is only an "info" to it. Its warnings fail no build, or the
    /// first compiler that warns of more would: a test of our own minds them.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.log.lines().filter(|line| line.contains("warning") || line.contains("Potential Performance Loss"))
    }
}

/// Compiles all of `kernels/*.cu` into `out`, the folder `kernels` of a build's `OUT_DIR`; sorted by name.
pub fn all(nvcc: &Nvcc, root: &Path, out: &Path) -> Result<Vec<Object>> {
    fs::create_dir_all(out)?;
    let others = other_builds(out);

    let mut sources = Vec::new();
    for entry in fs::read_dir(root.join("kernels"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "cu") {
            let name = path.file_stem().and_then(|name| name.to_str()).ok_or("a kernel file's name is not UTF-8")?;
            // Attention takes longest, and would keep one processor busy at the end.
            sources.push((!name.starts_with("attention"), name.to_owned()));
        }
    }
    sources.sort();

    // A queue that the threads share. Errors travel between threads as text.
    let jobs = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1usize);
    let queue = Mutex::new(sources.into_iter());
    let next = || queue.lock().ok()?.next();
    let work = || {
        let outcomes =
            iter::from_fn(next).map(|(_, name)| one(nvcc, root, out, &others, &name).map_err(|why| why.to_string()));
        outcomes.collect::<std::result::Result<Vec<_>, _>>()
    };
    let mut objects = Vec::new();
    thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            objects.extend(thread.join().map_err(|_| "a thread that compiled kernels panicked")??);
        }
        Ok(())
    })?;
    objects.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(objects)
}

/// The same folder of other builds. Cargo runs this program once for each profile, and for clippy apart from all else.
fn other_builds(out: &Path) -> Vec<PathBuf> {
    // TARGET/debug/build/igpt-engine-HASH/out/kernels; elsewhere there is nothing to find.
    let Some(target) = out.ancestors().nth(5) else { return Vec::new() };
    let folders = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let builds = folders(target).flat_map(|profile| folders(&profile.join("build")).collect::<Vec<_>>());
    builds.map(|build| build.join("out/kernels")).filter(|kernels| kernels != out && kernels.is_dir()).collect()
}

/// Compiles `kernels/NAME.cu`, unless what an earlier run or another build made of it still holds.
fn one(nvcc: &Nvcc, root: &Path, out: &Path, others: &[PathBuf], name: &str) -> Result<Object> {
    // The log begins with the recipe that it was made by.
    let architectures = if name.ends_with("_sm90") { SM90 } else { ANY };
    let options = [OPTIONS, architectures, &[nvcc.uncompressed()]].concat();
    // With the sources' place: a target folder may serve several.
    let recipe = format!("{}\n{}\n{options:?}\n{}\n", root.display(), nvcc.path.display(), nvcc.version.trim());

    let files = Files::of(out, name);
    if let Some(log) = files.current(root, &recipe) {
        return Ok(Object { name: name.to_owned(), fatbin: files.fatbin, log });
    }
    // Written last, so that who reads it finds the others whole.
    if files.log.exists() {
        fs::remove_file(&files.log)?;
    }
    for other in others.iter().map(|folder| Files::of(folder, name)) {
        if let Some(log) = other.current(root, &recipe) {
            fs::copy(&other.fatbin, &files.fatbin)?;
            fs::copy(&other.dependencies, &files.dependencies)?;
            fs::write(&files.log, &log)?;
            return Ok(Object { name: name.to_owned(), fatbin: files.fatbin, log });
        }
    }

    // A relative path: it goes into the line tables, and no build machine's folders should.
    let source = format!("kernels/{name}.cu");
    let output = Command::new(&nvcc.path)
        .current_dir(root)
        .args(&options)
        .args(["-MD", "-MF"])
        .arg(&files.dependencies)
        .arg("-o")
        .arg(&files.fatbin)
        .arg(&source)
        .output()
        .map_err(|error| format!("cannot run {}: {error}", nvcc.path.display()))?;

    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{source} does not compile:\n{}{said}", String::from_utf8_lossy(&output.stdout)).into());
    }
    let log = format!("{recipe}{said}");
    fs::write(&files.log, &log)?;
    Ok(Object { name: name.to_owned(), fatbin: files.fatbin, log })
}

/// What a build keeps of one file.
struct Files {
    fatbin: PathBuf,
    /// What went in, as a makefile has it.
    dependencies: PathBuf,
    log: PathBuf,
}

impl Files {
    fn of(folder: &Path, name: &str) -> Files {
        let file = |extension: &str| folder.join(format!("{name}.{extension}"));
        Files { fatbin: file("fatbin"), dependencies: file("d"), log: file("log") }
    }

    /// The log, if it still holds: the same recipe, and no source or header that went in is newer.
    fn current(&self, root: &Path, recipe: &str) -> Option<String> {
        let said = fs::read_to_string(&self.log).ok().filter(|said| said.starts_with(recipe))?;
        let made = modified(&self.fatbin)?;
        // `target : file file \ ...`
        let list = fs::read_to_string(&self.dependencies).ok()?;
        let mut files = list.split_once(" :")?.1.split_whitespace().filter(|file| *file != "\\").peekable();
        files.peek()?;
        files.all(|file| modified(&root.join(file)).is_some_and(|time| time <= made)).then_some(said)
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}
