//! `davit.build.v1.Builds` on the wire: decode, call one function, encode.

use std::pin::Pin;
use std::sync::Arc;

use davit_proto::build::build_request::Frame;
use davit_proto::build::build_response::Event;
use davit_proto::build::builds_server::Builds;
use davit_proto::build::{
    BuildOpen, BuildRequest, BuildResponse, DiskUsageRequest, DiskUsageResponse, Needed, PruneRequest,
    PruneResponse, StepState,
};
use davit_proto::status::{RemoteError, status};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use crate::build::{Plan, Session};
use crate::cache::{self, Conditions, Shelf, Wish};
use crate::client::Client;
use crate::context::{Files, Intake, Store};
use crate::engine::Engine;
use crate::error::Error;
use crate::mount::Workshop;
use crate::progress::Progress;
use crate::running::Running;

/// Records of a frame.
const RECORDS: usize = 100;
/// Events that may wait for a client.
const EVENTS: usize = 64;

/// The service.
#[derive(Debug)]
pub struct Api {
    store: Store,
    engine: Engine,
    workshop: Workshop,
    running: Running,
}

impl Api {
    /// Serves builds that keep contexts here and work with this engine.
    pub(crate) fn new(store: Store, engine: Engine, workshop: Workshop) -> Self {
        Self { store, engine, workshop, running: Running::default() }
    }
}

#[tonic::async_trait]
impl Builds for Api {
    type BuildStream = Pin<Box<dyn Stream<Item = Result<BuildResponse, Status>> + Send>>;

    async fn build(
        &self,
        request: Request<Streaming<BuildRequest>>,
    ) -> Result<Response<Self::BuildStream>, Status> {
        let frames = request.into_inner();
        let (events, waiting) = mpsc::channel(EVENTS);
        let (store, engine, workshop) = (self.store.clone(), self.engine.clone(), self.workshop.clone());
        let run = self.running.begin();
        tokio::spawn(async move {
            let _run = run;
            let gone = events.clone();
            tokio::select! {
                built = serve(frames, (store, engine, workshop), events.clone()) => {
                    if let Err(error) = built {
                        // A client that is gone wants no answer.
                        let _ = events.send(Err(error)).await;
                    }
                }
                // What the build holds is given back as it is dropped.
                () = gone.closed() => {}
            }
        });
        let answers = ReceiverStream::new(waiting).map(|event| event.map_err(|error| status(&error)));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn prune(&self, request: Request<PruneRequest>) -> Result<Response<PruneResponse>, Status> {
        let pruned = self.forget(request.into_inner()).await;
        pruned.map(Response::new).map_err(|error| status(&error))
    }

    type DiskUsageStream = Pin<Box<dyn Stream<Item = Result<DiskUsageResponse, Status>> + Send>>;

    async fn disk_usage(
        &self,
        request: Request<DiskUsageRequest>,
    ) -> Result<Response<Self::DiskUsageStream>, Status> {
        let frames = self.usage(request.into_inner()).await.map_err(|error| status(&error))?;
        Ok(Response::new(Box::pin(tokio_stream::iter(frames.into_iter().map(Ok)))))
    }
}

/// One build, from its first frame on.
async fn serve(
    mut frames: Streaming<BuildRequest>,
    (store, engine, workshop): (Store, Engine, Workshop),
    events: mpsc::Sender<Result<BuildResponse, Error>>,
) -> Result<(), Error> {
    let progress = Progress::new(events);
    let options = match next(&mut frames).await? {
        Some(Frame::Open(open)) => open,
        _ => return Err(Error::Invalid("the first frame must be open".to_owned())),
    };
    let key = options.context_key.clone();
    let check = options.check;
    let asks = options.clone();
    let plan = read(options).await?;
    if check {
        return plan.warn(&progress).await;
    }
    let files = take_in(&mut frames, &store, &key, &progress).await?;
    let client = Client::new(frames, progress.clone(), &asks);
    plan.build(engine, files, Session { progress, client, workshop }).await
}

/// Reading takes as long as a Dockerfile is long.
async fn read(options: BuildOpen) -> Result<Plan, Error> {
    tokio::task::spawn_blocking(move || Plan::read(options)).await.map_err(|_| Error::Lost)?
}

async fn next(frames: &mut Streaming<BuildRequest>) -> Result<Option<Frame>, Error> {
    let frame = frames.message().await.map_err(RemoteError::from)?;
    match frame {
        None => Ok(None),
        Some(BuildRequest { frame: Some(frame) }) => Ok(Some(frame)),
        Some(BuildRequest { frame: None }) => Err(Error::Invalid("a frame says nothing".to_owned())),
    }
}

/// Takes in the context: what there is, then what is lacking of it.
async fn take_in(
    frames: &mut Streaming<BuildRequest>,
    store: &Store,
    key: &str,
    progress: &Progress,
) -> Result<Files, Error> {
    let mut intake = Intake::new(store, store.hold().await, key);
    loop {
        match next(frames).await? {
            Some(Frame::Entries(entries)) => intake.entries(entries.entries)?,
            Some(Frame::EntriesEnd(_)) => break,
            Some(_) => return Err(Error::Invalid("entries of the context must follow".to_owned())),
            None => return Err(Error::Cancelled),
        }
    }
    let (mut intake, needed) = blocking(move || {
        let needed = intake.needed()?;
        Ok((intake, needed))
    })
    .await?;
    let step = progress.begin("[internal] load build context").await?;
    progress.tell(Event::Needed(Needed { entries: needed })).await?;
    let mut moving = step.part("transferring context", intake.lacking()).await?;
    while !intake.is_whole() {
        match next(frames).await? {
            Some(Frame::Content(content)) if content.error.is_empty() => {
                intake = blocking(move || {
                    intake.content(content.entry, &content.chunk, content.last)?;
                    Ok(intake)
                })
                .await?;
                moving.at(intake.received()).await?;
            }
            Some(Frame::Content(content)) => return Err(Error::Invalid(content.error)),
            Some(_) => return Err(Error::Invalid("content of the context must follow".to_owned())),
            None => return Err(Error::Cancelled),
        }
    }
    moving.done().await?;
    let files = blocking(move || intake.finish()).await?;
    step.tell(StepState::Done).await?;
    Ok(files)
}

impl Api {
    fn shelf(&self) -> Shelf {
        Shelf {
            store: self.store.clone(),
            engine: self.engine.clone(),
            caches: Arc::clone(&self.workshop.caches),
            running: self.running.clone(),
        }
    }

    async fn forget(&self, request: PruneRequest) -> Result<PruneResponse, Error> {
        let PruneRequest { all, filters, keep_bytes } = request;
        let wish = Wish { all, conditions: Conditions::read(filters)?, keep_bytes };
        let (records, reclaimed_bytes) = self.shelf().prune(&wish).await?;
        let steps = records.iter().filter(|record| record.r#type == cache::STEP).count() as u64;
        Ok(PruneResponse { steps, reclaimed_bytes, records })
    }

    async fn usage(&self, request: DiskUsageRequest) -> Result<Vec<DiskUsageResponse>, Error> {
        let conditions = Conditions::read(request.filters)?;
        let records = self.shelf().records().await?;
        let records: Vec<_> =
            records.into_iter().map(|record| record.told).filter(|told| conditions.hold(told)).collect();
        Ok(records.chunks(RECORDS).map(|some| DiskUsageResponse { records: some.to_vec() }).collect())
    }
}

/// Runs what waits for the disk where it may wait.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(call).await.map_err(|_| Error::Lost)?
}
