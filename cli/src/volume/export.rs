//! `davit volume export`.

use std::io::IsTerminal as _;

use davit_proto::status::RemoteError;
use davit_proto::volume::ExportRequest;

use crate::args::volume::ExportArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::image::archive::Archive;
use crate::image::progress;
use crate::{exit, usage};

/// Writes a volume's files as an archive.
pub async fn run(engine: Engine, args: ExportArgs) -> Result<u8, Error> {
    usage::check_target(&args.volume)?;
    if args.output.is_none() && std::io::stdout().is_terminal() {
        return Err(Error::Usage(
            "an archive is nothing for a terminal: name a file with --output, or redirect".into(),
        ));
    }
    let request = ExportRequest { name: args.volume };
    let mut chunks = engine.volumes().await?.export(request).await.map_err(RemoteError::from)?.into_inner();
    let spinner = progress::spinner(args.output.is_none(), "Exporting");
    // Nothing is made or replaced before the engine has said yes.
    let mut next = chunks.message().await.map_err(RemoteError::from)?;
    let mut archive = Archive::open(args.output.as_deref())?;
    while let Some(piece) = next.take() {
        archive.write(&piece.chunk)?;
        spinner.inc(piece.chunk.len() as u64);
        next = chunks.message().await.map_err(RemoteError::from)?;
    }
    archive.finish()?;
    spinner.finish_and_clear();
    Ok(exit::SUCCESS)
}
