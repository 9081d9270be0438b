//! Pseudo-terminals and the terminal one sits at.

#![expect(unsafe_code, reason = "TIOCSCTTY has no wrapper")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios, Winsize};

/// Rows and columns of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

/// Both ends of a pseudo-terminal.
#[derive(Debug)]
pub struct Pty {
    /// The engine's end.
    pub master: OwnedFd,
    /// The program's end.
    pub slave: OwnedFd,
    /// The slave's name in its devpts: `/dev/pts/<index>`.
    pub index: u32,
}

/// Opens a pseudo-terminal of the devpts instance whose root directory is given, and no other's.
pub fn open(devpts: impl AsFd) -> io::Result<Pty> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let master = rustix::fs::openat(devpts, c"ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&master)?;
    // By the master and not by name, so that nothing put in between can be opened instead.
    let slave_flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, slave_flags)?;
    let mut index: libc::c_uint = 0;
    // SAFETY: TIOCGPTN writes one integer.
    if unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &mut index) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Pty { master, slave, index })
}

/// Makes a terminal the controlling one of the calling session leader.
pub fn set_controlling(terminal: impl AsFd) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer.
    if unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The size of a terminal's window.
pub fn window_size(terminal: impl AsFd) -> io::Result<WindowSize> {
    let size = rustix::termios::tcgetwinsize(terminal)?;
    Ok(WindowSize { rows: size.ws_row, columns: size.ws_col })
}

/// Sets the size of a terminal's window; its foreground processes get SIGWINCH when it changes.
pub fn set_window_size(terminal: impl AsFd, size: WindowSize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

/// Whether a descriptor is a terminal.
pub fn is_terminal(fd: impl AsFd) -> bool {
    rustix::termios::isatty(fd)
}

/// A terminal in raw mode, until this value is gone.
#[derive(Debug)]
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Puts a terminal into raw mode: bytes as they are typed, no echo, no signals.
    pub fn enter(terminal: BorrowedFd<'_>) -> io::Result<Self> {
        let terminal = terminal.try_clone_to_owned()?;
        let before = rustix::termios::tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&terminal, OptionalActions::Drain, &raw)?;
        Ok(Self { terminal, before })
    }

    /// Restores the mode from before, and says whether that worked.
    pub fn leave(self) -> io::Result<()> {
        Ok(rustix::termios::tcsetattr(&self.terminal, OptionalActions::Drain, &self.before)?)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nobody is left to tell; the terminal may be gone.
        let _ = rustix::termios::tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::termios::LocalModes;
    use std::path::Path;

    fn pty() -> Pty {
        open(crate::file::open_dir(Path::new("/dev/pts")).unwrap()).unwrap()
    }

    #[test]
    fn size_is_seen_from_both_ends() {
        let pty = pty();
        set_window_size(&pty.master, WindowSize { rows: 33, columns: 101 }).unwrap();
        assert_eq!(window_size(&pty.slave).unwrap(), WindowSize { rows: 33, columns: 101 });
        assert!(is_terminal(&pty.slave));
        assert!(Path::new("/dev/pts").join(pty.index.to_string()).exists());
    }

    #[test]
    fn raw_mode_ends_with_its_guard() {
        let pty = pty();
        let echo = |fd: &OwnedFd| {
            rustix::termios::tcgetattr(fd).unwrap().local_modes.contains(LocalModes::ECHO | LocalModes::ISIG)
        };
        assert!(echo(&pty.slave));
        let raw = RawMode::enter(pty.slave.as_fd()).unwrap();
        assert!(!echo(&pty.slave));
        drop(raw);
        assert!(echo(&pty.slave));
        RawMode::enter(pty.slave.as_fd()).unwrap().leave().unwrap();
        assert!(echo(&pty.slave));
    }
}
