//! A layer that somebody hands in may be compressed; what is made of it is the same as if it were not.

use std::io::{self, BufRead as _, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use crate::store::StoreError;
use crate::unpack::{Limits, Problem, UnpackError};

const BUFFER: usize = 128 << 10;

/// Lets somebody read a source as it is without its compression, which its first bytes tell.
///
/// # Errors
/// When the compression is not known or the stream broken, or what the reader says.
pub fn inflated<T>(
    source: impl Read + Send,
    limits: &Limits,
    read: impl FnOnce(&mut (dyn Read + Send)) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let failed = |problem| StoreError::Snapshot(UnpackError::Layer(problem).into());
    let mut counted = BufReader::with_capacity(BUFFER, Counted { source, bytes: 0 });
    let head = counted.fill_buf().map_err(|error| failed(Problem::Source(error)))?;
    match head {
        [0x1f, 0x8b, ..] => {
            let taken = |decoder: &MultiGzDecoder<BufReader<Counted<_>>>| decoder.get_ref().get_ref().bytes;
            let decoder = MultiGzDecoder::new(counted);
            read(&mut Bounded { decoder, taken, total: 0, limits: *limits })
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let decoder = zstd::Decoder::with_buffer(counted);
            let mut decoder = decoder.map_err(|error| failed(Problem::Decompress(error)))?;
            let bounded = decoder.window_log_max(limits.zstd_window_log);
            bounded.map_err(|error| failed(Problem::Decompress(error)))?;
            let taken =
                |decoder: &zstd::Decoder<'_, BufReader<Counted<_>>>| decoder.get_ref().get_ref().bytes;
            read(&mut Bounded { decoder, taken, total: 0, limits: *limits })
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err(failed(Problem::Compression("xz"))),
        [b'B', b'Z', b'h', ..] => Err(failed(Problem::Compression("bzip2"))),
        _ => read(&mut counted),
    }
}

/// Counts the bytes of a source.
struct Counted<R> {
    source: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(into)?;
        self.bytes = self.bytes.saturating_add(read as u64);
        Ok(read)
    }
}

/// Ends a stream that becomes far larger than it came.
struct Bounded<D, T> {
    decoder: D,
    /// Tells how many compressed bytes were taken.
    taken: T,
    total: u64,
    limits: Limits,
}

impl<D: Read, T: Fn(&D) -> u64> Read for Bounded<D, T> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(into)?;
        self.total = self.total.saturating_add(read as u64);
        let Limits { ratio, ratio_from, .. } = self.limits;
        if self.total > ratio_from && self.total / ratio > (self.taken)(&self.decoder) {
            let why = format!("limit reached: it becomes more than {ratio} times as large as it came");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        Ok(read)
    }
}
