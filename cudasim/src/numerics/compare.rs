//! The comparisons of `setp` and `set` (PTX ISA, "Comparison and Selection Instructions").

use super::formats::{bf16_to_f32, f16_to_f32};

/// The comparison operators of `setp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// `.eq`: equal, and neither operand NaN.
    Eq,
    /// `.ne`: not equal, and neither operand NaN.
    Ne,
    /// `.lt`: less, and neither operand NaN.
    Lt,
    /// `.le`: less or equal, and neither operand NaN.
    Le,
    /// `.gt`: greater, and neither operand NaN.
    Gt,
    /// `.ge`: greater or equal, and neither operand NaN.
    Ge,
    /// `.lo`: lower, unsigned integers only.
    Lo,
    /// `.ls`: lower or same, unsigned integers only.
    Ls,
    /// `.hi`: higher, unsigned integers only.
    Hi,
    /// `.hs`: higher or same, unsigned integers only.
    Hs,
    /// `.equ`: equal or unordered.
    Equ,
    /// `.neu`: not equal or unordered.
    Neu,
    /// `.ltu`: less or unordered.
    Ltu,
    /// `.leu`: less, equal or unordered.
    Leu,
    /// `.gtu`: greater or unordered.
    Gtu,
    /// `.geu`: greater, equal or unordered.
    Geu,
    /// `.num`: neither operand is NaN.
    Num,
    /// `.nan`: at least one operand is NaN.
    Nan,
}

impl Compare {
    /// The operator that a modifier without its dot names.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            // Ordered: false where an operand is NaN.
            "eq" => Self::Eq,
            "ne" => Self::Ne,
            "lt" => Self::Lt,
            "le" => Self::Le,
            "gt" => Self::Gt,
            "ge" => Self::Ge,

            // Unsigned integers.
            "lo" => Self::Lo,
            "ls" => Self::Ls,
            "hi" => Self::Hi,
            "hs" => Self::Hs,

            // Unordered: true where an operand is NaN.
            "equ" => Self::Equ,
            "neu" => Self::Neu,
            "ltu" => Self::Ltu,
            "leu" => Self::Leu,
            "gtu" => Self::Gtu,
            "geu" => Self::Geu,

            // Whether there is a NaN.
            "num" => Self::Num,
            "nan" => Self::Nan,

            _ => return None,
        })
    }

    /// Compares two values of any PTX type that Rust has: integers (signed or unsigned as the type is), f32, f64. The
    /// unsigned operators are those of an unsigned `T`. For `.ftz` flush both operands first.
    #[inline(always)]
    pub fn holds<T: PartialOrd>(self, a: T, b: T) -> bool {
        // False only for NaN; compilers fold it into one comparison with the other.
        let ordered = a <= b || a >= b;

        match self {
            Self::Eq => a == b,
            Self::Ne => a != b && ordered,
            Self::Lt | Self::Lo => a < b,
            Self::Le | Self::Ls => a <= b,
            Self::Gt | Self::Hi => a > b,
            Self::Ge | Self::Hs => a >= b,
            Self::Equ => a == b || !ordered,
            Self::Neu => a != b,
            Self::Ltu => a < b || !ordered,
            Self::Leu => a <= b || !ordered,
            Self::Gtu => a > b || !ordered,
            Self::Geu => a >= b || !ordered,
            Self::Num => ordered,
            Self::Nan => !ordered,
        }
    }

    /// Compares two f16.
    #[inline]
    pub fn holds_f16(self, a: u16, b: u16) -> bool {
        self.holds(f16_to_f32(a), f16_to_f32(b))
    }

    /// Compares two bf16.
    #[inline]
    pub fn holds_bf16(self, a: u16, b: u16) -> bool {
        self.holds(bf16_to_f32(a), bf16_to_f32(b))
    }
}

#[cfg(test)]
mod tests {
    use super::Compare::{self, *};

    /// Rows: operator, then its value for less, equal, greater, unordered.
    const TABLE: [(&str, Compare, [bool; 4]); 18] = [
        ("eq", Eq, [false, true, false, false]),
        ("ne", Ne, [true, false, true, false]),
        ("lt", Lt, [true, false, false, false]),
        ("le", Le, [true, true, false, false]),
        ("gt", Gt, [false, false, true, false]),
        ("ge", Ge, [false, true, true, false]),
        ("lo", Lo, [true, false, false, false]),
        ("ls", Ls, [true, true, false, false]),
        ("hi", Hi, [false, false, true, false]),
        ("hs", Hs, [false, true, true, false]),
        ("equ", Equ, [false, true, false, true]),
        ("neu", Neu, [true, false, true, true]),
        ("ltu", Ltu, [true, false, false, true]),
        ("leu", Leu, [true, true, false, true]),
        ("gtu", Gtu, [false, false, true, true]),
        ("geu", Geu, [false, true, true, true]),
        ("num", Num, [true, true, true, false]),
        ("nan", Nan, [false, false, false, true]),
    ];

    #[test]
    fn every_operator_in_every_case() {
        let pairs = [(-1.5, 2.0), (-0.0, 0.0), (f32::INFINITY, 1e-45), (f32::NAN, 1.0)];
        for (name, op, expected) in TABLE {
            assert_eq!(Compare::parse(name), Some(op));
            for ((a, b), expected) in pairs.into_iter().zip(expected) {
                assert_eq!(op.holds(a, b), expected, "{name} {a} {b}");
                assert_eq!(op.holds(f64::from(a), f64::from(b)), expected, "{name}.f64 {a} {b}");
            }
            assert_eq!(op.holds_f16(0x7c01, 0x7c01), expected[3], "{name} of NaN with itself");
            assert_eq!(op.holds_bf16(0x8000, 0x0000), expected[1], "{name} of -0 and 0");
            assert_eq!(op.holds_f16(0x8001, 0x0001), expected[0], "{name} of subnormals");
        }
        assert_eq!(Compare::parse("lts"), None);
    }

    #[test]
    fn integers_compare_by_their_own_sign() {
        for (_, op, expected) in TABLE {
            assert_eq!(op.holds(-1_i32, 1), expected[0]);
            assert_eq!(op.holds(-1_i32 as u32, 1), expected[2]);
            assert_eq!(op.holds(i64::MIN, i64::MIN), expected[1]);
            assert_eq!(op.holds(0x8000_u16, 0x7fff), expected[2]);
        }
    }
}
