//! What the page is made of, and what it shows of a run.

use std::fs;

use serde_json::{Value, json};

use super::{Server, photo, trained};
use crate::{assert_refused, assert_succeeds, engine};

#[test]
fn the_page_loads_nothing_from_elsewhere_and_runs_nothing_of_others() {
    let (_folder, run) = trained(&["--steps", "4", "--sample-every", "2", "--eval-every", "2"]);
    let server = Server::start(&run);
    let page = server.get("/");
    assert_eq!((page.status, page.header("Content-Type")), (200, Some("text/html; charset=utf-8")));
    let text = page.text();

    // No placeholder is left, nothing is inline, every file that it names is there.
    assert!(!text.contains("{{") && !text.contains("style=") && !text.contains("<style"));
    assert!(!text.split_whitespace().any(|word| word.starts_with("on") && word.contains('=')), "a handler");
    assert!(!text.replace("http://www.w3.org/2000/svg", "").contains("http"));
    assert_eq!(text.matches("<script").count(), 1);
    let named = |attribute: &str| {
        text.split(&format!("{attribute}=\""))
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let files: Vec<String> =
        [named("href"), named("src")].concat().into_iter().filter(|file| !file.starts_with('#')).collect();
    assert!(files.len() >= 6, "{files:?}");
    for file in files.iter().map(String::as_str).chain(["picture.js", "drawing.js", "model.json"]) {
        let answer = server.get(&format!("/{file}"));
        assert_eq!(answer.status, 200, "{file}");
        assert!(!answer.text().replace("http://www.w3.org/2000/svg", "").contains("http"), "{file}");
        assert_policy(&answer);
    }

    // Errors have the policy too.
    assert_policy(&page);
    assert_policy(&server.get("/nothing"));
    assert_policy(&server.send(b"\0\0\0\0\r\n\r\n"));
    let head = server.request("HEAD /", "", b"");
    assert!(
        head.status == 200 && head.body.is_empty() && head.header("Content-Length") == page.header("Content-Length")
    );
}

fn assert_policy(answer: &super::Answer) {
    let policy = answer.header("Content-Security-Policy").unwrap();
    for part in
        ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*'));
    assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    assert_eq!(answer.header("Access-Control-Allow-Origin"), None);
}

#[test]
fn curves_samples_and_probe_of_the_run_are_beside_it() {
    let (_folder, run) = trained(&["--steps", "4", "--sample-every", "2", "--eval-every", "2"]);
    let server = Server::start(&run);
    let page = server.get("/").text();
    assert_eq!(page.matches("<svg").count(), 3, "loss, learning rate, gradient norm");
    assert!(page.contains("samples/2.png") && page.contains("samples/4.png"), "{page}");
    assert!(page.contains("Not probed yet") && page.contains("igpt-engine probe --checkpoint"));
    let grid = server.get("/samples/4.png");
    assert_eq!(grid.body, fs::read(run.join("samples/step-00000004.png")).unwrap());
    for path in
        ["/samples/3.png", "/samples/..%2fconfig.toml", "/samples/../config.toml", "/samples/.png", "/samples/-4.png"]
    {
        assert_eq!(server.get(path).status, 404, "{path}");
    }

    // What comes later is there on the next look: the same server.
    assert_succeeds(engine().args(["probe", "--images", "40", "--iterations", "5", "--checkpoint"]).arg(&run));
    let records = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    fs::write(run.join("metrics.jsonl"), "").unwrap();
    let page = server.get("/").text();
    assert!(
        page.contains("Accuracy by depth")
            && page.contains("<table class=\"results\">")
            && !page.contains("Not probed")
    );
    assert_eq!(page.matches("<svg").count(), 1, "the metrics are empty now");
    fs::write(run.join("metrics.jsonl"), format!("{records}nonsense\n{{}}\n")).unwrap();
    assert!(server.get("/").text().contains("The curves cannot be shown: line "));
    fs::write(run.join("probe/probe.json"), "{").unwrap();
    assert!(server.get("/").text().contains("probe.json cannot be read"));
}

#[test]
fn the_model_is_described_for_the_script() {
    let (_folder, run) = trained(&["--steps", "1"]);
    let server = Server::start_with(engine(), &run, &["--max-images", "5"]);
    let model: Value = serde_json::from_slice(&server.get("/model.json").body).unwrap();
    assert_eq!(model["palette"].as_array().unwrap().len(), 512);
    for (key, value) in [("side", 8), ("prompt", 32), ("max_images", 5), ("examples", 64)] {
        assert_eq!(model[key], value, "{key}");
    }
    assert_eq!(server.upload(&photo()).tokens().len(), 64);
    assert_eq!(server.draw(&json!({"count": 6})).status, 422);
    assert_eq!(server.get("/example.json?64").status, 404);
    assert_eq!(server.get("/example.json?x").status, 400);
}

#[test]
fn a_page_of_markup_in_a_name_stays_text() {
    let (folder, run) = trained(&["--steps", "1"]);
    let odd = folder.path().join("<img src=x>{{curves}}");
    fs::rename(&run, &odd).unwrap();
    let text = Server::start(&odd).get("/").text();
    assert!(text.contains("&lt;img src=x&gt;{{curves}}") && !text.contains("<img src=x>"), "{text:.900}");
}

#[test]
fn what_cannot_be_served_is_refused() {
    let (folder, run) = trained(&["--steps", "1"]);
    let serve = |flags: &[&str]| {
        let mut command = engine();
        command.arg("serve").args(flags);
        command
    };
    let message = assert_refused(serve(&["--max-images", "0", "--checkpoint"]).arg(&run));
    assert!(message.contains("--max-images"), "{message}");
    let message = assert_refused(serve(&["--port", "0", "--checkpoint"]).arg(folder.path().join("nowhere")));
    assert!(message.contains("no such folder"), "{message}");
    let message = assert_refused(serve(&["--port", "0", "--host", "203.0.113.7", "--checkpoint"]).arg(&run));
    assert!(message.contains("203.0.113.7") && message.contains("--host"), "{message}");
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let message = assert_refused(serve(&["--port", &port, "--checkpoint"]).arg(&run));
    assert!(message.contains(&port) && message.contains("--port"), "{message}");
}
