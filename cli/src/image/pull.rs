//! `davit pull`, also when `run` and `create` miss an image.

use davit_proto::image::{PullRequest, Pulled, pull_response::Event};
use davit_proto::status::RemoteError;

use super::progress::Progress;
use super::{hint, platform};
use crate::args::image::PullArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{exit, output, reference, usage};

/// An image that is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// As it was typed.
    pub image: &'a str,
    /// For which platform.
    pub platform: Option<&'a str>,
    /// Without a word.
    pub quiet: bool,
}

/// Where to tell how it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// For `pull` itself.
    Stdout,
    /// For `run`, whose standard output is the container's.
    Stderr,
}

/// Fetches an image.
pub async fn run(engine: Engine, args: PullArgs) -> Result<u8, Error> {
    usage::check_target(&args.image)?;
    let wish = Wish { image: &args.image, platform: args.platform.as_deref(), quiet: args.quiet };
    let pulled = pull(&engine, &wish, Place::Stdout).await?;
    output::line(&pulled.reference)?;
    Ok(exit::SUCCESS)
}

/// Fetches an image and tells how it goes.
pub async fn pull(engine: &Engine, wish: &Wish<'_>, place: Place) -> Result<Pulled, Error> {
    let request = PullRequest {
        reference: wish.image.to_owned(),
        platform: wish.platform.map(platform::parse).transpose()?,
        credential: None,
    };
    let mut progress = Progress::new(wish.quiet, place);
    match fetch(engine, request, &mut progress, wish.image).await {
        Err(Error::Remote(error)) => {
            progress.abandon();
            Err(hint::improve(engine, wish.image, error).await.into())
        }
        answer => answer,
    }
}

async fn fetch(
    engine: &Engine,
    request: PullRequest,
    progress: &mut Progress,
    typed: &str,
) -> Result<Pulled, Error> {
    let mut events = engine.images().await?.pull(request).await.map_err(RemoteError::from)?.into_inner();
    while let Some(event) = events.message().await.map_err(RemoteError::from)? {
        match event.event {
            Some(Event::Resolved(resolved)) => {
                let (repository, tag) = reference::split(&resolved.reference);
                let repository = reference::path(repository);
                let tag = if tag.is_empty() { &resolved.digest } else { tag };
                progress.line(&format!("{tag}: Pulling from {repository}"))?;
                progress.layers(&resolved.layers);
            }
            Some(Event::Layer(layer)) => progress.layer(&layer)?,
            Some(Event::Pulled(pulled)) => {
                progress.finish();
                let name = reference::familiar(&pulled.reference);
                progress.line(&format!("Digest: {}", pulled.digest))?;
                progress.line(&if pulled.up_to_date {
                    format!("Status: Image is up to date for {name}")
                } else {
                    format!("Status: Downloaded newer image for {name}")
                })?;
                return Ok(pulled);
            }
            None => {}
        }
    }
    Err(Error::Usage(format!("the engine ended the pull of {typed:?} without a word")))
}
