//! Reading the library's named values from flags.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::named::{Named, UnknownName};

/// The parser of a flag whose values are those of `T`; `--help` lists them.
pub fn named<T>() -> impl TypedValueParser<Value = T>
where
    T: Named + std::str::FromStr<Err = UnknownName> + Send + Sync,
{
    let values = T::VALUES.iter().map(|value| {
        // As clap has it: no full stop.
        PossibleValue::new(value.name).help(value.help.trim().trim_end_matches('.'))
    });
    PossibleValuesParser::new(values).try_map(|name| name.parse::<T>())
}
