//! The simulator as this process's driver, and a device for each test.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use cudarc::driver::{CudaContext, CudaFunction, CudaModule, sys};
use cudarc::nvrtc::Ptx;
use cudasim::Simulator;

/// The simulator, loaded once, with a device for every test of this process.
pub fn simulator() -> Simulator {
    static INSTALLED: OnceLock<Simulator> = OnceLock::new();
    *INSTALLED.get_or_init(|| {
        let simulator = cudasim::install().unwrap_or_else(|error| panic!("{error}"));
        simulator.set_options(None, "devices=64").unwrap();
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
    /// With these options; reports of before are taken.
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

    pub fn reports(&self) -> String {
        self.simulator.take_reports(Some(self.ordinal))
    }
}

pub fn module_text(text: &str) -> String {
    format!(".version 8.0\n.target sm_90a\n.address_size 64\n{text}")
}

/// The code of a failed call.
pub fn code<T: std::fmt::Debug>(result: Result<T, cudarc::driver::DriverError>) -> sys::CUresult {
    result.unwrap_err().0
}

/// `y[i] += x[i]` for 32-bit integers: `add(y, x, n)`.
pub const ADD: &str = "
.visible .entry add(.param .u64 y, .param .u64 x, .param .u32 n)
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
