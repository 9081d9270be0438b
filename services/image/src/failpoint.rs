//! The points of the image service where a test can make it fail, stop or wait, as [`davit_failpoint`] says.

use crate::content::ContentError;
use crate::store::StoreError;

/// Every point there is.
pub const ALL: [&str; 4] = [HELD, LET_GO, UNPACKED, NAMED];

/// It is written which image a container uses.
pub const HELD: &str = "image.held";
/// It uses it no more.
pub const LET_GO: &str = "image.let_go";
/// All layers of an image that is pulled are there.
pub const UNPACKED: &str = "image.unpacked";
/// The image has its name.
pub const NAMED: &str = "image.named";

pub(crate) fn pass(name: &'static str) -> Result<(), StoreError> {
    davit_failpoint::pass(name)
        .map_err(|failed| ContentError::io("pass the failpoint", name)(failed.into()).into())
}
