//! The engine, by its public calls.

mod cache;
mod elsewhere;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use davit_dockerfile::scope::Platform;
use davit_proto::container::containers_client::ContainersClient;
use davit_proto::container::{
    CommitRequest as ContainerCommit, ContainerSpec, CreateRequest, ListRequest as ContainerList,
    LogsRequest, RemoveRequest, StartRequest, WaitRequest,
};
use davit_proto::image::images_client::ImagesClient;
use davit_proto::image::{
    CommitEnd, CommitOpen, CommitRequest, InspectRequest, InspectResponse, LoadOpen, LoadRequest,
    Platform as WirePlatform, PullRequest, TagRequest, commit_request, load_request, load_response,
    pull_response,
};
use davit_proto::pieces::Sink;
use davit_proto::reason;
use davit_proto::status::RemoteError;
use davit_proto::step::is_step;
use davit_proto::types::{Exit, Filter, Stdio};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::document::Document;
use crate::error::Error;
use crate::layer::Layer;
use crate::memo::Memo;
use crate::mount::Held;
use crate::platform::host;
use crate::progress::{Layers, Progress, Step};
use crate::run::LABEL;
use crate::steps::Steps;

pub use elsewhere::Found;

/// Bytes of a layer that go at once, and how many pieces may wait.
const PIECE: usize = 128 << 10;
const PIECES: usize = 8;
const LOAD_PIECE: usize = 64 << 10;

/// A platform on the wire.
pub fn wire(platform: &Platform) -> WirePlatform {
    let Platform { os, architecture, variant } = platform.clone();
    WirePlatform { os, architecture, variant }
}

/// How long an engine that does not answer is asked again, and how often.
const PATIENCE: Duration = Duration::from_secs(600);
pub(crate) const PAUSE: Duration = Duration::from_millis(500);

/// A client of the engine.
#[derive(Debug, Clone)]
pub struct Engine {
    channel: Channel,
    /// What was read of its images.
    pub memo: Memo,
    /// The steps of the build that this is for.
    steps: Option<Arc<Steps>>,
}

/// What an image is.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its id.
    pub id: String,
    /// All that the engine says of it.
    pub told: InspectResponse,
}

impl Image {
    /// What its files are, by the digests of its layers: images of the same files have the same.
    pub fn chain(&self) -> String {
        // One that cannot be read is like no other.
        Document::read(&self.told.config)
            .map_or_else(|_| self.id.clone(), |document| document.diff_ids.join(" "))
    }
}

async fn remote<T, E>(call: impl Future<Output = Result<tonic::Response<T>, E>>) -> Result<T, Error>
where
    RemoteError: From<E>,
{
    Ok(call.await.map_err(RemoteError::from)?.into_inner())
}

impl Engine {
    /// Over a channel to it.
    pub fn new(channel: Channel) -> Self {
        Self { channel, memo: Memo::default(), steps: None }
    }

    /// The same for one build: what it asks for of steps is noted, and fetched where it is not here.
    #[must_use]
    pub fn with(&self, steps: Arc<Steps>) -> Self {
        Self { steps: Some(steps), ..self.clone() }
    }

    fn containers(&self) -> ContainersClient<Channel> {
        ContainersClient::new(self.channel.clone())
    }

    fn images(&self) -> ImagesClient<Channel> {
        ImagesClient::new(self.channel.clone())
    }

    /// An image by reference or id; none when it is not here, nor, for a step, where else it may be.
    pub async fn image(&self, name: &str) -> Result<Option<Image>, Error> {
        let found = self.image_here(name).await?;
        let Some(steps) = self.steps.as_ref().filter(|_| is_step(name)) else { return Ok(found) };
        let found = match found {
            Some(image) => Some(image),
            None => self.fetch_step(steps, name).await?,
        };
        if let Some(image) = &found {
            steps.note(name, &image.told.diff_ids);
        }
        Ok(found)
    }

    async fn image_here(&self, name: &str) -> Result<Option<Image>, Error> {
        let mut images = self.images();
        match remote(images.inspect(InspectRequest { image: name.to_owned() })).await {
            Ok(told) => {
                let id = told.image.as_ref().map(|image| image.id.clone()).unwrap_or_default();
                Ok(Some(Image { id, told }))
            }
            Err(Error::Engine(error)) if error.is(reason::IMAGE_NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Fetches an image, and tells of its layers as parts of a step.
    pub async fn pull(&self, reference: &str, platform: &Platform, step: &Step) -> Result<String, Error> {
        let request = PullRequest {
            reference: reference.to_owned(),
            // Nothing said is this host's, to the last variant.
            platform: (*platform != host()).then(|| wire(platform)),
            ..PullRequest::default()
        };
        let mut images = self.images();
        let mut events = remote(images.pull(request)).await?;
        let mut layers = Layers::default();
        while let Some(event) = events.message().await.map_err(RemoteError::from)? {
            match event.event {
                Some(pull_response::Event::Layer(layer)) => layers.tell(&layer, step).await?,
                Some(pull_response::Event::Pulled(pulled)) => return Ok(pulled.image_id),
                _ => {}
            }
        }
        Err(Error::Lost)
    }

    /// Names an image, and answers with nothing.
    pub async fn tag(&self, source: &str, target: &str) -> Result<(), Error> {
        let request = TagRequest { source: source.to_owned(), target: target.to_owned(), unnamed: false };
        remote(self.images().tag(request)).await.map(drop)
    }

    /// Has an image among those that lists show, if only without a name.
    pub async fn list_unnamed(&self, source: &str) -> Result<(), Error> {
        let request = TagRequest { source: source.to_owned(), target: String::new(), unnamed: true };
        remote(self.images().tag(request)).await.map(drop)
    }

    /// Makes an image of a base and a layer; without one it has the base's alone.
    pub async fn commit(&self, mut open: CommitOpen, layer: Option<Arc<Layer>>) -> Result<String, Error> {
        open.empty_layer = layer.is_none();
        let (frames, waiting) = mpsc::channel(PIECES);
        let first = CommitRequest { frame: Some(commit_request::Frame::Open(open)) };
        // A queue that nobody reads from yet has room for one.
        let _ = frames.try_send(first);
        let writing = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
            let Some(layer) = layer else { return Ok(()) };
            layer.write(Frames { frames: frames.clone() })?;
            let end = CommitRequest { frame: Some(commit_request::Frame::End(CommitEnd {})) };
            frames.blocking_send(end).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
        });
        let mut images = self.images();
        let answer = remote(images.commit(ReceiverStream::new(waiting))).await;
        // What went wrong on this side explains what the engine says of it.
        match (writing.await.map_err(|_| Error::Lost)?, answer) {
            (_, Ok(answer)) => Ok(answer.image_id),
            (Err(error), Err(_)) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Error::io("write the layer")(error))
            }
            (_, Err(error)) => Err(error),
        }
    }

    /// Reads an archive with an image in it, and answers with how it is called then.
    pub async fn load(&self, archive: Arc<Layer>) -> Result<String, Error> {
        let (frames, waiting) = mpsc::channel(PIECES);
        let first = LoadRequest { frame: Some(load_request::Frame::Open(LoadOpen::default())) };
        // A queue that nobody reads from yet has room for one.
        let _ = frames.try_send(first);
        let writing = tokio::task::spawn_blocking(move || {
            let send = |piece| {
                let frame = LoadRequest { frame: Some(load_request::Frame::Chunk(piece)) };
                frames.blocking_send(frame).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
            };
            archive.write(Sink::new(LOAD_PIECE, send))
        });
        let mut images = self.images();
        let mut events = remote(images.load(ReceiverStream::new(waiting))).await?;
        let mut loaded = None;
        while let Some(event) = events.message().await.map_err(RemoteError::from)? {
            if let Some(load_response::Event::Loaded(name)) = event.event {
                loaded = Some(name);
            }
        }
        match writing.await.map_err(|_| Error::Lost)? {
            Err(error) if loaded.is_none() => Err(Error::io("write the archive of the image")(error)),
            _ => loaded.ok_or(Error::Lost),
        }
    }

    /// Makes a container, which is removed when nobody has it any more; what its mounts need is held until then.
    pub async fn create(&self, spec: ContainerSpec, held: Held) -> Result<Container, Error> {
        let request = CreateRequest { spec: Some(spec), ..CreateRequest::default() };
        // A call that is given up midway may have made one: it is waited for, and then removed.
        let engine = self.clone();
        let made = tokio::spawn(async move {
            let answer = remote(engine.containers().create(request)).await?;
            Ok::<_, Error>(Container { engine, id: Some(answer.container_id), held })
        });
        made.await.map_err(|_| Error::Lost)?
    }
}

impl Engine {
    /// Removes all containers of steps. Only for when no build goes on.
    pub async fn remove_left(&self) -> Result<(), Error> {
        let filter = Filter { key: "label".to_owned(), value: LABEL.to_owned() };
        let request = ContainerList { all: true, filters: vec![filter], ..ContainerList::default() };
        let mut containers = self.containers();
        let mut frames = remote(containers.list(request)).await?;
        while let Some(frame) = frames.message().await.map_err(RemoteError::from)? {
            for found in frame.containers {
                Container { engine: self.clone(), id: Some(found.id), held: Held::default() }
                    .remove()
                    .await?;
            }
        }
        Ok(())
    }
}

/// A container of a step.
#[derive(Debug)]
pub struct Container {
    engine: Engine,
    id: Option<String>,
    held: Held,
}

impl Container {
    fn id(&self) -> String {
        self.id.clone().unwrap_or_default()
    }

    /// Starts it, passes its output on, and answers with how it ended.
    pub async fn run(&self, number: u32, progress: &Progress) -> Result<Exit, Error> {
        let request = StartRequest { container: self.id(), size: None };
        remote(self.engine.containers().start(request)).await?;
        let request = LogsRequest {
            container: self.id(),
            follow: true,
            stdout: true,
            stderr: true,
            ..LogsRequest::default()
        };
        let mut containers = self.engine.containers();
        let mut frames = remote(containers.logs(request)).await?;
        while let Some(frame) = frames.message().await.map_err(RemoteError::from)? {
            for line in frame.lines {
                let stderr = line.stream() == Stdio::Stderr;
                progress.output(number, line.data, stderr).await?;
            }
        }
        let request = WaitRequest { container: self.id(), ..WaitRequest::default() };
        remote(self.engine.containers().wait(request)).await?.exit.ok_or(Error::Lost)
    }

    /// Makes an image of what it changed.
    pub async fn commit(&self, request: ContainerCommit) -> Result<String, Error> {
        let request = ContainerCommit { container: self.id(), ..request };
        Ok(remote(self.engine.containers().commit(request)).await?.image_id)
    }

    /// Removes it, and waits for that.
    pub async fn remove(mut self) -> Result<(), Error> {
        let Some(container) = self.id.clone() else { return Ok(()) };
        let request = RemoveRequest { container, force: true, volumes: true };
        let answer = remote(self.engine.containers().remove(request)).await.map(drop);
        // An engine that is away is asked again, and one that was not waited for to the end.
        if !answer.as_ref().is_err_and(Error::is_absence) {
            self.id = None;
            std::mem::take(&mut self.held).end().await;
        }
        answer
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let Some(container) = self.id.take() else { return };
        let (engine, request) =
            (self.engine.clone(), RemoveRequest { container, force: true, volumes: true });
        let held = std::mem::take(&mut self.held);
        tokio::spawn(async move {
            let begun = Instant::now();
            while let Err(error) = remote(engine.containers().remove(request.clone())).await {
                if !error.is_absence() || begun.elapsed() > PATIENCE {
                    tracing::warn!(%error, "a container of a build that ended could not be removed");
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
            held.end().await;
        });
    }
}

/// A layer's bytes on their way.
struct Frames {
    frames: mpsc::Sender<CommitRequest>,
}

impl std::io::Write for Frames {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE)];
        let frame =
            CommitRequest { frame: Some(commit_request::Frame::Chunk(Bytes::copy_from_slice(piece))) };
        // Who does not read any more has said why.
        self.frames.blocking_send(frame).map_err(|_| std::io::ErrorKind::BrokenPipe)?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
