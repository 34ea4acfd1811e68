//! Reads the modules of a crate and every path between them, from the source text alone.
//!
//! Rust's own tokeniser does the reading, so comments and strings are no code, and paths inside macros and attributes count.
//! A path is followed through `pub use` to the module that defines what it names: a facade hides no arrow.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A module as its path from the crate's root, which is the empty one.
pub type Module = Vec<String>;

/// One use of another module.
#[derive(Clone, Debug)]
pub struct Arrow {
    pub from: Module,
    pub to: Module,
    pub file: PathBuf,
    pub line: usize,
}

impl fmt::Display for Arrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, file, line } = self;
        write!(f, "{}:{line}: {} uses {}", file.display(), from.join("::"), to.join("::"))
    }
}

/// What a crate's modules say of each other and of other crates.
#[derive(Default)]
pub struct Arrows {
    /// Between modules of the crate.
    pub inside: Vec<Arrow>,
    /// To other crates: the target's first name is the crate's.
    pub outside: Vec<Arrow>,
    /// Every module that is a file.
    pub modules: BTreeSet<Module>,
}

/// A path as it stands in a file, resolved to a path from the root; outside paths keep their crate's name.
struct Mention {
    from: Module,
    path: Vec<String>,
    outside: bool,
    line: usize,
    /// The name under which a `use` makes it visible in `from`; `*` for all names.
    exported: Option<String>,
}

impl Arrows {
    /// Reads all files below `source`, a crate's `src` folder.
    pub fn read(source: &Path) -> Self {
        let mut arrows = Self::default();
        let mut files = Vec::new();
        collect_files(source, &mut files);
        files.sort();
        for file in &files {
            arrows.modules.insert(module_of(source, file));
        }

        // Every path in every file.
        let mut mentions = Vec::new();
        for file in &files {
            let text = fs::read_to_string(file).unwrap();
            let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let mut found = Vec::new();
            Reader { modules: &arrows.modules, found: &mut found }.read(tokens, &module_of(source, file));
            mentions.extend(found.into_iter().map(|mention| (file.clone(), mention)));
        }

        // Where each re-exported name is defined.
        let exports = Exports::new(&arrows.modules, mentions.iter().map(|(_, mention)| mention));
        for (file, Mention { from, path, outside, line, .. }) in mentions {
            let to = if outside { path } else { exports.definition(&path) };
            let list = if outside { &mut arrows.outside } else { &mut arrows.inside };
            list.push(Arrow { from, to, file, line });
        }
        arrows
    }

    /// A circle among the direct children of `parent`, as the arrows that make it; none if they point one way.
    ///
    /// What stands in the parent's own file belongs to all of them and counts for none.
    pub fn circle(&self, parent: &[String]) -> Option<Vec<&Arrow>> {
        let child = |module: &Module| {
            let inside = module.len() > parent.len() && module.starts_with(parent);
            inside.then(|| module[parent.len()].clone())
        };
        let mut edges: BTreeMap<String, BTreeMap<String, &Arrow>> = BTreeMap::new();
        for arrow in &self.inside {
            if let (Some(from), Some(to)) = (child(&arrow.from), child(&arrow.to))
                && from != to
            {
                edges.entry(from).or_default().entry(to).or_insert(arrow);
            }
        }

        // Take away what points at nothing that is left, again and again: what stays lies on a circle or leads to one.
        loop {
            let known: BTreeSet<String> = edges.keys().cloned().collect();
            let before = known.len();
            edges.retain(|_, targets| targets.keys().any(|target| known.contains(target)));
            if edges.len() == before {
                break;
            }
        }

        // Walk on until a module comes again.
        let mut at = edges.keys().next()?.clone();
        let mut walked: Vec<(String, &Arrow)> = Vec::new();
        loop {
            if let Some(start) = walked.iter().position(|(module, _)| *module == at) {
                return Some(walked[start..].iter().map(|(_, arrow)| *arrow).collect());
            }
            let (next, arrow) = edges[&at].iter().find(|(target, _)| edges.contains_key(*target))?;
            walked.push((at, arrow));
            at = next.clone();
        }
    }
}

fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// `src/device/cpu/mod.rs` is `device::cpu`; `src/lib.rs` is the root.
fn module_of(source: &Path, file: &Path) -> Module {
    let relative = file.strip_prefix(source).unwrap().with_extension("");
    let mut module: Module = relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if module.last().is_some_and(|last| last == "mod") || module == ["lib"] {
        module.pop();
    }
    module
}

/// Finds the paths in a file's tokens.
struct Reader<'a> {
    modules: &'a BTreeSet<Module>,
    found: &'a mut Vec<Mention>,
}

impl Reader<'_> {
    fn read(&mut self, tokens: TokenStream, module: &Module) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at = match &tokens[at] {
                TokenTree::Ident(word) if *word == "use" => self.read_use(&tokens, at + 1, module),
                TokenTree::Ident(word) if *word == "mod" => self.read_mod(&tokens, at + 1, module),
                TokenTree::Ident(_) => self.read_path(&tokens, at, module),
                TokenTree::Group(group) => {
                    self.read(group.stream(), module);
                    at + 1
                }
                _ => at + 1,
            };
        }
    }

    /// `mod name { .. }` is a module of its own within the file; `mod name;` says nothing.
    fn read_mod(&mut self, tokens: &[TokenTree], at: usize, module: &Module) -> usize {
        if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) = (tokens.get(at), tokens.get(at + 1))
            && body.delimiter() == Delimiter::Brace
        {
            let mut inner = module.clone();
            inner.push(name.to_string());
            self.read(body.stream(), &inner);
            return at + 2;
        }
        at
    }

    /// `a::b::C` in an expression, a type or an attribute; only those that start at a module count.
    fn read_path(&mut self, tokens: &[TokenTree], start: usize, module: &Module) -> usize {
        let mut path = vec![tokens[start].to_string()];
        let mut at = start + 1;
        while let (true, Some(TokenTree::Ident(word))) = (is_path_separator(tokens, at), tokens.get(at + 2)) {
            path.push(word.to_string());
            at += 3;
        }
        let continues = start >= 2 && is_path_separator(tokens, start - 2);
        if path.len() > 1 && !continues {
            let line = tokens[start].span().start().line;
            self.mention(module, path, line, None);
        }
        at
    }

    /// The tree of a `use`, up to its semicolon.
    fn read_use(&mut self, tokens: &[TokenTree], start: usize, module: &Module) -> usize {
        let is_end = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ';');
        let end = tokens[start..].iter().position(is_end).map_or(tokens.len(), |length| start + length);
        self.read_use_tree(&tokens[start..end], &[], module);
        end + 1
    }

    fn read_use_tree(&mut self, tokens: &[TokenTree], prefix: &[String], module: &Module) {
        for branch in tokens.split(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',')) {
            let mut path = prefix.to_vec();
            let mut renamed = None;
            let mut group = None;
            for (index, token) in branch.iter().enumerate() {
                match token {
                    TokenTree::Ident(word) if *word == "as" => {
                        renamed = branch.get(index + 1).map(ToString::to_string);
                        break;
                    }
                    TokenTree::Ident(word) => path.push(word.to_string()),
                    TokenTree::Punct(punct) if punct.as_char() == '*' => path.push("*".to_owned()),
                    TokenTree::Group(inner) => group = Some(inner.stream()),
                    _ => {}
                }
            }
            if let Some(inner) = group {
                self.read_use_tree(&inner.into_iter().collect::<Vec<_>>(), &path, module);
            } else if let Some(first) = branch.first() {
                let line = first.span().start().line;
                if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
                    path.pop();
                }
                let name = renamed.or_else(|| path.last().cloned());
                self.mention(module, path, line, name);
            }
        }
    }

    /// Resolves a path's beginning. Names that are neither modules nor crates (types, local variables) are passed over.
    fn mention(&mut self, module: &Module, path: Vec<String>, line: usize, exported: Option<String>) {
        let ups = path.iter().take_while(|part| *part == "super").count();
        let first = path[0].as_str();
        let inside = match first {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([module, &path[1..]].concat()),
            "super" => Some([&module[..module.len().saturating_sub(ups)], &path[ups..]].concat()),
            _ => {
                let child = [module.as_slice(), &path[..1]].concat();
                self.modules.contains(&child).then(|| [module.as_slice(), &path].concat())
            }
        };
        let looks_like_a_crate = first.starts_with(|letter: char| letter.is_ascii_lowercase());
        let from = module.clone();
        match inside {
            Some(path) => self.found.push(Mention { from, path, outside: false, line, exported }),
            None if looks_like_a_crate => self.found.push(Mention { from, path, outside: true, line, exported: None }),
            None => {}
        }
    }
}

fn is_path_separator(tokens: &[TokenTree], at: usize) -> bool {
    let is_colon = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    is_colon(at) && is_colon(at + 1)
}

/// What the `use`s of each module make visible there.
struct Exports<'a> {
    modules: &'a BTreeSet<Module>,
    names: BTreeMap<(Module, String), Vec<String>>,
}

impl<'a> Exports<'a> {
    fn new<'m>(modules: &'a BTreeSet<Module>, mentions: impl Iterator<Item = &'m Mention>) -> Self {
        let mut names = BTreeMap::new();
        for mention in mentions.filter(|mention| !mention.outside) {
            if let Some(name) = &mention.exported {
                names.insert((mention.from.clone(), name.clone()), mention.path.clone());
            }
        }
        Self { modules, names }
    }

    /// The module that defines what `path` names.
    fn definition(&self, path: &[String]) -> Module {
        let mut path = path.to_vec();
        // A chain of re-exports is short; what goes on for ever is a circle of them.
        for _ in 0..16 {
            let length = (0..=path.len()).rev().find(|length| self.modules.contains(&path[..*length])).unwrap_or(0);
            let (module, rest) = path.split_at(length);
            let Some(name) = rest.first() else { return path };
            match self.names.get(&(module.to_vec(), name.clone())) {
                Some(target) if target[..] != path[..] => path = [target.as_slice(), &rest[1..]].concat(),
                _ => return module.to_vec(),
            }
        }
        path
    }
}
