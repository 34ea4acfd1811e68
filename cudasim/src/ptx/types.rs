//! Scalar types and state spaces, as the PTX ISA names them (chapters "State Spaces" and "Types").

macro_rules! scalar_types {
    ($($variant:ident $name:literal $bits:literal,)*) => {
        /// A PTX scalar type: a fundamental type, or a packed or alternate type that only instructions may name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ScalarType {
            $(#[doc = concat!("`.", $name, "`")] $variant,)*
        }

        impl ScalarType {
            /// Every type.
            pub const ALL: &[ScalarType] = &[$(ScalarType::$variant,)*];

            /// The name without its dot: `f32`.
            pub fn name(self) -> &'static str {
                match self { $(ScalarType::$variant => $name,)* }
            }

            /// Width of one value in bits; 1 for a predicate.
            pub fn bits(self) -> u32 {
                match self { $(ScalarType::$variant => $bits,)* }
            }

            /// The type of this name (no dot).
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(ScalarType::$variant),)* _ => None }
            }
        }
    };
}

scalar_types! {
    Pred "pred" 1, B1 "b1" 1,
    B8 "b8" 8, B16 "b16" 16, B32 "b32" 32, B64 "b64" 64, B128 "b128" 128,
    U4 "u4" 4, U8 "u8" 8, U16 "u16" 16, U32 "u32" 32, U64 "u64" 64,
    S4 "s4" 4, S8 "s8" 8, S16 "s16" 16, S32 "s32" 32, S64 "s64" 64,
    U16x2 "u16x2" 32, S16x2 "s16x2" 32,
    F16 "f16" 16, F16x2 "f16x2" 32, Bf16 "bf16" 16, Bf16x2 "bf16x2" 32,
    Tf32 "tf32" 32, F32 "f32" 32, F64 "f64" 64,
    E4m3 "e4m3" 8, E5m2 "e5m2" 8, E4m3x2 "e4m3x2" 16, E5m2x2 "e5m2x2" 16,
}

impl ScalarType {
    /// Size in memory in bytes; types narrower than a byte (predicates, `.b1`, `.s4`, `.u4`) count as one.
    pub fn bytes(self) -> u32 {
        self.bits().div_ceil(8)
    }

    /// Whether a register or a variable may be declared with this type (ISA, "Fundamental Types").
    pub fn is_fundamental(self) -> bool {
        use ScalarType::*;
        matches!(
            self,
            Pred | B8 | B16 | B32 | B64 | B128 | U8 | U16 | U32 | U64 | S8 | S16 | S32 | S64 | F16 | F16x2 | F32 | F64
        )
    }

    /// Whether values are two's-complement signed integers.
    pub fn is_signed(self) -> bool {
        matches!(self, Self::S4 | Self::S8 | Self::S16 | Self::S32 | Self::S64 | Self::S16x2)
    }
}

macro_rules! state_spaces {
    ($($variant:ident $name:literal,)*) => {
        /// Where an address points. A memory instruction that names no space takes generic addresses.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum StateSpace {
            $(#[doc = concat!("`.", $name, "`")] $variant,)*
        }

        impl StateSpace {
            /// The name without its dot: `shared::cta`.
            pub fn name(self) -> &'static str {
                match self { $(StateSpace::$variant => $name,)* }
            }

            /// The space of this name (no dot).
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(StateSpace::$variant),)* _ => None }
            }
        }
    };
}

state_spaces! {
    Reg "reg", Const "const", Global "global", Local "local", Param "param", ParamEntry "param::entry",
    ParamFunc "param::func", Shared "shared", SharedCta "shared::cta", SharedCluster "shared::cluster",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_types_are_one_to_one() {
        for &ty in ScalarType::ALL {
            assert_eq!(ScalarType::from_name(ty.name()), Some(ty));
        }
        assert_eq!(ScalarType::from_name("f33"), None);
        assert_eq!(StateSpace::from_name("shared::cta"), Some(StateSpace::SharedCta));
    }

    #[test]
    fn sizes() {
        assert_eq!(ScalarType::Bf16x2.bytes(), 4);
        assert_eq!(ScalarType::Pred.bytes(), 1);
        assert_eq!(ScalarType::B128.bytes(), 16);
        assert!(!ScalarType::Bf16.is_fundamental());
    }
}
