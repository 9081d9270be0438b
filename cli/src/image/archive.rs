//! Archives that come from the engine, on their way to a file.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Where an archive goes. A file appears under its name when it is whole, and not before.
pub enum Archive {
    /// Standard output.
    Stdout,
    /// A file.
    File {
        /// Open for writing.
        file: File,
        /// Its name until it is whole.
        unfinished: PathBuf,
        /// Its name.
        path: PathBuf,
        /// It has it.
        done: bool,
    },
    /// A device or a pipe, written as it is.
    Special {
        /// Open for writing.
        file: File,
        /// Its name.
        path: PathBuf,
    },
}

impl Archive {
    /// Opens it; none for standard output.
    pub fn open(path: Option<&str>) -> Result<Self, Error> {
        let Some(path) = path.map(PathBuf::from) else {
            return Ok(Self::Stdout);
        };
        let failed = |error| Error::io(format!("make {}", path.display()), error);
        if std::fs::metadata(&path).is_ok_and(|meta| !meta.is_file()) {
            let file = File::options().write(true).open(&path).map_err(failed)?;
            return Ok(Self::Special { file, path });
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let folder = path.parent().unwrap_or(Path::new(""));
        let unfinished = folder.join(format!(".{name}.{}", std::process::id()));
        let file = File::create_new(&unfinished).map_err(failed)?;
        Ok(Self::File { file, unfinished, path, done: false })
    }

    /// Writes more of it.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Self::Stdout => std::io::stdout().lock().write_all(bytes).map_err(Error::output),
            Self::File { file, path, .. } | Self::Special { file, path } => {
                file.write_all(bytes).map_err(|error| Error::io(format!("write {}", path.display()), error))
            }
        }
    }

    /// Ends it: now it has its name.
    pub fn finish(&mut self) -> Result<(), Error> {
        match self {
            Self::Stdout => std::io::stdout().lock().flush().map_err(Error::output),
            Self::Special { .. } => Ok(()),
            Self::File { file, unfinished, path, done } => {
                let moved = file.sync_all().and_then(|()| std::fs::rename(unfinished, &path));
                moved.map_err(|error| Error::io(format!("finish {}", path.display()), error))?;
                *done = true;
                Ok(())
            }
        }
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        if let Self::File { unfinished, done: false, .. } = self {
            // Half an archive is no archive; the failure itself is told elsewhere.
            let _ = std::fs::remove_file(unfinished);
        }
    }
}
