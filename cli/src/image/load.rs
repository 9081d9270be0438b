//! `davit load`.

use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;

use bytes::BytesMut;
use davit_proto::image::{LoadOpen, LoadRequest, load_request, load_response::Event};
use davit_proto::status::RemoteError;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::platform;
use super::progress::Progress;
use super::pull::Place;
use crate::args::image::LoadArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{exit, output, reference};

/// Most bytes of one frame.
const CHUNK: usize = 64 << 10;
/// Frames that may wait for the engine.
const WAITING: usize = 8;

/// Reads an archive of images.
pub async fn run(engine: Engine, args: LoadArgs) -> Result<u8, Error> {
    let platform = args.platform.as_deref().map(platform::parse).transpose()?;
    let source = open(args.input.as_deref(), "davit load").await?;
    let (frames, waiting) = mpsc::channel(WAITING);
    let open = LoadRequest { frame: Some(load_request::Frame::Open(LoadOpen { platform, steps: false })) };
    // A channel that nobody reads from yet has room for one.
    let _ = frames.try_send(open);
    let (failed, mut failure) = oneshot::channel();
    tokio::spawn(async move {
        if let Err(error) = feed(source, frames).await {
            let _ = failed.send(error);
        }
    });
    let answered = listen(&engine, ReceiverStream::new(waiting), args.quiet).await;
    // What went wrong on this side explains what the engine says of it. Not waited for: an engine that said no
    // early wants no more of an input that may never end.
    match failure.try_recv() {
        Ok(error) => Err(error),
        Err(_) => answered.map(|()| exit::SUCCESS),
    }
}

/// Opens an archive; none for standard input, which must not be a terminal.
pub async fn open(path: Option<&str>, command: &str) -> Result<File, Error> {
    match path {
        Some(path) => File::open(path).await.map_err(|error| Error::io(format!("open {path}"), error)),
        None if std::io::stdin().is_terminal() => {
            Err(Error::Usage(format!("an archive is wanted: pipe it into {command}, or name its file")))
        }
        None => {
            let stdin = std::io::stdin().as_fd().try_clone_to_owned();
            let stdin = stdin.map_err(|error| Error::io("open standard input", error))?;
            Ok(File::from_std(stdin.into()))
        }
    }
}

/// Sends the archive piece by piece, until it ends or nobody wants more of it.
async fn feed(mut source: File, frames: mpsc::Sender<LoadRequest>) -> Result<(), Error> {
    loop {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        let length =
            source.read_buf(&mut chunk).await.map_err(|error| Error::io("read the archive", error))?;
        if length == 0 {
            return Ok(());
        }
        let frame = LoadRequest { frame: Some(load_request::Frame::Chunk(chunk.freeze())) };
        if frames.send(frame).await.is_err() {
            return Ok(());
        }
    }
}

async fn listen(engine: &Engine, frames: ReceiverStream<LoadRequest>, quiet: bool) -> Result<(), Error> {
    // Lines for each layer would only hide the one that matters.
    let quiet = quiet || !std::io::stderr().is_terminal();
    let mut progress = Progress::new(quiet, Place::Stderr);
    let mut events = engine.images().await?.load(frames).await.map_err(RemoteError::from)?.into_inner();
    while let Some(event) = events.message().await.map_err(RemoteError::from)? {
        match event.event {
            Some(Event::Layer(layer)) => progress.layer(&layer)?,
            Some(Event::Loaded(name)) => {
                progress.finish();
                let what = if name.starts_with("sha256:") { "Loaded image ID" } else { "Loaded image" };
                output::line(&format!("{what}: {}", reference::familiar(&name)))?;
            }
            None => {}
        }
    }
    Ok(())
}
