//! Shards of tokens: what is written is read back, and nothing else.

use std::fs;

use igpt_engine::data::{DataError, DataSpec, Examples, Palette, Shard, ShardHeader, ShardWriter, Split, open};

use crate::pipeline::options;

/// Of images of four pixels, with labels.
pub fn header(images: usize) -> ShardHeader {
    ShardHeader {
        images,
        length: 4,
        vocabulary: 512,
        palette: Palette::built_in().unwrap().id(),
        data: "sample".into(),
        split: Split::Test,
        resolution: 2,
        filter: Default::default(),
        holdout: None,
        seed: 0,
        labels: true,
        class_names: vec!["cat".into(), "dog".into()],
    }
}

#[test]
fn only_whole_and_unaltered_shards_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.shard");
    let write = |header: &ShardHeader, tokens: &[u16]| {
        let mut writer = ShardWriter::create(&path, header)?;
        writer.append(&tokens[..4], &[1])?;
        writer.append(&tokens[4..], &[0, 5])?;
        writer.finish(header)
    };
    let tokens = [0, 511, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    write(&header(3), &tokens).unwrap();
    let shard = Shard::open(&path).unwrap();
    let mut row = [0; 4];
    shard.tokens(0, None, &mut row).unwrap();
    assert_eq!((row, shard.label(0), shard.label(2), shard.label(3)), ([0, 511, 3, 4], Some(1), Some(5), None));
    assert_eq!((shard.len(), shard.classes(), shard.class_names()[1].as_str()), (3, 6, "dog"));
    assert!(shard.tokens(3, None, &mut row).is_err() && shard.tokens(0, None, &mut [0; 3]).is_err());

    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        assert!(matches!(Shard::open(&path), Err(DataError::Shard { .. })), "cut at {cut}");
        let mut altered = whole.clone();
        altered[cut] ^= 0x20;
        fs::write(&path, &altered).unwrap();
        assert!(matches!(Shard::open(&path), Err(DataError::Shard { .. })), "altered at {cut}");
    }

    fs::write(&path, [whole.as_slice(), &[0]].concat()).unwrap();
    assert!(Shard::open(&path).unwrap_err().to_string().contains("trailing bytes"));

    // A shard that is right in itself, with a token that its palette does not have, or made with another palette.
    write(&ShardHeader { vocabulary: 511, ..header(3) }, &tokens).unwrap();
    assert!(Shard::open(&path).unwrap_err().to_string().contains("not below 511"));

    write(&ShardHeader { palette: "0123456789abcdef".into(), ..header(3) }, &tokens).unwrap();
    let error = open(&DataSpec::Shard(path.clone()), Split::Test, &options()).err().unwrap().to_string();
    assert!(error.contains("0123456789ab") && error.contains("other colours"), "{error}");

    // Unfinished ones never appear.
    fs::remove_file(&path).unwrap();
    assert!(write(&header(4), &tokens).is_err() && write(&header(2), &tokens).is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
