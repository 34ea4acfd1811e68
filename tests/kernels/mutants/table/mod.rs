//! The mutants, a file for each module of kernels.

mod adam;
mod attention;
mod attention_backward;
mod attention_backward_sm90;
mod attention_decode;
mod attention_prefill;
mod attention_sm90;
mod cross_entropy;
mod elementwise;
mod ema;
mod embedding;
mod global_norm;
mod lap;
mod layernorm;
mod linear;
mod linear_bf16;
mod linear_f32;
mod linear_few_rows;
mod linear_layernorm_sm90;
mod linear_sm90;
mod mean_pool;
mod sample;
mod spike;
mod sum_partials;

use igpt_engine::device::{CudaDevice, Precision};

use crate::far;
use crate::ops::support::Tested;

pub type Device = Tested<CudaDevice>;

/// A check in bf16 on another card than the simulator's usual one.
fn on_card(card: &str, check: impl FnOnce(&Device)) {
    let simulator = test_support::devices::strict();
    simulator.set_options(None, &format!("card={card}")).unwrap();
    let device = Tested::new(CudaDevice::poisoned(0, Precision::Bf16).unwrap(), Precision::Bf16);
    check(&device);
    // A fault would be reported once more when it is dropped.
    std::mem::forget(device);
    simulator.set_options(None, "card=h100").unwrap();
    simulator.set_options(None, far::MEMORY).unwrap();
}

/// How a bug is found.
#[derive(Debug)]
pub enum Found {
    /// The op table's comparison fails, in these words, and nothing is reported.
    Values(&'static str),
    /// The simulator reports one of these: whichever warp or block comes first.
    Report(&'static [&'static str]),
    /// Another place is read or written: the simulator reports it, or nothing was written there, or results are off.
    Elsewhere,
    /// Results are right, but the simulator counts bank conflicts.
    Conflicts,
    /// It is none, for this reason: nothing is found, and all results have the bits of the shipped kernel's.
    Equivalent(#[allow(dead_code)] &'static str),
}

/// A bug: in `file`, the code `from` becomes `to`. Only code counts: `from` is found whatever the spaces, line ends and comments
/// between its tokens.
pub struct Mutant {
    pub name: &'static str,
    /// The `.cu` file that is compiled, without its ending.
    pub module: &'static str,
    pub file: &'static str,
    pub from: &'static str,
    pub to: &'static str,
    /// Only kernels whose line has one of these are compiled, for speed; all if there are none.
    pub keep: &'static [&'static str],
    pub precision: Precision,
    pub check: fn(&Device),
    pub found: Found,
}

impl Mutant {
    /// Whether bank conflicts are counted.
    pub fn counts(&self) -> bool {
        matches!(self.found, Found::Conflicts)
    }

    /// Whether its check takes memory that the host may not promise.
    pub fn is_far(&self) -> bool {
        self.name.ends_with("in 32 bits")
    }
}

const WRONG: Found = Found::Values("off by");
/// Every element is as near as it must be, but the errors together are more than twice the naive computation's.
const IMPRECISE: Found = Found::Values("and the naive computation by");
/// A comparison of whole results, or of single numbers.
const UNEQUAL: Found = Found::Values("assertion");
/// Shared memory is read too early, or overwritten too early.
const STALE: Found = Found::Report(&[
    "race in shared memory",
    "shared memory is read that nothing was written to",
    "was not waited for",
]);
/// Two threads write to one place.
const TWICE: Found = Found::Report(&["race in global memory"]);
/// Elements past the end: of the next row, or of nothing.
const PAST: Found = Found::Report(&["race in global memory", "out of bounds"]);

/// An address that is not of the tensor.
const OUTSIDE: Found = Found::Report(&["out of bounds"]);

/// A bug of the module's own file, or of its headers if `file` is another.
macro_rules! mutants {
    ($($name:literal: $module:literal $file:literal $keep:expr, $precision:ident, $check:expr, $found:expr; $from:literal => $to:literal)*) => {
        &[$(Mutant {
            name: $name,
            module: $module,
            file: $file,
            from: $from,
            to: $to,
            keep: &$keep,
            precision: igpt_engine::device::Precision::$precision,
            check: $check,
            found: $found,
        }),*]
    };
}
use mutants;

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Mutant> {
    const TABLES: [&[Mutant]; 24] = [
        linear_bf16::MUTANTS,
        attention_backward::MUTANTS,
        attention_backward_sm90::MUTANTS,
        attention_sm90::MUTANTS,
        linear::MUTANTS,
        linear_layernorm_sm90::MUTANTS,
        linear_sm90::MUTANTS,
        attention::MUTANTS,
        linear_f32::MUTANTS,
        linear_few_rows::MUTANTS,
        lap::MUTANTS,
        layernorm::MUTANTS,
        adam::MUTANTS,
        attention_decode::MUTANTS,
        attention_prefill::MUTANTS,
        cross_entropy::MUTANTS,
        elementwise::MUTANTS,
        ema::MUTANTS,
        embedding::MUTANTS,
        global_norm::MUTANTS,
        mean_pool::MUTANTS,
        sample::MUTANTS,
        spike::MUTANTS,
        sum_partials::MUTANTS,
    ];
    TABLES.into_iter().flatten()
}
