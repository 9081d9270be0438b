//! A file that goes into the store as it comes, and has its name when its last byte is there.

use std::io::{self, Seek as _, SeekFrom, Write};

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::Store;

/// A file whose digest is not known yet. Dropped before its end, it leaves nothing.
#[derive(Debug)]
pub struct Blob {
    store: Store,
    file: NamedTempFile,
    digest: Sha256,
    length: u64,
    /// Bytes at the end that are zero and were not written.
    hole: u64,
}

/// What a file became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// SHA-256 of its content, in hex.
    pub digest: String,
    /// Bytes.
    pub size: u64,
}

impl Store {
    /// Begins a file.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn blob_writer(&self) -> io::Result<Blob> {
        let file = NamedTempFile::new_in(self.inner.folder.join("blobs"))?;
        Ok(Blob { store: self.clone(), file, digest: Sha256::new(), length: 0, hole: 0 })
    }

    /// Whether a file is here.
    pub fn has(&self, digest: &str) -> bool {
        self.blob(digest).is_file()
    }
}

impl Blob {
    /// All is there: it has its name.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn finish(self) -> io::Result<Stored> {
        if self.hole > 0 {
            self.file.as_file().set_len(self.length)?;
        }
        let digest = hex::encode(self.digest.finalize());
        self.file.persist(self.store.blob(&digest)).map_err(|error| error.error)?;
        Ok(Stored { digest, size: self.length })
    }
}

impl Write for Blob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Long stretches of zeros take no room on the disk.
        let zero = bytes.len() >= HOLE && bytes.iter().all(|byte| *byte == 0);
        if zero {
            self.hole += bytes.len() as u64;
        } else {
            if self.hole > 0 {
                self.file.as_file_mut().seek(SeekFrom::Start(self.length))?;
                self.hole = 0;
            }
            self.file.as_file_mut().write_all(bytes)?;
        }
        self.digest.update(bytes);
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// From how many zero bytes on they are left out.
const HOLE: usize = 4096;
