//! Modules.

use std::collections::HashMap;
use std::ffi::{CString, c_int, c_uint};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::call::{explain, refuse};
use super::error::{CudaError, Result};
use super::exports;
use super::ffi::{DevicePointer, Handle, HostPointer, In, Out, Text};
use super::image::{Image, Reader, Refusal};
use super::limits;
use super::objects::{Function, Module};
use super::queue::reach;
use super::state::{State, enter, in_context};
use crate::exec::Program;
use crate::exec::decode::program::LoadError;

impl State {
    /// The image at a pointer, as the device of a context takes it.
    ///
    /// # Errors
    /// [`Refusal`]: what the option `module_error` asks for, or what is wrong with the image.
    pub fn image(&mut self, context: Handle, image: In<u8>) -> Result<Image, Refusal> {
        let device = self.device_of(context).map_err(|error| (error, String::new()))?;
        match CudaError::from_code(device.options.module_error) {
            Some(error) => Err((error, "as the option module_error asks".into())),
            None => Image::at(image, &Reader { card: device.options.card(), driver: device.options.driver }),
        }
    }

    /// Loads an image into a context.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn load(&mut self, context: Handle, image: Image, is_library: bool) -> Result<Handle, Refusal> {
        let engine = Arc::clone(&self.context(context).map_err(|error| (error, String::new()))?.engine);
        let program = Program::load_lazily(&image.text, &engine.memory).map_err(|error| match &error {
            LoadError::Ptx(_) => (CudaError::InvalidPtx, error.to_string()),
            LoadError::Memory(_) => (CudaError::OutOfMemory, error.to_string()),
        })?;

        // As ptxas refuses it; more must be dynamic. All kernels are decoded only where there is so much at all.
        let all = if program.most_static_shared() > limits::SHARED.into() { program.kernels() } else { Vec::new() };
        if let Some(kernel) = all.iter().find(|kernel| kernel.static_shared > limits::SHARED.into()) {
            let (name, bytes) = (&kernel.name, kernel.static_shared);
            let why = format!("kernel {name}: {bytes} bytes of static shared memory; at most {}", limits::SHARED);
            program.unload(&engine.memory);
            return Err((CudaError::InvalidPtx, why));
        }

        let handle = self.new_handle();
        let alive = Arc::new(AtomicBool::new(true));
        let (program, functions) = (Arc::new(program), HashMap::new());
        let registers = image.registers;
        self.modules.insert(handle, Module { context, program, registers, alive, is_library, functions });
        Ok(handle)
    }

    /// The handle of a module's function.
    ///
    /// # Errors
    /// `InvalidHandle`, `NotFound`; `InvalidPtx` where the kernel cannot be decoded.
    pub fn function_of(&mut self, module: Handle, name: &str) -> Result<Handle> {
        let found = self.modules.get(&module).ok_or(CudaError::InvalidHandle)?;
        if let Some(&function) = found.functions.get(name) {
            return Ok(function);
        }

        let kernel = found.program.find(name).ok_or(CudaError::NotFound)?;
        let kernel = kernel.map_err(|error| refuse(CudaError::InvalidPtx, error.to_string()))?;
        let (context, alive) = (found.context, Arc::clone(&found.alive));
        let known = found.registers.get(name).copied();
        let device = self.device_of(context)?;
        let registers = device.registers.get(name).copied().or(known).unwrap_or(0);
        let card = device.options.card();

        let handle = self.new_handle();
        let function = Function {
            module,
            context,
            name: CString::new(name).map_err(|_| CudaError::NotFound)?,
            alive,
            card,
            registers,
            max_dynamic_shared: limits::SHARED.saturating_sub(kernel.static_shared as u32),
            non_portable_cluster: false,
            cluster: [0; 3],
            hints: Default::default(),
            kernel,
        };

        self.functions.insert(handle, function);
        if let Some(module) = self.modules.get_mut(&module) {
            module.functions.insert(name.into(), handle);
        }
        Ok(handle)
    }

    /// Address and size of a module's variable.
    ///
    /// # Errors
    /// `InvalidHandle`, `NotFound`.
    pub fn variable_of(&self, module: Handle, name: &str) -> Result<(DevicePointer, u64)> {
        let module = self.modules.get(&module).ok_or(CudaError::InvalidHandle)?;
        module.program.variable(name).ok_or(CudaError::NotFound)
    }

    /// Forgets a module; what was queued has run.
    fn forget_module(&mut self, module: Handle) -> Result<()> {
        let found = self.modules.remove(&module).ok_or(CudaError::InvalidHandle)?;
        found.alive.store(false, Ordering::Relaxed);
        self.functions.retain(|_, function| function.module != module);
        found.program.unload(&self.context(found.context)?.engine.memory);
        Ok(())
    }
}

/// Unloads a module, after all that its context still has to do.
pub fn unload(module: Handle, is_library: bool) -> Result<()> {
    let (state, context) = enter()?;
    let found = state.modules.get(&module).filter(|found| found.is_library == is_library);
    let owner = found.ok_or(CudaError::InvalidHandle)?.context;
    let ends = state.ends_of(owner);
    let mut state = if owner == context { reach(state, context, &ends)? } else { state };
    state.forget_module(module)
}

/// A buffer of the caller for messages: `CU_JIT_*_LOG_BUFFER` and its size.
#[derive(Clone, Copy, Default)]
pub struct Log {
    buffer: u64,
    size: u64,
    size_option: Option<usize>,
}

const INFO_LOG: c_int = 3;
const INFO_LOG_SIZE: c_int = 4;
const ERROR_LOG: c_int = 5;
const ERROR_LOG_SIZE: c_int = 6;

/// Options of the JIT compiler: of these, the simulator has the logs.
fn logs(count: c_uint, options: In<c_int>, values: In<u64>) -> Result<[Log; 2]> {
    let mut logs = [Log::default(); 2];
    for index in 0..count as usize {
        let (option, value) = (options.at(index)?, values.at(index)?);
        match option {
            INFO_LOG => logs[0].buffer = value,
            ERROR_LOG => logs[1].buffer = value,
            // The value is the size itself, in the place of a pointer.
            INFO_LOG_SIZE => (logs[0].size, logs[0].size_option) = (value & 0xffff_ffff, Some(index)),
            ERROR_LOG_SIZE => (logs[1].size, logs[1].size_option) = (value & 0xffff_ffff, Some(index)),
            _ => {}
        }
    }
    Ok(logs)
}

impl Log {
    /// Writes a message with its final zero, cut where it is too long, and how long it is.
    fn write(self, message: &str, values: Out<u64>) -> Result<()> {
        let mut written = 0;
        if self.buffer != 0 && self.size > 0 {
            let mut end = message.len().min(self.size as usize - 1);
            while !message.is_char_boundary(end) {
                end -= 1;
            }
            let bytes: Vec<u8> = message.as_bytes()[..end].iter().copied().chain([0]).collect();
            HostPointer::new(self.buffer).write(&bytes);
            written = bytes.len() as u64;
        }
        match self.size_option {
            Some(index) => values.put_at(index, written),
            None => Ok(()),
        }
    }
}

fn load(module: Out<Handle>, image: In<u8>, log: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    let (mut state, context) = enter()?;
    let loaded = state.image(context, image).and_then(|image| state.load(context, image, false));
    match loaded {
        Ok(handle) => {
            log("")?;
            module.put(handle)
        }
        Err((error, why)) => {
            explain(&why);
            log(&why)?;
            Err(error)
        }
    }
}

exports! {
    fn cuModuleLoadData(module: Out<Handle>, image: In<u8>) {
        in_context()?;
        load(module, image, |_| Ok(()))
    }

    fn cuModuleLoadDataEx(
        module: Out<Handle>, image: In<u8>, count: c_uint, options: In<c_int>, values: Out<u64>,
    ) {
        in_context()?;
        let [info, error] = logs(count, options, values.as_in())?;
        info.write("", values)?;
        load(module, image, |message| error.write(message, values))
    }

    fn cuModuleLoadFatBinary(module: Out<Handle>, image: In<u8>) {
        in_context()?;
        load(module, image, |_| Ok(()))
    }

    fn cuModuleLoad(module: Out<Handle>, path: Text) {
        in_context()?;
        let path = path.get()?;
        let mut bytes = std::fs::read(&path)
            .map_err(|error| refuse(CudaError::FileNotFound, format!("{path}: {error}")))?;
        // A text ends with a zero; other images know their length.
        bytes.extend([0; 16]);
        load(module, In::of_address(bytes.as_ptr().expose_provenance() as u64), |_| Ok(()))
    }

    fn cuModuleUnload(module: Handle) {
        unload(module, false)
    }

    fn cuModuleGetLoadingMode(mode: Out<c_int>) {
        const LAZY: c_int = 2;
        mode.put(LAZY)
    }

    fn cuModuleGetFunction(function: Out<Handle>, module: Handle, name: Text) {
        let (mut state, _) = enter()?;
        function.put(state.function_of(module, &name.get()?)?)
    }

    fn cuModuleGetFunctionCount(count: Out<c_uint>, module: Handle) {
        let (state, _) = enter()?;
        let module = state.modules.get(&module).ok_or(CudaError::InvalidHandle)?;
        count.put(module.program.names().len() as c_uint)
    }

    fn cuModuleEnumerateFunctions(functions: Out<Handle>, count: c_uint, module: Handle) {
        let (mut state, _) = enter()?;
        let found = state.modules.get(&module).ok_or(CudaError::InvalidHandle)?;
        let names: Vec<String> = found.program.names().map(str::to_owned).collect();
        for (index, name) in names.iter().take(count as usize).enumerate() {
            functions.put_at(index, state.function_of(module, name)?)?;
        }
        Ok(())
    }

    fn cuModuleGetGlobal_v2(pointer: Out<DevicePointer>, bytes: Out<usize>, module: Handle, name: Text) {
        let (state, _) = enter()?;
        let (address, size) = state.variable_of(module, &name.get()?)?;
        pointer.put_if_wanted(address);
        bytes.put_if_wanted(size as usize);
        Ok(())
    }
}
