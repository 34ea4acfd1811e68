//! The library as other languages load it: by absolute path, and as `libcuda.so` through `LD_LIBRARY_PATH`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where cargo put the library: beside this test.
fn library() -> PathBuf {
    std::env::current_exe().unwrap().with_file_name("libcudasim.so")
}

/// A program that allocates, fills and reads memory of device 0, and frees a wrong pointer.
const PROGRAM: &str = r#"
import ctypes, sys
cuda = ctypes.CDLL(sys.argv[1])
def check(code, expected=0):
    assert code == expected, code
check(cuda.cuDeviceGetCount(ctypes.byref(ctypes.c_int())), 3)
check(cuda.cuInit(0))
context, memory, word = ctypes.c_void_p(), ctypes.c_uint64(), ctypes.c_uint32()
check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0))
check(cuda.cuCtxSetCurrent(context))
check(cuda.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(4)))
check(cuda.cuMemsetD32_v2(memory, ctypes.c_uint(77), ctypes.c_size_t(1)))
check(cuda.cuMemcpyDtoH_v2(ctypes.byref(word), memory, ctypes.c_size_t(4)))
check(cuda.cuMemFree_v2(ctypes.c_uint64(memory.value + 1)), 1)
print(word.value)
"#;

fn run(name: &Path, folder: Option<&Path>, reports: &Path) -> Option<String> {
    let mut python = Command::new("python3");
    python.args(["-c", PROGRAM]).arg(name).env("CUDASIM_REPORTS", reports).env("CUDASIM", "seed=3");
    if let Some(folder) = folder {
        python.env("LD_LIBRARY_PATH", folder);
    }
    match python.output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        Err(error) => {
            eprintln!("SKIPPED: the library is not loaded from Python: python3: {error}");
            None
        }
    }
}

#[test]
fn python_loads_it_by_path_and_by_name() {
    let folder = std::env::temp_dir().join(format!("cudasim-loading-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let reports = folder.join("reports.jsonl");
    let link = folder.join("libcuda.so");
    std::os::unix::fs::symlink(library(), &link).unwrap();
    let by_path = run(&library(), None, &reports);
    let by_name = run(Path::new("libcuda.so"), Some(&folder), &reports);
    if let (Some(by_path), Some(by_name)) = (by_path, by_name) {
        assert_eq!((by_path.as_str(), by_name.as_str()), ("77", "77"));
        let lines = std::fs::read_to_string(&reports).unwrap();
        let misuses = lines.lines().filter(|line| line.contains("\"kind\":\"misuse\"")).count();
        assert_eq!(misuses, 2, "{lines}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
