//! Functions and their attributes.

use std::ffi::{c_char, c_int};

use super::call::refuse;
use super::error::{CudaError, Result};
use super::exports;
use super::ffi::{Handle, Out};
use super::objects::Function;
use super::state::{State, enter};

impl Function {
    /// Value of a `CUfunction_attribute`.
    pub fn attribute(&self, number: c_int) -> Result<c_int> {
        let bounds = &self.kernel.bounds;
        let cluster = bounds.required_cluster.unwrap_or(self.cluster);

        Ok(match number {
            0 => self.max_threads() as c_int,
            1 => self.kernel.static_shared as c_int,
            2 => 0,
            3 => self.kernel.local_bytes as c_int,
            4 => self.registers as c_int,
            5 => self.virtual_architecture(),
            6 => self.card.architecture() as c_int,
            7 => 0,
            8 => self.max_dynamic_shared as c_int,
            10 => c_int::from(bounds.explicit_cluster || bounds.required_cluster.is_some()),
            11..=13 => cluster[number as usize - 11] as c_int,
            14 => self.non_portable_cluster.into(),
            9 | 15 => self.hints.get(&number).copied().unwrap_or(if number == 9 { -1 } else { 0 }),
            _ => return Err(CudaError::InvalidValue),
        })
    }

    /// That its PTX was made for: 80 of `sm_80`. Documented as a version of PTX; what CUB chooses its kernels by.
    fn virtual_architecture(&self) -> c_int {
        let digits = |target: &String| target.strip_prefix("sm_")?.trim_end_matches(char::is_alphabetic).parse().ok();
        self.kernel.module.targets.iter().find_map(digits).unwrap_or(0)
    }

    /// Sets a `CUfunction_attribute`.
    pub fn set_attribute(&mut self, number: c_int, value: c_int) -> Result<()> {
        let invalid = |why: String| Err(refuse(CudaError::InvalidValue, why));
        match number {
            8 => {
                let room = self.card.limits.shared_opt_in.saturating_sub(self.kernel.static_shared as u32);

                match u32::try_from(value).ok().filter(|&bytes| bytes <= room) {
                    Some(bytes) => self.max_dynamic_shared = bytes,
                    None => return invalid(format!("kernel {}: {value} bytes; {room} at most", self.kernel.name)),
                }
            }
            9 if (-1..=100).contains(&value) => drop(self.hints.insert(number, value)),
            11..=13 => {
                if self.kernel.bounds.required_cluster.is_some() {
                    return invalid("the kernel's cluster size was fixed when it was compiled".into());
                }

                self.cluster[number as usize - 11] = u32::try_from(value).map_err(|_| CudaError::InvalidValue)?;
            }
            14 if (0..=1).contains(&value) => self.non_portable_cluster = value == 1,
            15 if (0..=2).contains(&value) => drop(self.hints.insert(number, value)),
            _ => return Err(CudaError::InvalidValue),
        }
        Ok(())
    }
}

impl State {
    /// A function of the current context.
    ///
    /// # Errors
    /// `InvalidHandle`.
    pub fn function(&mut self, function: Handle) -> Result<&mut Function> {
        self.functions.get_mut(&function).ok_or(CudaError::InvalidHandle)
    }

    /// Where a parameter lies in the parameter block, and its size.
    ///
    /// # Errors
    /// `InvalidHandle`; `InvalidValue` where there is no such parameter.
    pub fn parameter(&mut self, function: Handle, index: usize) -> Result<(usize, usize)> {
        let kernel = &self.function(function)?.kernel;
        let parameter = kernel.parameters.get(index).ok_or(CudaError::InvalidValue)?;
        Ok((parameter.offset as usize, parameter.size as usize))
    }
}

exports! {
    fn cuFuncGetAttribute(value: Out<c_int>, attribute: c_int, function: Handle) {
        let (mut state, _) = enter()?;
        value.put(state.function(function)?.attribute(attribute)?)
    }

    fn cuFuncSetAttribute(function: Handle, attribute: c_int, value: c_int) {
        let (mut state, _) = enter()?;
        state.function(function)?.set_attribute(attribute, value)
    }

    fn cuFuncSetCacheConfig(function: Handle, config: c_int) {
        // There are no caches.
        let (mut state, _) = enter()?;
        state.function(function)?;
        if (0..=3).contains(&config) { Ok(()) } else { Err(CudaError::InvalidValue) }
    }

    fn cuFuncGetModule(module: Out<Handle>, function: Handle) {
        let (mut state, _) = enter()?;
        module.put(state.function(function)?.module)
    }

    fn cuFuncGetName(name: Out<*const c_char>, function: Handle) {
        let (mut state, _) = enter()?;
        name.put(state.function(function)?.name.as_ptr())
    }

    fn cuFuncGetParamInfo(function: Handle, index: usize, offset: Out<usize>, size: Out<usize>) {
        let (mut state, _) = enter()?;
        let (at, bytes) = state.parameter(function, index)?;
        offset.put(at)?;
        size.put_if_wanted(bytes);
        Ok(())
    }

    fn cuFuncIsLoaded(status: Out<c_int>, function: Handle) {
        let (mut state, _) = enter()?;
        state.function(function)?;
        status.put(1)
    }

    fn cuFuncLoad(function: Handle) {
        let (mut state, _) = enter()?;
        state.function(function).map(drop)
    }
}
