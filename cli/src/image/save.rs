//! `davit save`.

use std::fs::File;
use std::io::{IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use davit_proto::image::{ArchiveFormat, SaveRequest};
use davit_proto::status::RemoteError;

use super::progress;
use crate::args::image::{self, SaveArgs};
use crate::client::Engine;
use crate::error::Error;
use crate::{exit, usage};

/// Writes images as an archive.
pub async fn run(engine: Engine, args: SaveArgs) -> Result<u8, Error> {
    for image in &args.images {
        usage::check_target(image)?;
    }
    if args.output.is_none() && std::io::stdout().is_terminal() {
        return Err(Error::Usage(
            "an archive is nothing for a terminal: name a file with --output, or redirect".into(),
        ));
    }
    let format = match args.format_archive {
        image::ArchiveFormat::Docker => ArchiveFormat::Docker,
        image::ArchiveFormat::Oci => ArchiveFormat::Oci,
    };
    let request = SaveRequest { images: args.images, format: format.into() };
    let mut chunks = engine.images().await?.save(request).await.map_err(RemoteError::from)?.into_inner();
    let spinner = progress::spinner(args.output.is_none(), "Saving");
    // Nothing is made or replaced before the engine has said yes.
    let mut first = chunks.message().await.map_err(RemoteError::from)?;
    let mut archive = Archive::open(args.output.as_deref())?;
    while let Some(chunk) = first.take() {
        archive.write(&chunk.chunk)?;
        spinner.inc(chunk.chunk.len() as u64);
        first = chunks.message().await.map_err(RemoteError::from)?;
    }
    archive.finish()?;
    spinner.finish_and_clear();
    Ok(exit::SUCCESS)
}

/// Where an archive goes. A file appears under its name when it is whole, and not before.
pub enum Archive {
    /// Standard output.
    Stdout,
    /// A file of its own.
    File {
        /// It.
        file: File,
        /// Its name until it is whole.
        unfinished: PathBuf,
        /// Its name then.
        path: PathBuf,
        /// It is whole.
        done: bool,
    },
    /// A device or a pipe, written as it is.
    Special {
        /// It.
        file: File,
        /// Its name.
        path: PathBuf,
    },
}

impl Archive {
    /// Begins a file, or standard output.
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

    /// Writes a piece.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Self::Stdout => std::io::stdout().lock().write_all(bytes).map_err(Error::output),
            Self::File { file, path, .. } | Self::Special { file, path } => {
                file.write_all(bytes).map_err(|error| Error::io(format!("write {}", path.display()), error))
            }
        }
    }

    /// Ends it.
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
