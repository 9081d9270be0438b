//! `davit save`.

use std::io::IsTerminal as _;

use davit_proto::image::{ArchiveFormat, SaveRequest};
use davit_proto::status::RemoteError;

use super::archive::Archive;
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
    write(&engine, request, args.output.as_deref()).await?;
    Ok(exit::SUCCESS)
}

/// Writes an archive into a file; none for standard output.
pub async fn write(engine: &Engine, request: SaveRequest, path: Option<&str>) -> Result<(), Error> {
    let mut chunks = engine.images().await?.save(request).await.map_err(RemoteError::from)?.into_inner();
    let spinner = progress::spinner(path.is_none(), "Saving");
    // Nothing is made or replaced before the engine has said yes.
    let mut first = chunks.message().await.map_err(RemoteError::from)?;
    let mut archive = Archive::open(path)?;
    while let Some(chunk) = first.take() {
        archive.write(&chunk.chunk)?;
        spinner.inc(chunk.chunk.len() as u64);
        first = chunks.message().await.map_err(RemoteError::from)?;
    }
    archive.finish()?;
    spinner.finish_and_clear();
    Ok(())
}
