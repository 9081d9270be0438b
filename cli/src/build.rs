//! `davit build`.

pub mod context;
mod output;
pub mod prune;

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use davit_proto::build::build_request::Frame;
use davit_proto::build::build_response::Event;
use davit_proto::build::{BuildOpen, BuildRequest, BuildResponse, Entries, EntriesEnd};
use davit_proto::status::RemoteError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::args::build::{BuildArgs, ProgressKind};
use crate::client::Engine;
use crate::error::Error;
use crate::output as printed;
use crate::{exit, usage};
use context::Context;
use output::Progress;

/// Frames that may wait for the engine.
const WAITING: usize = 16;
/// Entries of a frame.
const ENTRIES: usize = 500;
/// The largest Dockerfile that is read.
const DOCKERFILE: u64 = 4 << 20;

/// Builds an image.
pub async fn run(engine: Engine, args: BuildArgs) -> Result<u8, Error> {
    args.tag.iter().try_for_each(|tag| usage::check_target(tag))?;
    let source = Source::find(&args)?;
    let context = match &source.folder {
        Some(folder) => Context::walk(folder, &source.ignore)?,
        None => Context::default(),
    };
    let quiet = args.quiet || args.progress == ProgressKind::Quiet;
    let (frames, waiting) = mpsc::channel(WAITING);
    let open = open(&args, &source)?;
    let mut builds = engine.builds().await?;
    let sending = tokio::spawn(send_entries(frames.clone(), open, context.entries()));
    let answer = builds.build(ReceiverStream::new(waiting)).await;
    let mut events = answer.map_err(RemoteError::from)?.into_inner();
    let mut progress = Progress::new(quiet);
    let mut contents = None;
    let built = loop {
        let event = events.message().await.map_err(|status| failed(&source, &mut progress, status.into()))?;
        match event.and_then(|BuildResponse { event }| event) {
            Some(Event::Needed(needed)) => {
                contents = Some(tokio::spawn(context.clone().send(needed.entries, frames.clone())));
            }
            Some(Event::Built(built)) => break built,
            Some(event) => progress.event(event),
            None => return Err(Error::Usage("the engine ended the build without an answer".to_owned())),
        }
    };
    sending.abort();
    if let Some(contents) = contents {
        contents.abort();
    }
    if let Some(file) = &args.iidfile {
        std::fs::write(file, &built.image_id).map_err(|error| Error::io(format!("write {file}"), error))?;
    }
    progress.built(&built);
    if quiet {
        printed::line(&built.image_id)?;
    }
    Ok(exit::SUCCESS)
}

/// Where everything is.
struct Source {
    folder: Option<PathBuf>,
    dockerfile: Vec<u8>,
    name: String,
    ignore: davit_dockerfile::Ignore,
}

impl Source {
    fn find(args: &BuildArgs) -> Result<Self, Error> {
        for scheme in ["http://", "https://", "git://", "git@", "ssh://"] {
            if args.path.starts_with(scheme) {
                let text = "a context from the network is not served by this version: name a folder";
                return Err(Error::Usage(text.to_owned()));
            }
        }
        if args.path == "-" {
            let dockerfile = stdin()?;
            if dockerfile.get(257..262) == Some(b"ustar") || dockerfile.starts_with(b"\x1f\x8b") {
                let text = "an archive as context is not served by this version: name a folder";
                return Err(Error::Usage(text.to_owned()));
            }
            let ignore = davit_dockerfile::Ignore::default();
            return Ok(Self { folder: None, dockerfile, name: "Dockerfile".to_owned(), ignore });
        }
        let folder = Path::new(&args.path);
        let folder =
            folder.canonicalize().map_err(|error| Error::io(format!("open {}", args.path), error))?;
        if !folder.is_dir() {
            return Err(Error::Usage(format!("context must be a directory: {}", args.path)));
        }
        let file = args.file.as_deref();
        let (path, dockerfile) = match file {
            Some("-") => (folder.join("Dockerfile"), stdin()?),
            Some(path) => (PathBuf::from(path), read(Path::new(path))?),
            None => (folder.join("Dockerfile"), read(&folder.join("Dockerfile"))?),
        };
        let own = PathBuf::from(format!("{}.dockerignore", path.display()));
        let ignore = match file {
            Some(name) if name != "-" && own.is_file() => own,
            _ => folder.join(".dockerignore"),
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { ignore: rules(&ignore)?, folder: Some(folder), dockerfile, name })
    }
}

fn rules(path: &Path) -> Result<davit_dockerfile::Ignore, Error> {
    if !path.is_file() {
        return Ok(davit_dockerfile::Ignore::default());
    }
    let text = read(path)?;
    let text =
        String::from_utf8(text).map_err(|_| Error::Usage(format!("{} is no UTF-8", path.display())))?;
    davit_dockerfile::Ignore::parse(&text)
        .map_err(|error| Error::Usage(format!("{}: {error}", path.display())))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |error| Error::io(format!("read {}", path.display()), error);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(DOCKERFILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > DOCKERFILE {
        return Err(Error::Usage(format!("{} has more than {DOCKERFILE} bytes", path.display())));
    }
    Ok(bytes)
}

fn stdin() -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().take(DOCKERFILE + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::io("read standard input", error))?;
    Ok(bytes)
}

fn open(args: &BuildArgs, source: &Source) -> Result<BuildOpen, Error> {
    let key = source.folder.as_ref().map(|folder| folder.display().to_string());
    Ok(BuildOpen {
        dockerfile: source.dockerfile.clone().into(),
        dockerfile_name: source.name.clone(),
        context_key: key.unwrap_or_default(),
        tags: args.tag.clone(),
        build_args: build_args(&args.build_arg)?,
        target: args.target.clone().unwrap_or_default(),
        labels: args.label.iter().map(|label| pair(label)).collect(),
        no_cache: args.no_cache,
        pull: args.pull,
        network: args.network.clone(),
        extra_hosts: args.add_host.clone(),
        ..BuildOpen::default()
    })
}

fn pair(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}

/// A name alone takes the value it has here, and is nothing when it has none.
fn build_args(flags: &[String]) -> Result<HashMap<String, String>, Error> {
    let mut args = HashMap::new();
    for flag in flags {
        let (name, value) = pair(flag);
        if name.is_empty() {
            return Err(Error::Usage(format!("invalid --build-arg {flag:?}: a name must not be empty")));
        }
        match (flag.contains('='), std::env::var(&name)) {
            (true, _) => drop(args.insert(name, value)),
            (false, Ok(value)) => drop(args.insert(name, value)),
            (false, Err(_)) => {}
        }
    }
    Ok(args)
}

/// Sends what comes before any content. Ends early when nobody reads any more.
async fn send_entries(
    frames: mpsc::Sender<BuildRequest>,
    open: BuildOpen,
    entries: Vec<davit_proto::build::Entry>,
) {
    let mut all = vec![Frame::Open(open)];
    all.extend(entries.chunks(ENTRIES).map(|some| Frame::Entries(Entries { entries: some.to_vec() })));
    all.push(Frame::EntriesEnd(EntriesEnd {}));
    for frame in all {
        if frames.send(BuildRequest { frame: Some(frame) }).await.is_err() {
            return;
        }
    }
}

/// The error, after the lines of the Dockerfile that it is about.
fn failed(source: &Source, progress: &mut Progress, error: RemoteError) -> Error {
    let line = error.values.iter().find(|(name, _)| name == "line").and_then(|(_, line)| line.parse().ok());
    if let Some(line) = line {
        progress.lines(&source.name, &String::from_utf8_lossy(&source.dockerfile), line);
    }
    error.into()
}
