//! `davit build`.

mod cache;
pub mod context;
mod export;
mod files;
mod give;
mod limit;
mod progress;
pub mod prune;
mod send;
mod source;
pub mod usage;

use std::collections::HashMap;

use davit_proto::build::BuildOpen;
use davit_proto::build::build_response::Event;
use davit_proto::status::RemoteError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::args::build::{BuildArgs, ProgressKind};
use crate::client::Engine;
use crate::error::Error;
use crate::exit;
use crate::output as printed;
use export::Exports;
use give::Giving;
use progress::{Done, Next, Progress};
use send::Sending;
use source::Source;

/// Frames that may wait for the engine.
const WAITING: usize = 16;

/// Builds an image.
pub async fn run(engine: Engine, args: BuildArgs) -> Result<u8, Error> {
    let mut exports = Exports::of(&args)?;
    let mut source = Source::find(&args)?;
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
    let contexts = std::mem::take(&mut source.contexts);
    let mut sending = Sending::begin(open, contexts, source.archive.take(), frames);
    let answer = builds.build(ReceiverStream::new(waiting)).await;
    let mut events = answer.map_err(RemoteError::from)?.into_inner();
    // Not earlier: until somebody listens to them, signals end the program as they always do.
    let mut progress = Progress::new(kind)?;
    let mut files = None;
    let built = loop {
        match progress.next(&mut events).await? {
            Next::Event(Event::Needed(needed)) => sending.needed(needed),
            Next::Event(Event::Dockerfile(found)) => source.found(found.name, found.text.into()),
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
    drop(sending);
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

fn open(args: &BuildArgs, source: &Source) -> Result<BuildOpen, Error> {
    let mut open = BuildOpen {
        tags: args.tag.clone(),
        build_args: build_args(&args.build_arg)?,
        target: args.target.clone().unwrap_or_default(),
        labels: labels(&args.label)?,
        no_cache: args.no_cache,
        pull: args.pull,
        network: args.network.clone(),
        platform: args.platform.clone().unwrap_or_default(),
        ..BuildOpen::default()
    };
    source.describe(&mut open);
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
