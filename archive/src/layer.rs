//! A writable layer as the layer of an image: what changed, as an archive in which whiteouts are files.

use std::io::Write;

use davit_sys::file::Stat;

use crate::changes::{Change, Kind, Overlay, changes};
use crate::pack::{PackError, Packer};
use crate::write::Writer;

/// What marks a name that is gone, and a directory that shows nothing of those below it.
const GONE: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Packs what an overlay's writable layer changed, and answers with the number of entries, 0 when nothing changed. The
/// archive is not ended.
///
/// Sockets are left out, and names that would be read as whiteouts: no layer can hold them.
///
/// # Errors
/// When a file cannot be read or the archive not be written. A file that vanishes meanwhile is no error.
pub fn layer(overlay: &Overlay, writer: &mut Writer<impl Write>) -> Result<u64, PackError> {
    let mut packer = Packer::new(writer, None);
    changes(overlay, &mut |change| one(&mut packer, change))?;
    Ok(packer.entries())
}

fn one(packer: &mut Packer<'_, impl Write>, change: &Change<'_>) -> Result<(), PackError> {
    if change.path.split(|byte| *byte == b'/').any(|name| name.starts_with(GONE)) {
        return Ok(());
    }
    match (change.kind, change.handle, change.stat) {
        (Kind::Deleted, _, Some(stat)) => {
            let (parent, name) = split(change.path);
            mark(packer, [parent, GONE, name].concat(), stat)
        }
        (Kind::Added | Kind::Changed | Kind::Same, Some(handle), Some(stat)) => {
            let name = if change.path.is_empty() { b"." } else { change.path };
            packer.alone(handle, name.to_vec())?;
            if change.opaque { mark(packer, [change.path, b"/", OPAQUE].concat(), stat) } else { Ok(()) }
        }
        // Its directory says so.
        _ => Ok(()),
    }
}

/// An empty file that says something of the layers below; it is nobody's.
fn mark(packer: &mut Packer<'_, impl Write>, path: Vec<u8>, stat: &Stat) -> Result<(), PackError> {
    packer.empty(path, (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)))
}

/// A path as what comes before its last name, with the slash, and that name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    path.split_at(at)
}
