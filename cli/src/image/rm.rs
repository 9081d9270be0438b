//! `davit rmi`.

use davit_proto::image::{RemoveRequest, Removed, removed::What};
use davit_proto::reason;
use davit_proto::status::RemoteError;

use crate::args::image::RemoveArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{exit, output, reference, usage};

/// Removes images.
pub async fn run(engine: Engine, args: RemoveArgs) -> Result<u8, Error> {
    let mut code = exit::SUCCESS;
    // One after the other: a layer that the first leaves behind may go with the second.
    for image in args.images {
        usage::check_target(&image)?;
        let request =
            RemoveRequest { image, force: args.force, no_prune: args.no_prune, ..RemoveRequest::default() };
        match engine.images().await?.remove(request).await.map_err(RemoteError::from) {
            Ok(answer) => output::print(&lines(&answer.into_inner().removed))?,
            Err(error) if args.force && error.is(reason::IMAGE_NOT_FOUND) => output::error(&error),
            Err(error) => {
                output::error(&error);
                code = exit::FAILURE;
            }
        }
    }
    Ok(code)
}

/// Docker's lines for what was removed.
pub fn lines(removed: &[Removed]) -> String {
    told(removed, ["Untagged", "Deleted"])
}

/// The same with docker's words of a removal or of a prune.
pub fn told(removed: &[Removed], [untagged, deleted]: [&str; 2]) -> String {
    let lines = removed.iter().filter_map(|removed| match &removed.what {
        Some(What::Untagged(name)) => {
            Some(format!("{untagged}: {}\n", output::visible(reference::familiar(name))))
        }
        Some(What::Deleted(digest)) => Some(format!("{deleted}: {}\n", output::visible(digest))),
        None => None,
    });
    lines.collect()
}
