//! A stand-in for NVIDIA's NCCL, to test programs of several ranks where there is no GPU.
//!
//! Built as a shared library whose SONAME is `libnccl.so.2`, it is what programs open in NCCL's place. Ranks are processes of one
//! machine; a communicator is a piece of POSIX shared memory named by its unique id. A collective is put into the caller's stream as
//! copies to the host, a function of the host that exchanges, and copies back, all by the driver's public calls: so it is ordered by
//! streams, captured in graphs, and cudasim's sanitizer sees every byte. Sums are made in the order of the ranks.
//!
//! **The collective sanitizer**: before anything is exchanged all ranks compare what they called (operation, count, type, root). Where
//! they differ rank 0 says which rank called what, and every rank gets an error; NCCL would hang, or mix up numbers. Two communicators
//! that ranks call in opposite orders are reported too ([`order`]).
//!
//! What it is not: no topology, rings, NVLink or overlap, and a host thread blocks where NCCL's kernel would hold multiprocessors. As
//! NCCL does, it waits for ever for a rank that never comes (but at most `NCCLSIM_TIMEOUT_MS`, ten minutes).
//!
//! | variable | |
//! |---|---|
//! | `NCCL_COMM_ID` | as with NCCL: the same id for all ranks that have the same |
//! | `NCCLSIM_OLD` | set: ids are all different in spite of `NCCL_COMM_ID`, as before release 2.22 |
//! | `NCCLSIM_TIMEOUT_MS` | milliseconds after which a wait ends with a remote error |
//! | `NCCLSIM_FAULT` | a planted fault, see [`fault`] |

pub mod api;
pub mod call;
pub mod communicator;
pub mod driver;
pub mod exchange;
pub mod fault;
pub mod order;
pub mod segment;
