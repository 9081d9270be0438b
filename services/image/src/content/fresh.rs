//! A blob that is made here: its digest is known when its last byte is.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use davit_proto::id::Digest;
use davit_sys::file::{self, OFlags};

use super::{ContentError, Folders};
use crate::digest::Hasher;

const PREFIX: &str = "new-";
const SUFFIX: &str = ".blob";

/// Whether a file on its way belongs to a process that has ended, for no other has begun one yet.
pub(super) fn is_left(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// Bytes that are to become a blob. They are thrown away with this, unless they were published.
#[derive(Debug)]
pub struct Fresh {
    folders: Arc<Folders>,
    name: String,
    file: File,
    hasher: Hasher,
    size: u64,
    published: bool,
}

impl Fresh {
    pub(super) fn create(folders: Arc<Folders>) -> Result<Self, ContentError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let name = format!("{PREFIX}{}{SUFFIX}", COUNTER.fetch_add(1, Ordering::Relaxed));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let file = file::open_at(&folders.ingest, name.as_ref(), flags, 0o600)
            .map_err(ContentError::io("make new blob", &name))?;
        Ok(Self { folders, name, file: file.into(), hasher: Hasher::default(), size: 0, published: false })
    }

    /// The digest of what was written so far.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// The number of bytes written so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Makes what was written a blob, durably. One of the same bytes that is here already is replaced by it.
    pub fn publish(mut self) -> Result<(), ContentError> {
        let digest = self.digest();
        let publish = || {
            self.file.sync_data()?;
            let (from, to) = (&self.folders.ingest, &self.folders.blobs);
            file::rename_at(from, self.name.as_ref(), to, digest.hex().as_ref())?;
            file::sync_dir(to)
        };
        publish().map_err(ContentError::io("keep blob", &digest))?;
        self.published = true;
        Ok(())
    }
}

impl Write for Fresh {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = super::remove_file(&self.folders.ingest, &self.name)
        {
            tracing::warn!(name = %self.name, %error, "could not remove an unfinished blob");
        }
    }
}
