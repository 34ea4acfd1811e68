//! Puts the simulator in the place of `libcuda.so` in a test's process, and talks to it.
//!
//! A test links this crate for its functions, but the driver is the shared library `libcudasim.so` that cargo builds beside
//! the test: [`install`] loads it under its SONAME, which is `libcuda.so`, so that whoever opens that library afterwards
//! gets it. The copy of the driver that is linked into the test itself is never used.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};

/// The dynamic loader of glibc, as `dlfcn.h` declares it.
mod loader {
    use std::ffi::{c_char, c_int, c_void};

    /// `Dl_info` of `dlfcn.h`.
    #[repr(C)]
    pub struct Place {
        /// Path of the library that the address is in.
        pub file: *const c_char,
        /// Where that library is loaded.
        pub base: *mut c_void,
        /// The nearest symbol before the address; null where there is none.
        pub name: *const c_char,
        /// The address of that symbol.
        pub address: *mut c_void,
    }

    /// `RTLD_NOW`: every symbol is resolved while the library loads.
    pub const NOW: c_int = 2;
    /// `RTLD_NOLOAD`: gives the library only if it is loaded already.
    pub const NO_LOAD: c_int = 4;
    /// `RTLD_GLOBAL`: libraries that are loaded later see its symbols.
    pub const GLOBAL: c_int = 0x100;

    // SAFETY: as dlfcn.h declares them; glibc has them all.
    unsafe extern "C" {
        /// Loads a library; null where that fails.
        pub fn dlopen(file: *const c_char, mode: c_int) -> *mut c_void;
        /// The address of a symbol of a library; null where it has none of this name.
        pub fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
        /// What failed last on this thread; null where nothing did.
        pub fn dlerror() -> *mut c_char;
        /// Says which library and symbol an address belongs to; 0 where it belongs to none.
        pub fn dladdr(address: *const c_void, place: *mut Place) -> c_int;
    }
}

/// A library that is loaded and stays so.
#[derive(Clone, Copy)]
struct Library(*mut c_void);

// SAFETY: a handle of the loader, which any thread may use.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    fn open(file: &CStr, mode: c_int) -> Option<Self> {
        // SAFETY: a C string; what initialises itself on loading is our own library or a driver.
        let library = unsafe { loader::dlopen(file.as_ptr(), mode) };
        (!library.is_null()).then_some(Self(library))
    }

    fn symbol(self, name: &str) -> Option<*mut c_void> {
        let name = CString::new(name).ok()?;
        // SAFETY: an open library and a C string.
        let symbol = unsafe { loader::dlsym(self.0, name.as_ptr()) };
        (!symbol.is_null()).then_some(symbol)
    }
}

/// The exported function of this name in the library that this code is in.
pub(super) fn symbol(name: &str) -> Option<*mut c_void> {
    if !name.starts_with("cu") {
        return None;
    }
    let mut place = loader::Place {
        file: std::ptr::null(),
        base: std::ptr::null_mut(),
        name: std::ptr::null(),
        address: std::ptr::null_mut(),
    };
    // SAFETY: any address may be asked for; the place is valid for the call.
    let found = unsafe { loader::dladdr(symbol as *const c_void, &raw mut place) };
    if found == 0 || place.file.is_null() {
        return None;
    }
    // SAFETY: the loader's own string, which lives as long as the library.
    let file = unsafe { CStr::from_ptr(place.file) };
    Library::open(file, loader::NOW | loader::NO_LOAD)?.symbol(name)
}

/// Why the simulator could not be put in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstallError {
    /// The library was not found at any of these places.
    NotFound(Vec<PathBuf>),
    /// The loader refused it.
    Loader(String),
    /// Another `libcuda.so` is loaded already.
    OtherDriver,
    /// The library has not what this crate calls: it is of another version.
    Version(&'static str),
}

impl std::fmt::Display for InstallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotFound(places) => write!(
                f,
                "libcudasim.so is not there: build it with `cargo build -p cudasim`, or name it in CUDASIM_LIBRARY \
                 (looked for {places:?})"
            ),
            Self::Loader(message) => write!(f, "{message}"),
            Self::OtherDriver => {
                write!(f, "another libcuda.so is loaded already: install the simulator before the first CUDA call")
            }
            Self::Version(name) => write!(f, "libcudasim.so has no {name}: rebuild it with `cargo build -p cudasim`"),
        }
    }
}

impl std::error::Error for InstallError {}

fn places() -> Vec<PathBuf> {
    const NAME: &str = "libcudasim.so";
    if let Some(path) = std::env::var_os("CUDASIM_LIBRARY") {
        return vec![path.into()];
    }
    let executable = std::env::current_exe().unwrap_or_default();
    // Tests and benches lie in deps/, examples beside it, binaries above it.
    let folders = executable.ancestors().skip(1).take(2);
    folders.flat_map(|folder: &Path| [folder.join(NAME), folder.join("deps").join(NAME)]).collect()
}

/// Loads the simulator as this process's `libcuda.so`. Calling it again does no harm.
///
/// # Errors
/// [`InstallError`].
pub fn install() -> Result<Simulator, InstallError> {
    let places = places();
    let path = places.iter().find(|path| path.is_file()).ok_or_else(|| InstallError::NotFound(places.clone()))?;

    let loaded = Library::open(c"libcuda.so", loader::NOW | loader::NO_LOAD);
    if loaded.is_some_and(|library| library.symbol("cudasim_reset").is_none()) {
        return Err(InstallError::OtherDriver);
    }

    let file = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| InstallError::NotFound(places.clone()))?;
    let library = Library::open(&file, loader::NOW | loader::GLOBAL).ok_or_else(|| {
        // SAFETY: called after a failure; the loader's string lives until its next call on this thread.
        let message = unsafe { loader::dlerror() };
        let text = match message.is_null() {
            true => "the loader refused it".into(),
            // SAFETY: not null, so a C string.
            false => unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned(),
        };
        InstallError::Loader(text)
    })?;
    Simulator::new(library)
}

type SetOptions = extern "C" fn(c_int, *const c_char) -> *mut c_char;
type SetRegisters = extern "C" fn(c_int, *const c_char, c_int) -> *mut c_char;
type TakeReports = extern "C" fn(c_int, c_int) -> *mut c_char;
type OfDevice = extern "C" fn(c_int) -> *mut c_char;
type OfProcess = extern "C" fn() -> *mut c_char;
type FreeText = unsafe extern "C" fn(*mut c_char);

/// The loaded simulator. Where a function takes a device, `None` means all.
#[derive(Clone, Copy)]
pub struct Simulator {
    set_options: SetOptions,
    set_registers: SetRegisters,
    take_reports: TakeReports,
    take_counters: OfDevice,
    reset: OfDevice,
    called: OfProcess,
    free_text: FreeText,
}

/// A symbol as a function of the given type.
macro_rules! function {
    ($library:expr, $name:literal, $ty:ty) => {{
        let symbol = $library.symbol($name).ok_or(InstallError::Version($name))?;
        // SAFETY: the library is this crate's, in which the function of this name has this type.
        unsafe { std::mem::transmute::<*mut c_void, $ty>(symbol) }
    }};
}

impl Simulator {
    fn new(library: Library) -> Result<Self, InstallError> {
        Ok(Self {
            set_options: function!(library, "cudasim_set_options", SetOptions),
            set_registers: function!(library, "cudasim_set_registers", SetRegisters),
            take_reports: function!(library, "cudasim_take_reports", TakeReports),
            take_counters: function!(library, "cudasim_take_counters", OfDevice),
            reset: function!(library, "cudasim_reset", OfDevice),
            called: function!(library, "cudasim_called", OfProcess),
            free_text: function!(library, "cudasim_free_text", FreeText),
        })
    }

    fn text(&self, text: *mut c_char) -> Option<String> {
        if text.is_null() {
            return None;
        }
        // SAFETY: not null, so a C string of the library.
        let copy = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
        // SAFETY: it came from the library, and is given back once.
        unsafe { (self.free_text)(text) };
        Some(copy)
    }

    fn check(&self, error: *mut c_char) -> Result<(), String> {
        self.text(error).map_or(Ok(()), Err)
    }

    /// Sets options, as [`Options::set`](crate::options::Options::set) reads them: `seed=7,completion=early`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn set_options(&self, device: Option<u32>, options: &str) -> Result<(), String> {
        let options = CString::new(options).map_err(|error| error.to_string())?;
        self.check((self.set_options)(number(device), options.as_ptr()))
    }

    /// Says how many registers a thread of a kernel takes (`ptxas -v` tells), so that launches are checked for them.
    ///
    /// # Errors
    /// No such device.
    pub fn set_registers(&self, device: Option<u32>, kernel: &str, registers: u32) -> Result<(), String> {
        let kernel = CString::new(kernel).map_err(|error| error.to_string())?;
        let registers = c_int::try_from(registers).map_err(|error| error.to_string())?;
        self.check((self.set_registers)(number(device), kernel.as_ptr(), registers))
    }

    /// Takes what was found, as text: one report after another, an empty line after each.
    pub fn take_reports(&self, device: Option<u32>) -> String {
        self.text((self.take_reports)(number(device), 0)).unwrap_or_default()
    }

    /// Takes what was found, as JSON: an object a line.
    pub fn take_reports_json(&self, device: Option<u32>) -> String {
        self.text((self.take_reports)(number(device), 1)).unwrap_or_default()
    }

    /// Takes the counts of launches, as JSON: an object a line. Option `counters=on` has them counted.
    pub fn take_counters(&self, device: Option<u32>) -> String {
        self.text((self.take_counters)(number(device))).unwrap_or_default()
    }

    /// The functions of the driver that this process has called, by name.
    pub fn called(&self) -> Vec<String> {
        let text = self.text((self.called)()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Makes a device as new: contexts, faults, reports, counts and options are gone; every handle is invalid.
    ///
    /// # Errors
    /// No such device.
    pub fn reset(&self, device: Option<u32>) -> Result<(), String> {
        self.check((self.reset)(number(device)))
    }
}

fn number(device: Option<u32>) -> c_int {
    device.and_then(|device| c_int::try_from(device).ok()).unwrap_or(-1)
}
