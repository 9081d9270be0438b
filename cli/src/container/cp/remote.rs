//! The engine's side of a copy.

use bytes::Bytes;
use davit_proto::container::{
    CopyInOpen, CopyInRequest, CopyOutRequest, CopyOutResponse, CopyStatRequest, FileStat, copy_in_request,
    copy_out_response,
};
use davit_proto::reason;
use davit_proto::status::RemoteError;
use davit_sys::file::FileType;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::path::{Subject, Target, split, through_link};
use crate::client::Engine;
use crate::error::Error;

/// Frames that may wait for the engine.
const WAITING: usize = 4;
/// As many links as one after the other may lead to a target.
const LINKS: usize = 40;

/// One container.
pub struct Remote<'a> {
    engine: &'a Engine,
    container: &'a str,
}

impl<'a> Remote<'a> {
    /// A container of an engine.
    pub fn new(engine: &'a Engine, container: &'a str) -> Self {
        Self { engine, container }
    }

    /// As it was typed.
    pub fn container(&self) -> &str {
        self.container
    }

    async fn stat(&self, path: &str, follow: bool) -> Result<FileStat, Error> {
        let request = CopyStatRequest {
            container: self.container.to_owned(),
            path: path.as_bytes().to_vec(),
            follow_link: follow,
        };
        let answer = self.engine.containers().await?.copy_stat(request).await.map_err(RemoteError::from)?;
        Ok(answer.into_inner().stat.unwrap_or_default())
    }

    /// What is to be copied from it.
    pub async fn subject(&self, path: &str, follow: bool) -> Result<Subject, Error> {
        let stat = self.stat(path, follow).await?;
        let (_, name) = split(&format!("/{path}"));
        Ok(Subject { name, is_dir: kind(&stat) == FileType::Directory })
    }

    /// What is at a target in it; links are followed, also to what is not there yet.
    pub async fn target(&self, typed: &str) -> Result<Target, Error> {
        let mut path = if typed.is_empty() { "/".to_owned() } else { typed.to_owned() };
        for _ in 0..LINKS {
            let stat = match self.stat(&path, false).await {
                Err(error) if error.is(reason::PATH_NOT_FOUND) => {
                    return Ok(Target { path, exists: false, is_dir: false });
                }
                other => other?,
            };
            match kind(&stat) {
                FileType::Symlink => path = through_link(&path, &String::from_utf8_lossy(&stat.link_target)),
                FileType::CharacterDevice | FileType::BlockDevice | FileType::Socket => {
                    let name = format!("{}:{typed}", self.container);
                    let why = format!("destination {name:?} must be a directory or a regular file");
                    return Err(Error::Usage(why));
                }
                other => return Ok(Target { path, exists: true, is_dir: other == FileType::Directory }),
            }
        }
        Err(Error::Usage(format!("too many links at \"{}:{typed}\"", self.container)))
    }

    /// Reads an archive.
    pub async fn out(&self, path: &str, follow: bool, name: &str) -> Result<Archive, Error> {
        let request = CopyOutRequest {
            container: self.container.to_owned(),
            path: path.as_bytes().to_vec(),
            follow_link: follow,
            name: name.as_bytes().to_vec(),
        };
        let answer = self.engine.containers().await?.copy_out(request).await.map_err(RemoteError::from)?;
        let mut archive = Archive { frames: answer.into_inner() };
        // Nothing is made or replaced before the engine has found something.
        archive.frame().await?;
        Ok(archive)
    }

    /// Sends what `feed` has to a folder, and answers with the number of bytes.
    pub async fn take<F>(
        &self,
        folder: &str,
        keep_owners: bool,
        feed: impl FnOnce(Frames) -> F,
    ) -> Result<u64, Error>
    where
        F: Future<Output = Result<u64, Error>>,
    {
        let (frames, waiting) = mpsc::channel(WAITING);
        let open = CopyInOpen {
            container: self.container.to_owned(),
            path: folder.as_bytes().to_vec(),
            keep_owners,
        };
        // A channel that nobody reads from yet has room for one.
        let _ = frames.try_send(CopyInRequest { frame: Some(copy_in_request::Frame::Open(open)) });
        let mut client = self.engine.containers().await?;
        let mut answer = std::pin::pin!(client.copy_in(ReceiverStream::new(waiting)));
        let mut fed = std::pin::pin!(feed(Frames(frames)));
        tokio::select! {
            // Not waited for: an engine that says no wants no more of an input that may never end.
            answer = &mut answer => {
                answer.map_err(RemoteError::from)?;
                // It saw the end of the archive, and perhaps not yet that of the input.
                fed.await
            }
            sent = &mut fed => {
                // What went wrong on this side is the reason for whatever the engine says of it; a side that only
                // found nobody listening any more has none.
                match sent {
                    Ok(bytes) => answer.await.map(|_| bytes).map_err(|status| RemoteError::from(status).into()),
                    Err(Error::Pipe) => match answer.await {
                        Ok(_) => Err(Error::Pipe),
                        Err(status) => Err(RemoteError::from(status).into()),
                    },
                    Err(error) => Err(error),
                }
            }
        }
    }
}

/// Where pieces of an archive go; [`Error::Pipe`] when nobody wants more.
#[derive(Debug, Clone)]
pub struct Frames(mpsc::Sender<CopyInRequest>);

impl Frames {
    /// Sends a piece.
    pub async fn send(&self, data: Bytes) -> Result<(), Error> {
        self.0.send(frame(data)).await.map_err(|_| Error::Pipe)
    }

    /// Sends a piece from a thread that may wait.
    pub fn send_blocking(&self, data: Bytes) -> Result<(), Error> {
        self.0.blocking_send(frame(data)).map_err(|_| Error::Pipe)
    }
}

fn frame(data: Bytes) -> CopyInRequest {
    CopyInRequest { frame: Some(copy_in_request::Frame::Data(data)) }
}

/// An archive on its way from the engine.
#[derive(Debug)]
pub struct Archive {
    frames: tonic::Streaming<CopyOutResponse>,
}

impl Archive {
    /// The next piece; none when the archive is whole.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        match self.frame().await? {
            None => Ok(None),
            Some(copy_out_response::Frame::Data(data)) => Ok(Some(data)),
            Some(copy_out_response::Frame::Stat(_)) => Ok(Some(Bytes::new())),
        }
    }

    async fn frame(&mut self) -> Result<Option<copy_out_response::Frame>, Error> {
        let frame = self.frames.message().await.map_err(RemoteError::from)?;
        Ok(frame.and_then(|frame| frame.frame))
    }
}

fn kind(stat: &FileStat) -> FileType {
    FileType::from_raw_mode(stat.mode)
}
