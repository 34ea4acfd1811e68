//! Reports of faults, and the warnings that do not stop a kernel.

use crate::exec::state::context::{Context, Grid};
use crate::report::{Fault, Level, Report};

impl Grid<'_> {
    /// The report of a fault at step `pc` of a block. `first`: number of the thread in the block that it is about where the
    /// fault names no lane of the thread's warp.
    pub fn report(&self, fault: Fault, block: [u32; 3], first: u32, pc: u32) -> Report {
        let thread = fault.lane.map_or(first, |lane| first / 32 * 32 + lane as u32);
        let shows = fault.begun.map(|_| self.place(pc));
        let pc = fault.begun.unwrap_or(pc);
        let origin = self.kernel.origins.get(pc as usize);
        Report {
            shows,
            nearest: fault.address.and_then(|address| self.describe(address)),
            kernel: self.kernel.name.clone(),
            block,
            thread: self.thread_index(thread),
            instruction: origin.map_or_else(String::new, |origin| origin.form.mnemonic.clone()),
            ptx_line: origin.map_or(0, |origin| origin.line),
            source: self.kernel.source_lines(pc as usize),
            fault,
        }
    }

    /// A step in words.
    fn place(&self, pc: u32) -> String {
        let source = self.kernel.source_lines(pc as usize).into_iter().next();
        let file = source.map_or_else(String::new, |place| format!("{}:{}, ", place.file, place.line));
        let origin = self.kernel.origins.get(pc as usize);
        origin.map_or(file.clone(), |origin| format!("{file}PTX line {}: {}", origin.line, origin.form.mnemonic))
    }
}

impl Context<'_> {
    /// Gives a fault as a warning; the instruction goes on, unless warnings stop.
    ///
    /// # Errors
    /// The fault, where the options say that warnings stop.
    #[cold]
    pub fn warn(&mut self, fault: Fault) -> Result<(), Fault> {
        let (fault, options) = (fault.warning(), self.grid.options);
        if !options.warnings {
            return Ok(());
        }
        if options.stop == Level::Warning {
            return Err(fault);
        }
        if self.grid.warned.first(fault.kind, self.pc) {
            let first = self.warp.id * 32 + (self.warp.live().trailing_zeros() & 31);
            options.warned.give(self.grid.report(fault, self.blocks[self.rank].index, first, self.pc));
        }
        Ok(())
    }
}
