//! Embeddings.

use igpt_engine::device::{BLANK, Device};

use super::reference;
use super::support::{Both, Tested, assert_close, assert_error, assert_within_twice_naive, property, sum};

fn shapes() -> impl proptest::strategy::Strategy<Value = (u64, usize, usize, usize, usize, usize)> {
    (proptest::prelude::any::<u64>(), 1..4usize, 1..80usize, 1..40usize, 1..20usize, 0..3usize)
}

pub fn forward<D: Device>(device: &Tested<D>) {
    property(16, shapes(), |(seed, batch, tokens, width, rows, first)| {
        let random = &mut device.random(seed);
        let table = Both::random(device, random, &[rows, width]);
        let positions = Both::random(device, random, &[first + tokens + 1, width]);
        let ids = random.tokens(batch * tokens, rows);
        let device_ids = device.upload_tokens([batch, tokens], &ids).unwrap();
        let y = device.embedding(&table.tensor, &positions.tensor, &device_ids, first).unwrap();
        assert_eq!(device.shape(&y), [batch, tokens, width]);
        let definition = || reference::embedding(&table.exact, &positions.exact, &ids, tokens, width, first);
        let expected = definition();
        assert_close(device, "y", &y, &expected, device.tolerance(1), 1.0);
        if let Some(naive) = device.naively(definition) {
            assert_within_twice_naive(device, "y", &y, &expected, &naive);
        }
    });
}

pub fn backward<D: Device>(device: &Tested<D>) {
    property(16, shapes(), |(seed, batch, tokens, width, rows, _)| {
        check_backward(device, seed, batch, tokens, width, rows);
    });
}

/// Far more tokens than rows, most of which name one: what a GPU cuts into pieces.
pub fn many_tokens<D: Device>(device: &Tested<D>) {
    check_backward(device, 1, 3, 3001, 9, 2);
}

pub fn check_backward<D: Device>(
    device: &Tested<D>,
    seed: u64,
    batch: usize,
    tokens: usize,
    width: usize,
    rows: usize,
) {
    let random = &mut device.random(seed);
    let dy = Both::random(device, random, &[batch, tokens, width]);
    let mut ids = random.tokens(batch * tokens, rows);
    ids[0] = BLANK;
    let device_ids = device.upload_tokens([batch, tokens], &ids).unwrap();
    // Gradients are added to what is there, and positions past the image's keep theirs.
    let mut d_table = Both::random(device, random, &[rows, width]);
    let mut d_positions = Both::random(device, random, &[tokens + 2, width]);
    device.embedding_backward(&dy.tensor, &device_ids, &mut d_table.tensor, &mut d_positions.tensor).unwrap();

    let (mut table, mut positions) = (vec![0.0; rows * width], vec![0.0; (tokens + 2) * width]);
    for (row, &id) in ids.iter().enumerate() {
        for column in 0..width {
            positions[row % tokens * width + column] += dy.exact[row * width + column];
            if id != BLANK {
                table[usize::from(id) * width + column] += dy.exact[row * width + column];
            }
        }
    }
    assert_close(
        device,
        "d_table",
        &d_table.tensor,
        &sum(&d_table.exact, &table),
        device.tolerance(batch * tokens),
        1.0,
    );
    assert_close(
        device,
        "d_positions",
        &d_positions.tensor,
        &sum(&d_positions.exact, &positions),
        device.tolerance(batch),
        1.0,
    );
}

/// A blank has its position and nothing else.
pub fn blanks<D: Device>(device: &Tested<D>) {
    let random = &mut device.random(1);
    let (table, positions) = (Both::random(device, random, &[2, 5]), Both::random(device, random, &[3, 5]));
    let ids = device.upload_tokens([1, 3], &[BLANK; 3]).unwrap();
    let y = device.embedding(&table.tensor, &positions.tensor, &ids, 0).unwrap();
    assert_eq!(device.download(&y).unwrap(), device.download(&positions.tensor).unwrap());
}

pub fn mistakes_are_errors<D: Device>(device: &Tested<D>) {
    let (mut table, mut positions) = (device.zeros(&[4, 8]).unwrap(), device.zeros(&[6, 8]).unwrap());
    let ids = device.upload_tokens([1, 3], &[0, 3, 1]).unwrap();
    assert_error(device.embedding(&table, &positions, &ids, 4), &["embedding: first", "6 positions", "not 4"]);
    assert_error(device.embedding(&table, &positions, &ids, usize::MAX), &["embedding: first"]);
    let narrow = device.zeros(&[6, 7]).unwrap();
    assert_error(device.embedding(&table, &narrow, &ids, 0), &["embedding: positions must be [6, 8], not [6, 7]"]);
    let bad = device.upload_tokens([1, 3], &[0, 4, 1]).unwrap();
    assert_error(device.embedding(&table, &positions, &bad, 0), &["token 4 at position 1", "4 rows"]);
    let dy = device.upload(&[1, 3, 8], &[1.0; 24]).unwrap();
    assert_error(device.embedding_backward(&dy, &bad, &mut table, &mut positions), &["token 4 at position 1"]);
    // Nothing was written before the bad token was found.
    assert!(device.download(&table).unwrap().iter().chain(&device.download(&positions).unwrap()).all(|x| *x == 0.0));
    let mut few = device.zeros(&[2, 8]).unwrap();
    assert_error(
        device.embedding_backward(&dy, &ids, &mut table, &mut few),
        &["d_positions must be [3, 8], not [2, 8]"],
    );
}
