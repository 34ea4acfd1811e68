//! A function while its body is read: what it has so far, and the labels that are still to be found.

use super::cursor::error_at;
use super::declaration::index;
use crate::ptx::error::{PtxError, quote};
use crate::ptx::lexer::Token;
use crate::ptx::module::{Body, LabelId, Source, SourceId};
use crate::ptx::operand::Operand;
use crate::ptx::scope::{Name, Scopes};
use std::collections::HashMap;

/// A function while its body is read.
pub(super) struct Frame<'a> {
    pub(super) scopes: Scopes<'a>,
    pub(super) body: Body,
    /// Labels are resolved when all are known: most branches go forward.
    pub(super) pending: Vec<Pending<'a>>,
    sources: HashMap<Source, SourceId>,
    /// Latest position at file, line and column, to find what an inlined position was inlined at.
    latest: HashMap<(u32, u32, u32), SourceId>,
    /// Position of the instructions that follow.
    pub(super) source: Option<SourceId>,
}

/// A label or branch table that is named before it need be known.
pub(super) struct Pending<'a> {
    pub(super) token: Token<'a>,
    pub(super) scope: usize,
    pub(super) place: Place,
}

pub(super) enum Place {
    /// Instruction and operand.
    Operand(usize, usize),
    /// Branch table and entry.
    Table(usize, usize),
}

/// Stands for a label until it is resolved.
pub(super) const UNRESOLVED: LabelId = LabelId(u32::MAX);

impl<'a> Frame<'a> {
    pub(super) fn new() -> Self {
        Self {
            scopes: Scopes::new(),
            body: Body::default(),
            pending: Vec::new(),
            sources: HashMap::new(),
            latest: HashMap::new(),
            source: None,
        }
    }

    /// Makes a position that of the instructions that follow.
    pub(super) fn locate(
        &mut self,
        [file, line, column]: [u32; 3],
        inlined_at: Option<[u32; 3]>,
        token: Token<'a>,
    ) -> Result<(), PtxError> {
        let inlined_at = match inlined_at {
            // The compiler gives an outer position before those inlined into it, with its own `inlined_at`.
            Some([file, line, column]) => match self.latest.get(&(file, line, column)) {
                Some(&known) => Some(known),
                None => Some(self.source_id(Source { file, line, column, inlined_at: None }, token)?),
            },
            None => None,
        };
        self.source = Some(self.source_id(Source { file, line, column, inlined_at }, token)?);
        Ok(())
    }

    fn source_id(&mut self, source: Source, token: Token<'a>) -> Result<SourceId, PtxError> {
        let id = match self.sources.get(&source) {
            Some(&id) => id,
            None => {
                let id = SourceId(index(self.body.sources.len(), token)?);
                self.body.sources.push(source);
                self.sources.insert(source, id);
                id
            }
        };
        self.latest.insert((source.file, source.line, source.column), id);
        Ok(id)
    }

    /// Gives every label that was named its place.
    pub(super) fn resolve(mut self) -> Result<Body, PtxError> {
        for Pending { token, scope, place } in self.pending {
            let meaning = self.scopes.lookup(scope, token.text);

            match place {
                Place::Table(table, entry) => {
                    let entry = self.body.branch_tables.get_mut(table).and_then(|labels| labels.get_mut(entry));
                    match (entry, meaning) {
                        (Some(entry), Some(Name::Label(label))) => *entry = label,
                        _ => return Err(unknown_label(token)),
                    }
                }
                Place::Operand(instruction, place) => {
                    let instruction = self.body.instructions.get_mut(instruction);
                    match (instruction.and_then(|i| i.operands.get_mut(place)), meaning) {
                        (Some(Operand::Label(id)), Some(Name::Label(label))) => *id = label,
                        (Some(Operand::Targets(id)), Some(Name::Targets(table))) => *id = table,
                        _ => return Err(unknown_label(token)),
                    }
                }
            }
        }
        Ok(self.body)
    }
}

fn unknown_label(token: Token<'_>) -> PtxError {
    error_at(token, format!("no label {} can be seen from here", quote(token.text)))
}

pub(super) fn twice(token: Token<'_>) -> PtxError {
    error_at(token, format!("{} is declared twice in one scope", quote(token.text)))
}

pub(super) fn declare<'a>(frame: &mut Frame<'a>, token: Token<'a>, meaning: Name) -> Result<(), PtxError> {
    if frame.scopes.declare(token.text, meaning) { Ok(()) } else { Err(twice(token)) }
}
