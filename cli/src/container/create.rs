//! `davit create`, and what it shares with `run`.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use davit_proto::container::{CreateRequest, CreateResponse, Streams};
use davit_proto::status::RemoteError;
use davit_proto::{id, reason};

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
    let image = args.image_and_command.first().map_or("", String::as_str);
    let fetch = async || {
        let wish = pull::Wish { image, platform: args.platform.as_deref(), quiet: args.quiet };
        pull::pull(engine, &wish, pull::Place::Stderr).await
    };
    if args.pull == PullPolicy::Always {
        fetch().await?;
    }
    match act().await {
        Err(error) if error.is(reason::IMAGE_NOT_FOUND) && args.pull == PullPolicy::Missing => {
            if !args.quiet {
                output::complain(&format!("Unable to find image '{}' locally", reference::with_tag(image)));
            }
            fetch().await?;
            act().await
        }
        answer => answer,
    }
}

/// The file of `--cidfile`: made before the container, so that two runs never share one; gone again when
/// there was no container to name.
#[derive(Debug)]
pub struct CidFile {
    open: Option<(File, PathBuf)>,
    written: bool,
}

impl CidFile {
    /// Makes the file, which must not exist.
    pub fn reserve(path: Option<&str>) -> Result<Self, Error> {
        let open = match path {
            None => None,
            Some(path) => {
                let file = File::create_new(path).map_err(|error| {
                    if error.kind() == std::io::ErrorKind::AlreadyExists {
                        Error::Usage(format!(
                            "the file {path:?} of --cidfile exists: make sure that its container is gone and delete it"
                        ))
                    } else {
                        Error::io(format!("make the file {path:?} of --cidfile"), error)
                    }
                })?;
                Some((file, PathBuf::from(path)))
            }
        };
        Ok(Self { open, written: false })
    }

    /// Writes the id.
    pub fn write(&mut self, container_id: &str) -> Result<(), Error> {
        if let Some((file, path)) = &mut self.open {
            let failed = |error| Error::io(format!("write {}", path.display()), error);
            file.write_all(container_id.as_bytes()).map_err(failed)?;
        }
        self.written = true;
        Ok(())
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        if let (false, Some((_, path))) = (self.written, &self.open) {
            // An empty file that stays is a nuisance, not a failure of the command.
            let _ = std::fs::remove_file(path);
        }
    }
}
