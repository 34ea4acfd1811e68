use super::numpy::{GLOBALS, array, integers};
use super::*;

fn read(bytes: &[u8]) -> Result<Pickle<'_>, PickleError> {
    parse(bytes, GLOBALS)
}

/// `{"a": [1, -2, 2.5], "b": ("x", None, True)}` as Python writes it in protocols 0, 2 and 4.
const DICTIONARIES: [&[u8]; 3] = [
    b"(dp0\nVa\np1\n(lp2\nI1\naI-2\naF2.5\nasVb\np3\n(Vx\np4\nNI01\ntp5\ns.",
    b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffG@\x04\x00\x00\x00\x00\x00\x00eX\x01\x00\x00\x00bq\x03X\x01\x00\x00\x00xq\x04N\x88\x87q\x05u.",
    b"\x80\x04\x95\x26\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94]\x94(K\x01J\xfe\xff\xff\xffG@\x04\x00\x00\x00\x00\x00\x00e\x8c\x01b\x94\x8c\x01xN\x88\x87\x94u.",
];

#[test]
fn every_protocol_says_the_same() {
    for bytes in DICTIONARIES {
        let pickle = read(bytes).unwrap();
        let list = pickle.items(pickle.get(pickle.root, "a").unwrap()).unwrap();
        assert_eq!((pickle.int(list[0]), pickle.int(list[1])), (Some(1), Some(-2)));
        assert!(matches!(pickle.value(list[2]), Value::Float));
        let tuple = pickle.items(pickle.get(pickle.root, "b").unwrap()).unwrap();
        assert_eq!(pickle.text(tuple[0]).unwrap(), "x");
        assert!(matches!(pickle.value(tuple[1]), Value::None));
        assert_eq!(pickle.int(tuple[2]), Some(1));
        assert_eq!(pickle.end, bytes.len());
    }
}

#[test]
fn numbers_and_texts_of_every_width() {
    let cases: [(&[u8], i64); 8] = [
        (b"K\xff.", 255),
        (b"M\xff\xff.", 65_535),
        (b"J\xff\xff\xff\xff.", -1),
        (b"L-12L\n.", -12),
        (b"\x8a\x00.", 0),
        (b"\x8a\x02\x00\xff.", -256),
        (b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f.", i64::MAX),
        (b"\x8b\x01\x00\x00\x00\x80.", -128),
    ];
    for (bytes, number) in cases {
        let pickle = read(bytes).unwrap();
        assert_eq!(pickle.int(pickle.root), Some(number), "{bytes:?}");
    }
    let long = read(b"\x8a\x0alXYZ\xf9\x46\x9c\xfc\x6a\x19.").unwrap();
    assert!(matches!(long.value(long.root), Value::Long(_)));

    let cases: [(&[u8], &str); 5] = [
        (b"S'a\\x41\\n\\'\\101'\n.", "aA\n'A"),
        (b"V\\u00e9\xe9\\U0001f600\n.", "éé😀"),
        (b"U\x02\xe9a.", "éa"),
        (b"T\x01\x00\x00\x00z.", "z"),
        (b"\x8d\x01\x00\x00\x00\x00\x00\x00\x00z.", "z"),
    ];
    for (bytes, text) in cases {
        let pickle = read(bytes).unwrap();
        assert_eq!(pickle.text(pickle.root).unwrap(), text, "{bytes:?}");
    }
}

#[test]
fn what_is_not_on_the_list_is_refused_by_name() {
    // os.system('true') by every way that a pickle can ask for it.
    let cases: [&[u8]; 6] = [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"(cos\nsystem\nS'true'\no.",
        b"\x80\x02cos\nsystem\nU\x04true\x85\x81.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93.",
    ];
    for bytes in cases {
        let error = read(bytes).unwrap_err();
        assert_eq!(error, PickleError::Refused("os.system".into()));
        assert!(error.to_string().contains("os.system"));
    }
    // Text that looks like a name on the list must be that name, whole.
    assert!(matches!(read(b"cnumpy\ndtype.x\n."), Err(PickleError::Refused(_))));
    assert!(matches!(read(b"\x82\x01."), Err(PickleError::Refused(_))));
    // A call of what is no function of the list, as of a text, calls nothing.
    assert!(matches!(read(b"S'os.system'\n)R."), Err(PickleError::Broken { .. })));
}

#[test]
fn arrays_of_numpy_1_and_2() {
    // numpy.arange(6, dtype='<i2').reshape(2, 3), Python 2's way: protocol 2, plain strings.
    let old =
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02K\x03\x86\
        cnumpy\ndtype\nU\x02i2K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89\
        U\x0c\x00\x00\x01\x00\x02\x00\x03\x00\x04\x00\x05\x00tb.";
    // Python 3's way for protocol 2: bytes are text to be encoded. The last value is 0xe9.
    let text = b"\x80\x02cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85c_codecs\nencode\n\
        X\x01\x00\x00\x00bX\x06\x00\x00\x00latin1\x86R\x87R(K\x01K\x03\x85cnumpy\ndtype\nX\x02\x00\x00\x00u1\x89\x88\x87R(K\x03\
        X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x88c_codecs\nencode\nX\x04\x00\x00\x00\x01\x02\xc3\xa9\
        X\x06\x00\x00\x00latin1\x86Rtb.";
    let pickle = read(old).unwrap();
    let found = array(&pickle, pickle.root, "it").unwrap();
    assert_eq!((found.shape.as_slice(), found.fortran, found.dtype.size), (&[2, 3][..], false, 2));
    assert_eq!(found.place, Some(old.len() - 15));
    assert_eq!(integers(&pickle, pickle.root, "it").unwrap(), [0, 1, 2, 3, 4, 5]);

    let pickle = read(text).unwrap();
    let found = array(&pickle, pickle.root, "it").unwrap();
    assert_eq!((&*found.bytes, found.fortran, found.place), (&[1, 2, 0xe9][..], true, None));
}

#[test]
fn damage_is_an_error_and_takes_no_memory() {
    // Every truncation, every byte changed to every value.
    for bytes in DICTIONARIES {
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "{length}");
        }
        for at in 0..bytes.len() {
            for value in 0..=255 {
                let mut damaged = bytes.to_vec();
                damaged[at] = value;
                if let Ok(pickle) = read(&damaged) {
                    let _ = (integers(&pickle, pickle.root, "it").is_ok(), pickle.get(pickle.root, "a"));
                }
            }
        }
    }
    // Lengths of exabytes, depth without end, and more of everything than is read.
    assert!(matches!(read(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffx."), Err(PickleError::Truncated(_))));
    assert!(matches!(read(b"B\xff\xff\xff\xffx."), Err(PickleError::Truncated(_))));
    let nested = [&b"]"[..], &[b']'; 100_000], &[b'a'; 100_000], b"."].concat();
    assert!(read(&nested).is_ok(), "depth costs nothing");
    let cycle = b"]q\x00h\x00ah\x00a.";
    assert!(read(cycle).is_ok());
    for opcode in [&b"N"[..], b"(", b"]2a"] {
        let many = opcode.repeat(3 << 20);
        assert!(matches!(read(&many), Err(PickleError::TooLarge { .. })), "{opcode:?}");
    }
    let notes: Vec<u8> = (0..700_000_u32).flat_map(|n| [&b"r"[..], &n.to_le_bytes()].concat()).collect();
    assert!(matches!(read(&[b"N", &notes[..]].concat()), Err(PickleError::TooLarge { .. })));
}
