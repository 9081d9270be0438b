//! `davit push`.

use davit_proto::image::{PushRequest, Pushed, push_response::Event};
use davit_proto::status::RemoteError;

use super::progress::Progress;
use super::pull::Place;
use crate::args::image::PushArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{credential, exit, output, reference, usage};

/// Sends an image, or all of a repository, to its registry.
pub async fn run(engine: Engine, args: PushArgs) -> Result<u8, Error> {
    usage::check_target(&args.image)?;
    let (_, tag) = reference::split(&args.image);
    if args.all_tags && !tag.is_empty() {
        return Err(Error::Usage("tag can't be used with --all-tags/-a".into()));
    }
    let mut progress = Progress::new(args.quiet, Place::Stdout);
    if !args.all_tags && tag.is_empty() && !args.image.contains('@') {
        progress.line("Using default tag: latest")?;
    }
    let credential = credential::of_image(&args.image);
    let request =
        PushRequest { reference: args.image.clone(), credential, all_tags: args.all_tags, steps: Vec::new() };
    let mut pushed = Vec::new();
    let sent = send(&engine, request, &mut progress, &mut pushed).await;
    match sent {
        Ok(()) => progress.finish(),
        Err(_) => progress.abandon(),
    }
    // What went before something failed is there.
    for one in &pushed {
        tell(one, &progress, args.quiet)?;
    }
    sent?;
    if pushed.is_empty() {
        return Err(Error::Usage(format!("the engine ended the push of {:?} without a word", args.image)));
    }
    Ok(exit::SUCCESS)
}

/// Sends one image, as a part of something else. What is done is told at the place of the progress.
pub async fn one(engine: &Engine, image: &str, quiet: bool, place: Place) -> Result<(), Error> {
    beside(engine, (image, Vec::new()), quiet, place).await
}

/// As [`one`], and where names of steps are said, their images with an index of them.
pub async fn beside(
    engine: &Engine,
    (image, steps): (&str, Vec<String>),
    quiet: bool,
    place: Place,
) -> Result<(), Error> {
    let mut progress = Progress::new(quiet, place);
    let credential = credential::of_image(image);
    let request = PushRequest { reference: image.to_owned(), credential, all_tags: false, steps };
    let mut pushed = Vec::new();
    let sent = send(engine, request, &mut progress, &mut pushed).await;
    match sent {
        Ok(()) => progress.finish(),
        Err(_) => progress.abandon(),
    }
    pushed.iter().filter(|_| !quiet).try_for_each(|one| tell(one, &progress, quiet))?;
    sent
}

async fn send(
    engine: &Engine,
    request: PushRequest,
    progress: &mut Progress,
    pushed: &mut Vec<Pushed>,
) -> Result<(), Error> {
    let mut events = engine.images().await?.push(request).await.map_err(RemoteError::from)?.into_inner();
    while let Some(event) = events.message().await.map_err(RemoteError::from)? {
        match event.event {
            Some(Event::Resolved(resolved)) => {
                progress.line(&format!("The push refers to repository [{}]", resolved.reference))?;
                progress.preparing(&resolved.layers)?;
            }
            Some(Event::Layer(layer)) => progress.layer(&layer)?,
            Some(Event::Pushed(one)) => pushed.push(one),
            None => {}
        }
    }
    Ok(())
}

fn tell(pushed: &Pushed, progress: &Progress, quiet: bool) -> Result<(), Error> {
    if quiet {
        return output::line(&pushed.reference);
    }
    let (_, tag) = reference::split(&pushed.reference);
    progress.line(&format!("{tag}: digest: {} size: {}", pushed.digest, pushed.size))?;
    if pushed.part_of.is_empty() {
        return Ok(());
    }
    progress.line(
        "Info: not all of the multi-platform image is here, only the available single-platform image was pushed",
    )?;
    progress.line(&format!("      {} -> {}", pushed.part_of, pushed.digest))
}
