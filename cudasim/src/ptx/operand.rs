//! Operands as instructions hold them, names resolved.

use super::id::{LabelId, RegisterId, Symbol};

/// An operand.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// `%r1`
    Register(RegisterId),
    /// `!%p1`
    Not(RegisterId),
    /// `%r1.b3210`, `-%r1`: parts of a register, or its negative, as video instructions take them.
    Part(RegisterId, Selector),
    /// `%r1|%p1`; `None` stands for `_`.
    Pair(Option<RegisterId>, Option<RegisterId>),
    /// `{%r1, %r2}`: registers, constants and `_`.
    Vector(Vec<Operand>),
    /// A constant.
    Immediate(Immediate),
    /// `[%rd1+16]`
    Address(Address),
    /// `[%rd1, {%r1, %r2}]`: a tensor map and coordinates.
    Tensor(Address, Vec<Operand>),
    /// The address of something, as a value: `symbol+4`.
    Symbol(Symbol, i64),
    /// `%tid.x`, `%laneid`, `WARP_SZ`, ...
    Special(SpecialRegister),
    /// Where a branch goes.
    Label(LabelId),
    /// The table of a `brx.idx`: index into [`Body::branch_tables`](super::module::Body::branch_tables).
    Targets(u32),
    /// The results or the arguments of a call.
    List(Vec<Operand>),
    /// The prototype of an indirect call: index into [`Body::prototypes`](super::module::Body::prototypes).
    Prototype(u32),
    /// `_`: the result is not wanted.
    Sink,
}

/// Which parts of a register a video instruction takes or writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// A minus stands before the register.
    pub negated: bool,
    /// Bytes (`.b10`), else half-words (`.h10`).
    pub bytes: bool,
    /// The numbers as the text has them, the highest part first; none for the whole register.
    pub digits: Vec<u8>,
}

impl Selector {
    /// Reads `b3210` or `h10`.
    pub fn from_name(name: &str) -> Option<Self> {
        let (bytes, digits) = match name.strip_prefix('b') {
            Some(digits) => (true, digits),
            None => (false, name.strip_prefix('h')?),
        };
        let well = (1..=4).contains(&digits.len()) && digits.bytes().all(|digit| (b'0'..b'8').contains(&digit));
        well.then(|| Self { negated: false, bytes, digits: digits.bytes().map(|digit| digit - b'0').collect() })
    }
}

/// A constant. What an integer means where a float is wanted, and to how many bits it is cut, is the instruction's
/// affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Immediate {
    /// An integer in two's complement of 64 bits.
    Integer(u64),
    /// `0f3F800000`: the bits of an `f32`.
    F32(u32),
    /// `0d...` or a decimal fraction: the bits of an `f64`.
    F64(u64),
}

impl Immediate {
    /// Reads a number as the lexer gives it (no sign): decimal, `0x`, `0b`, octal, with or without `U`; `0f` and `0d`
    /// with the bits in hexadecimal; decimal fractions. `None` where it is not one of these or does not fit 64 bits.
    pub fn from_text(text: &str) -> Option<Self> {
        let hex = |digits: &str, length: usize| {
            let well = digits.len() == length && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            well.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        };

        if let Some(digits) = text.strip_prefix("0f").or_else(|| text.strip_prefix("0F")) {
            return hex(digits, 8).map(|bits| Self::F32(bits as u32));
        }

        if let Some(digits) = text.strip_prefix("0d").or_else(|| text.strip_prefix("0D")) {
            return hex(digits, 16).map(Self::F64);
        }

        if text.contains('.') {
            return text.parse::<f64>().ok().map(|value| Self::F64(value.to_bits()));
        }

        let digits = text.strip_suffix('U').unwrap_or(text);
        let (digits, radix) = if let Some(rest) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            (rest, 16)
        } else if let Some(rest) = digits.strip_prefix("0b").or_else(|| digits.strip_prefix("0B")) {
            (rest, 2)
        } else if digits.len() > 1 && digits.starts_with('0') {
            (digits, 8)
        } else {
            (digits, 10)
        };

        let plain = digits.bytes().all(|digit| digit.is_ascii_alphanumeric());
        plain.then(|| u64::from_str_radix(digits, radix).ok()).flatten().map(Self::Integer)
    }

    /// The same with its sign turned.
    pub fn negated(self) -> Self {
        match self {
            Self::Integer(value) => Self::Integer(value.wrapping_neg()),
            Self::F32(bits) => Self::F32(bits ^ 1 << 31),
            Self::F64(bits) => Self::F64(bits ^ 1 << 63),
        }
    }
}

/// Where a memory instruction points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// What the offset is added to.
    pub base: AddressBase,
    /// Bytes, of either sign.
    pub offset: i64,
}

/// The base of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressBase {
    /// A register of 32 or 64 bits.
    Register(RegisterId),
    /// A variable or parameter.
    Symbol(Symbol),
    /// None: the offset is the address.
    Absolute,
}

/// One of x, y, z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Axis {
    /// `.x`
    X,
    /// `.y`
    Y,
    /// `.z`
    Z,
}

macro_rules! special_registers {
    (vectors: $($vector:ident $vector_name:literal,)*; scalars: $($scalar:ident $name:literal,)*) => {
        /// A special register (ISA chapter "Special Registers").
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum SpecialRegister {
            $(#[doc = concat!("`", $vector_name, "`")] $vector(Axis),)*
            $(#[doc = concat!("`", $name, "`")] $scalar,)*
        }

        impl SpecialRegister {
            /// The register of this name; `axis` is what stands after the dot.
            pub fn from_name(name: &str, axis: Option<&str>) -> Option<Self> {
                match axis {
                    Some(axis) => {
                        let axis = match axis { "x" => Axis::X, "y" => Axis::Y, "z" => Axis::Z, _ => return None };
                        match name { $($vector_name => Some(Self::$vector(axis)),)* _ => None }
                    }
                    None => match name { $($name => Some(Self::$scalar),)* _ => None },
                }
            }
        }
    };
}

special_registers! {
    vectors: Tid "%tid", Ntid "%ntid", Ctaid "%ctaid", Nctaid "%nctaid", Clusterid "%clusterid",
    Nclusterid "%nclusterid", ClusterCtaid "%cluster_ctaid", ClusterNctaid "%cluster_nctaid",;
    scalars: WarpSize "WARP_SZ", Laneid "%laneid", Warpid "%warpid", Nwarpid "%nwarpid", Gridid "%gridid",
    Smid "%smid", Nsmid "%nsmid", IsExplicitCluster "%is_explicit_cluster", ClusterCtarank "%cluster_ctarank",
    ClusterNctarank "%cluster_nctarank", LanemaskEq "%lanemask_eq", LanemaskLe "%lanemask_le",
    LanemaskLt "%lanemask_lt", LanemaskGe "%lanemask_ge", LanemaskGt "%lanemask_gt", Clock "%clock",
    ClockHi "%clock_hi", Clock64 "%clock64", Globaltimer "%globaltimer", GlobaltimerLo "%globaltimer_lo",
    GlobaltimerHi "%globaltimer_hi", DynamicSharedSize "%dynamic_smem_size", TotalSharedSize "%total_smem_size",
    AggregateSharedSize "%aggr_smem_size", CurrentGraphExec "%current_graph_exec",
    Envreg1 "%envreg1", Envreg2 "%envreg2",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let int = |value: i64| Some(Immediate::Integer(value as u64));
        for (text, expected) in [
            ("0", int(0)),
            ("42U", int(42)),
            ("0x1fU", int(31)),
            ("017", int(15)),
            ("0b101", int(5)),
            ("18446744073709551615", int(-1)),
            ("0f3F800000", Some(Immediate::F32(0x3f80_0000))),
            ("0dBFF0000000000000", Some(Immediate::F64((-1.0f64).to_bits()))),
            ("1.5", Some(Immediate::F64(1.5f64.to_bits()))),
            ("0f3F80", None),
            ("18446744073709551616", None),
            ("12abc", None),
            ("09", None),
            ("0x", None),
        ] {
            assert_eq!(Immediate::from_text(text), expected, "{text}");
        }

        assert_eq!(Immediate::Integer(4).negated(), Immediate::Integer(u64::MAX - 3));
        assert_eq!(Immediate::F32(0).negated(), Immediate::F32(0x8000_0000));
    }

    #[test]
    fn selectors() {
        let selector = |bytes, digits: &[u8]| Some(Selector { negated: false, bytes, digits: digits.to_vec() });
        assert_eq!(Selector::from_name("b7654"), selector(true, &[7, 6, 5, 4]));
        assert_eq!(Selector::from_name("h1"), selector(false, &[1]));
        for wrong in ["b", "b8", "h-1", "x", "b32100", ""] {
            assert_eq!(Selector::from_name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn specials() {
        assert_eq!(SpecialRegister::from_name("%tid", Some("y")), Some(SpecialRegister::Tid(Axis::Y)));
        assert_eq!(SpecialRegister::from_name("%clock64", None), Some(SpecialRegister::Clock64));
        assert_eq!(SpecialRegister::from_name("%tid", Some("w")), None);
        assert_eq!(SpecialRegister::from_name("%tid", None), None);
    }
}
