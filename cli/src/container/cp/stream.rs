//! Between frames and archives: trees of this side are packed and extracted by a thread that may wait.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use bytes::BytesMut;
use davit_archive::extract::Limits;
use davit_archive::write::Writer;
use davit_archive::{Owners, Source, extract as unpack, pack};
use davit_proto::pieces::{Pieces, Sink};
use davit_proto::status::chain;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

use super::remote::{Archive, Frames};
use crate::error::Error;

/// Bytes of a piece.
const PIECE: usize = 256 << 10;
/// Pieces that wait for the disk.
const WAITING: usize = 4;

/// Sends the archive on standard input.
pub async fn feed_stdin(frames: Frames) -> Result<u64, Error> {
    let failed = |error| Error::io("read standard input", error);
    let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    let mut stdin = File::from_std(stdin.into());
    let mut bytes = 0;
    loop {
        let mut piece = BytesMut::with_capacity(PIECE);
        let length = stdin.read_buf(&mut piece).await.map_err(failed)?;
        if length == 0 {
            return Ok(bytes);
        }
        bytes += length as u64;
        frames.send(piece.freeze()).await?;
    }
}

/// Sends what another container's archive has.
pub async fn pass_on(mut archive: Archive, frames: Frames) -> Result<u64, Error> {
    let mut bytes = 0;
    while let Some(piece) = archive.next().await? {
        bytes += piece.len() as u64;
        frames.send(piece).await?;
    }
    Ok(bytes)
}

/// Packs a file or folder of this side and sends it.
pub async fn feed_tree(handle: OwnedFd, name: String, frames: Frames) -> Result<u64, Error> {
    blocking(move || {
        let sink = Sink::new(PIECE, |piece| {
            frames.send_blocking(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
        });
        let mut writer = Writer::new(sink);
        let source = Source { handle, name: name.into_bytes(), skipped_dev: None };
        match pack(source, None, &mut writer) {
            // Nobody wants more.
            Err(davit_archive::PackError::Write(_)) => return Err(Error::Pipe),
            Err(error) => return Err(Error::Usage(chain(&error))),
            Ok(_) => {}
        }
        writer.end().map_err(|_| Error::Pipe)?;
        Ok(writer.written())
    })
    .await
}

/// Extracts an archive into a folder of this side. Its files are the caller's, unless owners are kept.
pub async fn extract(mut archive: Archive, folder: OwnedFd, keep_owners: bool) -> Result<u64, Error> {
    let (pieces, input) = Pieces::channel(WAITING);
    let owners = if keep_owners { Owners::Kept(None) } else { Owners::Caller };
    let work = tokio::spawn(blocking(move || {
        unpack(input, folder, owners, &Limits::default()).map_err(|error| Error::Usage(chain(&error)))
    }));
    let mut bytes = 0;
    let received = loop {
        match archive.next().await {
            Ok(None) => break Ok(()),
            Ok(Some(piece)) => {
                bytes += piece.len() as u64;
                if pieces.send(Ok(Some(piece))).await.is_err() {
                    break Ok(());
                }
            }
            Err(error) => break Err(error),
        }
    };
    if received.is_ok() {
        // Whoever extracts has failed when it takes no more.
        let _ = pieces.send(Ok(None)).await;
    }
    drop(pieces);
    let extracted = work.await.map_err(|error| Error::io("extract the archive", error.into()))?;
    // What went wrong over there is why the archive is not whole here.
    received?;
    extracted.map(|_| bytes)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::io("run a thread", error.into()))?
}
