//! Where a JPEG ends: its own end, whatever a camera has put behind it.

/// Start of image, end of image, start of scan, and the last byte of what fills the space between segments.
const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const FILL: u8 = 0xff;

/// The bytes of a JPEG up to the end marker of its picture, or `None` where there is none: the file was cut short, and
/// a decoder would fill what is missing with grey.
///
/// Segments are walked by their lengths, so that an embedded preview ends nothing; scans are walked to the next marker,
/// which cannot occur inside one. What follows the first end marker after a scan is no part of the picture: the film of
/// a motion photo, further pictures of a multi-picture file.
pub(super) fn picture(bytes: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    let mut in_scan = false;
    loop {
        // The next marker. Between segments, as inside scans, other bytes are passed over, as every decoder does.
        let marker = loop {
            at += bytes.get(at..)?.iter().position(|&byte| byte == FILL)? + 1;
            match *bytes.get(at)? {
                FILL => {}
                // A byte 0xff of the data, or a restart inside a scan; neither ends it.
                0 | 0xd0..=0xd7 => at += 1,
                marker => break marker,
            }
        };
        at += 1;

        match marker {
            EOI if in_scan => return bytes.get(..at),
            // Of these two there is no length: a start, an end of nothing, a marker of arithmetic coding.
            SOI | EOI | 1 => {}
            _ => {
                let length = bytes.get(at..at + 2)?;
                at += usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
                in_scan |= marker == SOS;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: [u8; 2] = [0xff, SOI];
    const SCAN: [u8; 8] = [0xff, SOS, 0, 4, 7, 7, 0xff, 0];

    #[test]
    fn a_picture_ends_at_the_first_end_marker_behind_a_scan() {
        // An APP1 that holds a whole preview, two scans with a restart and a stuffed byte, then the end.
        let preview = [&[0xff, 0xe1, 0, 14][..], &HEAD, &SCAN, &[0xff, EOI]].concat();
        let whole = [&HEAD[..], &preview, &SCAN, &[0xff, 0xd3, 9], &SCAN, &[0xff, 0xff, EOI]].concat();
        assert_eq!(picture(&whole), Some(&whole[..]));

        // Anything behind it, whatever markers it holds.
        for tail in [&[0xff, SOS, 0xff][..], &[0xff, EOI, 1, 0xff, SOS], &whole] {
            assert_eq!(picture(&[&whole, tail].concat()), Some(&whole[..]), "{tail:?}");
        }
        for cut in 0..whole.len() {
            assert_eq!(picture(&whole[..cut]), None, "cut at {cut}");
        }
    }
}
