//! The driver's functions that are used, from the library that the program has opened.

use std::ffi::{c_int, c_void};

/// A stream.
pub type Stream = *mut c_void;
/// What a stream calls on the host.
pub type HostFunction = extern "C" fn(*mut c_void);

type ToHost = unsafe extern "C" fn(*mut c_void, u64, usize, Stream) -> c_int;
type ToDevice = unsafe extern "C" fn(u64, *const c_void, usize, Stream) -> c_int;
type CallHost = unsafe extern "C" fn(Stream, HostFunction, *mut c_void) -> c_int;
type Allocate = unsafe extern "C" fn(*mut *mut c_void, usize, u32) -> c_int;
type Free = unsafe extern "C" fn(*mut c_void) -> c_int;
type Synchronize = unsafe extern "C" fn() -> c_int;

/// The functions, as `cuda.h` declares them.
#[derive(Clone, Copy)]
pub struct Driver {
    to_host: ToHost,
    to_device: ToDevice,
    call_host: CallHost,
    allocate: Allocate,
    free: Free,
    synchronize: Synchronize,
}

/// A symbol of a library as a function.
macro_rules! function {
    ($library:expr, $name:literal, $ty:ty) => {{
        // SAFETY: an open library and a C string.
        let symbol = unsafe { libc::dlsym($library, $name.as_ptr()) };
        if symbol.is_null() {
            return None;
        }
        // SAFETY: `cuda.h` declares the function of this name with this type.
        unsafe { std::mem::transmute::<*mut c_void, $ty>(symbol) }
    }};
}

impl Driver {
    /// Those of `libcuda.so`; nothing where there is none.
    pub fn open() -> Option<Self> {
        let open = |name: &std::ffi::CStr| {
            // SAFETY: a C string; the library is what the program computes with.
            unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) }
        };
        let library = [c"libcuda.so", c"libcuda.so.1"].into_iter().map(open).find(|library| !library.is_null())?;
        Some(Self {
            to_host: function!(library, c"cuMemcpyDtoHAsync_v2", ToHost),
            to_device: function!(library, c"cuMemcpyHtoDAsync_v2", ToDevice),
            call_host: function!(library, c"cuLaunchHostFunc", CallHost),
            allocate: function!(library, c"cuMemHostAlloc", Allocate),
            free: function!(library, c"cuMemFreeHost", Free),
            synchronize: function!(library, c"cuCtxSynchronize", Synchronize),
        })
    }

    /// Pinned memory: only from it copies take what is there when they run.
    pub fn allocate(&self, bytes: usize) -> Option<*mut u8> {
        let mut memory = std::ptr::null_mut();
        // SAFETY: the place is valid for the call. 1 is for all contexts.
        let code = unsafe { (self.allocate)(&raw mut memory, bytes, 1) };
        (code == 0).then_some(memory.cast())
    }

    /// Gives it back.
    ///
    /// # Safety
    /// From [`Driver::allocate`], once, and no copy is in flight.
    pub unsafe fn free(&self, memory: *mut u8) {
        // SAFETY: as the caller says.
        unsafe { (self.free)(memory.cast()) };
    }

    /// Waits for all work of the current context.
    pub fn synchronize(&self) {
        // SAFETY: takes no memory.
        unsafe { (self.synchronize)() };
    }

    /// A copy to the host in stream order; whether the driver took it.
    ///
    /// # Safety
    /// Both places hold `bytes` for as long as the stream, or a graph that captures it, uses them.
    pub unsafe fn copy_to_host(&self, to: *mut u8, from: u64, bytes: usize, stream: Stream) -> bool {
        // SAFETY: as the caller says.
        unsafe { (self.to_host)(to.cast(), from, bytes, stream) == 0 }
    }

    /// A copy to the device in stream order; whether the driver took it.
    ///
    /// # Safety
    /// As [`Driver::copy_to_host`].
    pub unsafe fn copy_to_device(&self, to: u64, from: *const u8, bytes: usize, stream: Stream) -> bool {
        // SAFETY: as the caller says.
        unsafe { (self.to_device)(to, from.cast(), bytes, stream) == 0 }
    }

    /// A call on the host in stream order; whether the driver took it.
    ///
    /// # Safety
    /// `data` is what `function` takes, for as long as the stream, or a graph that captures it, uses it.
    pub unsafe fn call_host(&self, stream: Stream, function: HostFunction, data: *mut c_void) -> bool {
        // SAFETY: as the caller says.
        unsafe { (self.call_host)(stream, function, data) == 0 }
    }
}
