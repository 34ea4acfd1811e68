//! Completion scripts and manual pages, for those who package the program.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::{assert_refused, assert_succeeds, engine};

#[test]
fn every_shell_gets_a_script_that_knows_commands_and_flags() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = assert_succeeds(engine().args(["completions", shell]));
        for word in ["igpt-engine", "train", "finetune", "fetch", "resume", "checkpoint"] {
            assert!(script.contains(word), "{shell}: {word} is not in the script");
        }
    }
    assert!(assert_refused(engine().args(["completions", "tcsh"])).contains("bash"));
}

/// Bash itself completes with the script, where there is a bash.
#[test]
fn bash_completes_commands_flags_and_values() {
    if Command::new("bash").arg("--version").output().is_err() {
        return;
    }
    let script = assert_succeeds(engine().args(["completions", "bash"]));
    let complete = |words: &[&str]| {
        let (word, before) = (words[words.len() - 1], words[words.len() - 2]);
        let ask = format!(
            "{script}
            [[ $(complete -p igpt-engine) =~ -F\\ ([^ ]+) ]] && complete_words=${{BASH_REMATCH[1]}}
            COMP_WORDS=({}) COMP_CWORD={}
            $complete_words igpt-engine '{word}' '{before}'
            echo \"${{COMPREPLY[@]}}\"\n",
            words.join(" "),
            words.len() - 1,
        );
        let mut bash = Command::new("bash").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        bash.stdin.take().unwrap().write_all(ask.as_bytes()).unwrap();
        String::from_utf8(bash.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
    };
    assert_eq!(complete(&["igpt-engine", "tra"]), "train");
    assert_eq!(complete(&["igpt-engine", "train", "--resu"]), "--resume");
    assert_eq!(complete(&["igpt-engine", "train", "--objective", "be"]), "bert");
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("share/man1");
    let text = assert_succeeds(engine().args(["man", "--out"]).arg(&out));
    assert!(text.contains("igpt-engine-train.1"), "{text}");

    for command in ["", "-train", "-finetune", "-eval", "-sample", "-probe", "-data", "-data-fetch", "-completions"] {
        let page = fs::read_to_string(out.join(format!("igpt-engine{command}.1"))).unwrap();
        assert!(page.contains(".TH ") && page.contains(".SH NAME"), "igpt-engine{command}.1");
    }
    let page = fs::read_to_string(out.join("igpt-engine-train.1")).unwrap();
    assert!(page.contains(r"\-\-resume") && page.contains("report.html"), "the page explains flags and the run folder");

    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(assert_refused(engine().args(["man", "--out"]).arg(&file)).contains("is no folder; name another place"));
}
