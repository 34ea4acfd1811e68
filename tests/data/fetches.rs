//! `data fetch` against a server on this machine: what is asked for, what is kept, what is refused.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use igpt_engine::data::npy;

/// A server of the given files. Returns its address, and the paths that it was asked for.
fn serve(files: BTreeMap<String, Vec<u8>>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let lines = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
            let request = lines.collect::<Vec<_>>();
            let path = request.first().and_then(|line| line.split(' ').nth(1)).unwrap_or("").trim_start_matches('/');
            let (status, body) = match files.get(path) {
                Some(body) => ("200 OK", body.as_slice()),
                None => ("404 Not Found", &b"no"[..]),
            };
            log.lock().unwrap().push(path.to_owned());
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(&[head.as_bytes(), body].concat());
        }
    });
    (address, asked)
}

fn fetch(what: &[&str], out: &Path, mirror: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_igpt-engine"));
    command.args(["data", "fetch"]).args(what).args(["--mirror", mirror]).arg("--out").arg(out).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_model_of_openai_comes_with_its_palette_and_is_not_fetched_twice() {
    let place = tempfile::tempdir().unwrap();
    let palette = place.path().join("palette.npy");
    npy::write_f32(&palette, &[512, 3], &vec![0.5; 1536]).unwrap();
    // As NumPy writes it, without our trailer.
    let mut clusters = fs::read(&palette).unwrap();
    clusters.truncate(6272);
    let base = "checkpoints/igpt-s-bert/131000/model.ckpt-131000";
    let mut files: BTreeMap<String, Vec<u8>> =
        (0..32).map(|shard| (format!("{base}.data-{shard:05}-of-00032"), vec![shard as u8; 100])).collect();
    files.insert(format!("{base}.index"), b"index".to_vec());
    files.insert("color-clusters/kmeans_centers.npy".into(), clusters);

    let (mirror, asked) = serve(files);
    let what = ["igpt-s-bert", "--steps", "131000"];
    let output = fetch(&what, place.path(), &mirror);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("no hashes were published") && said.contains("34 files written"), "{said}");
    let folder = place.path().join("igpt-s-bert");
    assert_eq!(fs::read(folder.join("model.ckpt-131000.data-00031-of-00032")).unwrap(), [31; 100]);
    assert!(folder.join("model.ckpt-131000.index").exists() && folder.join("kmeans_centers.npy").exists());
    assert_eq!(asked.lock().unwrap().len(), 34);
    // The second time nothing is asked for.
    assert!(fetch(&what, place.path(), &mirror).status.success());
    assert_eq!(asked.lock().unwrap().len(), 34);
}

#[test]
fn what_is_not_the_published_file_is_refused_and_not_kept() {
    let place = tempfile::tempdir().unwrap();
    let files = ["cifar-100-binary.tar.gz", "stl10_binary.tar.gz", "color-clusters/kmeans_centers.npy"];
    let (mirror, _) = serve(files.map(|name| (name.to_owned(), b"something else".to_vec())).into());
    for (what, length) in [("cifar100", "168513733"), ("stl10", "2640397119"), ("igpt-palette", "6272")] {
        let output = fetch(&[what], place.path(), &mirror);
        assert_eq!(output.status.code(), Some(2), "{what}");
        assert!(stderr(&output).contains(length) && stderr(&output).contains("14 bytes"), "{}", stderr(&output));
    }
    let left: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.iter().all(|path| path.is_dir()), "{left:?}");
    assert!(!place.path().join("kmeans_centers.npy").exists());
}

#[test]
fn a_file_that_the_server_does_not_have_and_flags_that_do_nothing_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let (mirror, asked) = serve(BTreeMap::new());
    let output = fetch(&["igpt-l"], place.path(), &mirror);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("404") && stderr(&output).contains("color-clusters"), "{}", stderr(&output));
    assert_eq!(asked.lock().unwrap().len(), 1, "a file that is not there is not asked for again");

    for (what, why) in [
        (&["igpt-m", "--steps", "5"][..], "131000"),
        (&["cifar100", "--steps", "131000"], "--steps"),
        (&["stl10", "--via", "npm"], "--via npm"),
    ] {
        let output = fetch(what, place.path(), &mirror);
        assert_eq!(output.status.code(), Some(2), "{what:?}");
        assert!(stderr(&output).contains(why), "{}", stderr(&output));
    }
}
