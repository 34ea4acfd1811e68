//! Gives the shared library the name that programs ask the loader for.

fn main() {
    // The SONAME, not the file's name: cargo puts the folder of the libraries that it builds on the loader's path, where a
    // file libcuda.so would hide a real driver.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
    println!("cargo:rerun-if-changed=build.rs");
}
