//! Where in the file the storages lie.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use flate2::Crc;

/// Bytes of a storage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) start: u64,
    pub(super) length: u64,
    /// Its CRC-32, where the file has one.
    pub(super) checksum: Option<u32>,
}

impl Place {
    /// Whether the bytes have their checksum.
    pub(super) fn is_sound(self, file: &mut File) -> io::Result<bool> {
        let Some(checksum) = self.checksum else { return Ok(true) };
        let (mut crc, mut buffer, mut left) = (Crc::new(), vec![0; 1 << 18], self.length);
        file.seek(SeekFrom::Start(self.start))?;
        while left > 0 {
            let count = left.min(buffer.len() as u64) as usize;
            file.read_exact(&mut buffer[..count])?;
            crc.update(&buffer[..count]);
            left -= count as u64;
        }
        Ok(crc.sum() == checksum)
    }
}
