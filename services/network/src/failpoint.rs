//! The points of the network service where a test can make it fail, stop or wait, as [`davit_failpoint`] says.

use crate::error::Error;

/// Every point there is.
pub const ALL: [&str; 6] = [LEASED, WIRED, NAMED, PUBLISHED, WITHDRAWN, FORGOTTEN];

/// A container has addresses, on disk.
pub const LEASED: &str = "network.leased";
/// It has its links.
pub const WIRED: &str = "network.wired";
/// The zones tell its names.
pub const NAMED: &str = "network.named";
/// Its ports lead to it.
pub const PUBLISHED: &str = "network.published";
/// They lead nowhere any more.
pub const WITHDRAWN: &str = "network.withdrawn";
/// Its addresses are free.
pub const FORGOTTEN: &str = "network.forgotten";

pub(crate) fn pass(name: &'static str) -> Result<(), Error> {
    davit_failpoint::pass(name).map_err(|failed| Error::kernel("pass a failpoint")(failed.into()))
}
