//! The CUDA driver API over the simulated device: one file per chapter of `cuda.h` 13.0.
//!
//! ```text
//! error, ffi, call               codes; the C side's pointers and handles; the guard of every call
//! work, objects                  what streams do; what handles stand for: contexts, streams, events, modules, graphs
//! state                          everything that exists, behind one lock
//! queue                          streams: work is queued, and runs as late as the rules allow
//! init, context, memory, copy,   the exported functions, by chapter: they check what the driver checks and answer as it does
//! stream, event, module, ...
//! capture, graph                 work that is recorded instead
//! release                        which functions a driver of an older release lacks, and which were called
//! control, install               what tests ask beyond the driver API
//! nvml                           sensors: what the management library tells of the same devices
//! ```
//!
//! **Laziness.** Nothing runs before something waits for it: a synchronisation, a query, a copy that the host sees. Then
//! it runs in an order that the rules (streams, events, the legacy default stream) allow and the seed chooses. Host code
//! that forgets to synchronise thus reads what was there before.

mod call;
mod capture;
mod context;
mod control;
mod copy;
mod device;
mod error;
mod event;
mod ffi;
mod function;
mod graph;
mod image;
mod init;
pub mod install;
mod launch;
mod library;
mod limits;
mod memory;
mod module;
mod nvml;
mod objects;
mod occupancy;
mod pages;
mod pool;
mod problem;
mod queue;
mod release;
mod state;
mod stream;
mod tensor_map;
mod work;

pub use error::CudaError;

/// Declares exported functions. Each body is a closure's that returns a [`error::Result`]; the function returns its code, and
/// 999 where it panics.
///
/// The unit tests call none of them from outside, and without their names need not compile the whole interpreter: a tenth of the tests' build.
macro_rules! exports {
    ($($(#[$meta:meta])* fn $name:ident($($argument:ident: $ty:ty),* $(,)?) $body:block)*) => {$(
        #[doc = concat!("`", stringify!($name), "` of `cuda.h`.")]
        $(#[$meta])*
        #[allow(non_snake_case, clippy::too_many_arguments)]
        // SAFETY: no other library that is loaded beside a driver defines this name.
        #[cfg_attr(not(test), unsafe(no_mangle))]
        pub extern "C" fn $name($($argument: $ty),*) -> std::ffi::c_int {
            $crate::driver::call::guard(stringify!($name), move || -> $crate::driver::error::Result<()> {
                $crate::driver::release::note(stringify!($name))?;
                $body
            })
        }
    )*};
}
use exports;
