//! Limits of size, time and number.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{SLOW, Server, drawn, photo, read_answer, request, trained};
use crate::engine;

/// Asks for a drawing of `count` images without waiting for it.
fn ask(server: &Server, count: usize) -> BufReader<TcpStream> {
    let body = json!({"count": count}).to_string();
    let mut stream = server.connect();
    let bytes = request(server.address, "POST /draw", "Content-Type: application/json\r\n", body.as_bytes());
    stream.write_all(&bytes).unwrap();
    BufReader::new(stream)
}

/// Reads to a line with `word`.
#[track_caller]
fn await_line(stream: &mut BufReader<TcpStream>, word: &str) -> String {
    let mut line = String::new();
    while !line.contains(word) {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the answer ended without {word}");
    }
    line
}

#[test]
fn large_and_cut_off_bodies_are_refused() {
    let (_folder, run) = trained(&["--steps", "1"]);
    let server = Server::start(&run);
    let host = server.address;
    let post = |path: &str, kind: &str, length: usize| {
        format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n")
    };

    // By what they claim, before anything is read.
    let kind = "application/octet-stream";
    assert_eq!(server.send(post("/picture", kind, (32 << 20) + 1).as_bytes()).status, 413);
    assert_eq!(server.send(post("/picture", kind, usize::MAX).as_bytes()).status, 413);
    assert_eq!(server.send(post("/draw", "application/json", (1 << 20) + 1).as_bytes()).status, 413);

    // The refusal arrives though the client is still sending.
    let large = [post("/picture", kind, 33 << 20).into_bytes(), vec![0; 900_000]].concat();
    assert_eq!(server.send(&large).status, 413);

    // Cut off.
    for sent in [0, 10, 5000] {
        let mut stream = server.connect();
        stream.write_all(post("/picture", kind, 9000).as_bytes()).unwrap();
        stream.write_all(&photo()[..sent.min(photo().len())]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let answer = read_answer(stream);
        assert!(answer.status == 400 && answer.text().contains(&format!("after {sent} of 9000")), "{}", answer.text());
    }
    let mut stream = server.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nHos").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "half a head has no answer");

    // A client that waits for a word before it sends its body gets it.
    let mut stream = server.connect();
    let head = post("/picture", kind, photo().len()).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut word = [0; 25];
    stream.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(&photo()).unwrap();
    assert_eq!(read_answer(stream).tokens().len(), 64);
}

#[test]
fn who_sends_slowly_is_told_so_and_holds_up_nobody() {
    let (_folder, run) = trained(&["--steps", "1"]);
    let server = Server::start(&run);
    let start = Instant::now();
    let mut slow: Vec<TcpStream> = (0..20).map(|_| server.connect()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    }
    assert_eq!(server.get("/").status, 200);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());

    // A letter a second is not a head in time.
    let mut dripping = slow.pop().unwrap();
    while start.elapsed() < Duration::from_secs(11) {
        let _ = dripping.write_all(b"X");
        std::thread::sleep(Duration::from_millis(500));
    }
    let answer = read_answer(dripping);
    assert_eq!(answer.status, 408, "{}", answer.text());
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn drawings_wait_in_a_line_of_a_bounded_length_and_those_who_left_are_passed_over() {
    let (_folder, run) = trained(&SLOW);
    let server = Server::start_with(engine(), &run, &["--max-images", "64"]);
    // One is drawn, for long; eight wait; one more is too many.
    let mut first = ask(&server, 64);
    await_line(&mut first, "\"pixel\"");
    let mut waiting = Vec::new();
    for ahead in 1..=8 {
        let mut stream = ask(&server, 1);
        let line = await_line(&mut stream, "event");
        assert_eq!(line, format!("{{\"event\":\"waiting\",\"ahead\":{ahead}}}\n"));
        waiting.push(stream);
    }
    let refused = server.draw(&json!({"count": 1}));
    assert_eq!((refused.status, refused.header("Retry-After")), (503, Some("5")), "{}", refused.text());

    // The page and pictures are served meanwhile.
    assert_eq!((server.get("/").status, server.upload(&photo()).status), (200, 200));

    // Those who leave make room, and the first one's drawing ends at once: nobody looks at it.
    let mut last = waiting.pop().unwrap();
    let start = Instant::now();
    drop((first, waiting));
    await_line(&mut last, "\"done\"");
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    assert_eq!(drawn(&server.draw(&json!({"count": 1})), 1024).len(), 1);
}

#[test]
fn many_at_once_get_what_each_alone_would() {
    let (_folder, run) = trained(&["--steps", "5"]);
    let server = Server::start(&run);
    let wanted = |seed: usize| json!({"count": 2, "seed": seed});
    let alone: Vec<_> = (0..6).map(|seed| drawn(&server.draw(&wanted(seed)), 64)).collect();
    let together: Vec<_> = std::thread::scope(|scope| {
        let server = &server;
        let asked: Vec<_> = (0..6).map(|seed| scope.spawn(move || drawn(&server.draw(&wanted(seed)), 64))).collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(together, alone);
}

#[test]
fn pictures_that_are_being_sent_are_bounded() {
    let (_folder, run) = trained(&["--steps", "1"]);
    let server = Server::start(&run);
    let more = "Content-Type: application/octet-stream\r\nExpect: 100-continue\r\n";
    let whole = request(server.address, "POST /picture", more, &photo());
    let (most, rest) = whole.split_at(whole.len() - 100);
    let mut held: Vec<TcpStream> = (0..8).map(|_| server.connect()).collect();
    for stream in &mut held {
        stream.write_all(most).unwrap();
        // The word that says that its body is being read.
        stream.read_exact(&mut [0; 25]).unwrap();
    }

    // One more is too many, and none of the eight is harmed.
    let refused = server.upload(&photo());
    assert_eq!((refused.status, refused.header("Retry-After")), (503, Some("1")), "{}", refused.text());
    for mut stream in held {
        stream.write_all(rest).unwrap();
        assert_eq!(read_answer(stream).tokens().len(), 64);
    }
    assert_eq!(server.upload(&photo()).status, 200);
}

#[test]
fn connections_are_bounded_too() {
    let (_folder, run) = trained(&["--steps", "1"]);
    let server = Server::start(&run);
    let held: Vec<TcpStream> = (0..48).map(|_| server.connect()).collect();
    // The last one has been taken once one beyond is refused.
    let refused = server.get("/");
    assert_eq!((refused.status, refused.header("Retry-After")), (503, Some("1")), "{}", refused.text());
    drop(held);
    let start = Instant::now();
    while server.get("/").status != 200 {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(20));
    }
}
