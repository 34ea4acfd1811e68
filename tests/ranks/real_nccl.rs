//! NVIDIA's own library, as far as it goes without a GPU: `IGPT_NCCL` is the path of its `libnccl.so.2`.

use std::process::Command;

use igpt_engine::comm::NcclLibrary;
use test_support::skipped;

#[test]
fn the_real_library_has_every_function_and_one_id_for_all_ranks() {
    let Some(path) = std::env::var_os("IGPT_NCCL") else {
        skipped("NVIDIA's own NCCL: IGPT_NCCL does not say where it is; `cargo xtask test` installs it");
        return;
    };
    // In a process of its own, for its variable.
    if std::env::var_os("NCCL_COMM_ID").is_none() {
        let mut own = Command::new(std::env::current_exe().unwrap());
        own.args(["--exact", "real_nccl::the_real_library_has_every_function_and_one_id_for_all_ranks"]);
        assert!(own.env("NCCL_COMM_ID", "127.0.0.1:29871").status().unwrap().success());
        return;
    }
    let library = NcclLibrary::open_first(&[path.to_str().unwrap()]).unwrap();
    let [major, minor, _] = library.version().unwrap();
    assert!((major, minor) >= (2, 22), "{major}.{minor}");
    assert!(library.common_id().unwrap().0[..] == library.unique_id().unwrap().0[..]);

    // ncclInvalidArgument.
    let error = library.check("ncclCommSplit", 4).unwrap_err().to_string();
    assert!(error.contains("ncclCommSplit") && error.contains("invalid argument"), "{error}");
}
