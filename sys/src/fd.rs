//! Descriptors: passing them over sockets, putting them where a program expects them, closing the rest.

#![expect(
    unsafe_code,
    reason = "close_range(2) has no wrapper; dup2 onto 0, 1, 2 changes what Rust calls stdio"
)]

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// The most descriptors in one packet; the kernel would take 253.
pub const MAX_FDS: usize = 64;

/// A pair of connected Unix sockets that keep packets apart.
pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends one packet with descriptors; never raises SIGPIPE.
pub fn send_packet(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if fds.len() > MAX_FDS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors in a packet"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("descriptors do not fit into a packet"));
    }
    let parts = [IoSlice::new(bytes)];
    loop {
        match rustix::net::sendmsg(&socket, &parts, &mut ancillary, SendFlags::NOSIGNAL) {
            Ok(sent) if sent == bytes.len() => return Ok(()),
            Ok(_) => return Err(io::Error::other("packet was cut")),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Receives one packet into `buffer`; `None` means that the other end is closed. The descriptors are close-on-exec.
pub fn receive_packet(
    socket: impl AsFd,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<Option<usize>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(buffer)];
        match rustix::net::recvmsg(&socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "packet does not fit"));
    }
    Ok((received.bytes > 0).then_some(received.bytes))
}

/// How long a receive on this socket may take before it fails with `WouldBlock`.
pub fn set_receive_timeout(socket: impl AsFd, timeout: Option<Duration>) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_timeout(socket, rustix::net::sockopt::Timeout::Recv, timeout)?)
}

/// An event counter: readable while it is not zero, and reading it makes it zero.
pub fn event_counter() -> io::Result<OwnedFd> {
    use rustix::event::EventfdFlags;
    Ok(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// A pipe, close-on-exec, its reading end first, with room for about `capacity` bytes where that is allowed.
pub fn pipe(capacity: usize) -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    match rustix::pipe::fcntl_setpipe_size(&writer, capacity) {
        // A user over the limit keeps the default size, which is enough.
        Ok(_) | Err(rustix::io::Errno::PERM) => Ok((reader, writer)),
        Err(e) => Err(e.into()),
    }
}

/// Reads and writes that would wait fail with `WouldBlock` instead, for every holder of the same description.
pub fn set_nonblocking(fd: impl AsFd, nonblocking: bool) -> io::Result<()> {
    let mut flags = rustix::fs::fcntl_getfl(&fd)?;
    flags.set(rustix::fs::OFlags::NONBLOCK, nonblocking);
    Ok(rustix::fs::fcntl_setfl(&fd, flags)?)
}

/// Waits until a file has a notification out of band (how cgroup files say that they changed), or the time is over.
pub fn wait_priority(fd: impl AsFd, timeout: Duration) -> io::Result<bool> {
    wait(fd, rustix::event::PollFlags::PRI, Some(timeout))
}

/// Waits until something can be read (for a pidfd: until the process has ended), or the time is over.
pub fn wait_readable(fd: impl AsFd, timeout: Option<Duration>) -> io::Result<bool> {
    wait(fd, rustix::event::PollFlags::IN, timeout)
}

fn wait(fd: impl AsFd, flags: rustix::event::PollFlags, timeout: Option<Duration>) -> io::Result<bool> {
    let timeout = timeout.map(rustix::event::Timespec::try_from).transpose().map_err(io::Error::other)?;
    let mut polled = [rustix::event::PollFd::new(&fd, flags)];
    match rustix::event::poll(&mut polled, timeout.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Takes over a descriptor that this process was started with, by its number, and marks it close-on-exec.
///
/// Each number can be taken once, before any other code could own it; 0, 1, 2 and unopened ones are refused.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    static TAKEN: std::sync::Mutex<Vec<RawFd>> = std::sync::Mutex::new(Vec::new());
    let mut taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if number <= 2 || taken.contains(&number) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "descriptor cannot be taken over"));
    }
    // SAFETY: F_GETFD and F_SETFD on any number are harmless.
    unsafe {
        let flags = libc::fcntl(number, libc::F_GETFD);
        if flags < 0 || libc::fcntl(number, libc::F_SETFD, flags | libc::FD_CLOEXEC) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    taken.push(number);
    // SAFETY: open, and by this call's contract owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Puts descriptors where a program expects its standard streams, open over `execve`.
pub fn replace_stdio(streams: [BorrowedFd<'_>; 3]) -> io::Result<()> {
    // Out of the way first: a stream may itself sit on 0, 1 or 2.
    let mut safe = Vec::with_capacity(3);
    for stream in streams {
        safe.push(rustix::io::fcntl_dupfd_cloexec(stream, 3)?);
    }
    for (target, stream) in (0..).zip(&safe) {
        // SAFETY: 0, 1 and 2 are never owned by a Rust value; whoever prints afterwards prints there.
        if unsafe { libc::dup2(stream.as_raw_fd(), target) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Marks everything from `first` on close-on-exec, whoever opened it.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: nothing is closed now, so no owner loses its descriptor.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn packets_keep_their_borders_and_descriptors() {
        let (a, b) = packet_pair().unwrap();
        let (reader, writer) = pipe(65536).unwrap();
        send_packet(&a, b"one", &[writer.as_fd(), writer.as_fd()]).unwrap();
        send_packet(&a, b"two", &[]).unwrap();
        drop(writer);
        let (mut buffer, mut fds) = ([0u8; 64], Vec::new());
        assert_eq!(receive_packet(&b, &mut buffer, &mut fds).unwrap(), Some(3));
        assert_eq!((&buffer[..3], fds.len()), (&b"one"[..], 2));
        std::fs::File::from(fds.remove(0)).write_all(b"through").unwrap();
        fds.clear();
        let mut text = String::new();
        std::fs::File::from(reader).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        assert_eq!(receive_packet(&b, &mut buffer, &mut fds).unwrap(), Some(3));
        assert!(fds.is_empty());
        drop(a);
        assert_eq!(receive_packet(&b, &mut buffer, &mut fds).unwrap(), None);
    }

    #[test]
    fn a_packet_that_does_not_fit_is_an_error() {
        let (a, b) = packet_pair().unwrap();
        send_packet(&a, &[7; 100], &[]).unwrap();
        assert!(receive_packet(&b, &mut [0; 10], &mut Vec::new()).is_err());
        set_receive_timeout(&b, Some(Duration::from_millis(5))).unwrap();
        let error = receive_packet(&b, &mut [0; 10], &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_number_is_inherited_once() {
        let (reader, writer) = pipe(4096).unwrap();
        let number = std::os::fd::IntoRawFd::into_raw_fd(reader);
        let taken = inherited(number).unwrap();
        assert!(inherited(number).is_err());
        assert!(inherited(1).is_err());
        assert!(inherited(9999).is_err());
        drop((taken, writer));
    }
}
