//! Enums whose values have names: the same in flags, in configurations and in what is printed.
//!
//! The library defines them with the macro `named!`; the command line reads them with its own parser (`cli/common/named.rs`), so that
//! no type here knows a command line.

/// A type with a fixed set of values, each with a name.
pub trait Named: Copy + PartialEq + Sized + 'static {
    /// Every value, in the order in which it is listed for people.
    const VALUES: &'static [NamedValue<Self>];

    /// The value of this name.
    fn named(name: &str) -> Option<Self> {
        Self::VALUES.iter().find(|value| value.name == name).map(|value| value.value)
    }

    /// The value's name.
    fn name(self) -> &'static str {
        Self::VALUES.iter().find(|value| value.value == self).map_or("", |value| value.name)
    }
}

/// A value with its name.
#[derive(Clone, Copy, Debug)]
pub struct NamedValue<T> {
    /// The value.
    pub value: T,
    /// Its name, lower case.
    pub name: &'static str,
    /// What it is, for people: the text of its documentation.
    pub help: &'static str,
}

/// A name that no value of the type has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown value '{name}'; give {}", known.join(", "))]
pub struct UnknownName {
    /// What was given.
    pub name: String,
    /// The names there are.
    pub known: Vec<&'static str>,
}

/// Defines an enum without fields whose values have names: each variant is followed by `= "name"`. The enum gets
/// [`Named`], `Display` and `FromStr`, and the derives `Clone`, `Copy`, `Debug`, `PartialEq`, `Eq` and `Hash`.
macro_rules! named {
    (
        $(#[$meta:meta])*
        $vis:vis enum $type:ident {
            $(
                $(#[doc = $help:literal])+
                $(#[default $($nothing:tt)?])?
                $value:ident = $name:literal
            ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $vis enum $type {
            $(
                $(#[doc = $help])+
                $(#[default $($nothing)?])?
                $value,
            )+
        }

        impl $crate::named::Named for $type {
            const VALUES: &'static [$crate::named::NamedValue<Self>] = &[
                $($crate::named::NamedValue { value: $type::$value, name: $name, help: concat!($($help),+) },)+
            ];
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str($crate::named::Named::name(*self))
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::named::UnknownName;

            fn from_str(name: &str) -> std::result::Result<Self, Self::Err> {
                use $crate::named::Named as _;
                let known = || Self::VALUES.iter().map(|value| value.name).collect();
                Self::named(name).ok_or_else(|| $crate::named::UnknownName { name: name.to_owned(), known: known() })
            }
        }
    };
}

pub(crate) use named;

#[cfg(test)]
mod tests {
    use super::*;

    named! {
        /// Something with two values.
        #[derive(Default)]
        enum Side {
            /// The left one,
            /// in two lines.
            Left = "left",
            /// The right one.
            #[default]
            Right = "right",
        }
    }

    #[test]
    fn values_are_read_as_they_are_written() {
        assert_eq!(Side::default(), Side::Right);
        assert_eq!(Side::VALUES.iter().map(|value| value.value).collect::<Vec<_>>(), [Side::Left, Side::Right]);
        for side in [Side::Left, Side::Right] {
            assert_eq!(side.to_string().parse(), Ok(side));
        }
        assert_eq!(Side::VALUES[0].help, " The left one, in two lines.");
        let error = "middle".parse::<Side>().unwrap_err().to_string();
        assert!(error.contains("'middle'") && error.contains("left, right"), "{error}");
    }
}
