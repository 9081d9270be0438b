//! `davit import`.

use bytes::BytesMut;
use davit_proto::image::{CommitEnd, CommitOpen, CommitRequest, commit_request};
use davit_proto::status::RemoteError;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::{load, platform};
use crate::args::image::ImportArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{exit, output};

/// Most bytes of one frame.
const CHUNK: usize = 64 << 10;
/// Frames that may wait for the engine.
const WAITING: usize = 8;

/// Makes an image from a tar archive of a file system.
pub async fn run(engine: Engine, args: ImportArgs) -> Result<u8, Error> {
    if args.source.starts_with("http://") || args.source.starts_with("https://") {
        let why = format!("davit fetches no URL here: run curl -fL {} | davit import -", args.source);
        return Err(Error::Usage(why));
    }
    let platform = args.platform.as_deref().map(platform::parse).transpose()?;
    let path = Some(args.source.as_str()).filter(|source| *source != "-");
    let source = load::open(path, "davit import -").await?;
    let (frames, waiting) = mpsc::channel(WAITING);
    let open = CommitOpen {
        changes: args.change,
        comment: args.message.unwrap_or_else(|| "Imported from -".to_owned()),
        reference: args.reference.unwrap_or_default(),
        platform,
        compressed: true,
        ..CommitOpen::default()
    };
    // A channel that nobody reads from yet has room for one.
    let _ = frames.try_send(CommitRequest { frame: Some(commit_request::Frame::Open(open)) });
    let (failed, mut failure) = oneshot::channel();
    tokio::spawn(async move {
        if let Err(error) = feed(source, frames).await {
            let _ = failed.send(error);
        }
    });
    let mut images = engine.images().await?;
    let answered = images.commit(ReceiverStream::new(waiting)).await.map_err(RemoteError::from);
    // What went wrong on this side explains what the engine says of it.
    if let Ok(error) = failure.try_recv() {
        return Err(error);
    }
    output::line(&answered?.into_inner().image_id)?;
    Ok(exit::SUCCESS)
}

/// Sends the archive piece by piece, until it ends or nobody wants more of it.
async fn feed(mut source: File, frames: mpsc::Sender<CommitRequest>) -> Result<(), Error> {
    let send = async |frame| frames.send(CommitRequest { frame: Some(frame) }).await.is_ok();
    loop {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        match source.read_buf(&mut chunk).await {
            Ok(0) => {
                // Who does not hear it any more has answered.
                send(commit_request::Frame::End(CommitEnd {})).await;
                return Ok(());
            }
            Ok(_) => {
                if !send(commit_request::Frame::Chunk(chunk.freeze())).await {
                    return Ok(());
                }
            }
            Err(error) => {
                send(commit_request::Frame::Abort(error.to_string())).await;
                return Err(Error::io("read the archive", error));
            }
        }
    }
}
