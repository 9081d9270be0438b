//! The terminal in front of the person: its size, and raw mode that ends on every way out.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
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
        let failed = |source| Error::io("put the terminal into raw mode", source);
        // No signal may end us between the change and the moment somebody can undo it.
        let raw = RawMode::enter(io::stdin().as_fd()).map_err(failed)?;
        *RAW.lock().map_err(|_| failed(io::ErrorKind::Other.into()))? = Some(raw);
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
