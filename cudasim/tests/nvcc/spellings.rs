//! The order of qualifiers: the decoder takes what `ptxas` takes, and refuses what it refuses. `ptxas` is lenient: old
//! compilers and hand-written code rely on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::compile::nvcc;
use cudasim::ptx;

const HEADER: &str = ".version 9.0
.target sm_90a
.address_size 64
.visible .entry k()
{
.reg .b16 %h<20>; .reg .b32 %r<20>; .reg .b64 %d<20>; .reg .pred %p<8>;
";

/// Another order of types is another instruction. This one the decoder takes although `ptxas` does not: `.sat` into a type
/// that holds every value, where it does nothing.
const LENIENT: [&str; 3] = ["cvt.s32.sat.u8 ", "cvt.s32.u8.sat ", "cvt.sat.s32.u8 "];

/// Instructions that one run of `ptxas` looks at.
const BATCH: usize = 50;

#[test]
fn qualifiers_may_stand_in_any_order_that_ptxas_takes() {
    let Some(ptxas) = ptxas() else { return };
    let mut spellings = Vec::new();
    for line in include_str!("../cuda/spellings.txt").lines().filter(|line| !line.starts_with('#')) {
        let (mnemonic, operands) = line.split_once(' ').unwrap_or((line, ""));
        let mut words = mnemonic.split('.');
        let opcode = words.next().unwrap();
        for order in orders(&words.collect::<Vec<_>>()) {
            spellings.push(format!("{opcode}.{} {operands};", order.join(".")));
        }
    }
    assert!(spellings.len() > 5000, "{} spellings", spellings.len());

    let mut wrong = Vec::new();
    let mut taken = 0;
    for batch in spellings.chunks(BATCH) {
        for (spelling, theirs) in batch.iter().zip(accepted(&ptxas, batch)) {
            taken += usize::from(theirs);
            let ours = ptx::parse(&format!("{HEADER}{spelling}\nret;\n}}\n"));
            let lenient = !theirs && LENIENT.iter().any(|start| spelling.starts_with(start));
            if ours.is_ok() != theirs && !lenient {
                wrong
                    .push(format!("{spelling} ptxas: {theirs}, here: {:?}", ours.err().map(|error| error.to_string())));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), spellings.len(), wrong.join("\n"));
    assert!(taken > 2000, "ptxas takes {taken} of {} only", spellings.len());
}

/// All orders of up to five words; of more, each word moved to each place, and the words turned round.
fn orders<'a>(words: &[&'a str]) -> Vec<Vec<&'a str>> {
    let mut orders = vec![words.to_vec()];
    if words.len() <= 5 {
        for place in 0..words.len() {
            let before = std::mem::take(&mut orders);
            for order in before {
                for to in place..words.len() {
                    let mut order = order.clone();
                    order.swap(place, to);
                    orders.push(order);
                }
            }
        }
    } else {
        for from in 0..words.len() {
            for to in 0..words.len() {
                let mut order = words.to_vec();
                let word = order.remove(from);
                order.insert(to, word);
                orders.push(order);
            }
            let mut turned = words.to_vec();
            turned.rotate_left(from);
            orders.push(turned.clone());
            turned.reverse();
            orders.push(turned);
        }
    }
    orders.sort_unstable();
    orders.dedup();
    orders
}

/// Which instructions `ptxas` takes.
fn accepted(ptxas: &Path, instructions: &[String]) -> Vec<bool> {
    let text = format!("{HEADER}{}\nret;\n}}\n", instructions.join("\n"));
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("spellings-{}.ptx", std::process::id()));
    fs::write(&file, text).unwrap();
    let output = Command::new(ptxas).args(["-arch=sm_90a", "-o", "/dev/null"]).arg(&file).output().unwrap();
    let messages = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    fs::remove_file(&file).unwrap();

    // `ptxas FILE, line 17; error   : Unknown modifier '.wide'`
    let first = HEADER.lines().count() + 1;
    let mut accepted = vec![true; instructions.len()];
    for message in messages.lines().filter(|message| message.contains("; error") || message.contains("; fatal")) {
        let line = message.split(", line ").nth(1).and_then(|rest| rest.split(';').next());
        let line: usize = line.and_then(|line| line.parse().ok()).unwrap_or_else(|| panic!("{message}"));
        accepted[line - first] = false;

        // It does not look at what comes after an error of syntax.
        if message.contains("; fatal") {
            let rest = line - first + 1;
            accepted.splice(rest.., self::accepted(ptxas, &instructions[rest..]));
        }
    }
    assert!(output.status.success() || accepted.contains(&false), "{messages}");
    accepted
}

/// `ptxas` beside nvcc; `None`, loudly, where there is none.
fn ptxas() -> Option<PathBuf> {
    let ptxas = nvcc().and_then(|nvcc| Some(nvcc.canonicalize().ok()?.parent()?.join("ptxas")));
    let found = ptxas.filter(|path| path.is_file());
    if found.is_none() {
        assert!(std::env::var_os("CUDASIM_REQUIRE_NVCC").is_none(), "ptxas is not to be found");
        eprintln!("SKIPPED: the order of qualifiers is not compared with ptxas: it is not to be found");
    }
    found
}
