//! What names mean inside a function: `{ }` open scopes, and inner names hide outer ones.

use super::id::{LabelId, RegisterId, Symbol};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// What a name in a function stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Register(RegisterId),
    Symbol(Symbol),
    Label(LabelId),
    /// Index into the branch tables.
    Targets(u32),
    /// Index into the prototypes.
    Prototype(u32),
}

#[derive(Default)]
struct Scope<'a> {
    parent: Option<usize>,
    names: HashMap<&'a str, Name>,
    /// `.reg .b32 %r<10>;`: prefix to first register and count.
    numbered: HashMap<&'a str, (RegisterId, u32)>,
}

/// Every scope of a function. Scopes that were left stay, for labels that are resolved when the function is complete.
pub(super) struct Scopes<'a> {
    all: Vec<Scope<'a>>,
    current: usize,
    depth: usize,
}

/// Scopes inside one another; nvcc writes two or three.
const MAX_DEPTH: usize = 64;

impl<'a> Scopes<'a> {
    /// The outermost scope only.
    pub(super) fn new() -> Self {
        Self { all: vec![Scope::default()], current: 0, depth: 0 }
    }

    /// The scope that is open, for [`Scopes::lookup`].
    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// Opens a scope; `false` where there are too many inside one another.
    pub(super) fn enter(&mut self) -> bool {
        if self.depth == MAX_DEPTH {
            return false;
        }
        self.depth += 1;
        self.all.push(Scope { parent: Some(self.current), ..Scope::default() });
        self.current = self.all.len() - 1;
        true
    }

    /// Closes the innermost scope; `false` where only the outermost is open.
    pub(super) fn leave(&mut self) -> bool {
        let parent = self.all.get(self.current).and_then(|scope| scope.parent);
        if let Some(parent) = parent {
            self.current = parent;
            self.depth -= 1;
        }
        parent.is_some()
    }

    /// Gives `name` a meaning in the open scope; `false` where it has one there.
    pub(super) fn declare(&mut self, name: &'a str, meaning: Name) -> bool {
        let Some(scope) = self.all.get_mut(self.current) else { return false };
        vacant(scope.names.entry(name), meaning)
    }

    /// Declares `prefix0`, `prefix1`, ...; `false` where the open scope has some of this prefix.
    pub(super) fn declare_numbered(&mut self, prefix: &'a str, first: RegisterId, count: u32) -> bool {
        let Some(scope) = self.all.get_mut(self.current) else { return false };
        vacant(scope.numbered.entry(prefix), (first, count))
    }

    /// What `name` means in a scope.
    pub(super) fn lookup(&self, scope: usize, name: &str) -> Option<Name> {
        let digits = name.len() - name.bytes().rev().take_while(u8::is_ascii_digit).count();
        let (prefix, number) = name.split_at_checked(digits)?;
        // `%r01` is not `%r1`.
        let number: Option<u32> = if number.len() > 1 && number.starts_with('0') { None } else { number.parse().ok() };
        let mut scope = self.all.get(scope);
        while let Some(Scope { parent, names, numbered }) = scope {
            if let Some(&(first, count)) = numbered.get(prefix)
                && let Some(number) = number.filter(|&number| number < count)
            {
                return Some(Name::Register(RegisterId(first.0 + number)));
            }
            if let Some(&meaning) = names.get(name) {
                return Some(meaning);
            }
            scope = parent.and_then(|parent| self.all.get(parent));
        }
        None
    }
}

fn vacant<K, V>(entry: Entry<'_, K, V>, value: V) -> bool {
    match entry {
        Entry::Vacant(place) => {
            place.insert(value);
            true
        }
        Entry::Occupied(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_names_hide_outer_ones_and_end_with_their_scope() {
        let mut scopes = Scopes::new();
        assert!(scopes.declare_numbered("%r", RegisterId(0), 10));
        assert!(scopes.declare("L", Name::Label(LabelId(0))));
        assert!(!scopes.declare("L", Name::Label(LabelId(1))));
        assert!(scopes.enter());
        let inner = scopes.current();
        assert!(scopes.declare("%r3", Name::Register(RegisterId(20))));
        assert_eq!(scopes.lookup(inner, "%r3"), Some(Name::Register(RegisterId(20))));
        assert_eq!(scopes.lookup(inner, "%r4"), Some(Name::Register(RegisterId(4))));
        assert_eq!(scopes.lookup(inner, "L"), Some(Name::Label(LabelId(0))));
        assert!(scopes.leave() && !scopes.leave());
        assert_eq!(scopes.lookup(scopes.current(), "%r3"), Some(Name::Register(RegisterId(3))));
        for unknown in ["%r10", "%r03", "%r", "%q1", "", "%r99999999999"] {
            assert_eq!(scopes.lookup(0, unknown), None, "{unknown}");
        }
    }

    #[test]
    fn depth_is_capped() {
        let mut scopes = Scopes::new();
        assert_eq!((0..1000).take_while(|_| scopes.enter()).count(), MAX_DEPTH);
    }
}
