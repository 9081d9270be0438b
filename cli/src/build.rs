//! `davit build`.

mod cache;
pub mod context;
mod export;
mod files;
mod give;
mod limit;
mod progress;
pub mod prune;
pub mod usage;

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use davit_proto::build::build_request::Frame;
use davit_proto::build::build_response::Event;
use davit_proto::build::{BuildOpen, BuildRequest, Entries, EntriesEnd};
use davit_proto::status::RemoteError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::args::build::{BuildArgs, ProgressKind};
use crate::client::Engine;
use crate::error::Error;
use crate::exit;
use crate::output as printed;
use context::Context;
use export::Exports;
use give::Giving;
use progress::{Done, Next, Progress, Text};

/// Frames that may wait for the engine.
const WAITING: usize = 16;
/// Entries of a frame.
const ENTRIES: usize = 500;
/// The largest Dockerfile that is read.
const DOCKERFILE: u64 = 4 << 20;

/// Builds an image.
pub async fn run(engine: Engine, args: BuildArgs) -> Result<u8, Error> {
    let mut exports = Exports::of(&args)?;
    let source = Source::find(&args)?;
    let context = match &source.folder {
        Some(folder) => Context::walk(folder, &source.ignore)?,
        None => Context::default(),
    };
    let kind = progress::kind(args.progress, args.quiet)?;
    if !matches!(kind, ProgressKind::Tty | ProgressKind::Plain) {
        exports.hush();
    }
    let (frames, waiting) = mpsc::channel(WAITING);
    let mut giving = Giving::new(&args.give, frames.clone())?;
    let mut open = giving.tell(open(&args, &source)?);
    exports.fill(&mut open);
    exports.begin(&engine).await?;
    let mut builds = engine.builds().await?;
    let sending = tokio::spawn(send_entries(frames.clone(), open, context.entries()));
    let answer = builds.build(ReceiverStream::new(waiting)).await;
    let mut events = answer.map_err(RemoteError::from)?.into_inner();
    // Not earlier: until somebody listens to them, signals end the program as they always do.
    let mut progress = Progress::new(kind)?;
    let mut contents = None;
    let mut files = None;
    let built = loop {
        match progress.next(&mut events).await? {
            Next::Event(Event::Needed(needed)) => {
                contents = Some(tokio::spawn(context.clone().send(needed.entries, frames.clone())));
            }
            Next::Event(Event::Files(piece)) => exports.write(&mut files, &piece.chunk).await?,
            Next::Event(Event::Built(built)) => break built,
            Next::Event(event) => giving.answer(event),
            Next::Signal(number) => {
                progress.cancelled()?;
                return Ok(exit::of_signal(number));
            }
            Next::Failed(error) => return Err(progress.failed(source.explained(error), source.text())),
            Next::End if args.check => {
                let found = progress.checked(source.text())?;
                return Ok(if found == 0 { exit::SUCCESS } else { exit::FAILURE });
            }
            Next::End => return Err(Error::Usage("the engine ended the build without an answer".to_owned())),
        }
    };
    sending.abort();
    if let Some(contents) = contents {
        contents.abort();
    }
    match progress.meanwhile(exports.finish(&engine, files, &built)).await? {
        Done::Work(done) => done?,
        Done::Signal(number) => {
            progress.cancelled()?;
            return Ok(exit::of_signal(number));
        }
    }
    progress.built(&built)?;
    if kind == ProgressKind::Quiet {
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
            name if name != Some("-") && own.is_file() => own,
            _ => folder.join(".dockerignore"),
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { ignore: rules(&ignore)?, folder: Some(folder), dockerfile, name })
    }
}

impl Source {
    /// The Dockerfile, for messages about it.
    fn text(&self) -> Text<'_> {
        Text { name: &self.name, bytes: &self.dockerfile }
    }

    /// An error about a file that is here and was not sent says so.
    fn explained(&self, mut error: RemoteError) -> RemoteError {
        let path = error.values.iter().find(|(name, _)| name == "path").map(|(_, path)| path.clone());
        if let (Some(path), Some(folder)) = (path, &self.folder) {
            let path = path.trim_matches('/');
            if folder.join(path).symlink_metadata().is_ok() && self.ignore.ignores(path) {
                let hidden = ": it is there, but the ignore file leaves it out";
                error.message.push_str(hidden);
                error
                    .values
                    .iter_mut()
                    .filter(|(name, _)| name == "cause")
                    .for_each(|(_, cause)| cause.push_str(hidden));
            }
        }
        error
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
    let mut open = BuildOpen {
        dockerfile: source.dockerfile.clone().into(),
        dockerfile_name: source.name.clone(),
        context_key: key.unwrap_or_default(),
        tags: args.tag.clone(),
        build_args: build_args(&args.build_arg)?,
        target: args.target.clone().unwrap_or_default(),
        labels: labels(&args.label)?,
        no_cache: args.no_cache,
        pull: args.pull,
        network: args.network.clone(),
        ..BuildOpen::default()
    };
    limit::fill(&mut open, args)?;
    Ok(open)
}

fn labels(flags: &[String]) -> Result<HashMap<String, String>, Error> {
    let label = |flag: &String| match pair(flag) {
        (name, _) if name.is_empty() => {
            Err(Error::Usage(format!("invalid --label {flag:?}: a name must not be empty")))
        }
        pair => Ok(pair),
    };
    flags.iter().map(label).collect()
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
