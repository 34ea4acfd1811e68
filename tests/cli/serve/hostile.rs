//! Requests of other sites, of other programs, and of nobody's good will.

use serde_json::json;

use super::{Server, photo, request, trained};
use crate::engine;

#[test]
fn only_its_own_names_are_answered_and_only_its_own_page_may_ask() {
    let (_folder, run) = trained(&["--steps", "1"]);
    let server = Server::start(&run);
    let port = server.address.port();
    let host = |name: &str| server.send(format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n").as_bytes()).status;
    for (name, status) in [
        (format!("127.0.0.1:{port}"), 200),
        (format!("localhost:{port}"), 200),
        // Through a tunnel.
        ("localhost:9999".into(), 200),
        (format!("[::1]:{port}"), 200),
        (format!("attacker.example:{port}"), 421),
        ("attacker.example".into(), 421),
        (format!("127.0.0.1.attacker.example:{port}"), 421),
        (format!("10.0.0.1:{port}"), 421),
    ] {
        assert_eq!(host(&name), status, "{name}");
    }
    assert_eq!(server.send(b"GET / HTTP/1.1\r\n\r\n").status, 400, "no Host");

    // Rebound, a page of another site would ask with its own name; not rebound, with its own origin.
    let body = json!({"count": 1}).to_string();
    let draw = |more: &str| server.request("POST /draw", more, body.as_bytes()).status;
    let own = format!("Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n", server.address);
    assert_eq!(draw(&format!("Content-Type: application/json\r\n{own}")), 200);
    assert_eq!(draw("Content-Type: application/json\r\nOrigin: http://attacker.example\r\n"), 403);
    assert_eq!(draw("Content-Type: application/json\r\nSec-Fetch-Site: cross-site\r\n"), 403);
    // What a form of another site can send without asking first.
    for kind in ["", "Content-Type: text/plain\r\n", "Content-Type: multipart/form-data; boundary=x\r\n"] {
        assert_eq!(draw(kind), 415, "{kind}");
    }
    assert_eq!(server.request("POST /picture", "Content-Type: image/png\r\n", &photo()).status, 415);
    assert_eq!(server.request("OPTIONS /draw", "Origin: http://attacker.example\r\n", b"").status, 403);
}

#[test]
fn a_name_that_was_given_is_answered() {
    let (_folder, run) = trained(&["--steps", "1"]);
    let server = Server::start_with(engine(), &run, &["--host", "0.0.0.0"]);
    let host = |name: &str| server.send(format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n").as_bytes()).status;
    assert_eq!([host("192.168.1.9:80"), host("0.0.0.0:1"), host("attacker.example")], [200, 200, 421]);
}

#[test]
fn pictures_that_are_none_are_refused_with_their_fault() {
    let (_folder, run) = trained(&["--steps", "1"]);
    let server = Server::start(&run);
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let photo = photo();
    // Claims to be of 60,000 × 60,000 pixels.
    let mut huge = photo.clone();
    huge[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let mut checksum = flate2::Crc::new();
    checksum.update(&huge[12..29]);
    huge[29..33].copy_from_slice(&checksum.sum().to_be_bytes());
    let tiny = {
        let mut png = std::io::Cursor::new(Vec::new());
        image::RgbImage::new(4, 9).write_to(&mut png, image::ImageFormat::Png).unwrap();
        png.into_inner()
    };
    for (bytes, word) in [
        (b"".to_vec(), "empty"),
        (b"hello".to_vec(), "none of JPEG"),
        (b"<!DOCTYPE html><html>".to_vec(), "web page"),
        (b"GIF89a".to_vec(), "the picture"),
        (photo[..photo.len() / 2].to_vec(), "the picture"),
        (huge, "60000x60000"),
        (tiny, "too small"),
        // A decoder that panics on it is caught.
        (std::fs::read(fixtures.join("hostile/range.jpg")).unwrap(), "damaged"),
    ] {
        let answer = server.upload(&bytes);
        assert_eq!(answer.status, 422, "{word}: {}", answer.text());
        assert!(answer.text().contains(word), "{word}: {}", answer.text());
        assert!(!answer.text().contains("--"), "advice for the command line: {}", answer.text());
    }
    for name in ["rgb.jpg", "cmyk.jpg", "palette.png", "grey16.png", "alpha.png"] {
        let bytes = std::fs::read(fixtures.join("images").join(name)).unwrap();
        assert_eq!(server.upload(&bytes).tokens().len(), 64, "{name}");
    }
}

#[test]
fn drawings_that_make_no_sense_are_refused_with_their_fault() {
    let (_folder, run) = trained(&["--steps", "1"]);
    let server = Server::start(&run);
    let tokens = vec![1; 64];
    for (wanted, status, word) in [
        (json!({}), 400, "count"),
        (json!([]), 400, "drawing"),
        (json!({"count": 1, "colour": 2}), 400, "colour"),
        (json!({"count": -1}), 400, "drawing"),
        (json!({"count": 1, "seed": -1}), 400, "drawing"),
        (json!({"count": 1, "tokens": [70000]}), 400, "drawing"),
        (json!({"count": 0}), 422, "from 1 to 16"),
        (json!({"count": 17}), 422, "from 1 to 16"),
        (json!({"count": 1, "temperature": -0.1}), 422, "temperature"),
        (json!({"count": 1, "temperature": 1e39}), 400, "out of range"),
        (json!({"count": 1, "top_k": 0}), 422, "top-k"),
        (json!({"count": 1, "top_p": 1.5}), 422, "top-p"),
        (json!({"count": 1, "tokens": [1, 2]}), 422, "64 tokens"),
        (json!({"count": 1, "tokens": vec![512; 64]}), 422, "512"),
        (json!({"count": 1, "tokens": tokens, "kept": 64}), 422, "none to draw"),
        (json!({"count": 1, "kept": 3}), 422, "no picture"),
        (json!({"count": 1, "tokens": tokens, "mask": "0"}), 422, "BERT"),
    ] {
        let answer = server.draw(&wanted);
        assert_eq!(answer.status, status, "{wanted}: {}", answer.text());
        assert!(answer.text().contains(word), "{wanted}: {}", answer.text());
    }
    let answer =
        server.request("POST /draw", "Content-Type: application/json\r\n", b"{\"count\": 1, \"temperature\": NaN}");
    assert_eq!(answer.status, 400);
    assert_eq!(server.draw(&json!({"count": 1})).status, 200, "and it goes on");
}

#[test]
fn what_is_not_http_or_not_there_is_refused() {
    let (_folder, run) = trained(&["--steps", "1"]);
    let server = Server::start(&run);
    let address = server.address;
    let whole = |line: &str, more: &str| request(address, line, more, b"");
    let host = format!("Host: {address}\r\n");
    for (bytes, status) in [
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n".to_vec(), 400),
        (whole("GET http://attacker.example/", ""), 400),
        (whole("GET /", &format!("X: {}\r\n", "x".repeat(20_000))), 431),
        (whole("GET /", &"X: y\r\n".repeat(100)), 431),
        (whole("GET /../../etc/passwd", ""), 404),
        (whole("GET /page.html", ""), 404),
        (whole("DELETE /", ""), 405),
        (whole("GET /draw", ""), 405),
        (whole("POST /", "Content-Type: application/json\r\n"), 405),
        (format!("POST /draw HTTP/1.1\r\n{host}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").into(), 411),
        (format!("POST /draw HTTP/1.1\r\n{host}Content-Type: application/json\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{{}}").into(), 400),
        (format!("POST /draw HTTP/1.1\r\n{host}Content-Type: application/json\r\nContent-Length: x\r\n\r\n").into(), 400),
    ] {
        let answer = server.send(&bytes);
        assert_eq!(answer.status, status, "{:.60}: {}", String::from_utf8_lossy(&bytes), answer.text());
    }
    assert_eq!(server.request("DELETE /", "", b"").header("Allow"), Some("GET, HEAD"));
}
