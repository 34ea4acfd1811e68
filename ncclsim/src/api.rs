//! NCCL's functions, as `nccl.h` declares them: those that a trainer calls.
//!
//! # Safety
//! All are for callers of C: pointers are those that NCCL's own documentation asks for.
#![allow(clippy::missing_safety_doc, clippy::not_unsafe_ptr_arg_deref, non_snake_case)]

use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::call::{ARGUMENT, Call, Code, Operation, SUCCESS, text};
use crate::communicator::{Communicator, Enqueued, hash};
use crate::driver::Stream;

/// `ncclUniqueId`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct UniqueId {
    bytes: [u8; 128],
}

/// `ncclComm_t`.
type Handle = *mut Communicator;

/// A send or a receive of a group that is open.
struct Message {
    handle: Handle,
    is_send: bool,
    peer: c_int,
    address: u64,
    count: usize,
    datatype: c_int,
    stream: Stream,
}

thread_local! {
    /// Groups that are open, and what was called in them.
    static GROUP: RefCell<(usize, Vec<Message>)> = const { RefCell::new((0, Vec::new())) };
}

/// The name of the shared memory of ranks that meet at this `NCCL_COMM_ID`.
pub fn name_at(meeting: &str) -> String {
    format!("/ncclsim-{:016x}", hash(meeting))
}

fn code(outcome: Result<(), Code>) -> Code {
    outcome.err().unwrap_or(SUCCESS)
}

/// The communicator of a handle.
///
/// # Safety
/// Null, or from `ncclCommInitRank` and not destroyed.
unsafe fn communicator<'c>(handle: Handle) -> Result<&'c Communicator, Code> {
    // SAFETY: as the caller says.
    unsafe { handle.as_ref() }.ok_or(ARGUMENT)
}

/// `count` elements from `address` on, in parts.
fn parts(address: u64, parts: usize, bytes: usize) -> Vec<u64> {
    (0..parts).map(|part| address + (part * bytes) as u64).collect()
}

/// Puts a collective into its stream.
///
/// # Safety
/// As [`communicator`].
unsafe fn collective(
    call: Option<Call>,
    [send, receive]: [u64; 2],
    handle: Handle,
    stream: Stream,
) -> Result<(), Code> {
    // SAFETY: as the caller says.
    let communicator = unsafe { communicator(handle)? };
    let call = call.ok_or(ARGUMENT)?;
    if call.root < 0 || call.root as usize >= communicator.ranks {
        return Err(ARGUMENT);
    }
    let bytes = call.count * call.width();
    let [sends, receives] = call.parts(communicator.ranks);
    // Only the root of a broadcast has something to send.
    let silent = call.operation == Operation::Broadcast && call.root as usize != communicator.rank;
    let send = parts(send, if silent { 0 } else { sends }, bytes);
    communicator.enqueue(Enqueued { call, send, receive: parts(receive, receives, bytes), stream })
}

/// Version 2.30.7, as the number has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGetVersion(version: *mut c_int) -> Code {
    // SAFETY: a place of the caller.
    unsafe { version.write(23_007) };
    SUCCESS
}

/// The id at which ranks meet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGetUniqueId(id: *mut UniqueId) -> Code {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let is_old = std::env::var_os("NCCLSIM_OLD").is_some();
    let meeting = std::env::var("NCCL_COMM_ID").ok().filter(|_| !is_old).unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        format!("{} {} {}", std::process::id(), now.as_nanos(), NUMBER.fetch_add(1, Ordering::SeqCst))
    });
    let name = name_at(&meeting);
    let mut bytes = [0; 128];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: a place of the caller.
    unsafe { id.write(UniqueId { bytes }) };
    SUCCESS
}

/// Joins.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommInitRank(place: *mut Handle, ranks: c_int, id: UniqueId, rank: c_int) -> Code {
    let name = String::from_utf8_lossy(&id.bytes).trim_end_matches('\0').to_owned();
    let (Ok(ranks), Ok(rank)) = (usize::try_from(ranks), usize::try_from(rank)) else { return ARGUMENT };
    code(Communicator::join(&name, rank, ranks).map(|joined| {
        // SAFETY: a place of the caller.
        unsafe { place.write(Box::into_raw(Box::new(joined))) };
    }))
}

/// A group of ranks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommSplit(
    handle: Handle,
    colour: c_int,
    key: c_int,
    place: *mut Handle,
    _config: *mut c_void,
) -> Code {
    // SAFETY: a handle and a place of the caller.
    code(unsafe { communicator(handle) }.and_then(|communicator| communicator.split(colour, key)).map(|group| unsafe {
        place.write(group.map_or(std::ptr::null_mut(), |group| Box::into_raw(Box::new(group))));
    }))
}

/// Waits for what was called, and ends.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommDestroy(handle: Handle) -> Code {
    if handle.is_null() {
        return ARGUMENT;
    }
    // SAFETY: a handle of the caller, given back once.
    drop(unsafe { Box::from_raw(handle) });
    SUCCESS
}

/// Ends without waiting.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommAbort(handle: Handle) -> Code {
    // SAFETY: a handle of the caller.
    match unsafe { communicator(handle) } {
        Ok(communicator) => communicator.abort(),
        Err(code) => return code,
    }
    // SAFETY: as above.
    unsafe { ncclCommDestroy(handle) }
}

/// Ranks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommCount(handle: Handle, count: *mut c_int) -> Code {
    // SAFETY: a handle and a place of the caller.
    code(unsafe { communicator(handle) }.map(|communicator| unsafe { count.write(communicator.ranks as c_int) }))
}

/// This rank.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommUserRank(handle: Handle, rank: *mut c_int) -> Code {
    // SAFETY: a handle and a place of the caller.
    code(unsafe { communicator(handle) }.map(|communicator| unsafe { rank.write(communicator.rank as c_int) }))
}

/// What went wrong with what was called earlier.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommGetAsyncError(handle: Handle, error: *mut Code) -> Code {
    // SAFETY: a handle and a place of the caller.
    code(unsafe { communicator(handle) }.map(|communicator| unsafe { error.write(communicator.error()) }))
}

/// The text of a code.
#[unsafe(no_mangle)]
pub extern "C" fn ncclGetErrorString(error: Code) -> *const c_char {
    text(error).as_ptr()
}

/// Nothing more than the text of the code.
#[unsafe(no_mangle)]
pub extern "C" fn ncclGetLastError(_handle: Handle) -> *const c_char {
    c"".as_ptr()
}

/// The sum or maximum of all ranks, on all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclAllReduce(
    send: u64,
    receive: u64,
    count: usize,
    datatype: c_int,
    reduction: c_int,
    handle: Handle,
    stream: Stream,
) -> Code {
    let call = Call::new(Operation::AllReduce, count, datatype, reduction, 0);
    // SAFETY: a handle of the caller.
    code(unsafe { collective(call, [send, receive], handle, stream) })
}

/// This rank's part of the sum or maximum of all ranks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclReduceScatter(
    send: u64,
    receive: u64,
    count: usize,
    datatype: c_int,
    reduction: c_int,
    handle: Handle,
    stream: Stream,
) -> Code {
    let call = Call::new(Operation::ReduceScatter, count, datatype, reduction, 0);
    // SAFETY: a handle of the caller.
    code(unsafe { collective(call, [send, receive], handle, stream) })
}

/// The parts of all ranks, on all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclAllGather(
    send: u64,
    receive: u64,
    count: usize,
    datatype: c_int,
    handle: Handle,
    stream: Stream,
) -> Code {
    let call = Call::new(Operation::AllGather, count, datatype, 0, 0);
    // SAFETY: a handle of the caller.
    code(unsafe { collective(call, [send, receive], handle, stream) })
}

/// The root's numbers, on all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclBroadcast(
    send: u64,
    receive: u64,
    count: usize,
    datatype: c_int,
    root: c_int,
    handle: Handle,
    stream: Stream,
) -> Code {
    let call = Call::new(Operation::Broadcast, count, datatype, 0, root);
    // SAFETY: a handle of the caller.
    code(unsafe { collective(call, [send, receive], handle, stream) })
}

fn message(message: Message) -> Code {
    GROUP.with_borrow_mut(|(depth, messages)| {
        if *depth == 0 {
            eprintln!(
                "ncclsim: ncclSend and ncclRecv are for groups here, of all ranks and the same count between any two"
            );
            return ARGUMENT;
        }
        messages.push(message);
        SUCCESS
    })
}

/// In a group: part of an all-to-all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclSend(
    address: u64,
    count: usize,
    datatype: c_int,
    peer: c_int,
    handle: Handle,
    stream: Stream,
) -> Code {
    message(Message { handle, is_send: true, peer, address, count, datatype, stream })
}

/// In a group: part of an all-to-all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclRecv(
    address: u64,
    count: usize,
    datatype: c_int,
    peer: c_int,
    handle: Handle,
    stream: Stream,
) -> Code {
    message(Message { handle, is_send: false, peer, address, count, datatype, stream })
}

/// Opens a group.
#[unsafe(no_mangle)]
pub extern "C" fn ncclGroupStart() -> Code {
    GROUP.with_borrow_mut(|(depth, _)| *depth += 1);
    SUCCESS
}

/// Closes it: its messages are one all-to-all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGroupEnd() -> Code {
    let messages = GROUP.with_borrow_mut(|(depth, messages)| {
        *depth = depth.saturating_sub(1);
        if *depth == 0 { std::mem::take(messages) } else { Vec::new() }
    });
    // SAFETY: handles of the caller.
    code(unsafe { all_to_all(&messages) })
}

/// # Safety
/// As [`communicator`].
unsafe fn all_to_all(messages: &[Message]) -> Result<(), Code> {
    let Some(first) = messages.first() else { return Ok(()) };
    // SAFETY: as the caller says.
    let communicator = unsafe { communicator(first.handle)? };
    let alike = |message: &Message| {
        let of = |message: &Message| (message.handle, message.count, message.datatype, message.stream);
        of(message) == of(first)
    };

    // One send and one receive for every rank.
    let addresses = |is_send: bool| -> Option<Vec<u64>> {
        let of = |peer: usize| {
            let mut with =
                messages.iter().filter(|message| message.is_send == is_send && message.peer as usize == peer);
            with.next().filter(|_| with.next().is_none()).map(|message| message.address)
        };
        (0..communicator.ranks).map(of).collect()
    };
    let whole = messages.len() == 2 * communicator.ranks && messages.iter().all(alike);
    let (Some(send), Some(receive), true) = (addresses(true), addresses(false), whole) else {
        eprintln!("ncclsim: a group of ncclSend and ncclRecv must be one of each for every rank, of the same count");
        return Err(ARGUMENT);
    };
    let call = Call::new(Operation::AllToAll, first.count, first.datatype, 0, 0).ok_or(ARGUMENT)?;
    communicator.enqueue(Enqueued { call, send, receive, stream: first.stream })
}
