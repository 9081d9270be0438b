//! The shim's ends of a container's standard streams, and how they are read.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};

use davit_sys::fd;
use davit_sys::pty::{self, WindowSize};
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

use crate::watched::watch;

/// What a pipe holds, and most of what one read takes.
pub const PIPE: usize = 64 << 10;

/// The shim's ends.
#[derive(Debug)]
pub struct Ends {
    /// Whether they are ends of a terminal.
    pub terminal: bool,
    /// Where input is written to; none when the container's input is `/dev/null`.
    pub input: Option<OwnedFd>,
    /// Where output and errors are read from.
    pub outputs: [Option<Source>; 2],
}

/// Pipes for a container without a terminal: its 0, 1 and 2, and our ends of them.
pub fn pipes(open_stdin: bool) -> io::Result<([OwnedFd; 3], Ends)> {
    let (stdin, input) = if open_stdin {
        let (reader, writer) = fd::pipe(PIPE)?;
        fd::set_nonblocking(&writer, true)?;
        (reader, Some(writer))
    } else {
        (File::open("/dev/null")?.into(), None)
    };
    let (output, stdout) = fd::pipe(PIPE)?;
    let (errors, stderr) = fd::pipe(PIPE)?;
    let outputs = [Some(Source::new(output)?), Some(Source::new(errors)?)];
    Ok(([stdin, stdout, stderr], Ends { terminal: false, input, outputs }))
}

/// One pipe for output and errors in the order in which they are said, and no input.
pub fn one_pipe() -> io::Result<([OwnedFd; 3], Source)> {
    let (output, stdout) = fd::pipe(PIPE)?;
    let stderr = stdout.try_clone()?;
    Ok(([File::open("/dev/null")?.into(), stdout, stderr], Source::new(output)?))
}

/// Our end of a container's terminal.
pub fn terminal(master: OwnedFd, open_stdin: bool) -> io::Result<Ends> {
    let input = if open_stdin { Some(master.try_clone()?) } else { None };
    Ok(Ends { terminal: true, input, outputs: [Some(Source::new(master)?), None] })
}

/// Something that a container writes to.
#[derive(Debug)]
pub struct Source(AsyncFd<File>);

/// Why a read ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum More {
    /// There may be more at once.
    Now,
    /// There is no more for the moment.
    Later,
    /// Nobody can write any more.
    Never,
}

impl Source {
    fn new(end: OwnedFd) -> io::Result<Self> {
        fd::set_nonblocking(&end, true)?;
        Ok(Self(watch(File::from(end), Interest::READABLE)?))
    }

    /// Waits until there is something to read.
    pub async fn readable(&self) -> io::Result<AsyncFdReadyGuard<'_, File>> {
        self.0.readable().await
    }

    /// Reads what is there into `buffer`, at most [`PIPE`] bytes, without waiting; after [`Source::readable`].
    pub fn read(&self, buffer: &mut Vec<u8>) -> io::Result<More> {
        verdict(self.0.try_io(Interest::READABLE, |file| take(file, buffer)))
    }

    /// The same, also for what came so lately that [`Source::readable`] does not know of it yet.
    pub fn read_now(&self, buffer: &mut Vec<u8>) -> io::Result<More> {
        verdict(take(self.0.get_ref(), buffer))
    }

    /// Sets the size of the terminal that this is the end of.
    pub fn resize(&self, size: WindowSize) -> io::Result<()> {
        pty::set_window_size(self.0.get_ref().as_fd(), size)
    }
}

/// In one go and not read by read, because a terminal gives no more than 4 KiB at a time. Bytes that came before an
/// error stay in the buffer.
fn take(file: &File, buffer: &mut Vec<u8>) -> io::Result<usize> {
    buffer.clear();
    buffer.reserve_exact(PIPE);
    file.take(PIPE as u64).read_to_end(buffer)
}

fn verdict(result: io::Result<usize>) -> io::Result<More> {
    match result {
        Ok(PIPE) => Ok(More::Now),
        Ok(_) => Ok(More::Never),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(More::Later),
        Err(error) if is_hangup(&error) => Ok(More::Never),
        Err(error) => Err(error),
    }
}

/// The last program that had the terminal open has closed it.
fn is_hangup(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    error.raw_os_error() == Some(EIO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[tokio::test]
    async fn reads_what_is_there_and_no_more() {
        let ([_stdin, stdout, stderr], ends) = pipes(false).unwrap();
        let [Some(source), Some(_)] = ends.outputs else { panic!("two outputs") };
        let mut buffer = Vec::new();
        assert_eq!(source.read(&mut buffer).unwrap(), More::Later);
        let mut writer = File::from(stdout);
        writer.write_all(b"one").unwrap();
        writer.write_all(b"two").unwrap();
        drop(source.readable().await.unwrap());
        assert_eq!(source.read(&mut buffer).unwrap(), More::Later);
        assert_eq!(buffer, b"onetwo");
        writer.write_all(&[7; PIPE]).unwrap();
        drop(source.readable().await.unwrap());
        assert_eq!(source.read(&mut buffer).unwrap(), More::Now);
        assert_eq!(buffer.len(), PIPE);
        writer_gone(writer, &source, &mut buffer).await;
        drop(stderr);
    }

    async fn writer_gone(writer: File, source: &Source, buffer: &mut Vec<u8>) {
        drop(writer);
        drop(source.readable().await.unwrap());
        assert_eq!(source.read(buffer).unwrap(), More::Never);
        assert!(buffer.is_empty());
    }
}
