//! The files of one log, as they are at one moment: `stdio.log` is written to, `stdio.log.1` and so on are
//! older, the highest number the oldest.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

/// Name of the file that is written to.
const NAME: &str = "stdio.log";
/// How often a look at the files is repeated because they were rotated meanwhile.
const TRIES: usize = 100;

/// One file of a log.
#[derive(Debug)]
pub struct Piece {
    file: File,
    /// Device and inode: what the file is, whatever it is named. Held open, so never another's.
    identity: (u64, u64),
}

impl Piece {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let found = file.metadata()?;
        Ok(Self { identity: (found.dev(), found.ino()), file })
    }

    /// Whether both are the same file.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.identity == other.identity
    }

    /// Its present length.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Reads from a position on, until the buffer is full or the file ends.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, position + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

/// All files of the log in a folder, oldest first. The answer is of one moment: no rotation lies between
/// the first and the last.
///
/// # Errors
/// When the folder cannot be read, or is rotated faster than it can be looked at.
pub fn pieces(folder: &Path) -> io::Result<Vec<Piece>> {
    for _ in 0..TRIES {
        let before = names(folder)?;
        let mut opened = Vec::with_capacity(before.len());
        for (_, name, identity) in &before {
            match Piece::open(&folder.join(name)) {
                Ok(piece) if piece.identity == *identity => opened.push(piece),
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
        }
        if opened.len() == before.len() && names(folder)? == before {
            return Ok(opened);
        }
    }
    Err(io::Error::other("the log is rotated faster than it can be read"))
}

type Named = (u32, String, (u64, u64));

/// Numbers, names and identities of a log's files, oldest first.
fn names(folder: &Path) -> io::Result<Vec<Named>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        let number = match name.strip_prefix(NAME) {
            Some("") => Some(0),
            Some(rest) => rest.strip_prefix('.').and_then(|digits| digits.parse::<u32>().ok()),
            None => None,
        };
        let Some(number) = number else { continue };
        match fs::symlink_metadata(entry.path()) {
            Ok(file) if file.is_file() => found.push((number, name, (file.dev(), file.ino()))),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_by(|(a, ..), (b, ..)| b.cmp(a));
    Ok(found)
}

/// Whether a file is still the one that is written to.
///
/// # Errors
/// When the folder cannot be looked at.
pub fn is_current(folder: &Path, piece: &Piece) -> io::Result<bool> {
    match fs::symlink_metadata(folder.join(NAME)) {
        Ok(found) => Ok((found.dev(), found.ino()) == piece.identity),
        // In the middle of a rotation, or the container is being removed: nothing younger to go to.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}
