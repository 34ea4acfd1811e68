//! NCCL's library, opened at run time: the functions that we use, all looked up at once, and its errors as values.
//!
//! A table of our own and not cudarc's: that looks for `libnccl.so`, which the packages that people install do not have (they have
//! `libnccl.so.2`), and panics where the library or a function is missing. All functions are in NCCL 2.18 and later.

use std::ffi::{CStr, c_char, c_int, c_void};

use crate::device::{Error, Result};

/// The names under which the library is looked for, first to last: that of the runtime packages, that of the developers'.
const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];

/// `ncclUniqueId`: how ranks find each other.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct UniqueId(pub [c_char; 128]);

/// `ncclComm_t`.
pub type Handle = *mut c_void;
/// `ncclResult_t`.
pub type Code = c_int;
/// `cudaStream_t`, which is the driver's `CUstream`.
pub type Stream = *mut c_void;

/// `ncclSuccess`.
pub const SUCCESS: Code = 0;
/// `ncclInProgress`: of a communicator that works without blocking.
pub const IN_PROGRESS: Code = 7;
/// `ncclFloat32`.
pub const FLOAT32: c_int = 7;
/// `ncclSum`.
pub const SUM: c_int = 0;

/// A struct of functions, and how all of them are looked up.
macro_rules! functions {
    ($($field:ident = $name:literal: fn($($argument:ty),* $(,)?) -> $result:ty;)+) => {
        /// The functions that we use, as `nccl.h` declares them.
        #[derive(Clone, Copy)]
        pub struct Functions {
            $(#[doc = concat!("`", $name, "`.")] pub $field: unsafe extern "C" fn($($argument),*) -> $result,)+
        }

        /// Their names.
        #[cfg(test)]
        pub const FUNCTIONS: &[&str] = &[$($name),+];

        impl Functions {
            /// Looks all of them up; the name of the first that is missing otherwise.
            fn of(library: &libloading::Library) -> std::result::Result<Self, &'static str> {
                Ok(Self {
                    // SAFETY: `nccl.h` declares the function of this name with this type.
                    $($field: unsafe { *library.get::<unsafe extern "C" fn($($argument),*) -> $result>($name.as_bytes()).map_err(|_| $name)? },)+
                })
            }
        }
    };
}

functions! {
    version = "ncclGetVersion": fn(*mut c_int) -> Code;
    unique_id = "ncclGetUniqueId": fn(*mut UniqueId) -> Code;
    init_rank = "ncclCommInitRank": fn(*mut Handle, c_int, UniqueId, c_int) -> Code;
    split = "ncclCommSplit": fn(Handle, c_int, c_int, *mut Handle, *mut c_void) -> Code;
    destroy = "ncclCommDestroy": fn(Handle) -> Code;
    abort = "ncclCommAbort": fn(Handle) -> Code;
    count = "ncclCommCount": fn(Handle, *mut c_int) -> Code;
    user_rank = "ncclCommUserRank": fn(Handle, *mut c_int) -> Code;
    async_error = "ncclCommGetAsyncError": fn(Handle, *mut Code) -> Code;
    error_string = "ncclGetErrorString": fn(Code) -> *const c_char;
    last_error = "ncclGetLastError": fn(Handle) -> *const c_char;
    all_reduce = "ncclAllReduce": fn(u64, u64, usize, c_int, c_int, Handle, Stream) -> Code;
    reduce_scatter = "ncclReduceScatter": fn(u64, u64, usize, c_int, c_int, Handle, Stream) -> Code;
    all_gather = "ncclAllGather": fn(u64, u64, usize, c_int, Handle, Stream) -> Code;
    broadcast = "ncclBroadcast": fn(u64, u64, usize, c_int, c_int, Handle, Stream) -> Code;
    send = "ncclSend": fn(u64, usize, c_int, c_int, Handle, Stream) -> Code;
    receive = "ncclRecv": fn(u64, usize, c_int, c_int, Handle, Stream) -> Code;
    group_start = "ncclGroupStart": fn() -> Code;
    group_end = "ncclGroupEnd": fn() -> Code;
}

/// The library, loaded until the process ends: NCCL has threads of its own, and cannot be unloaded under them.
#[derive(Clone, Copy)]
pub struct Library {
    /// What it can do.
    pub functions: Functions,
}

impl Library {
    /// Opens the machine's NCCL.
    ///
    /// # Errors
    /// [`Error::Unavailable`] without the library, or with one that is too old; each with what to do.
    pub fn open() -> Result<Self> {
        Self::open_first(&NAMES)
    }

    /// Opens the first library of these names or paths that there is.
    ///
    /// # Errors
    /// As [`Library::open`].
    pub fn open_first(names: &[&str]) -> Result<Self> {
        // SAFETY: loads NVIDIA's library, whose initialisers NVIDIA answers for, and calls nothing.
        let found = names.iter().find_map(|name| unsafe { libloading::Library::new(*name) }.ok());
        let Some(library) = found else {
            return Err(Error::unavailable(
                format!(
                    "no NCCL, which several GPUs exchange gradients by: {} is not among the system's libraries",
                    names[0]
                ),
                "install it (Debian and Ubuntu: libnccl2; any Python: pip install nvidia-nccl-cu12, with the folder of \
                 libnccl.so.2 in LD_LIBRARY_PATH), or train with one process",
            ));
        };
        let functions = Functions::of(&library).map_err(|name| {
            Error::unavailable(
                format!("{} lacks the function {name}, which NCCL 2.18 and later have", names[0]),
                "install a newer NCCL, or train with one process",
            )
        })?;
        std::mem::forget(library);
        Ok(Self { functions })
    }

    /// Its version: 2, 30, 7.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn version(self) -> Result<[u32; 3]> {
        let mut version = 0;
        // SAFETY: the place is valid for the call.
        self.check("ncclGetVersion", unsafe { (self.functions.version)(&raw mut version) })?;
        let number = u32::try_from(version).unwrap_or(0);
        Ok([number / 10_000, number / 100 % 100, number % 100])
    }

    /// A new id by which ranks can meet, for one of them to give to the others.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn unique_id(self) -> Result<UniqueId> {
        let mut id = UniqueId([0; 128]);
        // SAFETY: the place is valid for the call.
        self.check("ncclGetUniqueId", unsafe { (self.functions.unique_id)(&raw mut id) })?;
        Ok(id)
    }

    /// The id that all ranks have which `NCCL_COMM_ID` is set for, so that nobody has to hand it round.
    ///
    /// Before release 2.22 eight of its bytes were random all the same (2.18.3, 2.19.3 and 2.21.5 were tried): ranks with such
    /// ids never find each other.
    ///
    /// # Errors
    /// [`Error::Unavailable`] with such a release, [`Error::Driver`].
    pub fn common_id(self) -> Result<UniqueId> {
        let (id, again) = (self.unique_id()?, self.unique_id()?);
        if id.0 == again.0 {
            return Ok(id);
        }
        let [major, minor, patch] = self.version()?;
        Err(Error::unavailable(
            format!("NCCL {major}.{minor}.{patch} gives every rank an id of its own, so ranks cannot meet without MPI"),
            "install NCCL 2.22 or later (Debian and Ubuntu: libnccl2; any Python: pip install nvidia-nccl-cu12, with the folder \
             of libnccl.so.2 in LD_LIBRARY_PATH), or start a build with --features mpi by mpirun",
        ))
    }

    /// The error of a call, if it is one.
    ///
    /// # Errors
    /// [`Error::Driver`] with NCCL's words.
    pub fn check(self, call: &str, code: Code) -> Result<()> {
        if code == SUCCESS {
            return Ok(());
        }
        // SAFETY: NCCL's own texts, which live as long as the library; any code may be asked for, and the last error is that of all
        // communicators, whichever is named.
        let texts = unsafe { [(self.functions.error_string)(code), (self.functions.last_error)(std::ptr::null_mut())] };
        let words = texts.map(|text| match text.is_null() {
            true => String::new(),
            // SAFETY: not null, so a C string.
            false => unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned(),
        });
        let more = if words[1].is_empty() { String::new() } else { format!(" ({})", words[1]) };
        let message = format!("{}{more}; NCCL_DEBUG=WARN tells more", words[0]);
        Err(Error::Driver { call: call.to_owned(), message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_missing_or_another_is_an_error_with_the_fix() {
        let refused = |names: &[&str]| Library::open_first(names).map(drop).unwrap_err().to_string();
        let missing = refused(&["libnccl-that-nobody-has.so.2"]);
        assert!(missing.contains("libnccl2") && missing.contains("one process"), "{missing}");
        // A library, and not NCCL.
        let other = refused(&["libc.so.6"]);
        assert!(other.contains("lacks the function ncclGetVersion") && other.contains("2.18"), "{other}");
        assert_eq!(FUNCTIONS.len(), 19);
    }
}
