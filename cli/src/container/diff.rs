//! `davit diff`.

use davit_proto::container::{DiffKind, DiffRequest};
use davit_proto::status::RemoteError;

use crate::args::container::TargetArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{exit, output, usage};

/// Shows what a container changed in its image's files.
pub async fn run(engine: Engine, args: TargetArgs) -> Result<u8, Error> {
    for container in args.containers {
        usage::check_target(&container)?;
        let request = DiffRequest { container };
        let answer = engine.containers().await?.diff(request).await;
        let mut pages = answer.map_err(RemoteError::from)?.into_inner();
        while let Some(page) = pages.message().await.map_err(RemoteError::from)? {
            let lines = page.entries.iter().map(|entry| {
                let sign = match entry.kind() {
                    DiffKind::Added => 'A',
                    DiffKind::Deleted => 'D',
                    DiffKind::Changed | DiffKind::Unspecified => 'C',
                };
                format!("{sign} {}\n", output::visible(&String::from_utf8_lossy(&entry.path)))
            });
            output::print(&lines.collect::<String>())?;
        }
    }
    Ok(exit::SUCCESS)
}
