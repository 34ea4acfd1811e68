//! Taking connections, a bounded number at a time.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::hosts::Hosts;
use super::refusal::Refusal;
use super::request::Head;
use super::response::Response;

/// Connections at a time; so many more are told that there are too many, and those beyond are closed.
const MAX_CONNECTIONS: usize = 48;
const MAX_REFUSED: usize = 16;

/// Answers a request, or has sent its answer in pieces (`None`).
pub type Handler = dyn Fn(&Head, &mut Connection) -> Result<Option<Response>, Refusal> + Send + Sync;

/// What all connections share.
pub struct Server {
    hosts: Hosts,
    handler: Box<Handler>,
    open: AtomicUsize,
}

/// A place among the connections, given back when dropped, however its thread ends.
struct Place(Arc<Server>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Server {
    /// A server of the names `hosts`, whose requests `handler` answers.
    pub fn new(hosts: Hosts, handler: Box<Handler>) -> Arc<Self> {
        Arc::new(Self { hosts, handler, open: AtomicUsize::new(0) })
    }

    /// Takes connections for ever, each on a thread of its own.
    pub fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            match stream {
                Ok(stream) => self.take(stream),
                // Out of file descriptors, say: some of the open connections will end.
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Waits until all answers are sent, `time` at most.
    pub fn drain(&self, time: Duration) {
        let end = Instant::now() + time;
        while self.open.load(Ordering::Relaxed) > 0 && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn take(self: &Arc<Self>, stream: TcpStream) {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(self));
        if before >= MAX_CONNECTIONS + MAX_REFUSED {
            return;
        }
        let serve = move || {
            let mut connection = Connection::new(stream);
            place.0.serve(&mut connection, before >= MAX_CONNECTIONS);
            connection.close();
        };
        // Without a thread the connection is closed, and the next one may have more luck.
        let _ = thread::Builder::new().name("connection".to_owned()).spawn(serve);
    }

    /// Reads a request and answers it. A client that is gone is nobody to tell.
    fn serve(&self, connection: &mut Connection, too_many: bool) {
        let answer = match connection.read_head() {
            Ok(None) => return,
            Ok(Some(_)) if too_many => Err(Refusal::busy("there are too many connections; try again in a moment", 1)),
            Ok(Some(head)) => self.hosts.check(&head).and_then(|()| (self.handler)(&head, connection)),
            Err(refusal) => Err(refusal),
        };
        let response = match answer {
            Ok(None) => return,
            Ok(Some(response)) => response,
            Err(refusal) => refusal.into(),
        };
        let _ = connection.respond(&response);
    }
}
