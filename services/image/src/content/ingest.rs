//! Taking in one blob: a partial file, named by the digest it shall have, that becomes a blob or stays for later.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

use davit_proto::id::Digest;
use davit_sys::file::{self, OFlags};

use super::{ContentError, Folders, Turn};
use crate::digest::Hasher;

const BUFFER: usize = 128 << 10;

/// A blob that is to be taken in, with what earlier attempts left of it.
#[derive(Debug)]
pub struct Ingest {
    writer: BlobWriter,
    /// Bytes that are in the partial file and not yet hashed.
    left: u64,
}

/// Writes a blob from where it stands to its end.
#[derive(Debug)]
pub struct BlobWriter {
    folders: Arc<Folders>,
    file: File,
    digest: Digest,
    size: u64,
    position: u64,
    hasher: Hasher,
    /// Held until the blob is whole or given up.
    _turn: Turn,
}

impl Ingest {
    pub(super) fn open(
        folders: Arc<Folders>,
        turn: Turn,
        digest: &Digest,
        size: u64,
    ) -> Result<Self, ContentError> {
        let name = name(digest);
        let open = || -> io::Result<(File, u64)> {
            let fd = file::open_at(&folders.ingest, name.as_ref(), OFlags::RDWR | OFlags::CREATE, 0o600)?;
            let file = File::from(fd);
            let mut left = file.metadata()?.len();
            if left > size {
                file.set_len(0)?;
                left = 0;
            }
            Ok((file, left))
        };
        let (file, left) = open().map_err(ContentError::io("open partial blob", digest))?;
        let writer = BlobWriter {
            folders,
            file,
            digest: digest.clone(),
            size,
            position: 0,
            hasher: Hasher::default(),
            _turn: turn,
        };
        Ok(Self { writer, left })
    }

    /// How many bytes an earlier attempt left.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Reads what an earlier attempt left, shows it to `each`, and goes on behind it.
    ///
    /// `each` ends the reading by answering false; what it was shown is then all that counts as read.
    pub fn resume(self, mut each: impl FnMut(&[u8]) -> bool) -> Result<BlobWriter, ContentError> {
        let mut writer = self.writer;
        let mut buffer = vec![0; BUFFER];
        loop {
            let n = match writer.file.read(&mut buffer) {
                Ok(0) => return Ok(writer),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(ContentError::io("read partial blob", &writer.digest)(e)),
            };
            let piece = &buffer[..n];
            writer.hasher.update(piece);
            writer.position += n as u64;
            if !each(piece) {
                return Ok(writer);
            }
        }
    }

    /// Begins anew, whatever an earlier attempt left.
    pub fn restart(self) -> Result<BlobWriter, ContentError> {
        let writer = self.writer;
        writer.file.set_len(0).map_err(ContentError::io("empty partial blob", &writer.digest))?;
        Ok(writer)
    }
}

impl BlobWriter {
    /// How many bytes are there; the next one written follows them.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether as many bytes are there as there shall be.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.position == self.size
    }

    /// Takes more bytes. More than the blob's size are refused.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ContentError> {
        let after = self.position.saturating_add(bytes.len() as u64);
        if after > self.size {
            return Err(self.wrong_size(after));
        }
        self.file.write_all(bytes).map_err(ContentError::io("write partial blob", &self.digest))?;
        self.hasher.update(bytes);
        self.position = after;
        Ok(())
    }

    /// Verifies what was written and makes it a blob. Bytes that are not those of the digest are thrown away; too few
    /// are kept for the next attempt.
    pub fn commit(self) -> Result<(), ContentError> {
        let writer = self.verify()?;
        let (folders, name) = (&writer.folders, name(&writer.digest));
        let publish = || {
            writer.file.sync_data()?;
            file::rename_at(&folders.ingest, name.as_ref(), &folders.blobs, writer.digest.hex().as_ref())?;
            file::sync_dir(&folders.blobs)
        };
        publish().map_err(ContentError::io("keep blob", &writer.digest))
    }

    /// As [`BlobWriter::commit`], without making it a blob yet.
    pub fn verify(self) -> Result<Self, ContentError> {
        if self.position != self.size {
            return Err(self.wrong_size(self.position));
        }
        let actual = self.hasher.clone().finish();
        if actual != self.digest {
            let expected = self.digest.clone();
            self.discard()?;
            return Err(ContentError::WrongDigest { expected, actual });
        }
        Ok(self)
    }

    /// Throws away what was written.
    pub fn discard(self) -> Result<(), ContentError> {
        super::remove_file(&self.folders.ingest, &name(&self.digest))
            .map_err(ContentError::io("remove partial blob", &self.digest))
    }

    fn wrong_size(&self, actual: u64) -> ContentError {
        ContentError::WrongSize { digest: self.digest.clone(), expected: self.size, actual }
    }
}

fn name(digest: &Digest) -> String {
    format!("{}.part", digest.hex())
}
