//! Bytes between frames of a stream and threads that read or write as files are read and written.

use std::io::{self, BufRead, Read, Write};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::sync::mpsc;

/// A piece that came, the end (`None`), or why nothing more comes.
pub type Piece = io::Result<Option<Bytes>>;

/// What a thread reads while frames come in. A channel that closes without an end that was told is an error: what was cut
/// off must not pass for whole.
#[derive(Debug)]
pub struct Pieces {
    waiting: mpsc::Receiver<Piece>,
    piece: Bytes,
    ended: bool,
}

impl Pieces {
    /// A channel in which so many pieces may wait for the reader.
    #[must_use]
    pub fn channel(waiting: usize) -> (mpsc::Sender<Piece>, Self) {
        let (sender, waiting) = mpsc::channel(waiting);
        (sender, Self { waiting, piece: Bytes::new(), ended: false })
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.piece.is_empty() && !self.ended {
            match self.waiting.blocking_recv() {
                Some(Ok(Some(piece))) => self.piece = piece,
                Some(Ok(None)) => self.ended = true,
                Some(Err(error)) => return Err(error),
                None => {
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the stream was cut off"));
                }
            }
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, bytes: usize) {
        self.piece.advance(bytes);
    }
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(into.len());
        into[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

/// What a thread writes, gathered into pieces of one size and given away one by one. The last one goes with a flush.
#[derive(Debug)]
pub struct Sink<S> {
    size: usize,
    piece: BytesMut,
    send: S,
}

impl<S: FnMut(Bytes) -> io::Result<()>> Sink<S> {
    /// Pieces of so many bytes, given to `send`, which may wait.
    pub fn new(size: usize, send: S) -> Self {
        Self { size, piece: BytesMut::new(), send }
    }
}

impl<S: FnMut(Bytes) -> io::Result<()>> Write for Sink<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = &bytes[..(self.size - self.piece.len()).min(bytes.len())];
        if self.piece.capacity() == 0 {
            self.piece.reserve(self.size);
        }
        self.piece.extend_from_slice(taken);
        if self.piece.len() == self.size {
            self.flush()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        (self.send)(std::mem::take(&mut self.piece).freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_is_no_end() {
        let (sender, mut pieces) = Pieces::channel(4);
        sender.try_send(Ok(Some(Bytes::from_static(b"abc")))).unwrap();
        drop(sender);
        let mut read = Vec::new();
        let error = pieces.read_to_end(&mut read).unwrap_err();
        assert_eq!((read.as_slice(), error.kind()), (&b"abc"[..], io::ErrorKind::ConnectionAborted));
    }

    #[test]
    fn an_end_that_was_told_stays_the_end() {
        let (sender, mut pieces) = Pieces::channel(4);
        for piece in
            [Some(Bytes::from_static(b"ab")), Some(Bytes::new()), Some(Bytes::from_static(b"c")), None]
        {
            sender.try_send(Ok(piece)).unwrap();
        }
        let mut read = Vec::new();
        assert_eq!(pieces.read_to_end(&mut read).unwrap(), 3);
        assert_eq!(read, b"abc");
        assert_eq!(pieces.read(&mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn pieces_have_one_size_but_the_last() {
        let mut sizes = Vec::new();
        let mut sink = Sink::new(4, |piece: Bytes| {
            sizes.push(piece.len());
            Ok(())
        });
        sink.write_all(&[0; 10]).unwrap();
        sink.flush().unwrap();
        sink.flush().unwrap();
        assert_eq!(sizes, [4, 4, 2]);
    }
}
