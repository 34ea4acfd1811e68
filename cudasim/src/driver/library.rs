//! Libraries and kernels: modules that belong to no context, for the driver; here they are loaded into the current one.

use std::ffi::{c_char, c_int, c_uint};

use super::call::explain;
use super::error::CudaError;
use super::exports;
use super::ffi::{DevicePointer, Handle, In, Out, Text};
use super::module::unload;
use super::state::enter;

exports! {
    fn cuLibraryLoadData(
        library: Out<Handle>, image: In<u8>, _jit_options: In<c_int>, _jit_values: In<u64>, _jit_count: c_uint,
        _options: In<c_int>, _values: In<u64>, _count: c_uint,
    ) {
        let (mut state, context) = enter()?;
        let loaded = state.image(context, image).and_then(|image| state.load(context, image, true));
        let handle = loaded.map_err(|(error, why)| {
            explain(&why);
            error
        })?;
        library.put(handle)
    }

    fn cuLibraryUnload(library: Handle) {
        unload(library, true)
    }

    fn cuLibraryGetKernel(kernel: Out<Handle>, library: Handle, name: Text) {
        let (mut state, _) = enter()?;
        kernel.put(state.function_of(library, &name.get()?)?)
    }

    fn cuLibraryGetKernelCount(count: Out<c_uint>, library: Handle) {
        let (state, _) = enter()?;
        let library = state.modules.get(&library).ok_or(CudaError::InvalidHandle)?;
        count.put(library.program.names().len() as c_uint)
    }

    fn cuLibraryGetModule(module: Out<Handle>, library: Handle) {
        let (state, _) = enter()?;
        state.modules.get(&library).ok_or(CudaError::InvalidHandle)?;
        module.put(library)
    }

    fn cuLibraryGetGlobal(pointer: Out<DevicePointer>, bytes: Out<usize>, library: Handle, name: Text) {
        let (state, _) = enter()?;
        let (address, size) = state.variable_of(library, &name.get()?)?;
        pointer.put_if_wanted(address);
        bytes.put_if_wanted(size as usize);
        Ok(())
    }

    fn cuKernelGetFunction(function: Out<Handle>, kernel: Handle) {
        let (mut state, _) = enter()?;
        state.function(kernel)?;
        function.put(kernel)
    }

    fn cuKernelGetLibrary(library: Out<Handle>, kernel: Handle) {
        let (mut state, _) = enter()?;
        library.put(state.function(kernel)?.module)
    }

    fn cuKernelGetName(name: Out<*const c_char>, kernel: Handle) {
        let (mut state, _) = enter()?;
        name.put(state.function(kernel)?.name.as_ptr())
    }

    fn cuKernelGetParamInfo(kernel: Handle, index: usize, offset: Out<usize>, size: Out<usize>) {
        let (mut state, _) = enter()?;
        let (at, bytes) = state.parameter(kernel, index)?;
        offset.put(at)?;
        size.put_if_wanted(bytes);
        Ok(())
    }

    fn cuKernelGetAttribute(value: Out<c_int>, attribute: c_int, kernel: Handle, device: c_int) {
        let (mut state, _) = enter()?;
        state.device(device)?;
        value.put(state.function(kernel)?.attribute(attribute)?)
    }

    fn cuKernelSetAttribute(attribute: c_int, value: c_int, kernel: Handle, device: c_int) {
        let (mut state, _) = enter()?;
        state.device(device)?;
        state.function(kernel)?.set_attribute(attribute, value)
    }

    fn cuKernelSetCacheConfig(kernel: Handle, config: c_int, _device: c_int) {
        let (mut state, _) = enter()?;
        state.function(kernel)?;
        if (0..=3).contains(&config) { Ok(()) } else { Err(CudaError::InvalidValue) }
    }
}
