//! The new layer, in one pass over its bytes.
//!
//! ```text
//! source ─┬─▶ gzip threads ─▶ blob file, its digest
//!         └─▶ unpacker     ─▶ files, diff id
//! ```

use std::io::{self, BufReader, Read};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use davit_proto::id::Digest;

use super::document::NewLayer;
use super::gzip;
use crate::content::ContentError;
use crate::document::{Descriptor, OCI_LAYER};
use crate::lease::Lease;
use crate::snapshot::SnapshotError;
use crate::store::{Store, StoreError};
use crate::unpack::{Problem, UnpackError};

/// Bytes that go to the compressing thread at once, and how many of those may wait for it.
const PIECE: usize = 128 << 10;
const PIECES: usize = 16;
/// The diff id of an archive without entries: two blocks of zeros.
const NOTHING: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

/// Takes in a layer; none when it holds nothing. Reads the source to its end.
pub fn take_in(
    store: &Store,
    source: impl Read + Send,
    lease: &mut Lease,
) -> Result<Option<NewLayer>, StoreError> {
    let fresh = store.content().fresh()?;
    let (to_gzip, pieces) = sync_channel(PIECES);
    let (blob, unpacked) = thread::scope(|scope| {
        let compressing = scope.spawn(move || gzip::compress(&pieces, fresh));
        let mut tee = BufReader::with_capacity(PIECE, Tee { source, to_gzip });
        // Held before anybody can see it.
        let mut keep = |diff_id: &Digest| {
            lease.add(diff_id);
            diff_id.as_str() != NOTHING
        };
        let unpacked = store.snapshots().unpack_new(&mut tee, store.limits(), &mut keep);
        // The compressing thread goes on until nothing can come any more.
        drop(tee);
        (compressing.join(), unpacked)
    });
    let blob = blob.unwrap_or_else(|_| Err(io::Error::other("compressing thread ended early")));
    let fresh = match (blob, &unpacked) {
        // The source broke off because the blob could not be written.
        (Err(error), Err(SnapshotError::Unpack(UnpackError::Layer(Problem::Source(cause)))))
            if cause.kind() == io::ErrorKind::BrokenPipe =>
        {
            return Err(ContentError::io("write blob of", "the new layer")(error).into());
        }
        (Err(error), Ok(_)) => return Err(ContentError::io("write blob of", "the new layer")(error).into()),
        (Err(_), Err(_)) => None,
        (Ok(fresh), _) => Some(fresh),
    };
    let diff_id = unpacked?;
    let Some(fresh) = fresh.filter(|_| diff_id.as_str() != NOTHING) else { return Ok(None) };
    let (digest, size) = (fresh.digest(), fresh.size());
    lease.add(&digest);
    fresh.publish()?;
    let blob = Descriptor::new(format!("{OCI_LAYER}+gzip"), digest, size);
    Ok(Some(NewLayer { blob, diff_id }))
}

/// A source whose bytes are compressed while they are read.
struct Tee<R> {
    source: R,
    to_gzip: SyncSender<Vec<u8>>,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(into)?;
        if read > 0 {
            let piece = into.get(..read).unwrap_or_default().to_vec();
            self.to_gzip.send(piece).map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        Ok(read)
    }
}
