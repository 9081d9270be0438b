//! `davit.container.v1.Containers` on the wire: decode, call one function, encode.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use davit_proto::container::containers_server::Containers;
use davit_proto::container::{
    AttachRequest, AttachResponse, CreateRequest, CreateResponse, DiffRequest, DiffResponse, ExecRequest,
    ExecResponse, InspectRequest, InspectResponse, KillRequest, KillResponse, ListRequest, ListResponse,
    LogsRequest, LogsResponse, PauseRequest, PauseResponse, PruneRequest, PruneResponse, RemoveRequest,
    RemoveResponse, RenameRequest, RenameResponse, ResizeRequest, ResizeResponse, RestartRequest,
    RestartResponse, ResumeRequest, ResumeResponse, RunRequest, RunResponse, StartRequest, StartResponse,
    StatsRequest, StatsResponse, StopRequest, StopResponse, TopRequest, TopResponse, UpdateRequest,
    UpdateResponse, WaitRequest, WaitResponse, WhyRequest, WhyResponse,
};
use davit_proto::status::{status, unimplemented};
use davit_proto::{task, time};
use futures_util::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use crate::container::create::Promise;
use crate::container::{
    attach, create, inspect, kill, list, logs, prune, remove, rename, restart, run, signal, start, stop, wait,
};
use crate::engine::Engine;
use crate::error::Error;
use crate::shim::{SHORT, within};

type Answer<T> = Result<Response<T>, Status>;
type Frames<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service.
#[derive(Debug)]
pub struct Api {
    engine: Arc<Engine>,
}

impl Api {
    /// Serves the containers of an engine.
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

fn answer<T>(result: Result<T, Error>) -> Answer<T> {
    result.map(Response::new).map_err(|error| status(&error))
}

fn frames<T>(stream: impl Stream<Item = Result<T, Error>> + Send + 'static) -> Response<Frames<T>> {
    Response::new(Box::pin(stream.map(|item| item.map_err(|error| status(&error)))))
}

/// A signal as a person says it; the default where nothing is said.
fn signal_of(text: &str) -> Result<Option<u32>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let invalid = || Error::Invalid {
        what: "signal",
        value: text.chars().take(100).collect(),
        rule: "must be a signal's name or a number from 1 to 64".to_owned(),
    };
    signal::parse(text).map(Some).ok_or_else(invalid)
}

fn timeout_of(timeout: Option<&prost_types::Duration>) -> Result<Option<Duration>, Error> {
    match timeout {
        Some(limit) if limit.seconds < 0 || limit.nanos < 0 => Err(Error::Invalid {
            what: "timeout",
            value: format!("{}s", limit.seconds),
            rule: "must not be negative".to_owned(),
        }),
        other => Ok(other.map(time::duration)),
    }
}

impl Api {
    async fn started(&self, request: StartRequest) -> Result<StartResponse, Error> {
        let id = self.engine.find(&request.container)?;
        let started = start::start(&self.engine, &id, request.size).await?;
        Ok(StartResponse { container_id: id.to_string(), already_running: started.already_running })
    }

    async fn stopped(&self, request: StopRequest) -> Result<StopResponse, Error> {
        let id = self.engine.find(&request.container)?;
        let how = stop::How {
            timeout: timeout_of(request.timeout.as_ref())?,
            signal: signal_of(&request.signal)?,
            forever: request.no_timeout,
        };
        Ok(StopResponse { exit: stop::stop(&self.engine, &id, how).await? })
    }

    async fn killed(&self, request: KillRequest) -> Result<KillResponse, Error> {
        let id = self.engine.find(&request.container)?;
        let signal = signal_of(&request.signal)?.unwrap_or(kill::SIGKILL);
        kill::kill(&self.engine, &id, signal).await?;
        Ok(KillResponse {})
    }

    async fn restarted(&self, request: RestartRequest) -> Result<RestartResponse, Error> {
        let id = self.engine.find(&request.container)?;
        let how = stop::How {
            timeout: timeout_of(request.timeout.as_ref())?,
            signal: signal_of(&request.signal)?,
            forever: false,
        };
        restart::restart(&self.engine, &id, how).await?;
        Ok(RestartResponse {})
    }

    async fn removed(&self, request: RemoveRequest) -> Result<RemoveResponse, Error> {
        let id = self.engine.find(&request.container)?;
        let how = remove::How { force: request.force, volumes: request.volumes };
        remove::remove(&self.engine, &id, how).await?;
        Ok(RemoveResponse { container_id: id.to_string() })
    }

    async fn waited(&self, request: WaitRequest) -> Result<WaitResponse, Error> {
        let id = self.engine.find(&request.container)?;
        Ok(WaitResponse { exit: wait::wait(&self.engine, &id, request.condition()).await? })
    }

    async fn renamed(&self, request: RenameRequest) -> Result<RenameResponse, Error> {
        let id = self.engine.find(&request.container)?;
        rename::rename(&self.engine, &id, &request.name).await?;
        Ok(RenameResponse {})
    }

    async fn resized(&self, request: ResizeRequest) -> Result<ResizeResponse, Error> {
        let id = self.engine.find(&request.container)?;
        let mut tasks = self.engine.shim(&id)?.tasks();
        let size = task::ResizeRequest { size: request.size };
        within(SHORT, "size the terminal", tasks.resize(size)).await?;
        Ok(ResizeResponse {})
    }
}

#[tonic::async_trait]
impl Containers for Api {
    async fn create(&self, request: Request<CreateRequest>) -> Answer<CreateResponse> {
        let created = create::create(&self.engine, request.into_inner(), Promise::Durable).await;
        answer(created.map(|created| CreateResponse {
            container_id: created.id.to_string(),
            warnings: created.warnings,
            revision: created.revision,
        }))
    }

    async fn start(&self, request: Request<StartRequest>) -> Answer<StartResponse> {
        answer(self.started(request.into_inner()).await)
    }

    type RunStream = Frames<RunResponse>;
    async fn run(&self, request: Request<Streaming<RunRequest>>) -> Answer<Self::RunStream> {
        Ok(frames(run::run(self.engine.clone(), request.into_inner())))
    }

    type AttachStream = Frames<AttachResponse>;
    async fn attach(&self, request: Request<Streaming<AttachRequest>>) -> Answer<Self::AttachStream> {
        Ok(frames(attach::attach(self.engine.clone(), request.into_inner())))
    }

    async fn wait(&self, request: Request<WaitRequest>) -> Answer<WaitResponse> {
        answer(self.waited(request.into_inner()).await)
    }

    async fn stop(&self, request: Request<StopRequest>) -> Answer<StopResponse> {
        answer(self.stopped(request.into_inner()).await)
    }

    async fn kill(&self, request: Request<KillRequest>) -> Answer<KillResponse> {
        answer(self.killed(request.into_inner()).await)
    }

    async fn restart(&self, request: Request<RestartRequest>) -> Answer<RestartResponse> {
        answer(self.restarted(request.into_inner()).await)
    }

    async fn remove(&self, request: Request<RemoveRequest>) -> Answer<RemoveResponse> {
        answer(self.removed(request.into_inner()).await)
    }

    type ListStream = Frames<ListResponse>;
    async fn list(&self, request: Request<ListRequest>) -> Answer<Self::ListStream> {
        let pages = list::list(&self.engine, request.into_inner()).await;
        pages.map(frames).map_err(|error| status(&error))
    }

    async fn inspect(&self, request: Request<InspectRequest>) -> Answer<InspectResponse> {
        answer(inspect::inspect(&self.engine, request.into_inner()).await)
    }

    type LogsStream = Frames<LogsResponse>;
    async fn logs(&self, request: Request<LogsRequest>) -> Answer<Self::LogsStream> {
        let lines = logs::logs(&self.engine, request.into_inner()).await;
        lines.map(frames).map_err(|error| status(&error))
    }

    async fn rename(&self, request: Request<RenameRequest>) -> Answer<RenameResponse> {
        answer(self.renamed(request.into_inner()).await)
    }

    async fn resize(&self, request: Request<ResizeRequest>) -> Answer<ResizeResponse> {
        answer(self.resized(request.into_inner()).await)
    }

    async fn prune(&self, request: Request<PruneRequest>) -> Answer<PruneResponse> {
        answer(prune::prune(&self.engine, request.into_inner()).await)
    }

    type ExecStream = Frames<ExecResponse>;
    async fn exec(&self, _: Request<Streaming<ExecRequest>>) -> Answer<Self::ExecStream> {
        Err(unimplemented("Containers.Exec"))
    }

    async fn pause(&self, _: Request<PauseRequest>) -> Answer<PauseResponse> {
        Err(unimplemented("Containers.Pause"))
    }

    async fn resume(&self, _: Request<ResumeRequest>) -> Answer<ResumeResponse> {
        Err(unimplemented("Containers.Resume"))
    }

    async fn update(&self, _: Request<UpdateRequest>) -> Answer<UpdateResponse> {
        Err(unimplemented("Containers.Update"))
    }

    async fn top(&self, _: Request<TopRequest>) -> Answer<TopResponse> {
        Err(unimplemented("Containers.Top"))
    }

    type StatsStream = Frames<StatsResponse>;
    async fn stats(&self, _: Request<StatsRequest>) -> Answer<Self::StatsStream> {
        Err(unimplemented("Containers.Stats"))
    }

    async fn diff(&self, _: Request<DiffRequest>) -> Answer<DiffResponse> {
        Err(unimplemented("Containers.Diff"))
    }

    async fn why(&self, _: Request<WhyRequest>) -> Answer<WhyResponse> {
        Err(unimplemented("Containers.Why"))
    }
}
