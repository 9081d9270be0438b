//! `davit push`.

use davit_proto::image::PushRequest;
use davit_proto::status::RemoteError;

use super::progress::Progress;
use super::pull::Place;
use crate::args::image::PushArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{exit, reference, usage};

/// Sends an image to its registry.
pub async fn run(engine: Engine, args: PushArgs) -> Result<u8, Error> {
    usage::check_target(&args.image)?;
    let request = PushRequest { reference: args.image.clone(), credential: None };
    let mut progress = Progress::new(args.quiet, Place::Stdout);
    let mut events = engine.images().await?.push(request).await.map_err(RemoteError::from)?.into_inner();
    while let Some(event) = events.message().await.map_err(RemoteError::from)? {
        if let Some(layer) = &event.layer {
            progress.layer(layer)?;
        }
        if !event.digest.is_empty() {
            progress.finish();
            let whole = reference::with_tag(&args.image);
            progress.line(&format!("{}: digest: {}", reference::split(&whole).1, event.digest))?;
        }
    }
    Ok(exit::SUCCESS)
}
