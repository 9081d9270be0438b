//! `davit.container.v1.Containers` on the wire: decode, call one function, encode.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use davit_proto::container::containers_server::Containers;
use davit_proto::container::{
    AttachRequest, AttachResponse, CommitRequest, CommitResponse, ConnectRequest, ConnectResponse,
    CopyInRequest, CopyInResponse, CopyOutRequest, CopyOutResponse, CopyStatRequest, CopyStatResponse,
    CreateRequest, CreateResponse, DiffRequest, DiffResponse, DisconnectRequest, DisconnectResponse,
    ExecRequest, ExecResponse, ExportRequest, ExportResponse, InspectRequest, InspectResponse, KillRequest,
    KillResponse, ListRequest, ListResponse, LogsRequest, LogsResponse, PauseRequest, PauseResponse,
    PruneRequest, PruneResponse, RemoveRequest, RemoveResponse, RenameRequest, RenameResponse, ResizeRequest,
    ResizeResponse, RestartRequest, RestartResponse, ResumeRequest, ResumeResponse, RunRequest, RunResponse,
    SeenRequest, SeenResponse, StartRequest, StartResponse, StatsRequest, StatsResponse, StopRequest,
    StopResponse, TopRequest, TopResponse, UpdateRequest, UpdateResponse, WaitRequest, WaitResponse,
    WhyRequest, WhyResponse,
};
use davit_proto::status::status;
use davit_proto::time;
use futures_util::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::actor;
use crate::actor::Actor;
use crate::container::create::Promise;
use crate::container::{
    attach, commit, connect, copy, create, disconnect, exec, inspect, kill, list, logs, pause, prune, remove,
    rename, restart, resume, run, signal, start, stats, stop, top, update, wait, why,
};
use crate::engine::Engine;
use crate::error::Error;

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
    async fn started(&self, request: StartRequest, actor: &Actor) -> Result<StartResponse, Error> {
        let id = self.engine.find(&request.container)?;
        let started = start::start(&self.engine, &id, request.size, actor).await?;
        Ok(start::told(&self.engine, &id, &started))
    }

    async fn stopped(&self, request: StopRequest, actor: &Actor) -> Result<StopResponse, Error> {
        let id = self.engine.find(&request.container)?;
        let how = stop::How {
            timeout: timeout_of(request.timeout.as_ref())?,
            signal: signal_of(&request.signal)?,
            forever: request.no_timeout,
            host_goes_down: request.host_goes_down,
        };
        Ok(StopResponse { exit: stop::stop(&self.engine, &id, how, actor).await? })
    }

    async fn killed(&self, request: KillRequest, actor: &Actor) -> Result<KillResponse, Error> {
        let id = self.engine.find(&request.container)?;
        let signal = signal_of(&request.signal)?.unwrap_or(kill::SIGKILL);
        if !request.exec_id.is_empty() {
            exec::kill(&self.engine.shim_heard(&id).await?, &request.exec_id, signal, actor).await?;
            return Ok(KillResponse {});
        }
        kill::kill(&self.engine, &id, signal, actor).await?;
        Ok(KillResponse {})
    }

    async fn restarted(&self, request: RestartRequest, actor: &Actor) -> Result<RestartResponse, Error> {
        let id = self.engine.find(&request.container)?;
        let how = stop::How {
            timeout: timeout_of(request.timeout.as_ref())?,
            signal: signal_of(&request.signal)?,
            ..stop::How::default()
        };
        restart::restart(&self.engine, &id, how, actor).await?;
        Ok(RestartResponse {})
    }

    async fn removed(&self, request: RemoveRequest, actor: &Actor) -> Result<RemoveResponse, Error> {
        let id = self.engine.find(&request.container)?;
        let how = remove::How { force: request.force, volumes: request.volumes };
        remove::remove(&self.engine, &id, how, actor).await?;
        Ok(RemoveResponse { container_id: id.to_string() })
    }

    async fn waited(&self, request: WaitRequest) -> Result<WaitResponse, Error> {
        let id = self.engine.find(&request.container)?;
        Ok(WaitResponse { exit: wait::wait(&self.engine, &id, request.condition()).await? })
    }

    async fn renamed(&self, request: RenameRequest, actor: &Actor) -> Result<RenameResponse, Error> {
        let id = self.engine.find(&request.container)?;
        rename::rename(&self.engine, &id, &request.name, actor).await?;
        Ok(RenameResponse {})
    }

    async fn paused(&self, request: PauseRequest, actor: &Actor) -> Result<PauseResponse, Error> {
        let id = self.engine.find(&request.container)?;
        pause::pause(&self.engine, &id, actor).await?;
        Ok(PauseResponse {})
    }

    async fn resumed(&self, request: ResumeRequest, actor: &Actor) -> Result<ResumeResponse, Error> {
        let id = self.engine.find(&request.container)?;
        resume::resume(&self.engine, &id, actor).await?;
        Ok(ResumeResponse {})
    }

    async fn updated(&self, request: UpdateRequest, actor: &Actor) -> Result<UpdateResponse, Error> {
        let id = self.engine.find(&request.container)?;
        Ok(UpdateResponse { warnings: update::update(&self.engine, &id, request, actor).await? })
    }

    async fn connected(&self, request: ConnectRequest, actor: &Actor) -> Result<ConnectResponse, Error> {
        let id = self.engine.find(&request.container)?;
        Ok(ConnectResponse { warnings: connect::connect(&self.engine, &id, request, actor).await? })
    }

    async fn disconnected(
        &self,
        request: DisconnectRequest,
        actor: &Actor,
    ) -> Result<DisconnectResponse, Error> {
        let id = self.engine.find(&request.container)?;
        disconnect::disconnect(&self.engine, &id, request, actor).await?;
        Ok(DisconnectResponse {})
    }

    async fn resized(&self, request: ResizeRequest) -> Result<ResizeResponse, Error> {
        let id = self.engine.find(&request.container)?;
        exec::resize(&self.engine.shim_heard(&id).await?, &request.exec_id, request.size).await?;
        Ok(ResizeResponse {})
    }
}

#[tonic::async_trait]
impl Containers for Api {
    async fn create(&self, request: Request<CreateRequest>) -> Answer<CreateResponse> {
        let actor = actor::of("create", &request);
        let created = create::create(&self.engine, request.into_inner(), Promise::Durable, &actor).await;
        answer(created.map(|created| CreateResponse {
            container_id: created.id.to_string(),
            warnings: created.warnings,
            revision: created.revision,
        }))
    }

    async fn start(&self, request: Request<StartRequest>) -> Answer<StartResponse> {
        let actor = actor::of("start", &request);
        answer(self.started(request.into_inner(), &actor).await)
    }

    type RunStream = Frames<RunResponse>;
    async fn run(&self, request: Request<Streaming<RunRequest>>) -> Answer<Self::RunStream> {
        let actor = actor::of("run", &request);
        Ok(frames(run::run(self.engine.clone(), request.into_inner(), actor)))
    }

    type AttachStream = Frames<AttachResponse>;
    async fn attach(&self, request: Request<Streaming<AttachRequest>>) -> Answer<Self::AttachStream> {
        let actor = actor::of("attach", &request);
        Ok(frames(attach::attach(self.engine.clone(), request.into_inner(), actor)))
    }

    async fn wait(&self, request: Request<WaitRequest>) -> Answer<WaitResponse> {
        answer(self.waited(request.into_inner()).await)
    }

    async fn stop(&self, request: Request<StopRequest>) -> Answer<StopResponse> {
        let call = if request.get_ref().host_goes_down { "the host goes down: drain" } else { "stop" };
        let actor = actor::of(call, &request);
        answer(self.stopped(request.into_inner(), &actor).await)
    }

    async fn kill(&self, request: Request<KillRequest>) -> Answer<KillResponse> {
        let actor = actor::of("kill", &request);
        answer(self.killed(request.into_inner(), &actor).await)
    }

    async fn restart(&self, request: Request<RestartRequest>) -> Answer<RestartResponse> {
        let actor = actor::of("restart", &request);
        answer(self.restarted(request.into_inner(), &actor).await)
    }

    async fn remove(&self, request: Request<RemoveRequest>) -> Answer<RemoveResponse> {
        let actor = actor::of("remove", &request);
        answer(self.removed(request.into_inner(), &actor).await)
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

    async fn copy_stat(&self, request: Request<CopyStatRequest>) -> Answer<CopyStatResponse> {
        answer(copy::stat(&self.engine, request.into_inner()).await)
    }

    type CopyOutStream = Frames<CopyOutResponse>;
    async fn copy_out(&self, request: Request<CopyOutRequest>) -> Answer<Self::CopyOutStream> {
        let archive = copy::out(&self.engine, request.into_inner()).await;
        archive.map(frames).map_err(|error| status(&error))
    }

    async fn copy_in(&self, request: Request<Streaming<CopyInRequest>>) -> Answer<CopyInResponse> {
        answer(copy::take(&self.engine, request.into_inner()).await)
    }

    async fn rename(&self, request: Request<RenameRequest>) -> Answer<RenameResponse> {
        let actor = actor::of("rename", &request);
        answer(self.renamed(request.into_inner(), &actor).await)
    }

    async fn resize(&self, request: Request<ResizeRequest>) -> Answer<ResizeResponse> {
        answer(self.resized(request.into_inner()).await)
    }

    async fn prune(&self, request: Request<PruneRequest>) -> Answer<PruneResponse> {
        let actor = actor::of("prune", &request);
        answer(prune::prune(&self.engine, request.into_inner(), &actor).await)
    }

    type ExecStream = Frames<ExecResponse>;
    async fn exec(&self, request: Request<Streaming<ExecRequest>>) -> Answer<Self::ExecStream> {
        let actor = actor::of("exec", &request);
        Ok(frames(exec::exec(self.engine.clone(), request.into_inner(), actor)))
    }

    async fn seen(&self, request: Request<SeenRequest>) -> Answer<SeenResponse> {
        answer(exec::seen(&self.engine, request.into_inner()).await.map(|()| SeenResponse {}))
    }

    async fn pause(&self, request: Request<PauseRequest>) -> Answer<PauseResponse> {
        let actor = actor::of("pause", &request);
        answer(self.paused(request.into_inner(), &actor).await)
    }

    async fn resume(&self, request: Request<ResumeRequest>) -> Answer<ResumeResponse> {
        let actor = actor::of("resume", &request);
        answer(self.resumed(request.into_inner(), &actor).await)
    }

    async fn update(&self, request: Request<UpdateRequest>) -> Answer<UpdateResponse> {
        let actor = actor::of("update", &request);
        answer(self.updated(request.into_inner(), &actor).await)
    }

    async fn top(&self, request: Request<TopRequest>) -> Answer<TopResponse> {
        answer(top::top(&self.engine, request.into_inner()).await)
    }

    type StatsStream = Frames<StatsResponse>;
    async fn stats(&self, request: Request<StatsRequest>) -> Answer<Self::StatsStream> {
        let counters = stats::stats(&self.engine, request.get_ref());
        counters.map(frames).map_err(|error| status(&error))
    }

    type DiffStream = Frames<DiffResponse>;
    async fn diff(&self, request: Request<DiffRequest>) -> Answer<Self::DiffStream> {
        let changes = copy::diff(&self.engine, request.into_inner()).await;
        changes.map(frames).map_err(|error| status(&error))
    }

    async fn commit(&self, request: Request<CommitRequest>) -> Answer<CommitResponse> {
        let actor = actor::of("commit", &request);
        answer(commit::commit(&self.engine, request.into_inner(), &actor).await)
    }

    type ExportStream = Frames<ExportResponse>;
    async fn export(&self, request: Request<ExportRequest>) -> Answer<Self::ExportStream> {
        let archive = copy::export(&self.engine, request.into_inner()).await;
        archive.map(frames).map_err(|error| status(&error))
    }

    async fn connect(&self, request: Request<ConnectRequest>) -> Answer<ConnectResponse> {
        let actor = actor::of("network connect", &request);
        answer(self.connected(request.into_inner(), &actor).await)
    }

    async fn disconnect(&self, request: Request<DisconnectRequest>) -> Answer<DisconnectResponse> {
        let actor = actor::of("network disconnect", &request);
        answer(self.disconnected(request.into_inner(), &actor).await)
    }

    async fn why(&self, request: Request<WhyRequest>) -> Answer<WhyResponse> {
        answer(why::why(&self.engine, &request.into_inner().container))
    }
}
