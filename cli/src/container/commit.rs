//! `davit commit`.

use davit_proto::container::CommitRequest;
use davit_proto::status::RemoteError;

use crate::args::container::CommitArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{exit, output, usage};

/// Makes an image from a container.
pub async fn run(engine: Engine, args: CommitArgs) -> Result<u8, Error> {
    usage::check_target(&args.container)?;
    let request = CommitRequest {
        container: args.container,
        reference: args.reference.unwrap_or_default(),
        author: args.author,
        comment: args.message,
        changes: args.change,
        no_pause: !args.pause,
        ..CommitRequest::default()
    };
    let answer = engine.containers().await?.commit(request).await.map_err(RemoteError::from)?;
    output::line(&answer.into_inner().image_id)?;
    Ok(exit::SUCCESS)
}
