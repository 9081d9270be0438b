//! Files from web servers: fetched once, known again by what the server says of them, and told apart by their digest.
//!
//! ```text
//! <root>/build/fetched/<sha256 of the address>    {digest, size, etag, last_modified, name}
//! ```
//!
//! With a checksum that the file of last time has, nobody is asked. Otherwise the server is asked whether it has
//! anything newer, and nothing travels when it has not. The record is written after the file was synced.

mod web;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;

use bytes::Bytes;
use davit_dockerfile::remote::without_credentials;
use davit_sys::file::{Durability, read_bounded, sync_file_system, write_atomic};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::context::{Store, Stored};
use crate::error::Error;

/// Bytes of a record.
const RECORD: usize = 64 << 10;
/// Records that are looked at.
const PIECES: usize = 16;

/// A file that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its content.
    pub stored: Stored,
    /// The name that its address or its server gives it; empty where neither does.
    pub name: String,
    /// What the server says of when it was modified, and of what it is.
    last_modified: String,
    etag: String,
}

impl Fetched {
    /// When it was modified, in seconds since 1970; 0 where the server does not say.
    pub fn modified(&self) -> i64 {
        web::date(&self.last_modified).unwrap_or(0)
    }

    fn record(&self) -> Value {
        let Self { stored, name, last_modified, etag } = self;
        json!({
            "digest": stored.digest, "size": stored.size, "name": name,
            "last_modified": last_modified, "etag": etag,
        })
    }

    fn read(record: &[u8]) -> Option<Self> {
        let record: Value = serde_json::from_slice(record).ok()?;
        let text = |name: &str| record.get(name).and_then(Value::as_str).map(str::to_owned);
        let digest = text("digest").filter(|digest| is_digest(digest))?;
        let size = record.get("size").and_then(Value::as_u64)?;
        let (name, last_modified, etag) = (text("name")?, text("last_modified")?, text("etag")?);
        Some(Self { stored: Stored { digest, size }, name, last_modified, etag })
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The digest that `--checksum` says.
///
/// # Errors
/// It is none.
pub fn checksum(text: &str) -> Result<&str, Error> {
    let digest = text.strip_prefix("sha256:").filter(|digest| is_digest(digest));
    digest.ok_or_else(|| {
        Error::Invalid(format!("invalid --checksum {text:?}: must be sha256: and 64 digits in lower case"))
    })
}

/// Fetches a file, or finds that it is here. `wanted` is the digest that it must have.
///
/// # Errors
/// It cannot be fetched, or is something else than is wanted.
pub async fn fetch(store: &Store, address: &str, wanted: Option<&str>) -> Result<Fetched, Error> {
    let path = store.record(address);
    let (own, name) = (store.clone(), path.clone());
    let known = crate::stage::blocking(move || own.known(&name)).await?;
    if let Some(known) = &known
        && Some(known.stored.digest.as_str()) == wanted
    {
        return Ok(known.clone());
    }
    let fetched = match web::get(address, known.as_ref()).await? {
        web::Answer::Unchanged => known.ok_or(Error::Lost)?,
        web::Answer::New(answer) => {
            let stored = take_in(store, address, answer.response).await?;
            let fetched =
                Fetched { stored, name: answer.name, last_modified: answer.last_modified, etag: answer.etag };
            let (own, record) = (store.clone(), fetched.record().to_string());
            crate::stage::blocking(move || own.keep(&path, &record)).await?;
            fetched
        }
    };
    match wanted {
        Some(wanted) if wanted != fetched.stored.digest => Err(Error::Checksum {
            address: without_credentials(address),
            wanted: format!("sha256:{wanted}"),
            found: format!("sha256:{}", fetched.stored.digest),
        }),
        _ => Ok(fetched),
    }
}

/// Takes a file in as it comes; only the disk bounds it.
async fn take_in(store: &Store, address: &str, mut response: reqwest::Response) -> Result<Stored, Error> {
    let (pieces, mut waiting) = mpsc::channel::<Bytes>(PIECES);
    let store = store.clone();
    let writing = tokio::task::spawn_blocking(move || {
        let mut blob = store.blob_writer()?;
        while let Some(piece) = waiting.blocking_recv() {
            if piece.is_empty() {
                return blob.finish();
            }
            blob.write_all(&piece)?;
        }
        // Whoever fetches was cut off.
        Err(io::ErrorKind::UnexpectedEof.into())
    });
    while let Some(piece) = web::piece(&mut response, address).await? {
        // Who does not take it any more says why below.
        if !piece.is_empty() && pieces.send(piece).await.is_err() {
            break;
        }
    }
    let _ = pieces.send(Bytes::new()).await;
    let written = writing.await.map_err(|_| Error::Lost)?;
    written.map_err(Error::io(format!("keep {}", without_credentials(address))))
}

impl Store {
    fn record(&self, address: &str) -> PathBuf {
        self.folder().join("fetched").join(hex::encode(Sha256::digest(address.as_bytes())))
    }

    /// What is known of an address, if its file is here.
    fn known(&self, path: &std::path::Path) -> Result<Option<Fetched>, Error> {
        match read_bounded(path, RECORD) {
            Ok(bytes) => Ok(Fetched::read(&bytes).filter(|known| self.has(&known.stored.digest))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(format!("read {}", path.display()))(error)),
        }
    }

    fn keep(&self, path: &std::path::Path, record: &str) -> Result<(), Error> {
        let write = || {
            let folder = File::open(self.folder().join("fetched"))?;
            sync_file_system(&folder)?;
            write_atomic(&folder, path.file_name().unwrap_or_default(), record.as_bytes(), Durability::Synced)
        };
        write().map_err(Error::io(format!("write {}", path.display())))
    }

    /// Removes all records.
    ///
    /// # Errors
    /// One cannot be removed.
    pub fn forget_fetched(&self) -> io::Result<()> {
        fs::read_dir(self.folder().join("fetched"))?.try_for_each(|entry| fs::remove_file(entry?.path()))
    }

    /// The files that records name.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn fetched_digests(&self) -> io::Result<Vec<String>> {
        let mut digests = Vec::new();
        for entry in fs::read_dir(self.folder().join("fetched"))? {
            let record = read_bounded(&entry?.path(), RECORD)?;
            digests.extend(Fetched::read(&record).map(|fetched| fetched.stored.digest));
        }
        Ok(digests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_written_and_nothing_else_is() {
        let fetched = Fetched {
            stored: Stored { digest: "a".repeat(64), size: 7 },
            name: "x".to_owned(),
            last_modified: "Sun, 06 Nov 1994 08:49:37 GMT".to_owned(),
            etag: "\"1\"".to_owned(),
        };
        assert_eq!(Fetched::read(fetched.record().to_string().as_bytes()), Some(fetched.clone()));
        assert_eq!(fetched.modified(), 784_111_777);
        let bent = fetched.record().to_string().replace("aaaa", "../a");
        assert_eq!(Fetched::read(bent.as_bytes()), None);
        assert_eq!(Fetched::read(b"{}"), None);
    }

    #[test]
    fn checksums_are_whole() {
        assert!(checksum(&format!("sha256:{}", "0".repeat(64))).is_ok());
        for wrong in ["sha256:0", "md5:00", "", "sha512:00"] {
            assert!(checksum(wrong).is_err(), "{wrong}");
        }
    }
}
