//! Gives the shared library the name that programs ask the loader for.

fn main() {
    // The SONAME, not the file's name, as cudasim has it: a file libnccl.so.2 in cargo's folder would hide a real NCCL.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libnccl.so.2");
    println!("cargo:rerun-if-changed=build.rs");
}
