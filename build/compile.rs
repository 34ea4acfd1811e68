//! Runs the compiler: one fatbin a file, several at a time, and only what changed.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    time::SystemTime,
};

use crate::{Result, nvcc::Nvcc};

/// Machine code for the A100's and the H100's generations, which their successors of the same major version run as well, and
/// PTX from which the driver makes code for all others. Uncompressed: the simulator reads the PTX, and so does `tables`.
const OPTIONS: &[&str] = &[
    "-fatbin",
    "--compress-mode=none",
    "-std=c++17",
    "-O3",
    "-lineinfo",
    "-Xptxas=-v",
    "-Werror=all-warnings",
    "-gencode=arch=compute_80,code=[sm_80,compute_80]",
    "-gencode=arch=compute_90a,code=sm_90a",
];

/// What became of one file.
pub struct Object {
    /// The file's name without `.cu`.
    pub name: String,
    pub fatbin: PathBuf,
    /// What the compiler said: `ptxas -v`.
    pub log: String,
}

/// Compiles all of `kernels/` into `out`; sorted by name.
pub fn all(nvcc: &Nvcc, root: &Path, out: &Path) -> Result<Vec<Object>> {
    fs::create_dir_all(out)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join("kernels"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "cu") {
            let name = path.file_stem().and_then(|name| name.to_str()).ok_or("a kernel file's name is not UTF-8")?;
            names.push(name.to_owned());
        }
    }
    names.sort();
    // Largest first: attention takes longest, and would keep one processor busy at the end.
    let mut waiting = names.clone();
    waiting.sort_by_key(|name| fs::metadata(root.join(format!("kernels/{name}.cu"))).map_or(0, |data| data.len()));
    let waiting = Mutex::new(waiting);
    let jobs = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1usize);
    let outcomes = std::thread::scope(|scope| {
        let work = || {
            let mut done = Vec::new();
            loop {
                let next = waiting.lock().map_or(None, |mut waiting| waiting.pop());
                match next {
                    // As text: errors do not travel between threads.
                    Some(name) => done.push(one(nvcc, root, out, &name).map_err(|error| error.to_string())),
                    None => return done,
                }
            }
        };
        let threads: Vec<_> = (0..jobs.min(names.len())).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect::<Vec<_>>()
    });
    if outcomes.len() != names.len() {
        return Err("a thread that compiled kernels panicked".into());
    }
    let mut objects = outcomes.into_iter().collect::<std::result::Result<Vec<_>, _>>()?;
    objects.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(objects)
}

fn one(nvcc: &Nvcc, root: &Path, out: &Path, name: &str) -> Result<Object> {
    let fatbin = out.join(format!("{name}.fatbin"));
    let (dependencies, log_path) = (out.join(format!("{name}.d")), out.join(format!("{name}.log")));
    // The log begins with what it was made by.
    let recipe = format!("{}\n{OPTIONS:?}\n{}\n", nvcc.path.display(), nvcc.version.trim());
    if let Some(log) = current(root, &fatbin, &dependencies, &log_path, &recipe) {
        return Ok(Object { name: name.to_owned(), fatbin, log });
    }
    // A relative path: it goes into the line tables, and no build machine's folders should.
    let source = format!("kernels/{name}.cu");
    let output = Command::new(&nvcc.path)
        .current_dir(root)
        .args(OPTIONS)
        .args(["-MD", "-MF"])
        .arg(&dependencies)
        .arg("-o")
        .arg(&fatbin)
        .arg(&source)
        .output()
        .map_err(|error| format!("cannot run {}: {error}", nvcc.path.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{source} does not compile:\n{}{said}", String::from_utf8_lossy(&output.stdout)).into());
    }
    let log = format!("{recipe}{said}");
    fs::write(&log_path, &log)?;
    Ok(Object { name: name.to_owned(), fatbin, log })
}

/// The log of an earlier run that still holds: the same recipe, and nothing that went in is newer.
fn current(root: &Path, fatbin: &Path, dependencies: &Path, log: &Path, recipe: &str) -> Option<String> {
    let said = fs::read_to_string(log).ok().filter(|said| said.starts_with(recipe))?;
    let made = modified(fatbin)?;
    // `target : file file \ ...`
    let list = fs::read_to_string(dependencies).ok()?;
    let mut files = list.split_once(" :")?.1.split_whitespace().filter(|file| *file != "\\").peekable();
    files.peek()?;
    files.all(|file| modified(&root.join(file)).is_some_and(|time| time <= made)).then_some(said)
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}
