//! What tests ask of the simulator beyond the driver API: C functions of the loaded library, which
//! [`Simulator`](super::install::Simulator) wraps.

use std::ffi::{CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;

use super::ffi::Text;
use super::state::{DONE, State, environment_options, lock_raw};
use crate::exec::rng::Rng;

/// A text for C, which it gives back with `cudasim_free_text`; null for none.
fn give(text: Option<String>) -> *mut c_char {
    let text = text.and_then(|text| CString::new(text.replace('\0', " ")).ok());
    text.map_or(std::ptr::null_mut(), CString::into_raw)
}

fn guarded<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(otherwise)
}

impl State {
    /// Makes the devices that the environment asks for, where there are none.
    ///
    /// # Errors
    /// What is wrong with the environment's options.
    pub fn ensure_devices(&mut self) -> Result<(), String> {
        if self.devices.is_empty() {
            let options = environment_options()?;
            self.devices.resize_with(options.devices as usize, || super::objects::Device::new(options.clone()));
        }
        Ok(())
    }

    fn chosen(&mut self, device: c_int) -> Result<std::ops::Range<usize>, String> {
        self.ensure_devices()?;
        match usize::try_from(device) {
            Err(_) => Ok(0..self.devices.len()),
            Ok(index) if index < self.devices.len() => Ok(index..index + 1),
            Ok(index) => Err(format!("no device {index}: there are {}", self.devices.len())),
        }
    }

    fn set_options(&mut self, device: c_int, text: &str) -> Result<(), String> {
        let chosen = self.chosen(device)?;
        for index in chosen.clone() {
            self.devices[index].options.set(text)?;
        }
        // More devices can come; none goes.
        let options = self.devices[chosen.start].options.clone();
        if options.devices as usize > self.devices.len() {
            self.devices.resize_with(options.devices as usize, || super::objects::Device::new(options.clone()));
        }
        for context in self.contexts.values_mut().filter(|context| chosen.contains(&context.device)) {
            context.rng = Rng::new(self.devices[context.device].options.seed, 0);
        }
        Ok(())
    }
}

/// Sets options of a device, or of all (-1): `seed=7,completion=early`. Returns null, or what is wrong.
// SAFETY: no other library defines this name.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn cudasim_set_options(device: c_int, options: Text) -> *mut c_char {
    guarded(std::ptr::null_mut(), || {
        let text = options.get().map_err(|error| error.to_string());
        give(text.and_then(|text| lock_raw().set_options(device, &text)).err())
    })
}

/// Says how many registers a thread of a kernel takes, for kernels of modules that are loaded afterwards or functions that
/// are asked for afterwards. Returns null, or what is wrong.
// SAFETY: no other library defines this name.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn cudasim_set_registers(device: c_int, kernel: Text, registers: c_int) -> *mut c_char {
    guarded(std::ptr::null_mut(), || {
        let set = || -> Result<(), String> {
            let name = kernel.get().map_err(|error| error.to_string())?;
            let registers = u32::try_from(registers).map_err(|_| "a negative number of registers".to_owned())?;
            let mut state = lock_raw();
            for index in state.chosen(device)? {
                state.devices[index].registers.insert(name.clone(), registers);
            }
            Ok(())
        };
        give(set().err())
    })
}

/// Takes what was found on a device, or on all (-1): as text, with an empty line after each, or as lines of JSON. Never null.
// SAFETY: no other library defines this name.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn cudasim_take_reports(device: c_int, json: c_int) -> *mut c_char {
    guarded(std::ptr::null_mut(), || {
        let mut state = lock_raw();
        let mut text = String::new();
        for index in state.chosen(device).unwrap_or(0..0) {
            for problem in state.devices[index].problems.drain(..) {
                text += &if json != 0 { problem.json() + "\n" } else { format!("{problem}\n\n") };
            }
        }
        give(Some(text))
    })
}

/// The functions of the driver that this process has called, a line each. Never null.
// SAFETY: no other library defines this name.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn cudasim_called() -> *mut c_char {
    guarded(std::ptr::null_mut(), || give(Some(super::release::called().join("\n"))))
}

/// Takes the counts of the launches on a device, or on all (-1): lines of JSON. Never null.
// SAFETY: no other library defines this name.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn cudasim_take_counters(device: c_int) -> *mut c_char {
    guarded(std::ptr::null_mut(), || {
        let mut state = lock_raw();
        let mut text = String::new();
        for index in state.chosen(device).unwrap_or(0..0) {
            for line in state.devices[index].counters.drain(..) {
                text += &line;
                text.push('\n');
            }
        }
        give(Some(text))
    })
}

/// Makes a device, or all (-1), as new: contexts, faults, reports, counts and options are gone, work that waits is not done.
/// Every handle and pointer of before is invalid.
// SAFETY: no other library defines this name.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn cudasim_reset(device: c_int) -> *mut c_char {
    guarded(std::ptr::null_mut(), || {
        let reset = || -> Result<(), String> {
            let mut state = lock_raw();
            let chosen = state.chosen(device)?;
            let options = environment_options()?;

            let contexts: Vec<_> = (state.contexts.iter().filter(|(_, c)| chosen.contains(&c.device)))
                .map(|(&handle, _)| handle)
                .collect();
            for context in contexts {
                while state.streams.values().any(|stream| stream.context == context && stream.busy) {
                    state = DONE.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                state.forget_context(context);
            }

            for index in chosen {
                state.devices[index] = super::objects::Device::new(options.clone());
            }
            Ok(())
        };
        give(reset().err())
    })
}

/// Gives back a text.
///
/// # Safety
/// `text` is null, or came from this library and was not given back.
// SAFETY: no other library defines this name.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn cudasim_free_text(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: made by `CString::into_raw` in `give`, as the caller promises.
        drop(unsafe { CString::from_raw(text) });
    }
}
