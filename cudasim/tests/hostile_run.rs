//! Damaged PTX, loaded and, where it still loads, run: a result, a report or an error, never a panic and never a hang.

use cudasim::exec::{Launch, Program, run};
use cudasim::memory::GlobalMemory;
use cudasim::options::{Completion, Options, Output};
use proptest::collection::vec;
use proptest::prelude::*;

const TEXTS: [&str; 3] =
    [include_str!("../benches/elementwise.ptx"), include_str!("ptx/instructions.ptx"), include_str!("ptx/syntax.ptx")];

/// A change to a text, at a place given as a share of its length.
#[derive(Clone, Debug)]
enum Edit {
    /// Everything behind it is gone.
    Cut(f64),
    /// Another character.
    Replace(f64, char),
    /// Some characters are gone.
    Remove(f64, usize),
    /// A line moves to another place.
    Move(f64, f64),
    /// A word is put in.
    Insert(f64, &'static str),
    /// A number becomes another.
    Number(f64, u64),
}

fn edit() -> impl Strategy<Value = Edit> {
    let place = || 0.0..1.0_f64;
    let words = prop::sample::select(vec![
        "@%p1 ",
        ".f32",
        ".u64",
        ".shared",
        ".v4",
        "%rd1",
        "%r1",
        "bar.sync 0;",
        "exit;",
        "ret;",
        "trap;",
        "{",
        "}",
        ";",
        "-1",
        "[",
        "+8",
        "0xffffffffffffffff",
        ".sat",
        ".wide",
    ]);
    prop_oneof![
        1 => place().prop_map(Edit::Cut),
        4 => (place(), "[ -~]").prop_map(|(at, text)| Edit::Replace(at, text.chars().next().unwrap_or(' '))),
        3 => (place(), 1..30_usize).prop_map(|(at, count)| Edit::Remove(at, count)),
        6 => (place(), place()).prop_map(|(from, to)| Edit::Move(from, to)),
        4 => (place(), words).prop_map(|(at, word)| Edit::Insert(at, word)),
        6 => (place(), any::<u64>()).prop_map(|(at, number)| Edit::Number(at, number >> (number % 64))),
    ]
}

fn apply(text: &str, edit: &Edit) -> String {
    let characters: Vec<char> = text.chars().collect();
    let at = |share: f64| ((share * characters.len() as f64) as usize).min(characters.len().saturating_sub(1));
    let join = |parts: &[&[char]]| parts.concat().into_iter().collect::<String>();

    if characters.is_empty() {
        return String::new();
    }

    match *edit {
        Edit::Cut(share) => join(&[&characters[..at(share)]]),
        Edit::Replace(share, character) => {
            join(&[&characters[..at(share)], &[character], &characters[at(share) + 1..]])
        }
        Edit::Remove(share, count) => {
            let start = at(share);
            join(&[&characters[..start], &characters[(start + count).min(characters.len())..]])
        }
        Edit::Insert(share, word) => {
            let word: Vec<char> = word.chars().collect();
            join(&[&characters[..at(share)], &word, &characters[at(share)..]])
        }
        Edit::Move(from, to) => {
            let mut lines: Vec<&str> = text.lines().collect();
            let place = |share: f64, count: usize| ((share * count as f64) as usize).min(count.saturating_sub(1));
            let line = lines.remove(place(from, lines.len()));
            lines.insert(place(to, lines.len() + 1), line);
            lines.join("\n")
        }
        Edit::Number(share, number) => {
            let Some(start) = (at(share)..characters.len()).find(|&place| characters[place].is_ascii_digit()) else {
                return text.to_owned();
            };
            let end = (start..characters.len())
                .find(|&place| !characters[place].is_ascii_digit())
                .unwrap_or(characters.len());
            let digits: Vec<char> = number.to_string().chars().collect();
            join(&[&characters[..start], &digits, &characters[end..]])
        }
    }
}

/// Loads the text and runs every kernel in it on a little memory; returns how many ran to some end.
fn load_and_run(text: &str, seed: u64, checks: bool) -> usize {
    let memory = GlobalMemory::new(64 << 20);
    let Ok(program) = Program::load(text, &memory) else {
        assert_eq!(memory.used(), 0, "a module that is refused leaves nothing behind");
        return 0;
    };

    let data = memory.allocate(1 << 12, None).expect("memory");
    memory.write(data, &[0; 1 << 12]).expect("a live allocation");
    let options = Options {
        seed,
        completion: [Completion::Late, Completion::Early, Completion::Random][seed as usize % 3],
        uninitialised: checks,
        registers: checks,
        shared_races: checks,
        global_races: checks,
        warp_instructions: 20_000,
        output: Output::to(|_| {}),
        ..Options::default()
    };

    for kernel in program.kernels() {
        // A launch that the driver would refuse.
        if kernel.static_shared > 100 << 10 || kernel.parameter_bytes > 4096 {
            continue;
        }
        let parameters = data.to_le_bytes().into_iter().cycle().take(kernel.parameter_bytes as usize).collect();
        let launch = Launch::new([2, 1, 1], [48, 1, 1], 1024, parameters);
        // Whatever comes of it.
        let _ = run(&kernel, &launch, &memory.map(), &options, seed);
    }

    program.kernels().len()
}

#[test]
fn whole_texts_load() {
    for text in TEXTS {
        assert!(load_and_run(text, 1, true) > 0);
        assert!(load_and_run(text, 2, false) > 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_texts_never_panic(which in 0..TEXTS.len(), edits in vec(edit(), 1..5), seed in 0..1000_u64, checks: bool) {
        let text = edits.iter().fold(TEXTS[which].to_owned(), |text, edit| apply(&text, edit));
        load_and_run(&text, seed, checks);
    }
}
