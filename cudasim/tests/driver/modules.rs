//! Modules: from which images, with which errors, and what they hold.

use std::ffi::{CString, c_int, c_void};

use cudarc::driver::sys;

use crate::compile::compiled;
use crate::support::{Device, EMPTY, code, cu, module_text};

fn load(image: &[u8]) -> Result<sys::CUmodule, cudarc::driver::DriverError> {
    let mut module = std::ptr::null_mut();
    cu!(cuModuleLoadData(&mut module, image.as_ptr().cast())).map(|()| module)
}

fn function(module: sys::CUmodule, name: &str) -> Result<sys::CUfunction, cudarc::driver::DriverError> {
    let (mut function, name) = (std::ptr::null_mut(), CString::new(name).unwrap());
    cu!(cuModuleGetFunction(&mut function, module, name.as_ptr())).map(|()| function)
}

fn attribute(function: sys::CUfunction, which: sys::CUfunction_attribute) -> c_int {
    let mut value = -1;
    cu!(cuFuncGetAttribute(&mut value, which, function)).unwrap();
    value
}

/// Machine code for sm_90, and PTX for it and for an older device.
const CODES: &[&str] =
    &["-gencode=arch=compute_90,code=[sm_90,compute_90]", "-gencode=arch=compute_80,code=compute_80"];

/// A fat binary of one entry: its kind (1: PTX, 2: machine code), flags, 16 bytes of content.
fn fat_binary(kind: u16, flags: u64) -> Vec<u8> {
    let mut entry = [0; 64 + 16];
    entry[..2].copy_from_slice(&kind.to_le_bytes());
    entry[4] = 64;
    entry[8] = 16;
    entry[28] = 90;
    entry[40..48].copy_from_slice(&flags.to_le_bytes());
    let header = [0x50, 0xed, 0x55, 0xba, 1, 0, 16, 0, entry.len() as u8, 0, 0, 0, 0, 0, 0, 0];
    [&header[..], &entry].concat()
}

#[test]
fn what_nvcc_compresses_and_bare_machine_code_are_refused() {
    let options = [&["-fatbin", "--compress-mode=size"], CODES].concat();
    let Some(compressed) = compiled("scale", &options) else { return };
    let Some(cubin) = compiled("scale", &["-cubin", "-arch=sm_90"]) else { return };
    let _device = Device::new("");
    assert_eq!(code(load(&compressed)), 209);
    assert_eq!(code(load(&cubin)), 209);
}

#[test]
fn a_fat_binary_gives_its_best_ptx_and_the_registers_of_its_machine_code() {
    use sys::CUfunction_attribute_enum::*;
    let options = [&["-fatbin", "--compress-mode=none"], CODES].concat();
    let Some(fatbin) = compiled("scale", &options) else { return };
    let device = Device::new("");
    let module = load(&fatbin).unwrap();
    let scale = function(module, "scale").unwrap();
    // What `ptxas -v` of CUDA 13.0 says.
    assert_eq!(attribute(scale, CU_FUNC_ATTRIBUTE_NUM_REGS), 8);
    assert_eq!(attribute(scale, CU_FUNC_ATTRIBUTE_BINARY_VERSION), 90);
    assert_eq!(attribute(scale, CU_FUNC_ATTRIBUTE_PTX_VERSION), 90);
    // By its target, not by the version of its text: CUB chooses what it launches by that.
    let Some(mut old) = compiled("scale", &["-ptx", "-arch=compute_80"]) else { return };
    old.push(0);
    let other = function(load(&old).unwrap(), "scale").unwrap();
    assert_eq!(attribute(other, CU_FUNC_ATTRIBUTE_PTX_VERSION), 80);
    let memory = device.upload(&[1.5_f32.to_bits(), 2.0_f32.to_bits()]);
    // Parameters of different sizes: a pointer, a float, an integer.
    let (mut factor, mut n, mut y) = (3.0_f32, 2_i32, memory);
    let mut parameters: [*mut c_void; 3] = [(&raw mut y).cast(), (&raw mut factor).cast(), (&raw mut n).cast()];
    let (null, pointers) = (std::ptr::null_mut(), parameters.as_mut_ptr());
    cu!(cuLaunchKernel(scale, 1, 1, 1, 32, 1, 1, 0, null, pointers, std::ptr::null_mut())).unwrap();
    let words = device.download(memory, 2, std::ptr::null_mut()).unwrap();
    assert_eq!(words.iter().map(|&word| f32::from_bits(word)).collect::<Vec<_>>(), [4.5, 6.0]);
}

/// A kernel is decoded when it is asked for: one that cannot be is refused then, each time, and the others of its module run.
#[test]
fn a_kernel_that_cannot_be_decoded_takes_nothing_from_the_others_of_its_module() {
    let _device = Device::new("");
    let text = module_text(
        ".visible .entry large() { .local .align 4 .b8 all[1000000]; .reg .b64 %rd<2>; mov.u64 %rd1, all; ret; }\n\
         .visible .entry small() { ret; }",
    );
    let module = load(&[text.as_bytes(), &[0]].concat()).unwrap();
    assert_eq!([(); 2].map(|()| code(function(module, "large"))), [218; 2]);
    let small = function(module, "small").unwrap();
    let (null, none) = (std::ptr::null_mut(), std::ptr::null_mut());
    cu!(cuLaunchKernel(small, 1, 1, 1, 32, 1, 1, 0, null, none, std::ptr::null_mut())).unwrap();
    cu!(cuCtxSynchronize()).unwrap();
    assert_eq!(code(function(module, "other")), 500);
}

#[test]
fn images_that_a_simulator_cannot_run_are_refused_as_the_driver_does() {
    let _device = Device::new("");
    // The start of an ELF file, of a fat binary with one entry of compressed PTX, and of one with machine code only.
    assert_eq!(code(load(b"\x7fELF\x02\x01\x01\x33\x07\0\0\0")), 209);
    assert_eq!(code(load(&fat_binary(1, 0x2000))), 209);
    assert_eq!(code(load(&fat_binary(1, 0x8000))), 209);
    assert_eq!(code(load(&fat_binary(2, 0))), 209);

    // A header that promises less than an entry's header takes, and an entry that ends behind the binary.
    let mut short = fat_binary(1, 0);
    short[8] = 16;
    assert_eq!(code(load(&short)), 200);
    let mut long = fat_binary(1, 0);
    long[16 + 8] = 255;
    assert_eq!(code(load(&long)), 200);

    let text = |text: &str| code(load(&CString::new(text).unwrap().into_bytes_with_nul()));
    assert_eq!(text("this is no PTX"), 218);
    assert_eq!(text(&module_text(".visible .entry k() { frobnicate.b32 %r1; }")), 218);
    assert_eq!(text(&module_text(EMPTY).replace("sm_90a", "sm_100")), 218);
    assert_eq!(text(&module_text(EMPTY).replace(".version 8.0", ".version 9.9")), 222);

    let big = ".visible .entry k() { .shared .align 4 .b8 much[49153]; .reg .b32 %r<2>; mov.u32 %r1, much; ret; }";
    assert_eq!(text(&module_text(big)), 218);
    let (mut module, path) = (std::ptr::null_mut(), c"/no/such/file.ptx");
    assert_eq!(code(cu!(cuModuleLoad(&mut module, path.as_ptr()))), 301);
}

#[test]
fn the_log_says_what_is_wrong_with_the_text() {
    let _device = Device::new("");
    let text = CString::new(module_text(".visible .entry k()\n{ frobnicate.b32 %r1; }")).unwrap();
    let mut log = [0x7f_u8; 64];
    use sys::CUjit_option_enum::*;
    let mut options = [CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    let mut values = [log.as_mut_ptr().cast::<c_void>(), std::ptr::without_provenance_mut(log.len())];
    let (mut module, image) = (std::ptr::null_mut(), text.as_ptr().cast());
    let (names, places) = (options.as_mut_ptr(), values.as_mut_ptr());
    assert_eq!(code(cu!(cuModuleLoadDataEx(&mut module, image, 2, names, places))), 218);
    let written = values[1] as usize;
    assert!((2..=64).contains(&written) && log[written - 1] == 0);
    let message = String::from_utf8_lossy(&log[..written - 1]);
    assert!(message.contains("line 5") && message.contains("frobnicate"), "{message}");
}

#[test]
fn variables_are_found_and_functions_end_with_their_module() {
    let device = Device::new("");
    let text = format!(".visible .global .align 4 .u32 table[3] = {{4, 5, 6}};\n{EMPTY}");
    let module = load(&CString::new(module_text(&text)).unwrap().into_bytes_with_nul()).unwrap();
    let (mut address, mut bytes) = (0, 0);
    cu!(cuModuleGetGlobal_v2(&mut address, &mut bytes, module, c"table".as_ptr())).unwrap();
    assert_eq!((bytes, device.download(address, 3, std::ptr::null_mut()).unwrap()), (12, vec![4, 5, 6]));
    assert_eq!(code(cu!(cuModuleGetGlobal_v2(&mut address, &mut bytes, module, c"tables".as_ptr()))), 500);
    assert_eq!(code(function(module, "full")), 500);
    let empty = function(module, "empty").unwrap();
    // What is queued runs before the module goes.
    device.launch(empty, 1, 1, std::ptr::null_mut(), &[]).unwrap();
    cu!(cuModuleUnload(module)).unwrap();
    cu!(cuCtxSynchronize()).unwrap();
    assert_eq!(code(device.launch(empty, 1, 1, std::ptr::null_mut(), &[])), 400);
    assert_eq!(device.reports(), "");
}
