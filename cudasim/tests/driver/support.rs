//! The simulator as this process's driver, a device for each test, and the driver's functions with less ceremony.

use std::ffi::{CString, c_void};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use cudarc::driver::{CudaContext, CudaFunction, CudaModule, DriverError, sys};
use cudarc::nvrtc::Ptx;
use cudasim::Simulator;

/// Calls functions of the driver with the arguments that a test gives them, which are valid or null on purpose.
macro_rules! cu {
    ($name:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: see above; the simulator checks handles and device addresses.
        unsafe { cudarc::driver::sys::$name($($argument),*) }.result()
    };
}
pub(crate) use cu;

/// The simulator, loaded once, with a device for every test of this process.
pub fn simulator() -> Simulator {
    static INSTALLED: OnceLock<Simulator> = OnceLock::new();
    *INSTALLED.get_or_init(|| {
        let simulator = cudasim::install().unwrap_or_else(|error| panic!("{error}"));
        simulator.set_options(None, "devices=200").unwrap();
        simulator
    })
}

/// A device that no other test uses: faults are sticky, and must not reach other tests.
pub struct Device {
    pub simulator: Simulator,
    pub ordinal: u32,
    pub context: Arc<CudaContext>,
}

impl Device {
    /// With these options, its context current.
    pub fn new(options: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let simulator = simulator();
        let ordinal = NEXT.fetch_add(1, Ordering::Relaxed);
        simulator.set_options(Some(ordinal), options).unwrap();
        let context = CudaContext::new(ordinal as usize).unwrap();
        Self { simulator, ordinal, context }
    }

    /// Loads PTX; what stands before the first directive of a module is added.
    pub fn module(&self, text: &str) -> Arc<CudaModule> {
        self.context.load_module(Ptx::from_src(module_text(text))).unwrap()
    }

    pub fn function(&self, text: &str, name: &str) -> CudaFunction {
        self.module(text).load_function(name).unwrap()
    }

    /// A function by its raw handle; its module stays until the context ends.
    pub fn raw_function(&self, text: &str, name: &str) -> sys::CUfunction {
        let (mut module, mut function) = (std::ptr::null_mut(), std::ptr::null_mut());
        let text = CString::new(module_text(text)).unwrap();
        let name = CString::new(name).unwrap();
        cu!(cuModuleLoadData(&mut module, text.as_ptr().cast())).unwrap();
        cu!(cuModuleGetFunction(&mut function, module, name.as_ptr())).unwrap();
        function
    }

    /// A stream that waits for no other.
    pub fn stream(&self) -> sys::CUstream {
        self.stream_with(sys::CUstream_flags::CU_STREAM_NON_BLOCKING)
    }

    pub fn stream_with(&self, flags: sys::CUstream_flags) -> sys::CUstream {
        let mut stream = std::ptr::null_mut();
        cu!(cuStreamCreate(&mut stream, flags as u32)).unwrap();
        stream
    }

    pub fn event(&self) -> sys::CUevent {
        let mut event = std::ptr::null_mut();
        cu!(cuEventCreate(&mut event, 0)).unwrap();
        event
    }

    /// Device memory with these words, which are there on return.
    pub fn upload(&self, words: &[u32]) -> u64 {
        let mut address = 0;
        cu!(cuMemAlloc_v2(&mut address, size_of_val(words))).unwrap();
        cu!(cuMemcpyHtoD_v2(address, words.as_ptr().cast(), size_of_val(words))).unwrap();
        cu!(cuCtxSynchronize()).unwrap();
        address
    }

    /// Words of device memory, on a stream.
    pub fn download(&self, address: u64, count: usize, stream: sys::CUstream) -> Result<Vec<u32>, DriverError> {
        let mut words = vec![0_u32; count];
        cu!(cuMemcpyDtoHAsync_v2(words.as_mut_ptr().cast(), address, count * 4, stream))?;
        Ok(words)
    }

    /// Page-locked host memory of `count` words, all zero.
    pub fn pinned(&self, count: usize) -> &'static mut [u32] {
        let mut memory = std::ptr::null_mut();
        cu!(cuMemHostAlloc(&mut memory, count * 4, 0)).unwrap();
        // SAFETY: aligned, as long, and no test gives it back while it uses it.
        unsafe { std::slice::from_raw_parts_mut(memory.cast(), count) }
    }

    /// Launches a kernel whose parameters have 64 bits each.
    pub fn launch(
        &self,
        function: sys::CUfunction,
        blocks: u32,
        threads: u32,
        stream: sys::CUstream,
        parameters: &[u64],
    ) -> Result<(), DriverError> {
        let mut pointers: Vec<*mut c_void> =
            parameters.iter().map(|parameter| std::ptr::from_ref(parameter).cast_mut().cast()).collect();
        let (pointers, extra) = (pointers.as_mut_ptr(), std::ptr::null_mut());
        cu!(cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, 0, stream, pointers, extra))
    }

    pub fn reports(&self) -> String {
        self.simulator.take_reports(Some(self.ordinal))
    }
}

pub fn module_text(text: &str) -> String {
    format!(".version 8.0\n.target sm_90a\n.address_size 64\n{text}")
}

/// The code of a failed call, as a number.
pub fn code<T: std::fmt::Debug>(result: Result<T, DriverError>) -> i32 {
    result.unwrap_err().0 as i32
}

/// `y[i] += x[i]` for 32-bit integers: `add(y, x, n)`.
pub const ADD: &str = "
.visible .entry add(.param .u64 y, .param .u64 x, .param .u64 n)
{
    .reg .pred %p<2>; .reg .b32 %r<10>; .reg .b64 %rd<10>;
    ld.param.u64 %rd1, [y]; ld.param.u64 %rd2, [x]; ld.param.u32 %r9, [n];
    mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.x;
    mad.lo.s32 %r4, %r1, %r2, %r3;
    setp.ge.s32 %p1, %r4, %r9;
    @%p1 bra DONE;
    mul.wide.s32 %rd4, %r4, 4;
    add.s64 %rd5, %rd1, %rd4; add.s64 %rd6, %rd2, %rd4;
    ld.global.u32 %r5, [%rd5]; ld.global.u32 %r6, [%rd6];
    add.u32 %r7, %r5, %r6;
    st.global.u32 [%rd5], %r7;
DONE:
    ret;
}";

/// A kernel that does nothing.
pub const EMPTY: &str = ".visible .entry empty() { ret; }";
