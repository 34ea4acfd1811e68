//! As much of HTTP as one page needs: requests with limits on size and time, answers that end their connection.
//!
//! `httparse` parses heads, which is where hostile bytes do their harm; what is left is small, and no server crate without an async
//! runtime limits the time that a client may take. One thread per connection, and a bounded number of them.

mod connection;
mod hosts;
mod refusal;
mod request;
mod response;
mod server;

pub(super) use connection::Connection;
pub(super) use hosts::Hosts;
pub(super) use refusal::Refusal;
pub use request::{Head, MAX_HEAD, parse_head};
pub(super) use response::Response;
pub(super) use server::Server;
