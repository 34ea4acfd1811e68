//! A module in a device's memory: its variables placed, its kernels decoded.

use std::sync::{Arc, OnceLock};

use crate::exec::decode;
use crate::exec::operands::decoder::Placement;
use crate::exec::state::context::Kernel;
use crate::memory::{FUNCTION_WINDOW, GlobalMemory, MemoryError, SHARED_WINDOW};
use crate::ptx::module::{Function, Module, Symbol, Variable};
use crate::ptx::operand::{Operand, SpecialRegister};
use crate::ptx::types::StateSpace;
use crate::ptx::{self, PtxError};

/// Bytes of the workspace of cooperative grids.
const WORKSPACE: u64 = 256;

/// Why a module was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The text is not PTX that the simulator runs.
    Ptx(PtxError),
    /// No room for its variables.
    Memory(MemoryError),
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ptx(error) => error.fmt(f),
            Self::Memory(_) => write!(f, "no memory for the module's variables"),
        }
    }
}

impl std::error::Error for LoadError {}

/// A loaded module.
pub struct Program {
    module: Arc<Module>,
    kernels: Vec<Entry>,
    /// Address of each variable of the module; 0 for shared ones. Then that of the workspace, where there is one.
    addresses: Vec<u64>,
}

/// A kernel of a module, decoded when it is first asked for.
struct Entry {
    /// Its number among the module's functions.
    function: usize,
    decoded: OnceLock<Result<Arc<Kernel>, PtxError>>,
}

impl Program {
    /// Reads PTX, takes memory for its variables and decodes all of its kernels.
    ///
    /// # Errors
    /// [`LoadError`]; nothing stays allocated.
    pub fn load(text: &str, memory: &GlobalMemory) -> Result<Self, LoadError> {
        let program = Self::load_lazily(text, memory)?;
        let refused = program.kernels.iter().find_map(|entry| program.decoded(entry).err());
        if let Some(error) = refused {
            program.unload(memory);
            return Err(LoadError::Ptx(error));
        }
        Ok(program)
    }

    /// Reads PTX and takes memory for its variables. A kernel is decoded when it is asked for: of a module with dozens of them a program
    /// mostly launches a few.
    ///
    /// # Errors
    /// [`LoadError`]; nothing stays allocated.
    pub fn load_lazily(text: &str, memory: &GlobalMemory) -> Result<Self, LoadError> {
        let module = Arc::new(ptx::parse(text).map_err(LoadError::Ptx)?);
        let is_kernel = |function: &Function| function.is_entry && function.body.is_some();
        let kernels = module.functions.iter().enumerate().filter(|(_, function)| is_kernel(function));
        let kernels = kernels.map(|(function, _)| Entry { function, decoded: OnceLock::new() }).collect();
        let mut program = Self { module, kernels, addresses: Vec::new() };
        if let Err(error) = program.place(memory) {
            program.unload(memory);
            return Err(error);
        }
        Ok(program)
    }

    fn place(&mut self, memory: &GlobalMemory) -> Result<(), LoadError> {
        for variable in &self.module.variables {
            let in_memory = matches!(variable.space, StateSpace::Global | StateSpace::Const);
            let address = match in_memory {
                true => memory.allocate(variable.size, Some(&variable.name)).map_err(LoadError::Memory)?,
                false => 0,
            };
            self.addresses.push(address);
        }
        self.place_workspace(memory)?;

        for (variable, &address) in self.module.variables.iter().zip(&self.addresses) {
            if address == 0 {
                continue;
            }
            let mut bytes = variable.initial.clone();
            bytes.resize(usize::try_from(variable.size).map_err(|_| LoadError::Memory(MemoryError::OutOfMemory))?, 0);

            for relocation in &variable.relocations {
                let value = self.address(relocation.symbol, relocation.generic).wrapping_add_signed(relocation.addend);
                let at = relocation.at as usize;
                let width = relocation.width as usize;
                if let Some(place) = bytes.get_mut(at..at + width) {
                    place.copy_from_slice(&value.to_le_bytes()[..width]);
                }
            }

            memory.write(address, &bytes).map_err(LoadError::Memory)?;
        }
        Ok(())
    }

    /// Behind the variables: where the blocks of a cooperative grid meet, as `%envreg1` and `%envreg2` name it.
    fn place_workspace(&mut self, memory: &GlobalMemory) -> Result<(), LoadError> {
        let bodies = self.module.functions.iter().filter_map(|function| function.body.as_ref());
        let mut operands = bodies.flat_map(|body| &body.instructions).flat_map(|instruction| &instruction.operands);
        let named = [SpecialRegister::Envreg1, SpecialRegister::Envreg2].map(Operand::Special);
        if operands.any(|operand| named.contains(operand)) {
            let address =
                memory.allocate(WORKSPACE, Some("workspace of cooperative grids")).map_err(LoadError::Memory)?;
            self.addresses.push(address);
            memory.write(address, &[0; WORKSPACE as usize]).map_err(LoadError::Memory)?;
        }
        Ok(())
    }

    fn address(&self, symbol: Symbol, generic: bool) -> u64 {
        match symbol {
            Symbol::Global(index) => match self.addresses.get(index as usize).copied() {
                // Static initialisers cannot name shared variables whose place each kernel decides.
                Some(0) | None if generic => SHARED_WINDOW,
                address => address.unwrap_or(0),
            },
            Symbol::Function(index) => FUNCTION_WINDOW + u64::from(index),
            _ => 0,
        }
    }

    fn decoded(&self, entry: &Entry) -> Result<Arc<Kernel>, PtxError> {
        let decode = || {
            let placement = Placement { module: &self.module, addresses: &self.addresses };
            decode::kernel(&placement, entry.function).map(Arc::new)
        };
        entry.decoded.get_or_init(decode).clone()
    }

    fn name(&self, entry: &Entry) -> &str {
        &self.module.functions[entry.function].name
    }

    /// Gives back the memory of its variables.
    pub fn unload(&self, memory: &GlobalMemory) {
        for &address in self.addresses.iter().filter(|&&address| address != 0) {
            // Nobody else frees them.
            let _ = memory.free(address);
        }
    }

    /// The kernel of this name, if there is one; an error where it cannot be decoded.
    pub fn find(&self, name: &str) -> Option<Result<Arc<Kernel>, PtxError>> {
        self.kernels.iter().find(|entry| self.name(entry) == name).map(|entry| self.decoded(entry))
    }

    /// The kernel of this name, if there is one and it can be decoded, as all of [`Program::load`] can.
    pub fn kernel(&self, name: &str) -> Option<Arc<Kernel>> {
        self.find(name)?.ok()
    }

    /// The name of every kernel.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.kernels.iter().map(|entry| self.name(entry))
    }

    /// Every kernel that can be decoded.
    pub fn kernels(&self) -> Vec<Arc<Kernel>> {
        self.kernels.iter().filter_map(|entry| self.decoded(entry).ok()).collect()
    }

    /// No kernel has more bytes of static shared memory: all that is the module's or a function's, and the most of a kernel.
    pub fn most_static_shared(&self) -> u64 {
        // Each variable may be moved up to its alignment.
        let bytes = |variables: &[Variable]| {
            let shared = variables.iter().filter(|variable| variable.space == StateSpace::Shared);
            shared.map(|variable| variable.size.saturating_add(variable.align)).fold(0, u64::saturating_add)
        };
        let (mut all, mut most) = (bytes(&self.module.variables), 0);
        for function in &self.module.functions {
            let own = function.body.as_ref().map_or(0, |body| bytes(&body.variables));
            if function.is_entry { most = own.max(most) } else { all = own.saturating_add(all) }
        }
        all.saturating_add(most)
    }

    /// Address and size of a `.global` or `.const` variable.
    pub fn variable(&self, name: &str) -> Option<(u64, u64)> {
        let mut all = self.module.variables.iter().zip(&self.addresses);
        all.find(|(variable, address)| variable.name == name && **address != 0)
            .map(|(variable, &address)| (address, variable.size))
    }
}
