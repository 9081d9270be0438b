//! `davit export`.

use std::io::IsTerminal as _;

use davit_proto::container::ExportRequest;
use davit_proto::status::RemoteError;

use crate::args::container::ExportArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::image::{archive::Archive, progress};
use crate::{exit, usage};

/// Writes all files of a container as a tar archive.
pub async fn run(engine: Engine, args: ExportArgs) -> Result<u8, Error> {
    usage::check_target(&args.container)?;
    if args.output.is_none() && std::io::stdout().is_terminal() {
        return Err(Error::Usage(
            "an archive is nothing for a terminal: name a file with --output, or redirect".into(),
        ));
    }
    let request = ExportRequest { container: args.container };
    let mut frames =
        engine.containers().await?.export(request).await.map_err(RemoteError::from)?.into_inner();
    let spinner = progress::spinner(args.output.is_none(), "Exporting");
    // Nothing is made or replaced before the engine has said yes.
    let mut next = frames.message().await.map_err(RemoteError::from)?;
    let mut archive = Archive::open(args.output.as_deref())?;
    while let Some(frame) = next.take() {
        archive.write(&frame.data)?;
        spinner.inc(frame.data.len() as u64);
        next = frames.message().await.map_err(RemoteError::from)?;
    }
    archive.finish()?;
    spinner.finish_and_clear();
    Ok(exit::SUCCESS)
}
