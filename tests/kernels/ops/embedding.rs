//! Embeddings.

use igpt_engine::device::{BLANK, Beta, Device};

use super::reference;
use super::support::{
    Both, FACTORS, Tested, assert_bits, assert_close, assert_error, each, property, scaled, sum, sum_in_f32,
};

fn shapes() -> impl proptest::strategy::Strategy<Value = (u64, usize, usize, usize, usize, usize)> {
    (proptest::prelude::any::<u64>(), 1..4usize, 1..80usize, 1..40usize, 1..20usize, 0..3usize)
}

pub fn forward<D: Device>(device: &Tested<D>) {
    property(16, shapes(), |(seed, batch, tokens, width, rows, first)| {
        check_forward(device, seed, [batch, tokens, width, rows, first]);
    });
}

pub fn backward<D: Device>(device: &Tested<D>) {
    property(16, shapes(), |(seed, batch, tokens, width, rows, _)| {
        check_backward(device, seed, batch, tokens, width, rows);
    });
}

/// Columns beside every vector and number of threads, and past what a block takes at once.
pub fn tails<D: Device>(device: &Tested<D>) {
    let widths = [129, 1, 2, 3, 4, 7, 8, 9, 16, 127, 128, 136, 255, 256, 257, 504, 512, 520, 1023, 1024, 1032];
    each(widths, |width| {
        check_forward(device, width as u64, [2, 3, width, 5, 2]);
        check_backward(device, width as u64, 2, 3, width, 5);
    });
}

/// A row of the table and one of the positions, both in f32, are added there, and the sum is rounded once: a matter of bits.
pub fn check_forward<D: Device>(device: &Tested<D>, seed: u64, [batch, tokens, width, rows, first]: [usize; 5]) {
    let random = &mut device.random(seed);
    let table = Both::floats(device, random, &[rows, width]);
    let positions = Both::floats(device, random, &[first + tokens + 1, width]);
    let mut ids = random.tokens(batch * tokens, rows);
    ids[batch * tokens / 2] = BLANK;
    let device_ids = device.upload_tokens([batch, tokens], &ids).unwrap();
    let at = device.upload_tokens([1, 1], &[first as u16]).unwrap();
    let at = Some(&at).filter(|_| first > 0);
    let y = device.embedding(&table.tensor, &positions.tensor, &device_ids, at).unwrap();
    assert_eq!(device.shape(&y), [batch, tokens, width]);
    let expected = reference::embedding(&table.exact, &positions.exact, &ids, tokens, width, first);
    let expected: Vec<f32> = expected.iter().map(|sum| device.representable(f64::from(*sum as f32)) as f32).collect();
    assert_bits("y", &device.download(&y).unwrap(), &expected);
}

/// As many rows as the largest palette has, with the start of sequence, of which most have no token.
pub fn large_palettes<D: Device>(device: &Tested<D>) {
    check_forward(device, 4097, [2, 3, 9, 4097, 2]);
    check_backward(device, 4097, 2, 20, 9, 4097);
}

/// Far more tokens than rows, most of which name one: what a GPU cuts into pieces.
pub fn many_tokens<D: Device>(device: &Tested<D>) {
    check_backward(device, 1, 3, 3001, 9, 2);
}

/// Tokens beside every piece that a GPU cuts them into: a warp's 512, a chunk's 4096.
pub fn bounds<D: Device>(device: &Tested<D>) {
    each([4097, 1, 31, 32, 33, 511, 512, 513, 1025, 4095, 4096, 8192, 8193], |tokens| check_tokens(device, tokens));
}

/// One image, of which the first and the last token of each piece have a row of the table for themselves; one row has none.
pub fn check_tokens<D: Device>(device: &Tested<D>, tokens: usize) {
    let mut ids = vec![0; tokens];
    for (at, row) in [(4096, 4), (4095, 3), (512, 6), (511, 5), (0, 1)] {
        if at < tokens {
            ids[at] = row;
        }
    }
    ids[tokens - 1] = 2;
    let dy = Both::random(device, &mut device.random(1), &[1, tokens, 3]);
    check_backward_of(device, [1, tokens, 3, 8], &ids, &dy);
}

pub fn check_backward<D: Device>(
    device: &Tested<D>,
    seed: u64,
    batch: usize,
    tokens: usize,
    width: usize,
    rows: usize,
) {
    let mut ids = device.random(seed).tokens(batch * tokens, rows);
    ids[0] = BLANK;
    let random = &mut device.random(seed + 1);
    let dy = Both::random(device, random, &[batch, tokens, width]);
    check_backward_of(device, [batch, tokens, width, rows], &ids, &dy);
}

/// Gradients are added in f32 to what is there; rows without a token and positions past the image's keep theirs.
fn check_backward_of<D: Device>(
    device: &Tested<D>,
    [batch, tokens, width, rows]: [usize; 4],
    ids: &[u16],
    dy: &Both<D>,
) {
    let device_ids = device.upload_tokens([batch, tokens], ids).unwrap();
    let random = &mut device.random(tokens as u64);
    let mut d_table = Both::floats(device, random, &[rows, width]);
    let mut d_positions = Both::floats(device, random, &[tokens + 2, width]);
    device
        .embedding_backward(&dy.tensor, &device_ids, &mut d_table.tensor, &mut d_positions.tensor, Beta::One)
        .unwrap();

    let (mut table, mut positions) = (vec![0.0; rows * width], vec![0.0; (tokens + 2) * width]);
    for (row, &id) in ids.iter().enumerate() {
        for column in 0..width {
            positions[row % tokens * width + column] += dy.exact[row * width + column];
            if id != BLANK {
                table[usize::from(id) * width + column] += dy.exact[row * width + column];
            }
        }
    }

    // Stored, every row is written: those of no token with zeros.
    let [mut stored, mut stored_positions] =
        [&[rows, width], &[tokens + 2, width]].map(|shape| device.unwritten(shape));
    device.embedding_backward(&dy.tensor, &device_ids, &mut stored, &mut stored_positions, Beta::Zero).unwrap();
    assert_close(device, "d_table, stored", &stored, &table, sum_in_f32(batch * tokens), 1.0);
    assert_close(device, "d_positions, stored", &stored_positions, &positions, sum_in_f32(batch), 1.0);

    let (table, positions) = (sum(&d_table.exact, &table), sum(&d_positions.exact, &positions));
    assert_close(device, "d_table", &d_table.tensor, &table, sum_in_f32(batch * tokens), 1.0);
    assert_close(device, "d_positions", &d_positions.tensor, &positions, sum_in_f32(batch), 1.0);
}

/// A NaN reaches the row of its token and its position, in its column, and nothing else; gradients scale exactly with powers of two.
pub fn values_of_any_size<D: Device>(device: &Tested<D>) {
    let (tokens, width, rows) = (6, 9, 4);
    let ids = [0, 1, 2, 1, BLANK, 2, 0, 0, 1, 2, 2, 0];
    let device_ids = device.upload_tokens([2, tokens], &ids).unwrap();
    let dy: Vec<f32> = device.random(8).values(12 * width).into_iter().map(|value| value as f32).collect();
    let run = |dy: &[f32]| {
        let [mut d_table, mut d_positions] = [rows, tokens].map(|rows| device.zeros(&[rows, width]).unwrap());
        let dy = device.upload(&[2, tokens, width], dy).unwrap();
        device.embedding_backward(&dy, &device_ids, &mut d_table, &mut d_positions, Beta::One).unwrap();
        [d_table, d_positions].map(|tensor| device.download(&tensor).unwrap())
    };
    let clean = run(&dy);
    for factor in FACTORS {
        let got = run(&scaled(&dy, factor));
        got.iter().zip(&clean).for_each(|(got, clean)| assert_bits("gradients", got, &scaled(clean, factor)));
    }

    for token in 0..12 {
        let mut dy = dy.clone();
        dy[token * width + 5] = f32::NAN;
        let [mut table, mut positions] = clean.clone();
        if ids[token] != BLANK {
            table[usize::from(ids[token]) * width + 5] = f32::NAN;
        }
        positions[token % tokens * width + 5] = f32::NAN;
        let got = run(&dy);
        assert_bits("d_table", &got[0], &table);
        assert_bits("d_positions", &got[1], &positions);
    }
}

/// A blank has its position and nothing else.
pub fn blanks<D: Device>(device: &Tested<D>) {
    let random = &mut device.random(1);
    let (table, positions) = (Both::random(device, random, &[2, 5]), Both::random(device, random, &[3, 5]));
    let ids = device.upload_tokens([1, 3], &[BLANK; 3]).unwrap();
    let y = device.embedding(&table.tensor, &positions.tensor, &ids, None).unwrap();
    assert_eq!(device.download(&y).unwrap(), device.download(&positions.tensor).unwrap());
}

pub fn mistakes_are_errors<D: Device>(device: &Tested<D>) {
    let (mut table, mut positions) = (device.zeros(&[4, 8]).unwrap(), device.zeros(&[6, 8]).unwrap());
    let ids = device.upload_tokens([1, 3], &[0, 3, 1]).unwrap();
    let at = |position: u16| device.upload_tokens([1, 1], &[position]).unwrap();
    assert_error(
        device.embedding(&table, &positions, &ids, Some(&at(4))),
        &["embedding: first", "6 positions", "not 4"],
    );
    assert_error(device.embedding(&table, &positions, &ids, Some(&at(u16::MAX))), &["embedding: first"]);
    assert_error(device.embedding(&table, &positions, &ids, Some(&ids)), &["embedding: first must be [1, 1]"]);
    let narrow = device.zeros(&[6, 7]).unwrap();
    assert_error(device.embedding(&table, &narrow, &ids, None), &["embedding: positions must be [6, 8], not [6, 7]"]);
    let bad = device.upload_tokens([1, 3], &[0, 4, 1]).unwrap();
    assert_error(device.embedding(&table, &positions, &bad, None), &["token 4 at position 1", "4 rows"]);
    let dy = device.upload(&[1, 3, 8], &[1.0; 24]).unwrap();
    assert_error(
        device.embedding_backward(&dy, &bad, &mut table, &mut positions, Beta::One),
        &["token 4 at position 1"],
    );
    // Nothing was written before the bad token was found.
    assert!(device.download(&table).unwrap().iter().chain(&device.download(&positions).unwrap()).all(|x| *x == 0.0));
    let mut few = device.zeros(&[2, 8]).unwrap();
    assert_error(
        device.embedding_backward(&dy, &ids, &mut table, &mut few, Beta::One),
        &["d_positions must be [3, 8], not [2, 8]"],
    );
}
