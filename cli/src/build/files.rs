//! The files of a result as they come: into folders of this side, and into archives.

use std::io::{self, BufReader, Read};
use std::path::Path;

use bytes::Bytes;
use davit_archive::extract::Limits;
use davit_archive::{Owners, extract};
use davit_sys::file;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::Error;
use crate::image::archive::Archive;

/// Pieces that may wait for the disk.
const WAITING: usize = 8;

/// Where the files of one result go.
#[derive(Default)]
pub struct Files {
    archives: Vec<Archive>,
    folders: Vec<Folder>,
}

/// A folder that files are written into by a thread of its own.
struct Folder {
    pieces: mpsc::Sender<Bytes>,
    written: JoinHandle<Result<(), Error>>,
}

impl Files {
    /// Adds an archive; none for standard output.
    pub fn add_archive(&mut self, path: Option<&str>) -> Result<(), Error> {
        self.archives.push(Archive::open(path)?);
        Ok(())
    }

    /// Adds a folder, which is made where it is not there. Files of the same names are replaced, others stay.
    pub fn add_folder(&mut self, path: &str) -> Result<(), Error> {
        let failed = |error| Error::io(format!("open {path}"), error);
        std::fs::create_dir_all(path).map_err(failed)?;
        let directory = file::open_dir(Path::new(path)).map_err(failed)?;
        // Only root can give files away.
        let owners = if rustix::process::geteuid().is_root() { Owners::Kept(None) } else { Owners::Caller };
        let (pieces, waiting) = mpsc::channel(WAITING);
        let path = path.to_owned();
        let written = tokio::task::spawn_blocking(move || {
            let source = BufReader::new(Incoming { pieces: waiting, open: Bytes::new() });
            let extracted = extract(source, directory, owners, &Limits::default());
            extracted.map(drop).map_err(|error| {
                let why = davit_proto::status::chain(&error);
                Error::Usage(format!("write the files of the result into {path}: {why}"))
            })
        });
        self.folders.push(Folder { pieces, written });
        Ok(())
    }

    /// Writes a piece everywhere.
    pub async fn write(&mut self, piece: &Bytes) -> Result<(), Error> {
        for archive in &mut self.archives {
            archive.write(piece)?;
        }
        for folder in &self.folders {
            if folder.pieces.send(piece.clone()).await.is_err() {
                // It has failed, and says why at the end.
                break;
            }
        }
        Ok(())
    }

    /// All pieces are written: waits until everything is on the disk.
    pub async fn finish(self) -> Result<(), Error> {
        for mut archive in self.archives {
            archive.finish()?;
        }
        for Folder { pieces, written } in self.folders {
            drop(pieces);
            let gone = |_| Error::Usage("writing the files of the result ended early".to_owned());
            written.await.map_err(gone)??;
        }
        Ok(())
    }
}

/// The pieces as one stream of bytes. Its end without an archive's end is an error of the archive.
struct Incoming {
    pieces: mpsc::Receiver<Bytes>,
    open: Bytes,
}

impl Read for Incoming {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.open.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.open = piece,
                None => return Ok(0),
            }
        }
        let length = into.len().min(self.open.len());
        into[..length].copy_from_slice(&self.open.split_to(length));
        Ok(length)
    }
}
