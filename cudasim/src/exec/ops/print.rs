//! The formats of C's `printf`, for `vprintf`.

use crate::exec::program::address::Space;
use crate::exec::state::context::Context;
use crate::report::{Fault, FaultKind};

/// A conversion: what stands between `%` and its letter.
#[derive(Clone, Debug, Default)]
struct Conversion {
    left: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
    /// Bytes of an integer argument.
    bytes: u32,
    letter: char,
}

/// The longest field that is padded: a larger width is a mistake or mischief.
const WIDEST: usize = 4096;

/// The text of `format` with the values at local (or generic) address `values`, laid out as C passes variable arguments,
/// and how many values it took.
///
/// # Errors
/// A conversion that does not exist, or values that are not there.
pub fn format(context: &mut Context<'_>, lane: usize, format: &str, values: u64) -> Result<(String, u32), Fault> {
    let mut text = String::new();
    let mut arguments = Arguments { next: values, start: values, count: 0 };

    let mut characters = format.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        if characters.peek() == Some(&'%') {
            characters.next();
            text.push('%');
            continue;
        }

        let conversion = conversion(context, lane, &mut characters, &mut arguments)?
            .ok_or_else(|| Fault::new(FaultKind::InvalidUse, format!("the format `{format}` ends in a conversion")))?;
        text.push_str(&convert(context, lane, &conversion, &mut arguments)?);
    }

    Ok((text, arguments.count))
}

/// Reads a conversion after its `%`; `None` where the format ends in it.
///
/// # Errors
/// A `*` without its value.
fn conversion(
    context: &mut Context<'_>,
    lane: usize,
    characters: &mut impl Iterator<Item = char>,
    arguments: &mut Arguments,
) -> Result<Option<Conversion>, Fault> {
    let mut conversion = Conversion { bytes: 4, ..Conversion::default() };
    let mut has_precision = false;

    loop {
        let Some(character) = characters.next() else { return Ok(None) };
        match character {
            '-' => conversion.left = true,
            '+' => conversion.plus = true,
            ' ' => conversion.space = true,
            '#' => conversion.alternate = true,
            '0' if !has_precision && conversion.width == 0 => conversion.zero = true,
            '0'..='9' => {
                let number = if has_precision { conversion.precision.get_or_insert(0) } else { &mut conversion.width };
                *number = (*number * 10 + character as usize - '0' as usize).min(WIDEST);
            }
            '*' => {
                let number = arguments.integer(context, lane, 4)? as i32;
                match (has_precision, usize::try_from(number)) {
                    (true, number) => conversion.precision = number.ok().map(|number| number.min(WIDEST)),
                    (false, Ok(number)) => conversion.width = number.min(WIDEST),
                    (false, Err(_)) => {
                        conversion.left = true;
                        conversion.width = (number.unsigned_abs() as usize).min(WIDEST);
                    }
                }
            }
            '.' => {
                has_precision = true;
                conversion.precision = Some(0);
            }
            'h' => conversion.bytes /= 2,
            'l' | 'j' | 'z' | 't' | 'q' => conversion.bytes = 8,
            'L' => {}
            letter => {
                conversion.letter = letter;
                return Ok(Some(conversion));
            }
        }
    }
}

/// Where the next value lies.
struct Arguments {
    start: u64,
    next: u64,
    count: u32,
}

impl Arguments {
    fn integer(&mut self, context: &mut Context<'_>, lane: usize, bytes: u32) -> Result<u64, Fault> {
        // Whatever is shorter than an int is passed as one.
        let bytes = u64::from(bytes.max(4));
        let address = self.start + (self.next - self.start).next_multiple_of(bytes);
        self.next = address + bytes;
        self.count += 1;
        match bytes {
            4 => context.load::<u32>(Space::Generic, lane, address).map(u64::from),
            _ => context.load(Space::Generic, lane, address),
        }
    }
}

fn convert(
    context: &mut Context<'_>,
    lane: usize,
    conversion: &Conversion,
    arguments: &mut Arguments,
) -> Result<String, Fault> {
    let bytes = conversion.bytes;

    Ok(match conversion.letter {
        // Integers.
        'd' | 'i' => {
            let value = arguments.integer(context, lane, bytes)? as i64;
            let unused = 64 - 8 * bytes.max(1);
            let value = value << unused >> unused;
            conversion.number(value < 0, &digits(value.unsigned_abs().to_string(), conversion.precision), "")
        }
        letter @ ('u' | 'x' | 'X' | 'o') => {
            let value = arguments.integer(context, lane, bytes)?;
            let value = value & u64::MAX >> (64 - 8 * bytes.max(1));
            let (text, prefix) = match letter {
                'x' => (format!("{value:x}"), "0x"),
                'X' => (format!("{value:X}"), "0X"),
                'o' => (format!("{value:o}"), "0"),
                _ => (value.to_string(), ""),
            };
            let prefix = if conversion.alternate && value != 0 { prefix } else { "" };
            let unsigned = Conversion { plus: false, space: false, ..conversion.clone() };
            unsigned.number(false, &digits(text, conversion.precision), prefix)
        }

        // Characters, strings and pointers.
        'c' => {
            let value = arguments.integer(context, lane, 4)? as u8;
            conversion.pad(&char::from(value).to_string())
        }
        's' => {
            let address = arguments.integer(context, lane, 8)?;
            let text = if address == 0 { "(null)".into() } else { string(context, lane, address)? };
            conversion.pad(&text.chars().take(conversion.precision.unwrap_or(usize::MAX)).collect::<String>())
        }
        'p' => {
            let value = arguments.integer(context, lane, 8)?;
            conversion.pad(&if value == 0 { "(nil)".into() } else { format!("{value:#x}") })
        }

        // Floating-point numbers.
        'f' | 'F' | 'e' | 'E' | 'g' | 'G' | 'a' | 'A' => {
            let value = f64::from_bits(arguments.integer(context, lane, 8)?);
            conversion.float(value)
        }

        letter => {
            let message = format!("printf has no conversion `%{letter}`");
            return Err(Fault::new(FaultKind::InvalidUse, message).lane(lane));
        }
    })
}

/// At least as many digits as the precision says; none for zero with precision 0.
fn digits(text: String, precision: Option<usize>) -> String {
    match precision {
        Some(0) if text == "0" => String::new(),
        Some(precision) => format!("{text:0>precision$}"),
        None => text,
    }
}

impl Conversion {
    fn pad(&self, text: &str) -> String {
        let width = self.width;
        if self.left { format!("{text:<width$}") } else { format!("{text:>width$}") }
    }

    fn number(&self, negative: bool, digits: &str, prefix: &str) -> String {
        let sign = match negative {
            true => "-",
            false if self.plus => "+",
            false if self.space => " ",
            false => "",
        };
        let is_float = matches!(self.letter, 'f' | 'F' | 'e' | 'E' | 'g' | 'G' | 'a' | 'A');
        let fills = self.zero && !self.left && (is_float || self.precision.is_none());
        if fills {
            let width = self.width.saturating_sub(sign.len() + prefix.len());
            return format!("{sign}{prefix}{digits:0>width$}");
        }
        self.pad(&format!("{sign}{prefix}{digits}"))
    }

    fn float(&self, value: f64) -> String {
        let negative = value.is_sign_negative();
        let upper = self.letter.is_ascii_uppercase();
        let case = |text: String| if upper { text.to_uppercase() } else { text };
        if !value.is_finite() {
            let text = if value.is_nan() { "nan" } else { "inf" };
            return Self { zero: false, ..self.clone() }.number(negative, &case(text.into()), "");
        }
        let magnitude = value.abs();
        let precision = self.precision.unwrap_or(6);

        let text = match self.letter.to_ascii_lowercase() {
            'f' => fixed(magnitude, precision, self.alternate),
            'e' => exponential(magnitude, precision, self.alternate),
            'g' => self.shortest(magnitude, precision.max(1)),
            _ => {
                return self.number(
                    negative,
                    &case(hexadecimal(magnitude, self.precision)),
                    if upper { "0X" } else { "0x" },
                );
            }
        };

        self.number(negative, &case(text), "")
    }

    /// `%g`: fixed or exponential, whichever suits the exponent, without zeros at its end.
    fn shortest(&self, magnitude: f64, precision: usize) -> String {
        let scientific = exponential(magnitude, precision - 1, false);
        let exponent: i32 = scientific.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
        let trim = |text: &str| match text.contains('.') && !self.alternate {
            true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => text.to_owned(),
        };
        if exponent < -4 || exponent >= precision as i32 {
            let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "+00"));
            return format!("{}e{exponent}", trim(mantissa));
        }
        let decimals = usize::try_from(precision as i32 - 1 - exponent).unwrap_or(0);
        trim(&fixed(magnitude, decimals, self.alternate))
    }
}

fn fixed(magnitude: f64, precision: usize, point: bool) -> String {
    let text = format!("{magnitude:.precision$}");
    if point && precision == 0 { text + "." } else { text }
}

fn exponential(magnitude: f64, precision: usize, point: bool) -> String {
    let text = format!("{magnitude:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let point = if point && precision == 0 { "." } else { "" };
    format!("{mantissa}{point}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// `%a` without its `0x`.
fn hexadecimal(magnitude: f64, precision: Option<usize>) -> String {
    let bits = magnitude.to_bits();

    let (mut mantissa, exponent) = (bits & ((1 << 52) - 1), (bits >> 52) as i32);
    let exponent = match (exponent, mantissa) {
        (0, 0) => 0,
        (0, _) => -1022,
        (exponent, _) => {
            mantissa |= 1 << 52;
            exponent - 1023
        }
    };

    if let Some(precision) = precision.filter(|&precision| precision < 13) {
        // To nearest, ties to even; a carry may make the leading digit 2.
        let unit = 1_u64 << (52 - 4 * precision);
        let (low, odd) = (mantissa & (unit - 1), mantissa & unit != 0);
        mantissa -= low;
        if low > unit / 2 || low == unit / 2 && odd {
            mantissa += unit;
        }
    }

    let digits = format!("{:013x}", mantissa & ((1 << 52) - 1));
    let digits = match precision {
        Some(precision) => format!("{digits:0<precision$}")[..precision].to_owned(),
        None => digits.trim_end_matches('0').to_owned(),
    };
    let point = if digits.is_empty() { "" } else { "." };
    format!("{}{point}{digits}p{exponent:+}", mantissa >> 52)
}

/// Maximum bytes of a C string that are read.
const STRING_LIMIT: usize = 1 << 16;

/// The C string at a generic address.
///
/// # Errors
/// It leaves its allocation.
pub(super) fn string(context: &mut Context<'_>, lane: usize, address: u64) -> Result<String, Fault> {
    let mut bytes = Vec::new();
    while bytes.len() < STRING_LIMIT {
        match context.load::<u8>(Space::Generic, lane, address + bytes.len() as u64)? {
            0 => break,
            byte => bytes.push(byte),
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
