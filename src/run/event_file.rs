//! TensorBoard's event files: what a record looks like, and reading records back.
//!
//! A file is records one behind the other: the length of an event (u64), the length's checksum, the event, its checksum, all
//! little-endian; the checksums are CRC-32C, rotated and shifted as TensorFlow's records have them. An event is a message of
//! protocol buffers. Of its fields we write a handful that have not changed since 2016, so they are put together here: a
//! library of protocol buffers would bring a code generator for them.

use std::io::{self, ErrorKind, Read};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of the longest event that is read back: pictures are the longest.
const MAX_EVENT: u64 = 1 << 26;

/// What an event says.
pub(super) enum What<'a> {
    /// The first of a file: how the rest is to be read.
    Version,
    /// A session begins here; what other files hold of this step and later ones is void.
    SessionStart,
    /// Numbers, each with its name.
    Scalars(&'a [(String, f64)]),
    /// A picture with its name: a PNG file of `size`, width and height.
    Picture { tag: &'a str, png: &'a [u8], size: [u32; 2] },
}

/// The record of an event that happens now.
pub(super) fn record(step: u64, what: &What<'_>) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    framed(event(now, step, what).done())
}

/// An event at `time`, seconds of Unix time.
fn event(time: f64, step: u64, what: &What<'_>) -> Message {
    let mut event = Message::default();
    event.double(1, time).integer(2, step);
    match what {
        What::Version => event.bytes(3, b"brain.Event:2"),
        What::SessionStart => event.bytes(7, Message::default().integer(1, 1).done()),
        What::Scalars(scalars) => {
            let mut summary = Message::default();
            for (tag, value) in *scalars {
                summary.bytes(1, Message::default().bytes(1, tag.as_bytes()).float(2, *value as f32).done());
            }
            event.bytes(5, summary.done())
        }
        What::Picture { tag, png, size: [width, height] } => {
            let mut image = Message::default();
            // The third field is the number of channels.
            image.integer(1, u64::from(*height)).integer(2, u64::from(*width)).integer(3, 3).bytes(4, png);
            let mut value = Message::default();
            value.bytes(1, tag.as_bytes()).bytes(4, image.done());
            event.bytes(5, Message::default().bytes(1, value.done()).done())
        }
    };
    event
}

/// An event between its length and the checksums.
fn framed(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let [before, after] = [&length[..], event].map(|bytes| checksum(bytes).to_le_bytes());
    [&length[..], &before, event, &after].concat()
}

fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// A message of protocol buffers in the making.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    /// Zero is what a field says that is not there.
    fn integer(&mut self, field: u64, value: u64) -> &mut Self {
        if value == 0 { self } else { self.varint(field << 3).varint(value) }
    }

    fn double(&mut self, field: u64, value: f64) -> &mut Self {
        self.varint(field << 3 | 1).0.extend(value.to_le_bytes());
        self
    }

    fn float(&mut self, field: u64, value: f32) -> &mut Self {
        self.varint(field << 3 | 5).0.extend(value.to_le_bytes());
        self
    }

    fn bytes(&mut self, field: u64, value: &[u8]) -> &mut Self {
        self.varint(field << 3 | 2).varint(value.len() as u64).0.extend(value);
        self
    }

    fn done(&self) -> &[u8] {
        &self.0
    }
}

/// Bytes up to the end of the last event of `step` or an earlier one, before the first of a later step or that is torn or damaged.
pub(super) fn kept_bytes(file: &mut dyn Read, step: u64) -> io::Result<u64> {
    let (mut event, mut kept) = (Vec::new(), 0);
    loop {
        match next_event(file, &mut event) {
            Ok(()) if step_of(&event).is_some_and(|found| found <= step) => kept += event.len() as u64 + 16,
            Ok(()) => return Ok(kept),
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData) => return Ok(kept),
            Err(error) => return Err(error),
        }
    }
}

/// Reads the event of the next record.
fn next_event(file: &mut dyn Read, event: &mut Vec<u8>) -> io::Result<()> {
    let mut word = [0; 8];
    let mut check = [0; 4];
    let sound = |is_sound: bool| if is_sound { Ok(()) } else { Err(io::Error::from(ErrorKind::InvalidData)) };
    file.read_exact(&mut word)?;
    file.read_exact(&mut check)?;
    let length = u64::from_le_bytes(word);
    sound(check == checksum(&word).to_le_bytes() && length <= MAX_EVENT)?;

    // No more memory is taken than there are bytes.
    event.clear();
    file.take(length).read_to_end(event)?;
    file.read_exact(&mut check)?;
    sound(event.len() as u64 == length && check == checksum(event).to_le_bytes())
}

/// The step of an event; `None` if it is none of ours.
fn step_of(event: &[u8]) -> Option<u64> {
    // The time comes first: a byte that names the field, and eight of it.
    let mut rest = event.get(9..)?.iter();
    if event[0] != 1 << 3 | 1 {
        return None;
    }
    if rest.next() != Some(&(2 << 3)) {
        return Some(0);
    }
    let mut step = 0;
    for shift in (0..64).step_by(7) {
        let byte = *rest.next()?;
        step |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(step);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scalar(step: u64) -> Vec<u8> {
        record(step, &What::Scalars(&[("train/loss".to_owned(), 0.25)]))
    }

    /// Records of the time 1.5 that TensorBoard 2.21 wrote with its own protocol buffers and checksums.
    const THEIRS: [&str; 4] = [
        "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c",
        "0f000000000000006d532b0909000000000000f83f10653a02080101d02fc8",
        "2100000000000000017becf609000000000000f83f10ac022a130a110a0a747261696e2f6c6f7373150000803e6557981f",
        "3200000000000000241956ec09000000000000f83f10072a250a230a1373616d706c65732f636f6d706c6574696f6e73220c08021\
         0ac0218032203504e47f65ba876",
    ];

    #[test]
    fn records_are_tensorboards_own_bytes() {
        let scalars = [("train/loss".to_owned(), 0.25)];
        let ours = [
            event(1.5, 0, &What::Version),
            event(1.5, 101, &What::SessionStart),
            event(1.5, 300, &What::Scalars(&scalars)),
            event(1.5, 7, &What::Picture { tag: "samples/completions", png: b"PNG", size: [300, 2] }),
        ];
        for ((event, theirs), step) in ours.iter().zip(THEIRS).zip([0, 101, 300, 7]) {
            let hex: String = framed(event.done()).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, theirs);
            assert_eq!(step_of(event.done()), Some(step));
        }
    }

    proptest! {
        #[test]
        fn a_file_is_cut_behind_its_last_sound_event_of_a_step(
            steps in proptest::collection::vec(0_u64..1 << 40, 1..8),
            chosen in any::<prop::sample::Index>(),
            cut in any::<prop::sample::Index>(),
            flipped in proptest::option::of((any::<prop::sample::Index>(), 0_u8..8)),
        ) {
            let mut steps = steps;
            steps.sort_unstable();
            let step = steps[chosen.index(steps.len())];
            let records: Vec<Vec<u8>> = steps.iter().map(|step| scalar(*step)).collect();
            let mut file = records.concat();
            file.truncate(cut.index(file.len() + 1));

            // What is torn or damaged, and all behind it, is not kept.
            let mut sound = file.len();
            if let Some((at, bit)) = flipped.filter(|_| !file.is_empty()) {
                sound = at.index(file.len());
                file[sound] ^= 1 << bit;
            }
            let mut expected = 0;
            for (record, at) in records.iter().zip(&steps) {
                if *at > step || expected + record.len() > sound {
                    break;
                }
                expected += record.len();
            }
            prop_assert_eq!(kept_bytes(&mut &file[..], step).unwrap(), expected as u64);
        }

        #[test]
        fn any_bytes_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(kept_bytes(&mut &bytes[..], 5).is_ok());
            step_of(&bytes);
            // A true frame around them.
            let file = framed(&bytes);
            let kept = kept_bytes(&mut &file[..], u64::MAX).unwrap();
            prop_assert!(kept == 0 || kept == file.len() as u64);
        }
    }
}
