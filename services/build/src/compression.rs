//! How archives are compressed, told by their first bytes alone: gzip, bzip2, xz, zstd, or not at all.

use std::io::{self, BufRead, BufReader, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;

/// Memory that a stream may ask for to be read, in KiB and as a power of two: what the strongest settings of the usual
/// programs need, and no more.
const XZ_MEMORY: u32 = 256 << 10;
const ZSTD_WINDOW_LOG: u32 = 27;
/// Bytes by which a compression is known.
const MAGIC: usize = 6;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// By gzip.
    Gzip,
    /// By bzip2.
    Bzip2,
    /// By xz.
    Xz,
    /// By zstd.
    Zstd,
}

impl Compression {
    /// By the first bytes of a stream.
    pub fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            // A zstd stream may begin with a frame to be skipped.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// Bytes that are decompressed at once.
const BUFFER: usize = 64 << 10;

/// The stream as it was before it was compressed.
///
/// # Errors
/// It cannot be read.
pub fn inflated<'a>(mut source: impl Read + Send + 'a) -> io::Result<Box<dyn BufRead + Send + 'a>> {
    let mut head = Vec::with_capacity(MAGIC);
    source.by_ref().take(MAGIC as u64).read_to_end(&mut head)?;
    let kind = Compression::of(&head);
    let whole = BufReader::with_capacity(BUFFER, io::Cursor::new(head).chain(source));
    let plain: Box<dyn Read + Send + 'a> = match kind {
        Compression::None => return Ok(Box::new(whole)),
        Compression::Gzip => Box::new(MultiGzDecoder::new(whole)),
        Compression::Bzip2 => Box::new(MultiBzDecoder::new(whole)),
        Compression::Xz => Box::new(XzReader::new_mem_limit(whole, true, XZ_MEMORY)),
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(whole)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    };
    Ok(Box::new(BufReader::with_capacity(BUFFER, plain)))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        inflated(io::Cursor::new(bytes.to_vec()))?.read_to_end(&mut plain)?;
        Ok(plain)
    }

    fn all() -> Vec<(Compression, Vec<u8>)> {
        let text = b"the same thing many times, ".repeat(1000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).unwrap();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(&text).unwrap();
        vec![
            (Compression::None, text.clone()),
            (Compression::Gzip, gzip.finish().unwrap()),
            (Compression::Bzip2, bzip2.finish().unwrap()),
            (Compression::Xz, hex::decode(include_str!("compression/sample.xz.hex").trim()).unwrap()),
            (Compression::Zstd, zstd::encode_all(text.as_slice(), 1).unwrap()),
        ]
    }

    #[test]
    fn every_kind_is_known_and_read() {
        let text = b"the same thing many times, ".repeat(1000);
        for (kind, bytes) in all() {
            assert_eq!(Compression::of(&bytes), kind);
            assert!(read(&bytes).unwrap() == text, "{kind:?}");
        }
    }

    #[test]
    fn what_is_torn_is_an_error() {
        for (kind, bytes) in all().into_iter().filter(|(kind, _)| *kind != Compression::None) {
            assert!(read(&bytes[..bytes.len() - 9]).is_err(), "{kind:?}");
            // This zstd stream has no sum that could tell.
            if kind == Compression::Zstd {
                continue;
            }
            let mut wrong = bytes.clone();
            let middle = wrong.len() / 2;
            wrong[middle] ^= 0xff;
            assert!(read(&wrong).is_err(), "{kind:?}");
        }
    }

    #[test]
    fn nobody_is_asked_for_memory_without_end() {
        // A block header that wants a dictionary of 4 GiB less one.
        let mut bytes = hex::decode(include_str!("compression/sample.xz.hex").trim()).unwrap();
        let at = 12 + 4;
        assert_eq!(bytes[12 + 2..12 + 4], [0x21, 1], "the LZMA2 filter and the length of what it says");
        bytes[at] = 40;
        let length = (usize::from(bytes[12]) + 1) * 4;
        let sum = crc32(&bytes[12..12 + length - 4]).to_le_bytes();
        bytes[12 + length - 4..12 + length].copy_from_slice(&sum);
        assert_eq!(read(&bytes).unwrap_err().kind(), io::ErrorKind::OutOfMemory);
    }

    fn crc32(bytes: &[u8]) -> u32 {
        let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
    }
}
