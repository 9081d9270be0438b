//! `davit.build.v1.Builds` on the wire: decode, call one function, encode.

use std::pin::Pin;
use std::sync::Arc;

use davit_proto::build::build_request::Frame;
use davit_proto::build::build_response::Event;
use davit_proto::build::builds_server::Builds;
use davit_proto::build::{
    BuildOpen, BuildRequest, BuildResponse, DiskUsageRequest, DiskUsageResponse, FoundDockerfile,
    PruneRequest, PruneResponse,
};
use davit_proto::status::status;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use crate::build::{Plan, Session};
use crate::cache::{self, Conditions, Shelf, Wish};
use crate::client::Client;
use crate::context::Store;
use crate::engine::Engine;
use crate::error::Error;
use crate::mount::Workshop;
use crate::progress::Progress;
use crate::receive::{Wanted, next, receive};
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
    let mut options = match next(&mut frames).await? {
        Some(Frame::Open(open)) => open,
        _ => return Err(Error::Invalid("the first frame must be open".to_owned())),
    };
    let asks = options.clone();
    let (check, elsewhere) = (options.check, options.dockerfile_elsewhere);
    let wanted = Wanted::of(&mut options);
    let early = if elsewhere { None } else { Some(read(options.clone()).await?) };
    if let Some(plan) = early.as_ref().filter(|_| check) {
        return plan.warn(&progress).await;
    }
    let mut received = receive(&mut frames, &store, wanted, &progress).await?;
    let plan = match early {
        Some(plan) => plan,
        None => {
            let (name, text) = received.dockerfile.take().ok_or(Error::Lost)?;
            let text = bytes::Bytes::from(text);
            let found = FoundDockerfile { name: name.clone(), text: text.clone() };
            progress.tell(Event::Dockerfile(found)).await?;
            (options.dockerfile_name, options.dockerfile) = (name, text);
            read(options).await?
        }
    };
    if check {
        return plan.warn(&progress).await;
    }
    let client = Client::new(frames, progress.clone(), &asks);
    plan.build(engine, received, Session { progress, client, workshop, store }).await
}

/// Reading takes as long as a Dockerfile is long.
async fn read(options: BuildOpen) -> Result<Plan, Error> {
    tokio::task::spawn_blocking(move || Plan::read(options)).await.map_err(|_| Error::Lost)?
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
