//! The points of the volume service where a test can make it fail, stop or wait, as [`davit_failpoint`] says.

use std::path::Path;

use crate::error::Error;

/// Every point there is.
pub const ALL: [&str; 3] = [RECORDED, READY, DISCARDED];

/// It is written which volumes a container uses.
pub const RECORDED: &str = "volume.recorded";
/// They are there.
pub const READY: &str = "volume.ready";
/// Those that it did not name are gone.
pub const DISCARDED: &str = "volume.discarded";

pub(crate) fn pass(name: &'static str) -> Result<(), Error> {
    davit_failpoint::pass(name)
        .map_err(|failed| Error::file("pass the failpoint", Path::new(name))(failed.into()))
}
