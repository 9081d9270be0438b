//! The shim's contract on the wire: decodes, asks the driver, encodes. The only place of the shim, with its
//! submodules, that speaks of gRPC statuses.

mod attach;
mod check;
mod exec;
mod health;
mod names;
mod shape;

use std::pin::Pin;

use davit_proto::id::ContainerId;
use davit_proto::status::{Classify, status, unimplemented};
use davit_proto::task::tasks_server::{Tasks, TasksServer};
use davit_proto::task::{
    AttachRequest, AttachResponse, ConfigureRequest, ConfigureResponse, DeleteRequest, DeleteResponse,
    ExecRequest, ExecResponse, ExecsRequest, ExecsResponse, KillRequest, KillResponse, PauseRequest,
    PauseResponse, PrepareRequest, PrepareResponse, RelayRequest, RelayResponse, ReserveRequest,
    ReserveResponse, ResizeRequest, ResizeResponse, ResumeRequest, ResumeResponse, SeenRequest, SeenResponse,
    StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest, StatsResponse, StopRequest,
    StopResponse, TopRequest, TopResponse, UnreserveRequest, UnreserveResponse, UpdateRequest,
    UpdateResponse, WaitRequest, WaitResponse, WatchRequest, WatchResponse,
};
use davit_proto::types::TerminalSize;
use davit_sys::pty::WindowSize;
use futures_util::{Stream, StreamExt as _};
use oci_spec::runtime::LinuxResources;
use tonic::{Request, Response, Status, Streaming};

use crate::stdio::log::Limits;
use crate::stdio::pump::{self, StdioError};
use crate::task::driver::Request as Ask;
use crate::task::state::Denied;
use crate::task::{self, Kill, Options, Orders, Start, Stop, TaskError, Update};

pub use health::{Health, HealthServer, NAME as HEALTH};

/// Full name of the service that this is.
pub const NAME: &str = davit_proto::task::tasks_server::SERVICE_NAME;
/// Largest message either way.
const MESSAGE_LIMIT: usize = 4 << 20;
/// Most bytes of who asks.
const ACTOR: usize = 256;

/// The service.
#[derive(Debug, Clone)]
pub struct Api {
    container: ContainerId,
    task: task::Handle,
}

type Answer<T> = Result<Response<T>, Status>;
type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Api {
    /// The service for one container.
    pub fn new(container: ContainerId, task: task::Handle) -> Self {
        Self { container, task }
    }

    /// As something that answers HTTP requests.
    pub fn into_server(self) -> TasksServer<Self> {
        TasksServer::new(self)
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT)
    }

    fn stdio(&self) -> Result<pump::Handle, TaskError> {
        self.task.published().stdio.ok_or(TaskError::Denied(Denied::NotConfigured))
    }
}

/// The answer to a path that nobody serves.
pub fn unknown_path(path: &str) -> http::Response<tonic::body::Body> {
    unimplemented(path).into_http()
}

fn failed(error: TaskError) -> Status {
    let status = status(&error);
    // Quoted: the text may hold what a stranger chose.
    tracing::info!(reason = error.reason(), message = ?status.message(), "refused");
    status
}

#[tonic::async_trait]
impl Tasks for Api {
    async fn prepare(&self, request: Request<PrepareRequest>) -> Answer<PrepareResponse> {
        let PrepareRequest { container_id, shape } = request.into_inner();
        if container_id != self.container.as_str() {
            let rule = "this shim serves another container";
            return Err(failed(TaskError::Invalid { name: "container_id", value: container_id, rule }));
        }
        let shape = Box::new(shape::decode(shape).map_err(failed)?);
        let snapshot = self.task.ask(|reply| Ask::Prepare(shape, reply)).await.map_err(failed)?;
        let network_namespace = snapshot.network_namespace;
        Ok(Response::new(PrepareResponse { shim_pid: snapshot.shim_pid, network_namespace }))
    }

    async fn reserve(&self, request: Request<ReserveRequest>) -> Answer<ReserveResponse> {
        let ReserveRequest { ports, known } = request.into_inner();
        let wanted = decoded(ports)?;
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        let ports = self.task.ask(|reply| Ask::Reserve(wanted, known, reply)).await.map_err(failed)?;
        Ok(Response::new(ReserveResponse { ports }))
    }

    async fn unreserve(&self, request: Request<UnreserveRequest>) -> Answer<UnreserveResponse> {
        let gone = decoded(request.into_inner().ports)?;
        self.task.ask(|reply| Ask::Unreserve(gone, reply)).await.map_err(failed)?;
        Ok(Response::new(UnreserveResponse {}))
    }

    async fn relay(&self, request: Request<RelayRequest>) -> Answer<RelayResponse> {
        let ways = decoded(request.into_inner().ports)?;
        let warnings = self.task.ask(|reply| Ask::Relay(ways, reply)).await.map_err(failed)?;
        Ok(Response::new(RelayResponse { warnings }))
    }

    async fn configure(&self, request: Request<ConfigureRequest>) -> Answer<ConfigureResponse> {
        let request = request.into_inner();
        let limits = limits(request.log.unwrap_or_default());
        let size = request.size.map(window_size).transpose().map_err(failed)?;
        let (open_stdin, stdin_once) = (request.open_stdin, request.stdin_once);
        let orders = Box::new(Orders {
            options: Options { open_stdin, stdin_once, limits, size },
            check: request.health.map(check::decode).transpose().map_err(failed)?,
            names: request.names.map(names::decode).transpose().map_err(failed)?,
        });
        let ask = |reply| Ask::Configure(orders, reply);
        let warnings = self.task.ask(ask).await.map_err(failed)?;
        Ok(Response::new(ConfigureResponse { warnings }))
    }

    async fn start(&self, request: Request<StartRequest>) -> Answer<StartResponse> {
        let StartRequest { life, actor } = request.into_inner();
        let actor = actor_of(actor);
        let start = Start { life, actor };
        let snapshot = self.task.ask(|reply| Ask::Start(start, reply)).await.map_err(failed)?;
        Ok(Response::new(StartResponse { pid: snapshot.pid, started_at: snapshot.started_at }))
    }

    async fn state(&self, _request: Request<StateRequest>) -> Answer<StateResponse> {
        let snapshot = Some(self.task.published().snapshot());
        Ok(Response::new(StateResponse { snapshot }))
    }

    type WatchStream = BoxStream<WatchResponse>;

    async fn watch(&self, request: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        let states = task::watch::watch(&self.task, request.into_inner().after_generation);
        let states = states.map(|snapshot| Ok(WatchResponse { snapshot: Some(snapshot) }));
        Ok(Response::new(Box::pin(states)))
    }

    async fn wait(&self, request: Request<WaitRequest>) -> Answer<WaitResponse> {
        let WaitRequest { life, exec_id } = request.into_inner();
        let exit = match exec_id.as_str() {
            "" => task::wait::wait(&self.task, life).await,
            id => exec::wait(self, id).await,
        };
        let exit = exit.map_err(failed)?;
        Ok(Response::new(WaitResponse { exit: Some(exit) }))
    }

    async fn kill(&self, request: Request<KillRequest>) -> Answer<KillResponse> {
        let KillRequest { signal, all, actor, exec_id } = request.into_inner();
        let signal = signal_number(signal).map_err(failed)?;
        if !exec_id.is_empty() {
            let actor = actor_of(actor);
            let ask = |reply| Ask::Exec(task::exec::Ask::Kill(exec_id, signal, actor, reply));
            return self.task.ask(ask).await.map(|()| Response::new(KillResponse {})).map_err(failed);
        }
        if all && signal != davit_sys::process::SIGKILL {
            let (name, value) = ("signal", signal.to_string());
            return Err(failed(TaskError::Invalid { name, value, rule: "only SIGKILL can be sent to all" }));
        }
        let kill = Kill { signal, all, actor: actor_of(actor) };
        self.task.ask(|reply| Ask::Kill(kill, reply)).await.map_err(failed)?;
        Ok(Response::new(KillResponse {}))
    }

    async fn stop(&self, request: Request<StopRequest>) -> Answer<StopResponse> {
        let StopRequest { signal, timeout, actor } = request.into_inner();
        let signal = signal_number(signal).map_err(failed)?;
        let timeout = timeout.as_ref().map(davit_proto::time::duration);
        let stop = Stop { signal, timeout, actor: actor_of(actor) };
        let snapshot = self.task.ask(|reply| Ask::Stop(stop, reply)).await.map_err(failed)?;
        let exit = task::wait::wait(&self.task, snapshot.life).await.map_err(failed)?;
        Ok(Response::new(StopResponse { exit: Some(exit) }))
    }

    type AttachStream = BoxStream<AttachResponse>;

    async fn attach(&self, request: Request<Streaming<AttachRequest>>) -> Answer<Self::AttachStream> {
        attach::attach(self, request.into_inner()).await.map(Response::new)
    }

    async fn resize(&self, request: Request<ResizeRequest>) -> Answer<ResizeResponse> {
        let ResizeRequest { size, exec_id } = request.into_inner();
        let size = window_size(size.unwrap_or_default()).map_err(failed)?;
        let stdio = match exec_id.as_str() {
            "" => self.stdio(),
            id => exec::view(self, id).await.map(|view| view.stdio),
        };
        let stdio = stdio.map_err(failed)?;
        stdio.resize(size).await.map_err(|error: StdioError| failed(error.into()))?;
        Ok(Response::new(ResizeResponse {}))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Answer<DeleteResponse> {
        let force = request.into_inner().force;
        let snapshot = self.task.ask(|reply| Ask::Delete(force, reply)).await.map_err(failed)?;
        if snapshot.started_at.is_some() {
            task::wait::wait(&self.task, snapshot.life).await.map_err(failed)?;
        }
        Ok(Response::new(DeleteResponse {}))
    }

    async fn exec(&self, request: Request<ExecRequest>) -> Answer<ExecResponse> {
        exec::exec(self, request.into_inner()).await.map(Response::new).map_err(failed)
    }

    async fn seen(&self, request: Request<SeenRequest>) -> Answer<SeenResponse> {
        exec::seen(self, request.into_inner()).await.map(Response::new).map_err(failed)
    }

    async fn execs(&self, _request: Request<ExecsRequest>) -> Answer<ExecsResponse> {
        let execs = self.task.ask(|reply| Ask::Exec(task::exec::Ask::List(reply))).await.map_err(failed)?;
        Ok(Response::new(ExecsResponse { execs }))
    }

    async fn pause(&self, request: Request<PauseRequest>) -> Answer<PauseResponse> {
        let actor = actor_of(request.into_inner().actor);
        self.task.ask(|reply| Ask::Pause(actor, reply)).await.map_err(failed)?;
        Ok(Response::new(PauseResponse {}))
    }

    async fn resume(&self, request: Request<ResumeRequest>) -> Answer<ResumeResponse> {
        let actor = actor_of(request.into_inner().actor);
        self.task.ask(|reply| Ask::Resume(actor, reply)).await.map_err(failed)?;
        Ok(Response::new(ResumeResponse {}))
    }

    async fn update(&self, request: Request<UpdateRequest>) -> Answer<UpdateResponse> {
        let UpdateRequest { resources, actor } = request.into_inner();
        let resources = resources_of(&resources).map_err(failed)?;
        let update = Box::new(Update { resources, actor: actor_of(actor) });
        let warnings = self.task.ask(|reply| Ask::Update(update, reply)).await.map_err(failed)?;
        Ok(Response::new(UpdateResponse { warnings }))
    }

    async fn top(&self, _request: Request<TopRequest>) -> Answer<TopResponse> {
        let pids = self.task.ask(Ask::Top).await.map_err(failed)?;
        Ok(Response::new(TopResponse { pids }))
    }

    async fn stats(&self, _request: Request<StatsRequest>) -> Answer<StatsResponse> {
        let stats = self.task.ask(Ask::Stats).await.map_err(failed)?;
        Ok(Response::new(StatsResponse {
            at: Some(davit_proto::time::timestamp(stats.at)),
            cpu_nanoseconds: stats.counters.cpu_nanoseconds,
            memory_bytes: stats.counters.memory,
            memory_limit_bytes: stats.counters.memory_limit.unwrap_or(0),
            pids: stats.counters.pids,
            block_read_bytes: stats.counters.block_read,
            block_write_bytes: stats.counters.block_written,
            network_received_bytes: stats.received,
            network_sent_bytes: stats.sent,
        }))
    }
}

fn decoded<W, T: TryFrom<W, Error = TaskError>>(asked: Vec<W>) -> Result<Vec<T>, Status> {
    asked.into_iter().map(TryInto::try_into).collect::<Result<_, _>>().map_err(failed)
}

/// The limits of an update, as a runtime spec says them.
fn resources_of(json: &[u8]) -> Result<LinuxResources, TaskError> {
    serde_json::from_slice(json).map_err(|error| TaskError::Invalid {
        name: "resources",
        value: error.to_string(),
        rule: "must be the resources of an OCI runtime spec, as JSON",
    })
}

/// Who asks, cut to a length that a journal can bear.
fn actor_of(mut said: String) -> String {
    said.truncate(said.floor_char_boundary(ACTOR));
    said
}

fn signal_number(signal: u32) -> Result<i32, TaskError> {
    let valid = i32::try_from(signal).ok().filter(|number| (1..=64).contains(number));
    valid.ok_or_else(|| TaskError::Invalid {
        name: "signal",
        value: signal.to_string(),
        rule: "must be 1 to 64",
    })
}

fn window_size(size: TerminalSize) -> Result<WindowSize, TaskError> {
    match (u16::try_from(size.rows), u16::try_from(size.columns)) {
        (Ok(rows), Ok(columns)) => Ok(WindowSize { rows, columns }),
        _ => Err(TaskError::Invalid {
            name: "size",
            value: format!("{}x{}", size.columns, size.rows),
            rule: "rows and columns must be at most 65535",
        }),
    }
}

fn limits(said: davit_proto::task::LogLimits) -> Limits {
    let default = Limits::default();
    Limits {
        max_size: if said.max_size == 0 { default.max_size } else { said.max_size },
        max_files: if said.max_files == 0 { default.max_files } else { said.max_files },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_and_sizes_are_bounded() {
        assert_eq!(signal_number(9).unwrap(), 9);
        assert!(signal_number(0).is_err() && signal_number(65).is_err() && signal_number(u32::MAX).is_err());
        let size = |rows, columns| window_size(TerminalSize { rows, columns });
        assert_eq!(size(24, 80).unwrap(), WindowSize { rows: 24, columns: 80 });
        assert!(size(65_536, 80).is_err() && size(24, u32::MAX).is_err());
    }

    #[test]
    fn zero_means_the_default() {
        let said = davit_proto::task::LogLimits { max_size: 0, max_files: 7 };
        assert_eq!(limits(said), Limits { max_files: 7, ..Limits::default() });
    }
}
