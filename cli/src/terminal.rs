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
