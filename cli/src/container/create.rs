//! `davit create`, and what it shares with `run`.

use davit_proto::container::{CreateRequest, CreateResponse, RemoveRequest, Streams};
use davit_proto::image::InspectRequest;
use davit_proto::status::RemoteError;
use davit_proto::{id, reason};

use super::note::CidFile;
use crate::args::run::{ContainerArgs, CreateArgs, PullPolicy};
use crate::client::Engine;
use crate::error::Error;
use crate::image::pull;
use crate::{exit, output, reference, spec, usage};

/// Makes a container.
pub async fn run(engine: Engine, args: CreateArgs) -> Result<u8, Error> {
    let streams = spec::streams(&args.container, false)?;
    let request = request(&args.container, streams)?;
    let mut cidfile = CidFile::reserve(args.container.cidfile.as_deref())?;
    let created = with_image(&engine, &args.container, async || call(&engine, request.clone()).await).await?;
    warn(&created);
    cidfile.write(&created.container_id)?;
    output::line(&created.container_id)?;
    Ok(exit::SUCCESS)
}

/// The request that some flags describe.
pub fn request(args: &ContainerArgs, streams: Streams) -> Result<CreateRequest, Error> {
    if let Some(image) = args.image_and_command.first() {
        usage::check_target(image)?;
    }
    let request_key =
        id::random_hex().map_err(|error| Error::io("choose a request key", std::io::Error::other(error)))?;
    Ok(CreateRequest {
        spec: Some(spec::of(args, streams)?),
        name: args.name.clone().unwrap_or_default(),
        request_key,
    })
}

/// Asks the engine.
pub async fn call(engine: &Engine, request: CreateRequest) -> Result<CreateResponse, Error> {
    let answer = engine.containers().await?.create(request).await.map_err(RemoteError::from)?;
    Ok(answer.into_inner())
}

/// Says what a person should know.
pub fn warn(created: &CreateResponse) {
    for warning in &created.warnings {
        output::complain(&format!("WARNING: {warning}"));
    }
}

/// Does something that needs the image, fetching it as `--pull` says.
pub async fn with_image<T>(
    engine: &Engine,
    args: &ContainerArgs,
    mut act: impl AsyncFnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    if args.replace && args.name.is_none() {
        return Err(Error::Usage("--replace wants the --name of what is to be replaced".into()));
    }
    let fetched = match args.pull {
        PullPolicy::Always => fetch(engine, args).await,
        PullPolicy::Newer => match fetch(engine, args).await {
            Err(error) if find(engine, args).await.is_ok() => {
                output::complain(&format!("WARNING: the image that is here is taken: {error}"));
                Ok(())
            }
            fetched => fetched,
        },
        PullPolicy::Missing | PullPolicy::Never => Ok(()),
    };
    fetched?;
    let mut answer = act().await;
    if args.replace && answer.as_ref().is_err_and(|error| error.is(reason::NAME_TAKEN)) {
        // What is there goes when there is something to take its place.
        match find(engine, args).await {
            Err(error) if error.is(reason::IMAGE_NOT_FOUND) && args.pull == PullPolicy::Missing => {
                fetch_missing(engine, args).await?;
            }
            found => found?,
        }
        remove(engine, args).await?;
        answer = act().await;
    }
    match answer {
        Err(error) if error.is(reason::IMAGE_NOT_FOUND) && args.pull == PullPolicy::Missing => {
            fetch_missing(engine, args).await?;
            act().await
        }
        answer => answer,
    }
}

fn image(args: &ContainerArgs) -> &str {
    args.image_and_command.first().map_or("", String::as_str)
}

async fn fetch(engine: &Engine, args: &ContainerArgs) -> Result<(), Error> {
    let wish = pull::Wish { image: image(args), platform: args.platform.as_deref(), quiet: args.quiet };
    pull::pull(engine, &wish, pull::Place::Stderr).await.map(drop)
}

async fn fetch_missing(engine: &Engine, args: &ContainerArgs) -> Result<(), Error> {
    if !args.quiet {
        let name = reference::with_tag(image(args));
        output::complain(&format!("Unable to find image '{name}' locally"));
    }
    fetch(engine, args).await
}

/// Asks whether the image is here.
async fn find(engine: &Engine, args: &ContainerArgs) -> Result<(), Error> {
    let request = InspectRequest { image: image(args).to_owned() };
    engine.images().await?.inspect(request).await.map(drop).map_err(|status| RemoteError::from(status).into())
}

/// Removes what has the name. Somebody else may just have done so.
async fn remove(engine: &Engine, args: &ContainerArgs) -> Result<(), Error> {
    let container = args.name.clone().unwrap_or_default();
    let request = RemoveRequest { container, force: true, volumes: false };
    match engine.containers().await?.remove(request).await.map_err(RemoteError::from) {
        Err(error) if !error.is(reason::CONTAINER_NOT_FOUND) => Err(error.into()),
        _ => Ok(()),
    }
}
