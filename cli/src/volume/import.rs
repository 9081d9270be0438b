//! `davit volume import`.

use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;

use bytes::BytesMut;
use davit_proto::status::RemoteError;
use davit_proto::volume::import_request::Message;
use davit_proto::volume::{ImportEnd, ImportOpen, ImportRequest};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::create;
use crate::args::volume::ImportArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{exit, output};

/// Most bytes of one frame.
const CHUNK: usize = 256 << 10;
/// Frames that may wait for the engine.
const WAITING: usize = 4;

/// Puts an archive into a volume.
pub async fn run(engine: Engine, args: ImportArgs) -> Result<u8, Error> {
    let create = Some(create::request(args.volume, args.made)?);
    let source = open(args.file.as_deref().filter(|file| *file != "-")).await?;
    let (frames, waiting) = mpsc::channel(WAITING);
    // A channel that nobody reads from yet has room for one.
    let _ = frames.try_send(ImportRequest { message: Some(Message::Open(ImportOpen { create })) });
    let (failed, mut failure) = oneshot::channel();
    tokio::spawn(async move {
        if let Err(error) = feed(source, frames).await {
            let _ = failed.send(error);
        }
    });
    let answer = engine.volumes().await?.import(ReceiverStream::new(waiting)).await;
    // What went wrong on this side explains what the engine says of it.
    if let Ok(error) = failure.try_recv() {
        return Err(error);
    }
    let volume = answer.map_err(RemoteError::from)?.into_inner().volume.unwrap_or_default();
    output::line(&volume.name)?;
    Ok(exit::SUCCESS)
}

async fn open(path: Option<&str>) -> Result<File, Error> {
    match path {
        Some(path) => File::open(path).await.map_err(|error| Error::io(format!("open {path}"), error)),
        None if std::io::stdin().is_terminal() => {
            Err(Error::Usage("an archive is wanted: pipe it into davit volume import, or name it".into()))
        }
        None => {
            let stdin = std::io::stdin().as_fd().try_clone_to_owned();
            let stdin = stdin.map_err(|error| Error::io("open standard input", error))?;
            Ok(File::from_std(stdin.into()))
        }
    }
}

/// Sends the archive piece by piece, and that it has ended, or until nobody wants more of it.
async fn feed(mut source: File, frames: mpsc::Sender<ImportRequest>) -> Result<(), Error> {
    loop {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        let length =
            source.read_buf(&mut chunk).await.map_err(|error| Error::io("read the archive", error))?;
        let message = match length {
            0 => Message::End(ImportEnd {}),
            _ => Message::Chunk(chunk.freeze()),
        };
        let sent = frames.send(ImportRequest { message: Some(message) }).await;
        if sent.is_err() || length == 0 {
            return Ok(());
        }
    }
}
