//! The question before something is lost.

use std::io::{BufRead as _, Read as _};

use crate::error::Error;
use crate::output;

/// Asks, and says whether the answer was yes.
pub fn ask(warning: &str) -> Result<bool, Error> {
    output::print(&format!("WARNING! {warning}\nAre you sure you want to continue? [y/N] "))?;
    let mut answer = String::new();
    let read = std::io::stdin().lock().take(64).read_line(&mut answer);
    read.map_err(|error| Error::io("read the answer", error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
}
