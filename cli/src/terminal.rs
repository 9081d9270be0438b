//! The terminal in front of the person: its size, and raw mode that ends on every way out.

use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Mutex;

use davit_proto::types::TerminalSize;
use davit_sys::pty::{self, RawMode};

use crate::error::Error;

/// Raw mode while it lasts. Not in the guard itself, because a panic that aborts drops no guard: the panic
/// hook takes it from here.
static RAW: Mutex<Option<RawMode>> = Mutex::new(None);

/// Standard input in raw mode, until this value is gone or the program panics.
#[derive(Debug)]
pub struct Raw(());

impl Raw {
    /// Puts the terminal at standard input into raw mode.
    pub fn enter() -> Result<Self, Error> {
        Self::enter_at(io::stdin().as_fd())
            .map_err(|source| Error::io("put the terminal into raw mode", source))
    }

    fn enter_at(terminal: BorrowedFd<'_>) -> io::Result<Self> {
        let raw = RawMode::enter(terminal)?;
        *RAW.lock().map_err(|_| io::ErrorKind::Other)? = Some(raw);
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            told(panic);
        }));
        Ok(Self(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    if let Ok(mut raw) = RAW.try_lock() {
        *raw = None;
    }
}

/// Whether the terminal is raw now, so that a line needs both of its ends.
pub fn is_raw() -> bool {
    RAW.try_lock().is_ok_and(|raw| raw.is_some())
}

/// Whether a person types at standard input.
pub fn at_stdin() -> bool {
    io::stdin().is_terminal()
}

/// Reads a line that nobody shall see. Ctrl-C ends it, as it would end the program.
pub fn secret() -> Result<String, Error> {
    let raw = Raw::enter()?;
    let typed = read_secret(io::stdin().lock());
    drop(raw);
    // The key that ended the line moved nothing.
    crate::output::print("\n")?;
    typed.map_err(|error| Error::io("read the password", error))
}

fn read_secret(from: impl io::BufRead) -> io::Result<String> {
    const LIMIT: usize = 64 << 10;
    const INTERRUPT: u8 = 3;
    const END: u8 = 4;
    const ERASE_LINE: u8 = 21;
    let mut typed: Vec<char> = Vec::new();
    let mut pending = Vec::new();
    for byte in from.bytes() {
        match byte? {
            b'\r' | b'\n' | END => break,
            INTERRUPT => return Err(io::ErrorKind::Interrupted.into()),
            ERASE_LINE => typed.clear(),
            8 | 127 => drop(typed.pop()),
            byte if typed.len() < LIMIT => {
                pending.push(byte);
                if let Ok(text) = std::str::from_utf8(&pending) {
                    typed.extend(text.chars());
                    pending.clear();
                }
            }
            _ => {}
        }
    }
    Ok(typed.into_iter().collect())
}

/// Size of the terminal at the first of our streams that is one.
pub fn size() -> Option<TerminalSize> {
    let known = pty::window_size(io::stdout()).or_else(|_| pty::window_size(io::stdin()));
    let size = known.or_else(|_| pty::window_size(io::stderr())).ok()?;
    // A terminal that never learnt its size says 0; that is no size to give a program.
    (size.rows > 0 && size.columns > 0)
        .then(|| TerminalSize { rows: size.rows.into(), columns: size.columns.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_secret_is_typed_as_on_any_terminal() {
        let read = |bytes: &[u8]| read_secret(bytes);
        assert_eq!(read(b"hunter2\rx").unwrap(), "hunter2");
        assert_eq!(read("h\u{fc}\u{7f}ax\u{8}\n".as_bytes()).unwrap(), "ha");
        assert_eq!(read(b"wrong\x15right\x04").unwrap(), "right");
        assert_eq!(read(b"a\x03").unwrap_err().kind(), io::ErrorKind::Interrupted);
    }

    #[test]
    fn a_panic_and_an_ordinary_end_both_restore_the_terminal() {
        let devpts = std::fs::File::open("/dev/pts").unwrap();
        let pty = pty::open(&devpts).unwrap();
        let name = format!("/dev/pts/{}", pty.index);
        let echoes = || {
            let modes = Command::new("stty").args(["-F", &name, "-a"]).output().unwrap();
            String::from_utf8(modes.stdout).unwrap().split_whitespace().any(|word| word == "echo")
        };
        assert!(echoes());
        let raw = Raw::enter_at(pty.slave.as_fd()).unwrap();
        assert!(!echoes() && is_raw());
        drop(raw);
        assert!(echoes() && !is_raw());

        let raw = Raw::enter_at(pty.slave.as_fd()).unwrap();
        assert!(!echoes());
        // The hook alone must do it: with panic = "abort" nothing is dropped.
        let panicked = std::panic::catch_unwind(|| {
            std::panic::panic_any("on purpose");
        });
        assert!(panicked.is_err() && echoes() && !is_raw());
        drop(raw);
    }
}
