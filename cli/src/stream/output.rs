//! Standard output and error without a thread, and without ever being stuck in a write: signals must be
//! heard also while nobody reads what the container prints.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use bytes::{Buf as _, Bytes};
use davit_proto::container::AttachOffsets;
use davit_proto::types::{Output, Stdio};
use rustix::event::PollFlags;
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{Down, ready};
use crate::error::Error;

/// A pipe that can be written to has room for so much.
const CHUNK: usize = 4096;

/// One of our two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Out,
    Err,
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Out => rustix::stdio::stdout(),
            Self::Err => rustix::stdio::stderr(),
        }
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// Writes what a container prints, in the order it was printed.
#[derive(Debug, Default)]
pub struct Writer {
    queue: VecDeque<(Stream, Bytes)>,
    out: Option<Sink>,
    err: Option<Sink>,
    stdout: u64,
    stderr: u64,
}

impl Writer {
    /// Takes a frame; only output matters here.
    pub fn take(&mut self, frame: Down) {
        match frame {
            Down::Output(output) => self.output(output),
            Down::Dropped(dropped) => {
                let lost = format!(
                    "davit: {} bytes were lost, because they were not read in time\r\n",
                    dropped.bytes
                );
                match dropped.stream() {
                    Stdio::Stderr => self.stderr += dropped.bytes,
                    _ => self.stdout += dropped.bytes,
                }
                self.queue.push_back((Stream::Err, lost.into()));
            }
            _ => {}
        }
    }

    fn output(&mut self, mut output: Output) {
        let (stream, wanted) = match output.stream() {
            Stdio::Stderr => (Stream::Err, &mut self.stderr),
            _ => (Stream::Out, &mut self.stdout),
        };
        // After a reconnect the engine may begin a little earlier than asked.
        if let Some(seen) = wanted.checked_sub(output.offset) {
            let seen = usize::try_from(seen).unwrap_or(usize::MAX).min(output.data.len());
            output.data.advance(seen);
        }
        if output.data.is_empty() {
            return;
        }
        *wanted = (*wanted).max(output.offset) + output.data.len() as u64;
        self.queue.push_back((stream, output.data));
    }

    /// Says where a stream begins, so that offsets are right from the first byte.
    pub fn begin(&mut self, stdout: u64, stderr: u64) {
        (self.stdout, self.stderr) = (stdout, stderr);
    }

    /// Next bytes wanted.
    pub fn offsets(&self) -> AttachOffsets {
        AttachOffsets { stdout: self.stdout, stderr: self.stderr }
    }

    /// Whether something is still to be written.
    pub fn is_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Writes a piece as soon as that is possible without waiting in the kernel.
    pub async fn progress(&mut self) -> Result<(), Error> {
        let Some((stream, data)) = self.queue.front_mut() else {
            return Ok(());
        };
        let sink = match stream {
            Stream::Out => &mut self.out,
            Stream::Err => &mut self.err,
        };
        let sink = sink.get_or_insert_with(|| Sink::open(*stream));
        match sink.write(data).await {
            Ok(written) => data.advance(written),
            // Nobody hears complaints any more; the container's own output goes on.
            Err(_) if *stream == Stream::Err => data.clear(),
            Err(error) => return Err(Error::output(error)),
        }
        if data.is_empty() {
            self.queue.pop_front();
        }
        Ok(())
    }
}

/// A descriptor to write to.
#[derive(Debug)]
struct Sink {
    stream: Stream,
    polled: Option<AsyncFd<Stream>>,
}

impl Sink {
    fn open(stream: Stream) -> Self {
        Self { stream, polled: ready::register(stream, Interest::WRITABLE) }
    }

    async fn write(&self, data: &[u8]) -> io::Result<usize> {
        let Some(polled) = &self.polled else {
            // A file takes everything at once.
            return Ok(rustix::io::write(self.stream, data)?);
        };
        loop {
            let mut guard = polled.writable().await?;
            if !ready::is_ready(&self.stream, PollFlags::OUT) {
                guard.clear_ready();
                continue;
            }
            match rustix::io::write(self.stream, data.get(..CHUNK).unwrap_or(data)) {
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use davit_proto::types::Dropped;

    fn output(stream: Stdio, offset: u64, data: &'static str) -> Down {
        Down::Output(Output { stream: stream.into(), offset, data: data.into() })
    }

    fn waiting(writer: &Writer) -> String {
        writer.queue.iter().map(|(_, data)| String::from_utf8_lossy(data).into_owned()).collect()
    }

    #[test]
    fn bytes_that_come_twice_are_written_once() {
        let mut writer = Writer::default();
        writer.take(output(Stdio::Stdout, 0, "hello "));
        writer.take(output(Stdio::Stderr, 0, "E"));
        writer.take(output(Stdio::Stdout, 3, "lo wor"));
        writer.take(output(Stdio::Stdout, 0, "hello"));
        writer.take(output(Stdio::Stdout, 9, "ld"));
        assert_eq!(waiting(&writer), "hello Eworld");
        assert_eq!(writer.offsets(), AttachOffsets { stdout: 11, stderr: 1 });
    }

    #[test]
    fn a_gap_is_told_and_counted() {
        let mut writer = Writer::default();
        writer.begin(100, 0);
        writer.take(output(Stdio::Stdout, 100, "a"));
        writer.take(Down::Dropped(Dropped { stream: Stdio::Stdout.into(), bytes: 50 }));
        writer.take(output(Stdio::Stdout, 151, "b"));
        assert!(waiting(&writer).contains("50 bytes were lost"));
        assert_eq!(writer.offsets().stdout, 152);
    }
}
