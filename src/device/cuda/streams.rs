//! The two orders of a device's work, each of them a stream, and what of one has been waited for in the other.
//!
//! Work beside the main order is numbered. Every buffer knows the last number that touched it, so that the host sees at once where the main
//! order would touch what it has not waited for; and where a buffer is dropped that such work may still use, it is kept from
//! everybody until the orders join. Both hold while a graph is captured, and on a device that only counts.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use cudarc::driver::{CudaEvent, CudaStream};

use super::error::failed;
use crate::device::{Error, Result};

thread_local! {
    /// Which waits this thread leaves out.
    static LEFT_OUT: Cell<Option<Wait>> = const { Cell::new(None) };
}

/// A wait of one order for the other.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Of work beside, for what the main order was asked before.
    Fork,
    /// Of the main order, for one piece of work beside.
    Meet,
    /// Of the main order, for all of it.
    Join,
}

/// For tests, which see that a missing wait is found: this thread asks the driver for no such waits from now on, and believes that it did.
#[doc(hidden)]
pub fn plant_missing(wait: Option<Wait>) {
    LEFT_OUT.set(wait);
}

/// The streams of a device.
pub(super) struct Streams {
    /// Nothing on a device that only counts.
    main: Option<Arc<CudaStream>>,
    /// Made when something is first asked for beside the main order.
    side: OnceCell<Arc<CudaStream>>,
    /// Events that stand for no place now.
    events: RefCell<Vec<CudaEvent>>,
    /// Whether what is asked for now is beside.
    is_beside: Cell<bool>,
    /// Pieces of work asked for beside the main order so far, and how many of them it has met.
    asked: Cell<u64>,
    met: Cell<u64>,
    /// Whether an op of the main order has been given what it has not met.
    trespassed: Cell<bool>,
}

/// A place in the order beside.
pub struct Mark {
    number: u64,
    event: Option<CudaEvent>,
    streams: Rc<Streams>,
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.streams.events.borrow_mut().extend(self.event.take());
    }
}

impl Streams {
    pub(super) fn new(main: Option<Arc<CudaStream>>) -> Rc<Self> {
        let (asked, met) = (Cell::new(0), Cell::new(0));
        let (is_beside, trespassed) = (Cell::new(false), Cell::new(false));
        Rc::new(Self { main, side: OnceCell::new(), events: RefCell::default(), is_beside, asked, met, trespassed })
    }

    /// The stream that work is put into now; none on a device that only counts.
    pub(super) fn current(&self) -> Option<&Arc<CudaStream>> {
        if self.is_beside.get() { self.side.get() } else { self.main.as_ref() }
    }

    /// The main order's.
    pub(super) fn main(&self) -> Option<&Arc<CudaStream>> {
        self.main.as_ref()
    }

    pub(super) fn is_beside(&self) -> bool {
        self.is_beside.get()
    }

    /// The number of the work that is asked for beside the main order now, or was last.
    pub(super) fn asked(&self) -> u64 {
        self.asked.get()
    }

    /// Whether the main order has met the work of this number.
    pub(super) fn has_met(&self, number: u64) -> bool {
        number <= self.met.get()
    }

    /// Notes that an op of the main order was given what it has not met.
    pub(super) fn trespass(&self) {
        self.trespassed.set(true);
    }

    /// Refuses what was noted.
    pub(super) fn check(&self) -> Result<()> {
        if !self.trespassed.replace(false) {
            return Ok(());
        }
        let problem = "an op of the main order touches a tensor that work beside it may still be using";
        Err(Error::unavailable(
            problem,
            "meet that work first (Beside::meet, Beside::join); this is a bug of the program",
        ))
    }

    /// Refuses to move numbers between host and device in work beside.
    pub(super) fn check_main(&self) -> Result<()> {
        if self.is_beside.get() {
            let problem = "work beside the main order moves numbers between host and device";
            return Err(Error::unavailable(problem, "move them in the main order; this is a bug of the program"));
        }
        self.check()
    }

    fn event(&self, stream: &CudaStream) -> Result<CudaEvent> {
        let event = self.events.borrow_mut().pop();
        let event = event.map_or_else(|| stream.context().new_event(None), Ok).map_err(failed("cuEventCreate"))?;
        event.record(stream).map_err(failed("cuEventRecord"))?;
        Ok(event)
    }

    /// Lets `waiting` wait for all that is in `stream` now.
    fn order(&self, waiting: &CudaStream, stream: &CudaStream) -> Result<()> {
        let event = self.event(stream)?;
        waiting.wait(&event).map_err(failed("cuStreamWaitEvent"))?;
        // The wait is for the event as it is now: it may be recorded anew.
        self.events.borrow_mut().push(event);
        Ok(())
    }

    /// The stream beside the main one.
    fn side(&self, main: &Arc<CudaStream>) -> Result<&Arc<CudaStream>> {
        if self.side.get().is_none() {
            let _ = self.side.set(main.context().new_stream().map_err(failed("cuStreamCreate"))?);
        }
        self.side.get().ok_or_else(|| Error::unavailable("there is no second stream", "start again"))
    }

    /// Asks for `work` beside the main order.
    pub(super) fn beside(self: &Rc<Self>, work: impl FnOnce() -> Result<()>) -> Result<Mark> {
        if self.is_beside.get() {
            return Err(Error::unavailable(
                "work beside the main order asks for more beside it",
                "ask when it is done",
            ));
        }
        self.check()?;
        let side = self.main.as_ref().map(|main| self.side(main)).transpose()?;
        if let (Some(main), Some(side)) = (&self.main, side)
            && LEFT_OUT.get() != Some(Wait::Fork)
        {
            self.order(side, main)?;
        }

        self.asked.set(self.asked.get() + 1);
        let beside = IsBeside::begin(self);
        work()?;
        self.check()?;
        drop(beside);
        let event = side.map(|side| self.event(side)).transpose()?;
        Ok(Mark { number: self.asked.get(), event, streams: Rc::clone(self) })
    }

    /// The main order waits for a mark.
    pub(super) fn meet(&self, mark: &Mark) -> Result<()> {
        if self.has_met(mark.number) {
            return Ok(());
        }
        if let (Some(main), Some(event)) = (&self.main, &mark.event)
            && LEFT_OUT.get() != Some(Wait::Meet)
        {
            main.wait(event).map_err(failed("cuStreamWaitEvent"))?;
        }
        self.met.set(mark.number);
        Ok(())
    }

    /// The main order waits for all work beside it.
    pub(super) fn join(&self) -> Result<()> {
        if !self.has_met(self.asked.get()) && LEFT_OUT.get() != Some(Wait::Join) {
            self.close()?;
        }
        self.met.set(self.asked.get());
        Ok(())
    }

    /// The same whether or not it has met it already: a capture must end in one stream.
    pub(super) fn close(&self) -> Result<()> {
        if let (Some(main), Some(side)) = (&self.main, self.side.get()) {
            self.order(main, side)?;
        }
        self.met.set(self.asked.get());
        Ok(())
    }

    /// Waits until all of both orders is done.
    pub(super) fn synchronize(&self) -> Result<()> {
        let Some(main) = &self.main else { return Ok(()) };
        for stream in self.side.get().into_iter().chain([main]) {
            stream.synchronize().map_err(failed("cuStreamSynchronize"))?;
        }
        self.met.set(self.asked.get());
        main.context().check_err().map_err(failed("an earlier call"))
    }
}

impl Mark {
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

/// While this lives, what is asked for is beside the main order.
struct IsBeside<'s>(&'s Streams);

impl<'s> IsBeside<'s> {
    fn begin(streams: &'s Streams) -> Self {
        streams.is_beside.set(true);
        Self(streams)
    }
}

impl Drop for IsBeside<'_> {
    fn drop(&mut self) {
        self.0.is_beside.set(false);
    }
}
