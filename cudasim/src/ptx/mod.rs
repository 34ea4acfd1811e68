//! The PTX front end: text to a checked module in which every name is resolved and every instruction is typed.
//!
//! ```text
//! text -> lexer -> parse -> Module
//!                   | form, table: is this an instruction, and which operands does it take?
//!                   | scope:       what does this name mean here?
//!                   | check:       are the operands of the right kind and width?
//! ```
//!
//! What nvcc, Triton and hand-written inline assembly use is read; what the simulator does not execute (textures,
//! surfaces, `wmma`, `tcgen05`) is refused here, by name and line. Register types are compared with instruction types
//! by width only, as the driver treats untyped `.b32` registers.
//!
//! Any text gives a module or an error: nothing here panics, and sizes and nesting are capped.

mod check;
mod error;
pub mod form;
pub mod id;
pub mod lexer;
pub mod module;
pub mod opcode;
pub mod operand;
mod parse;
mod scope;
mod table;
pub mod types;

pub use error::PtxError;
pub use form::{Form, OperandKind, OperandRule};
pub use module::{Body, Function, Instruction, Module};
pub use opcode::{Modifier, Opcode};
pub use operand::Operand;
pub use parse::parse;
pub use table::Access;
pub use types::{ScalarType, StateSpace};
