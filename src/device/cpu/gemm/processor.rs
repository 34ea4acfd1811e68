//! Which kernels a processor can run.

use super::kernel::Kernel;
use super::portable::Portable;

/// The fastest kernel of this processor.
pub(in crate::device::cpu) fn fastest() -> &'static dyn Kernel {
    *all().first().unwrap_or(&(&Portable as &dyn Kernel))
}

/// All kernels that this processor can run, the fastest first.
pub(super) fn all() -> Vec<&'static dyn Kernel> {
    let mut kernels: Vec<&dyn Kernel> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        kernels.extend(super::avx512::Avx512::new().map(|kernel| kernel as &dyn Kernel));
        kernels.extend(super::avx2::Avx2::new().map(|kernel| kernel as &dyn Kernel));
    }
    kernels.push(&Portable);
    kernels
}
