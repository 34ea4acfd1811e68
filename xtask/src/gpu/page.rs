//! The page of the first hour, and the same for machines.

use std::fmt::Write;

use serde_json::{Value as Json, json};

use super::runner::{Done, Outcome};

/// Markdown: every step's outcome, then what is in the folder.
pub fn markdown(commit: &str, done: &[Done]) -> String {
    let count = |wanted: fn(&Outcome) -> bool| done.iter().filter(|done| wanted(&done.outcome)).count();
    let passed = count(|outcome| *outcome == Outcome::Passed);
    let failed = count(|outcome| matches!(outcome, Outcome::Failed(_)));

    // A head, a row a step, a request.
    let mut page = format!(
        "# The first hour\n\nCommit {commit}. {passed} steps passed, {failed} failed, {} were not run.\n\n\
         | step | outcome | seconds | more in |\n|---|---|---|---|\n",
        done.len() - passed - failed
    );
    for Done { name, outcome, seconds, files } in done {
        let outcome = match outcome {
            Outcome::Passed => "passed".to_owned(),
            Outcome::Failed(why) => format!("**FAILED**: {}", one_line(why)),
            Outcome::NotRun(why) => format!("not run: {}", one_line(why)),
        };
        let files: Vec<String> = files.iter().map(|file| format!("[{file}]({file})")).collect();
        // Writing to a string does not fail.
        let _ = writeln!(page, "| {name} | {outcome} | {seconds:.0} | {} |", files.join(", "));
    }

    page.push_str(
        "\nPlease send back the whole folder: a step that failed or was not run is as welcome as one that passed.\n",
    );
    page
}

fn one_line(text: &str) -> String {
    text.replace('|', "/").replace('\n', " ")
}

/// The same as JSON.
pub fn json(commit: &str, done: &[Done]) -> Json {
    let step = |Done { name, outcome, seconds, files }: &Done| {
        let (outcome, why) = match outcome {
            Outcome::Passed => ("passed", None),
            Outcome::Failed(why) => ("failed", Some(why)),
            Outcome::NotRun(why) => ("not run", Some(why)),
        };
        json!({"name": name, "outcome": outcome, "why": why, "seconds": seconds, "files": files})
    };
    json!({"schema": 1, "commit": commit, "steps": done.iter().map(step).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::{json, markdown};
    use crate::gpu::runner::{Done, Outcome};

    #[test]
    fn every_step_stands_on_the_page_with_its_reason() {
        let done = |name: &str, outcome| Done {
            name: name.to_owned(),
            outcome,
            seconds: 1.0,
            files: vec!["a.txt".to_owned()],
        };
        let done = [
            done("one", Outcome::Passed),
            done("two", Outcome::Failed("this | that\nthen".to_owned())),
            done("three", Outcome::NotRun("no tool".to_owned())),
        ];
        let page = markdown("abc", &done);
        assert!(page.contains("1 steps passed, 1 failed, 1 were not run"), "{page}");
        assert!(page.contains("| two | **FAILED**: this / that then | 1 | [a.txt](a.txt) |"), "{page}");
        assert!(page.contains("| three | not run: no tool |"), "{page}");

        let steps = &json("abc", &done)["steps"];
        assert_eq!((&steps[0]["outcome"], &steps[2]["why"]), (&"passed".into(), &"no tool".into()));
    }
}
