//! Collectives of GPUs, by NVIDIA's NCCL.

mod library;

pub use library::{Library, UniqueId};

use std::ffi::c_int;
use std::sync::{Arc, Mutex, PoisonError};

use library::{FLOAT32, Handle, IN_PROGRESS, SUCCESS, SUM};

use super::{Comm, check_parts};
use crate::device::{Device, Error, GpuMemory, Result};

/// A communicator of NCCL: one rank, on one GPU.
///
/// Every collective is put into the device's stream and captured with it. It is destroyed when dropped, which waits for what was
/// asked of it.
pub struct Nccl {
    library: Library,
    handle: Handle,
    rank: usize,
    size: usize,
    /// Whether it is there, for the thread that asks after it.
    is_there: Arc<Mutex<bool>>,
}

impl Nccl {
    /// Joins the ranks that have the same id; returns once all have joined. The GPU is that of the current context.
    ///
    /// # Errors
    /// [`Error::Driver`] where NCCL fails.
    pub fn join(library: Library, rank: usize, size: usize, id: UniqueId) -> Result<Self> {
        let (mut handle, [ranks, own]) = (std::ptr::null_mut(), int([size, rank])?);
        // SAFETY: the place is valid for the call, and the id is NCCL's own.
        let code = unsafe { (library.functions.init_rank)(&raw mut handle, ranks, id, own) };
        library.check("ncclCommInitRank", code)?;
        Ok(Self { library, handle, rank, size, is_there: Arc::new(Mutex::new(true)) })
    }

    /// What another thread asks whether a rank has failed.
    pub fn probe(&self) -> impl Fn() -> Option<String> + Send + 'static {
        let (library, handle, is_there) = (self.library, self.handle as usize, Arc::clone(&self.is_there));
        move || {
            // Held while NCCL is asked, so that the communicator stays.
            let is_there = is_there.lock().unwrap_or_else(PoisonError::into_inner);
            let asked = (*is_there).then(|| asynchronous(library, handle as Handle))?;
            asked.err().map(|error| error.to_string())
        }
    }

    fn call(&self, name: &str, code: c_int) -> Result<()> {
        // Whatever it is, the ranks do not come together any more.
        self.library.check(name, code).map_err(|error| Error::Peer(error.to_string()))
    }
}

impl Drop for Nccl {
    fn drop(&mut self) {
        *self.is_there.lock().unwrap_or_else(PoisonError::into_inner) = false;
        // A communicator with an error would wait for ranks that are gone.
        let functions = &self.library.functions;
        let end = match asynchronous(self.library, self.handle) {
            Ok(()) if !std::thread::panicking() => functions.destroy,
            _ => functions.abort,
        };
        // SAFETY: the communicator is there, and nothing uses it any more.
        let _ = unsafe { end(self.handle) };
    }
}

/// What NCCL found since the last call.
fn asynchronous(library: Library, handle: Handle) -> Result<()> {
    let mut code = SUCCESS;
    // SAFETY: the communicator is there, and the place is valid for the call.
    let asked = unsafe { (library.functions.async_error)(handle, &raw mut code) };
    library.check("ncclCommGetAsyncError", asked)?;
    if code == IN_PROGRESS { Ok(()) } else { library.check("an earlier collective", code) }
}

fn int<const N: usize>(values: [usize; N]) -> Result<[c_int; N]> {
    if values.iter().any(|value| c_int::try_from(*value).is_err()) {
        return Err(Error::unavailable(format!("{values:?} are more ranks than NCCL counts"), "start fewer"));
    }
    Ok(values.map(|value| value as c_int))
}

/// A tensor's memory.
fn memory<D: Device>(device: &D, tensor: &mut D::Tensor) -> Result<GpuMemory> {
    device.gpu_memory(tensor)?.ok_or_else(|| {
        Error::unavailable(
            format!("NCCL is for GPUs, and this is {}", device.describe()),
            "give --device cuda, or for ranks on CPUs a build with --features mpi",
        )
    })
}

impl<D: Device> Comm<D> for Nccl {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn describe(&self) -> String {
        let version = self.library.version().map_or_else(|_| String::new(), |[a, b, c]| format!(" {a}.{b}.{c}"));
        format!("NCCL{version}")
    }

    fn all_reduce(&self, device: &D, tensor: &mut D::Tensor) -> Result<()> {
        let GpuMemory { address, count, stream } = memory(device, tensor)?;
        // SAFETY: `count` floats, in the order of the stream that all work on them is in.
        let code =
            unsafe { (self.library.functions.all_reduce)(address, address, count, FLOAT32, SUM, self.handle, stream) };
        self.call("ncclAllReduce", code)
    }

    fn reduce_scatter(&self, device: &D, send: &mut D::Tensor, receive: &mut D::Tensor) -> Result<()> {
        let (send, receive) = (memory(device, send)?, memory(device, receive)?);
        check_parts("reduce_scatter", send.count, receive.count, self.size)?;
        let (from, to, stream) = (send.address, receive.address, send.stream);
        // SAFETY: as many floats as `check_parts` says, in the order of their stream.
        let code = unsafe {
            (self.library.functions.reduce_scatter)(from, to, receive.count, FLOAT32, SUM, self.handle, stream)
        };
        self.call("ncclReduceScatter", code)
    }

    fn all_gather(&self, device: &D, send: &mut D::Tensor, receive: &mut D::Tensor) -> Result<()> {
        let (send, receive) = (memory(device, send)?, memory(device, receive)?);
        check_parts("all_gather", receive.count, send.count, self.size)?;
        let (from, to, stream) = (send.address, receive.address, send.stream);
        // SAFETY: as many floats as `check_parts` says, in the order of their stream.
        let code = unsafe { (self.library.functions.all_gather)(from, to, send.count, FLOAT32, self.handle, stream) };
        self.call("ncclAllGather", code)
    }

    fn all_to_all(&self, device: &D, send: &mut D::Tensor, receive: &mut D::Tensor) -> Result<()> {
        let (send, receive) = (memory(device, send)?, memory(device, receive)?);
        let part = send.count / self.size;
        check_parts("all_to_all", send.count, part, self.size)?;
        check_parts("all_to_all", receive.count, part, self.size)?;
        let (functions, stream) = (&self.library.functions, send.stream);

        // SAFETY: takes no memory.
        self.call("ncclGroupStart", unsafe { (functions.group_start)() })?;
        let sent = (0..self.size).try_for_each(|peer| {
            let (at, [to]) = ((peer * part * size_of::<f32>()) as u64, int([peer])?);
            // SAFETY: part `peer` of both lies inside, in the order of their stream.
            let codes = unsafe {
                [
                    (functions.send)(send.address + at, part, FLOAT32, to, self.handle, stream),
                    (functions.receive)(receive.address + at, part, FLOAT32, to, self.handle, stream),
                ]
            };
            self.call("ncclSend", codes[0])?;
            self.call("ncclRecv", codes[1])
        });
        // SAFETY: takes no memory; a group that was started is ended, whatever happened in it.
        let ended = self.call("ncclGroupEnd", unsafe { (functions.group_end)() });
        sent.and(ended)
    }

    fn broadcast(&self, device: &D, tensor: &mut D::Tensor, root: usize) -> Result<()> {
        let (GpuMemory { address, count, stream }, [root]) = (memory(device, tensor)?, int([root])?);
        // SAFETY: `count` floats, in the order of their stream.
        let code =
            unsafe { (self.library.functions.broadcast)(address, address, count, FLOAT32, root, self.handle, stream) };
        self.call("ncclBroadcast", code)
    }

    fn barrier(&self, device: &D) -> Result<()> {
        let mut token = device.zeros(&[1])?;
        Comm::<D>::all_reduce(self, device, &mut token)?;
        device.download(&token).map(drop)?;
        Comm::<D>::check(self)
    }

    fn split(&self, _device: &D, colour: usize, key: usize) -> Result<Box<dyn Comm<D>>> {
        let (functions, [colour, key]) = (&self.library.functions, int([colour, key])?);
        let (mut handle, mut rank, mut size) = (std::ptr::null_mut(), 0, 0);
        // SAFETY: the communicator is there, the places are valid for the calls, and no configuration is that of this one.
        unsafe {
            let code = (functions.split)(self.handle, colour, key, &raw mut handle, std::ptr::null_mut());
            self.call("ncclCommSplit", code)?;
            self.call("ncclCommUserRank", (functions.user_rank)(handle, &raw mut rank))?;
            self.call("ncclCommCount", (functions.count)(handle, &raw mut size))?;
        }
        let [rank, size] = [rank, size].map(|value| usize::try_from(value).unwrap_or(0));
        Ok(Box::new(Self { library: self.library, handle, rank, size, is_there: Arc::new(Mutex::new(true)) }))
    }

    fn check(&self) -> Result<()> {
        asynchronous(self.library, self.handle)
    }
}
