//! Headers of entries and functions.

use super::Parser;
use super::cursor::error_at;
use super::declaration::index;
use crate::ptx::error::{PtxError, quote};
use crate::ptx::lexer::{Token, TokenKind};
use crate::ptx::module::{Function, LaunchBounds, Linkage, Parameter, Symbol};

impl<'a> Parser<'a> {
    /// A function behind `.entry` or `.func`.
    pub(super) fn function(&mut self, is_entry: bool, linkage: Linkage, start: Token<'a>) -> Result<(), PtxError> {
        let results = if self.cursor.is(b'(') && !is_entry { self.parameters()? } else { Vec::new() };
        let name = self.cursor.word("the name of a function")?;
        let parameters = if self.cursor.is(b'(') { self.parameters()? } else { Vec::new() };

        let mut function = Function {
            name: name.text.into(),
            is_entry,
            linkage,
            results: results.iter().map(|(_, parameter)| parameter.clone()).collect(),
            parameters: parameters.iter().map(|(_, parameter)| parameter.clone()).collect(),
            launch: LaunchBounds::default(),
            no_return: false,
            body: None,
            line: start.line,
        };

        // Its own body may call it.
        self.properties(&mut function)?;
        let id = self.declare(name, &function)?;
        if self.cursor.accept(b';') {
            return Ok(());
        }

        let again = self.module.functions.get(id).is_some_and(|known| known.body.is_some());
        if again {
            return Err(error_at(name, format!("{} is defined twice", quote(name.text))));
        }

        function.body = Some(self.body(&results, &parameters)?);
        if let Some(place) = self.module.functions.get_mut(id) {
            *place = function;
        }
        Ok(())
    }

    /// Makes the function known, so that its own body may call it. Returns its place.
    fn declare(&mut self, name: Token<'a>, function: &Function) -> Result<usize, PtxError> {
        match self.symbols.get(name.text) {
            Some(&Symbol::Function(id)) => {
                let same = self.module.functions.get(id as usize).is_some_and(|known| {
                    known.is_entry == function.is_entry
                        && sizes(&known.parameters).eq(sizes(&function.parameters))
                        && sizes(&known.results).eq(sizes(&function.results))
                });

                if same {
                    return Ok(id as usize);
                }

                Err(error_at(name, format!("{} was declared with other parameters", quote(name.text))))
            }
            Some(_) => Err(error_at(name, format!("{} is declared twice", quote(name.text)))),
            None => {
                let id = index(self.module.functions.len(), name)?;
                self.symbols.insert(name.text, Symbol::Function(id));
                self.module.functions.push(function.clone());
                Ok(id as usize)
            }
        }
    }

    /// What stands between the parameters and the body.
    fn properties(&mut self, function: &mut Function) -> Result<(), PtxError> {
        while self.cursor.peek().kind == TokenKind::Dotted {
            let token = self.cursor.next();
            let launch = &mut function.launch;
            match token.text {
                // Threads and blocks.
                "maxntid" => launch.max_threads = Some(self.three()?),
                "reqntid" => launch.required_threads = Some(self.three()?),
                "reqnctapercluster" => launch.required_cluster = Some(self.three()?),

                // Resources.
                "minnctapersm" => launch.min_blocks = Some(self.cursor.integer32("a number of blocks")?),
                "maxnreg" => launch.max_registers = Some(self.cursor.integer32("a number of registers")?),
                "maxclusterrank" => launch.max_cluster_rank = Some(self.cursor.integer32("a number of blocks")?),

                // Flags.
                "explicitcluster" => launch.explicit_cluster = true,
                "noreturn" => function.no_return = true,

                other => {
                    let directive = quote(&format!(".{other}"));
                    return Err(error_at(token, format!("unknown or unsupported directive {directive}")));
                }
            }
        }

        Ok(())
    }

    /// `x`, `x, y` or `x, y, z`; what is not given is 1.
    fn three(&mut self) -> Result<[u32; 3], PtxError> {
        let mut sizes = [1; 3];
        for (place, size) in sizes.iter_mut().enumerate() {
            if place > 0 && !self.cursor.accept(b',') {
                break;
            }
            *size = self.cursor.integer32("a size")?;
        }
        Ok(sizes)
    }
}

fn sizes(parameters: &[Parameter]) -> impl Iterator<Item = (u64, u64)> {
    parameters.iter().map(|parameter| (parameter.size, parameter.align))
}
