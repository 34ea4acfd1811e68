//! Finds code in CUDA C++ by its tokens, whatever the spaces, line ends and comments between them.

use std::ops::Range;

/// `text` with `to` in place of the code `from`.
///
/// # Errors
/// If `from` is not there exactly once.
pub fn replace(text: &str, from: &str, to: &str) -> Result<String, String> {
    let tokens = tokens(text);
    let wanted: Vec<&str> = self::tokens(from).into_iter().map(|token| &from[token]).collect();
    let is_wanted =
        |window: &&[Range<usize>]| window.iter().map(|token| &text[token.clone()]).eq(wanted.iter().copied());
    let found: Vec<_> = tokens.windows(wanted.len()).filter(is_wanted).collect();

    let [window] = found[..] else {
        return Err(format!("the code to replace is there {} times: {from}", found.len()));
    };
    let (start, end) = (window[0].start, window[window.len() - 1].end);
    Ok([&text[..start], to, &text[end..]].concat())
}

/// Where the tokens stand: words and numbers, strings, and every other character by itself. Comments are none.
fn tokens(text: &str) -> Vec<Range<usize>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';

    let mut tokens = Vec::new();
    let mut start = 0;
    while let Some(first) = text[start..].chars().next() {
        let rest = &text[start..];
        let (length, is_token) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), false)
        } else if rest.starts_with("/*") {
            (rest.find("*/").map_or(rest.len(), |end| end + 2), false)
        } else if first == '"' {
            // No string of ours has an escaped quotation mark.
            (rest[1..].find('"').map_or(rest.len(), |end| end + 2), true)
        } else if is_word(first) {
            (rest.find(|c| !is_word(c)).unwrap_or(rest.len()), true)
        } else {
            (first.len_utf8(), !first.is_whitespace())
        };

        if is_token {
            tokens.push(start..start + length);
        }
        start += length;
    }
    tokens
}

#[test]
fn code_is_found_whatever_stands_between_its_tokens() {
    let text = "wait<1>();\n    // Everyone is here; sync();\n    sync();\nint x = 1; /* sync(); */ // é";
    assert_eq!(replace(text, "wait<1>(); sync();", "wait<1>();").unwrap(), "wait<1>();\nint x = 1; /* sync(); */ // é");
    assert_eq!(replace("a(\"// b\", c)", "c", "d").unwrap(), "a(\"// b\", d)");
    // Parts of words are not found, nor what only a comment says, nor what is there twice.
    for (from, times) in [("yn", 0), ("Everyone", 0), (";", 3)] {
        assert!(replace(text, from, "").unwrap_err().contains(&format!("there {times} times")));
    }
}
