//! Which device a call of the driver is for: that of the thread's current context, whatever stream it names.

use cudarc::driver::CudaStream;

use super::error::failed;
use crate::device::Result;

/// Makes the context of `stream` this thread's, as it must be before every call that cudarc passes on as it is: several devices
/// may be used on one thread, and other libraries change the context too. Where it is current already this costs a look at it.
pub(super) fn bind(stream: &CudaStream) -> Result<()> {
    stream.context().bind_to_thread().map_err(failed("cuCtxSetCurrent"))
}
