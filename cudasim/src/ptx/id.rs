//! What stands for a name once it is resolved: an index into a table of the [module](super::module).

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident,)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);

        impl $name {
            /// The index this stands for.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

ids! {
    /// A register of a function; registers are numbered from 0 in the order of their declarations.
    RegisterId,
    /// A label: index into [`Body::labels`](super::module::Body::labels).
    LabelId,
    /// A source position: index into [`Body::sources`](super::module::Body::sources).
    SourceId,
}

/// Something that has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Symbol {
    /// Index into [`Module::variables`](super::module::Module::variables).
    Global(u32),
    /// Index into [`Body::variables`](super::module::Body::variables).
    Local(u32),
    /// Index into [`Function::parameters`](super::module::Function::parameters).
    Parameter(u32),
    /// Index into [`Function::results`](super::module::Function::results).
    Result(u32),
    /// Index into [`Module::functions`](super::module::Module::functions).
    Function(u32),
}
