//! `davit pull`, also when `run` and `create` miss an image.

use davit_proto::image::{PullRequest, PullResponse, Pulled, pull_response::Event};
use davit_proto::status::RemoteError;
use tonic::Streaming;

use super::progress::Progress;
use super::{hint, platform};
use crate::args::image::PullArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{credential, exit, output, reference, usage};

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

/// Fetches an image, or all of a repository.
pub async fn run(engine: Engine, args: PullArgs) -> Result<u8, Error> {
    usage::check_target(&args.image)?;
    let wish = Wish { image: &args.image, platform: args.platform.as_deref(), quiet: args.quiet };
    if args.all_tags {
        if args.image.contains('@') || !reference::split(&args.image).1.is_empty() {
            return Err(Error::Usage("tag can't be used with --all-tags/-a".into()));
        }
        pull_all(&engine, &wish).await?;
        output::line(&args.image)?;
        return Ok(exit::SUCCESS);
    }
    let pulled = pull(&engine, &wish, Place::Stdout).await?;
    output::line(&pulled.reference)?;
    Ok(exit::SUCCESS)
}

/// Fetches an image and tells how it goes.
pub async fn pull(engine: &Engine, wish: &Wish<'_>, place: Place) -> Result<Pulled, Error> {
    let mut progress = Progress::new(wish.quiet, place);
    let ended = || Error::Usage(format!("the engine ended the pull of {:?} without a word", wish.image));
    match begin(engine, wish, false).await {
        Ok(mut events) => match one(&mut events, &mut progress).await {
            Err(Error::Remote(error)) => {
                progress.abandon();
                Err(hint::improve(engine, wish.image, error).await.into())
            }
            pulled => pulled?.ok_or_else(ended),
        },
        Err(Error::Remote(error)) => Err(hint::improve(engine, wish.image, error).await.into()),
        Err(error) => Err(error),
    }
}

/// Fetches every tag of a repository.
async fn pull_all(engine: &Engine, wish: &Wish<'_>) -> Result<(), Error> {
    let mut events = begin(engine, wish, true).await?;
    loop {
        // Bars of an image that is whole stay where they are; the next one begins below.
        let mut progress = Progress::new(wish.quiet, Place::Stdout);
        match one(&mut events, &mut progress).await {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            Err(error) => {
                progress.abandon();
                return Err(error);
            }
        }
    }
}

async fn begin(engine: &Engine, wish: &Wish<'_>, all_tags: bool) -> Result<Streaming<PullResponse>, Error> {
    let request = PullRequest {
        reference: wish.image.to_owned(),
        platform: wish.platform.map(platform::parse).transpose()?,
        credential: credential::of_image(wish.image),
        all_tags,
        ..PullRequest::default()
    };
    Ok(engine.images().await?.pull(request).await.map_err(RemoteError::from)?.into_inner())
}

/// Tells how one image goes; `None` when there is no further one.
async fn one(events: &mut Streaming<PullResponse>, progress: &mut Progress) -> Result<Option<Pulled>, Error> {
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
            Some(Event::PassedOver(passed)) => {
                let (_, tag) = reference::split(&passed.reference);
                progress.line(&format!("{tag}: Skipped: {}", passed.reason))?;
            }
            Some(Event::Pulled(pulled)) => {
                progress.finish();
                let name = reference::familiar(&pulled.reference);
                progress.line(&format!("Digest: {}", pulled.digest))?;
                progress.line(&if pulled.up_to_date {
                    format!("Status: Image is up to date for {name}")
                } else {
                    format!("Status: Downloaded newer image for {name}")
                })?;
                return Ok(Some(pulled));
            }
            None => {}
        }
    }
    Ok(None)
}
