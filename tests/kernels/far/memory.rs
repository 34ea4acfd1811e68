//! Memory of a simulated device of which little is touched, and launches of single kernels.

use std::ffi::CString;
use std::sync::Arc;

use cudarc::driver::{CudaContext, result};
use half::bf16;
use igpt_engine::device::Precision::{self, Bf16, F32};
use igpt_engine::device::cuda::kernel::{Arguments, KERNELS, MODULES};

/// Memory of the device, of which nothing is touched but what is written or read.
pub struct Memory {
    pub address: u64,
    pub precision: Precision,
}

impl Memory {
    pub fn of(precision: Precision, count: usize) -> Self {
        // SAFETY: kernels that read what was not written are reported.
        let address = unsafe { result::malloc_sync(count * precision.bytes()) }.expect("the host promises it");
        Self { address, precision }
    }

    /// `rows` rows that lie `stride` elements apart, of which the first `columns` have numbers that depend on neither.
    pub fn rows(precision: Precision, rows: usize, stride: usize, columns: usize) -> Self {
        let memory = Self::of(precision, rows * stride);
        for row in 0..rows {
            let values: Vec<f32> =
                (0..columns).map(|column| ((row * 37 + column * 11) % 64) as f32 / 32.0 - 1.0).collect();
            memory.write(row * stride, &values);
        }
        memory
    }

    pub fn place(&self, at: usize) -> u64 {
        self.address + (at * self.precision.bytes()) as u64
    }

    pub fn write(&self, at: usize, values: &[f32]) {
        let rounded: Vec<bf16> = values.iter().copied().map(bf16::from_f32).collect();
        // SAFETY: of a simulated device, which checks bounds.
        let written = unsafe {
            match self.precision {
                F32 => result::memcpy_htod_sync(self.place(at), values),
                Bf16 => result::memcpy_htod_sync(self.place(at), &rounded),
            }
        };
        written.expect("inside");
    }

    /// `columns` numbers of each row.
    pub fn read(&self, rows: usize, stride: usize, columns: usize) -> Vec<f32> {
        let mut all = Vec::new();
        for row in 0..rows {
            let (mut floats, mut halves) = (vec![0.0f32; columns], vec![bf16::ZERO; columns]);
            // SAFETY: as in `write`.
            let read = unsafe {
                match self.precision {
                    F32 => result::memcpy_dtoh_sync(&mut floats, self.place(row * stride)),
                    Bf16 => result::memcpy_dtoh_sync(&mut halves, self.place(row * stride)),
                }
            };
            read.expect("inside");
            all.extend(if self.precision == F32 { floats } else { halves.into_iter().map(bf16::to_f32).collect() });
        }
        all
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: nothing is in flight: every launch is waited for. After a fault the context is gone, and the memory with it.
        let _ = unsafe { result::free_sync(self.address) };
    }
}

/// Integers of 16 or 32 bits on the device; they stay there.
pub fn integers<T>(values: &[T]) -> u64 {
    // SAFETY: as many bytes as are copied.
    unsafe {
        let address = result::malloc_sync(size_of_val(values)).expect("memory");
        result::memcpy_htod_sync(address, values).expect("inside");
        address
    }
}

/// The device's context on this thread.
pub fn context() -> Arc<CudaContext> {
    let context = CudaContext::new(0).expect("the simulator");
    context.bind_to_thread().expect("a context");
    context
}

/// Launches the kernel of this name, planted or not, and waits for it.
pub fn launch<A: Arguments>(name: &str, blocks: [usize; 3], threads: (u32, u32), shared: usize, arguments: A) {
    let info = KERNELS.iter().find(|info| info.name == name).expect("a kernel");
    let kinds: Vec<_> = info.parameters.iter().map(|parameter| parameter.kind).collect();
    assert_eq!(kinds, A::KINDS, "{name}");
    let [x, y, z] = blocks.map(|blocks| blocks as u32);
    let image = MODULES[info.module].loaded_image();
    // SAFETY: an image of the build or of a test; the arguments are of the types that it declares, and the simulator checks the rest.
    unsafe {
        let module = result::module::load_data(image.as_ptr().cast()).expect("a module");
        let function = result::module::get_function(module, CString::new(name).unwrap()).expect("the kernel");
        let stream = result::stream::null();
        let launched = arguments.with_addresses(|addresses| {
            let threads = (threads.0, threads.1, 1);
            result::launch_kernel(function, (x, y, z), threads, shared as u32, stream, addresses)
        });
        launched.and_then(|()| result::ctx::synchronize()).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        result::module::unload(module).expect("a module");
    }
}
