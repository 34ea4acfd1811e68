//! How it begins and ends.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::{SLOW, Server, trained};
use crate::engine;
use crate::resume::signal;

#[test]
fn a_signal_ends_it_in_good_order() {
    let (_folder, run) = trained(&SLOW);
    for name in ["INT", "TERM", "HUP"] {
        // Idle, and while it draws.
        for draws in [false, true] {
            let mut server = Server::start_with(engine(), &run, &["--max-images", "64"]);
            let stream = draws.then(|| {
                let body = br#"{"count": 64}"#;
                let mut stream = server.connect();
                let more = "Content-Type: application/json\r\n";
                std::io::Write::write_all(&mut stream, &super::request(server.address, "POST /draw", more, body))
                    .unwrap();
                let mut lines = BufReader::new(stream);
                let mut line = String::new();
                while !line.contains("\"pixel\"") {
                    line.clear();
                    assert!(lines.read_line(&mut line).unwrap() > 0);
                }
                lines
            });
            let start = Instant::now();
            signal(&server.child, name);
            assert_eq!(server.child.wait().unwrap().code(), Some(0), "{name}");
            assert!(start.elapsed() < Duration::from_secs(10), "{name} took {:?}", start.elapsed());
            if let Some(mut stream) = stream {
                let mut rest = String::new();
                stream.read_to_string(&mut rest).unwrap();
                assert!(rest.contains("the server was stopped"), "{rest}");
            }
        }
    }
}

#[test]
fn people_are_told_the_address_and_who_reaches_it() {
    let (_folder, run) = trained(&["--steps", "1"]);
    for (host, warned) in [("127.0.0.1", false), ("0.0.0.0", true)] {
        let mut command = engine();
        command.args(["serve", "--port", "0", "--host", host, "--checkpoint"]).arg(&run);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(
            line.starts_with(&format!("http://{host}:")) && line.ends_with("/\n") && !line.contains(":0/"),
            "{line}"
        );
        signal(&child, "INT");
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said.contains("whoever reaches it can use it"), warned, "{said}");
        assert!(said.contains("Ctrl-C: stopping") && output.status.success(), "{said}");
    }
}
