//! The one task that owns the state: one loop over requests, signals and timers.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use davit_proto::task::{NetworkNamespace, PortReservation, Snapshot, TaskState};
use davit_proto::time::timestamp;
use davit_proto::types;
use davit_sys::file::{Durability, Flock};
use davit_sys::process;
use davit_sys::supervise::{SIGCHLD, SignalFd, ended_child, reap_child};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::error::TaskError;
use super::execs::{Execs, News};
use super::health::{self, Health};
use super::note::Asked;
use super::reserve::Reservation;
use super::restart::Lives;
use super::state::{Admit, Command, Event, Task, admit};
use super::{
    configure, delete, end, exec, kill, oom, pause, prepare, relay, reserve, restart, resume, start, stats,
    stop, top, unreserve, update,
};
use crate::bundle::{Bundle, Journal};
use crate::cgroup::ContainerCgroup;
use crate::init::{Init, Shape};
use crate::names::Resolver;
use crate::relay::{Relay, Way};
use crate::stdio::Stream;
use crate::stdio::pump;
use crate::watched;

/// Everything in the kernel that hangs on this shim, from Prepare on.
#[derive(Debug)]
pub struct Body {
    pub(super) init: Init,
    pub(super) network: Option<NetworkNamespace>,
    pub(super) ports: Vec<Reservation>,
    /// Those of them that are served on `[::1]`.
    pub(super) relays: Vec<Relay>,
    /// From Configure on, where the container has one.
    pub(super) names: Option<Resolver>,
    pub(super) cgroup: ContainerCgroup,
    /// Last, so that nobody else takes the container before all of the above is gone.
    pub(super) lock: Flock,
    /// From Configure on.
    pub(super) life: Option<Life>,
}

/// What Configure adds.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) stdio: pump::Handle,
    pub(super) pump: JoinHandle<()>,
    /// Processes that were killed for want of memory before this life.
    pub(super) oom_kills: u64,
    /// What the exit record is worth: nothing after a power cut, when the container's files are not kept either.
    pub(super) durability: Durability,
    /// For the next life.
    pub(super) options: configure::Options,
}

/// Sends the outcome of a request.
pub type Reply<T> = oneshot::Sender<Result<T, TaskError>>;

/// What calls ask of the driver.
#[derive(Debug)]
pub enum Request {
    /// Make namespaces and init.
    Prepare(Box<Shape>, Reply<Snapshot>),
    /// Hold ports.
    Reserve(Vec<reserve::Wanted>, usize, Reply<Vec<PortReservation>>),
    /// Hold ports no longer.
    Unreserve(Vec<reserve::Wanted>, Reply<()>),
    /// Serve ports on `[::1]`, these and no others; answered with what is not served.
    Relay(Vec<Way>, Reply<Vec<String>>),
    /// Give init its container, a check and names; answered with what is not exactly as asked.
    Configure(Box<configure::Orders>, Reply<Vec<String>>),
    /// Open the gate for a life.
    Start(start::Start, Reply<Snapshot>),
    /// Send a signal to init, or to all.
    Kill(kill::Kill, Reply<Snapshot>),
    /// Ask init to end, and kill all when the time is over.
    Stop(stop::Stop, Reply<Snapshot>),
    /// Set other limits; answered with what this host cannot limit.
    Update(Box<update::Update>, Reply<Vec<String>>),
    /// Read the counters.
    Stats(Reply<stats::Stats>),
    /// List the processes, as the host counts.
    Top(Reply<Vec<i32>>),
    /// Freeze all, on behalf of somebody.
    Pause(String, Reply<Snapshot>),
    /// Thaw all, on behalf of somebody.
    Resume(String, Reply<Snapshot>),
    /// Something about the added processes.
    Exec(exec::Ask),
    /// End the shim; by force also when init runs.
    Delete(bool, Reply<Snapshot>),
}

/// What everybody may know.
#[derive(Debug, Clone)]
pub struct Published {
    snapshot: Arc<Snapshot>,
    /// The streams, from Configure on.
    pub stdio: Option<pump::Handle>,
}

impl Published {
    /// What is true now.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::clone(&self.snapshot);
        if let Some(stdio) = &self.stdio {
            snapshot.stdout_offset = stdio.offset(Stream::Stdout);
            snapshot.stderr_offset = stdio.offset(Stream::Stderr);
        }
        snapshot
    }

    /// Counts the changes.
    pub fn generation(&self) -> u64 {
        self.snapshot.generation
    }

    /// Whether the last life is over and none will follow.
    pub fn is_over(&self) -> bool {
        self.snapshot.state() == TaskState::Stopped
    }

    /// How the last life ended, when one has.
    pub fn exit(&self) -> Option<&types::Exit> {
        self.snapshot.exit.as_ref()
    }
}

/// How calls speak to the driver.
#[derive(Debug, Clone)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    published: watch::Receiver<Published>,
}

impl Handle {
    /// Asks, and waits for the answer.
    pub async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, TaskError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| TaskError::Ending)?;
        answer.await.map_err(|_| TaskError::Ending)?
    }

    /// What is true now.
    pub fn published(&self) -> Published {
        self.published.borrow().clone()
    }

    /// What is true now and from now on.
    pub fn subscribe(&self) -> watch::Receiver<Published> {
        self.published.clone()
    }
}

/// What a driver is told at its start.
#[derive(Debug)]
pub struct Setup {
    /// Id of the container.
    pub container_id: String,
    /// This process as the host counts.
    pub shim_pid: i32,
    /// The bundle.
    pub bundle: Bundle,
    /// The cgroup below which the container's is made.
    pub cgroup_parent: String,
    /// All signals of this process.
    pub signals: SignalFd,
    /// Its end of file before Configure ends the shim.
    pub unconfigured: Option<OwnedFd>,
}

/// The owner of the state.
#[derive(Debug)]
pub struct Driver {
    pub(super) container_id: String,
    pub(super) bundle: Bundle,
    pub(super) cgroup_parent: String,
    pub(super) task: Task<Body>,
    /// When everything is killed, after Stop.
    pub(super) kill_at: Option<Instant>,
    /// From Configure on, where memory is counted.
    pub(super) oom: Option<oom::Alarm>,
    /// What came before this life and what follows it.
    pub(super) lives: Lives,
    /// The last signal that was asked for in this life.
    pub(super) asked: Option<Asked>,
    /// From Prepare on, for only then the bundle is ours.
    pub(super) journal: Option<Journal>,
    /// The journal tells of more than was published.
    pub(super) unpublished: bool,
    /// What was added to the container.
    pub(super) execs: Execs,
    /// How the container is seen to work, where that is checked.
    pub(super) health: Option<Box<Health>>,
    /// The shim ends without a life.
    pub(super) ending: bool,
    pub(super) unconfigured: Option<AsyncFd<File>>,
    shim_pid: i32,
    requests: mpsc::Receiver<Request>,
    signals: AsyncFd<SignalFd>,
    publisher: watch::Sender<Published>,
}

enum Wake {
    Request(Option<Request>),
    Signal(io::Result<i32>),
    KillNow,
    ShortOfMemory,
    Due,
    Abandoned,
    PumpEnded,
    Exec(News),
    NobodyCame,
    Health,
}

impl Driver {
    /// A driver and the way to it.
    pub fn new(setup: Setup) -> io::Result<(Self, Handle)> {
        let (sender, requests) = mpsc::channel(16);
        let snapshot = Snapshot {
            container_id: setup.container_id.clone(),
            generation: 1,
            state: TaskState::Empty.into(),
            shim_pid: setup.shim_pid,
            ..Snapshot::default()
        };
        let (publisher, published) = watch::channel(Published { snapshot: Arc::new(snapshot), stdio: None });
        let unconfigured = setup.unconfigured.map(watched_pipe).transpose()?;
        let driver = Self {
            container_id: setup.container_id,
            bundle: setup.bundle,
            cgroup_parent: setup.cgroup_parent,
            task: Task::Empty,
            kill_at: None,
            oom: None,
            lives: Lives::default(),
            asked: None,
            journal: None,
            unpublished: false,
            execs: Execs::default(),
            health: None,
            ending: false,
            unconfigured,
            shim_pid: setup.shim_pid,
            requests,
            signals: watched::watch(setup.signals, Interest::READABLE)?,
            publisher,
        };
        Ok((driver, Handle { requests: sender, published }))
    }

    /// Serves until the task is over and its output was handed on, and answers with what is to be let go of.
    pub async fn run(mut self) -> Task<Body> {
        while !self.is_over() {
            // What is done rarely is boxed: else the shim's stack has room for the largest of it at all times.
            match self.wait().await {
                Wake::Request(Some(request)) => Box::pin(self.serve(request)).await,
                Wake::Request(None) => self.ending = true,
                Wake::Signal(Ok(signal)) => Box::pin(self.on_signal(signal)).await,
                Wake::Signal(Err(error)) => tracing::error!(%error, "cannot read signals"),
                Wake::KillNow => stop::time_is_over(&mut self),
                Wake::ShortOfMemory => oom::count(&mut self),
                Wake::Due => Box::pin(restart::is_due(&mut self)).await,
                Wake::Abandoned => {
                    tracing::info!("nobody configured this shim: ending");
                    self.ending = true;
                }
                Wake::PumpEnded | Wake::NobodyCame => {}
                Wake::Health => health::is_due(&mut self),
                Wake::Exec(news) => Box::pin(exec::hear(&mut self, news)).await,
            }
            self.settle();
        }
        self.task
    }

    fn is_over(&self) -> bool {
        let drained = match &self.task {
            Task::Stopped { init: Body { life: Some(life), .. }, .. } => life.pump.is_finished(),
            Task::Stopped { .. } => true,
            _ => false,
        };
        self.ending
            || (drained
                && self.execs.are_over()
                && self.health.as_ref().is_none_or(|health| health.is_over()))
    }

    async fn wait(&mut self) -> Wake {
        let (kill_at, due) = (self.kill_at, self.lives.due);
        let probe = self.health.as_ref().and_then(|health| health.due());
        let awaited = match &self.task {
            Task::Stopped { .. } => self.execs.awaited_until(),
            _ => None,
        };
        let pump = match &mut self.task {
            // A handle that was heard of must not be asked again, and an exec may outlast the pump.
            Task::Stopped { init: Body { life: Some(life), .. }, .. } if !life.pump.is_finished() => {
                Some(&mut life.pump)
            }
            _ => None,
        };
        tokio::select! {
            request = self.requests.recv() => Wake::Request(request),
            signal = self.signals.async_io(Interest::READABLE, SignalFd::next) => Wake::Signal(signal),
            () = sleep_until(kill_at.unwrap_or_else(Instant::now)), if kill_at.is_some() => Wake::KillNow,
            () = oom::rings(self.oom.as_mut()) => Wake::ShortOfMemory,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Wake::Due,
            () = end_of_file(self.unconfigured.as_ref()) => Wake::Abandoned,
            () = ended(pump) => Wake::PumpEnded,
            news = self.execs.next() => Wake::Exec(news),
            () = sleep_until(awaited.unwrap_or_else(Instant::now)), if awaited.is_some() => Wake::NobodyCame,
            () = sleep_until(probe.unwrap_or_else(Instant::now)), if probe.is_some() => Wake::Health,
        }
    }

    async fn serve(&mut self, request: Request) {
        // A caller that has gone does not want its answer; what it asked for was done all the same.
        match request {
            Request::Prepare(shape, reply) => {
                let done = prepare::prepare(self, *shape).await;
                let _ = reply.send(self.answer(done));
            }
            Request::Reserve(wanted, known, reply) => {
                let _ = reply.send(reserve::reserve(self, wanted, known));
            }
            Request::Unreserve(gone, reply) => {
                let _ = reply.send(unreserve::unreserve(self, &gone).await);
            }
            Request::Relay(ways, reply) => {
                let _ = reply.send(relay::relay(self, ways).await);
            }
            Request::Configure(orders, reply) => {
                let done = configure::configure(self, *orders);
                self.settle();
                let _ = reply.send(done);
            }
            Request::Start(start, reply) => {
                let done = start::start(self, start).await;
                let _ = reply.send(self.answer(done));
            }
            Request::Kill(kill, reply) => {
                let done = kill::kill(self, kill).await;
                let _ = reply.send(self.answer(done));
            }
            Request::Stop(stop, reply) => {
                let done = stop::stop(self, stop).await;
                let _ = reply.send(self.answer(done));
            }
            Request::Pause(actor, reply) => {
                let done = pause::pause(self, actor).await;
                let _ = reply.send(self.answer(done));
            }
            Request::Resume(actor, reply) => {
                let done = resume::resume(self, actor).await;
                let _ = reply.send(self.answer(done));
            }
            Request::Update(update, reply) => {
                let done = update::update(self, *update);
                self.settle();
                let _ = reply.send(done);
            }
            Request::Stats(reply) => {
                let _ = reply.send(stats::stats(self));
            }
            Request::Top(reply) => {
                let _ = reply.send(top::top(self));
            }
            Request::Exec(ask) => exec::serve(self, ask),
            Request::Delete(force, reply) => {
                let done = delete::delete(self, force).await;
                let _ = reply.send(self.answer(done));
            }
        }
    }

    fn answer(&mut self, done: Result<(), TaskError>) -> Result<Snapshot, TaskError> {
        self.settle();
        done.map(|()| self.publisher.borrow().snapshot())
    }

    /// Decides about a command by the rules of the state.
    pub(super) fn admit(&self, command: Command) -> Result<Admit, TaskError> {
        Ok(admit(&self.task, command)?)
    }

    /// Moves the state and publishes the new one.
    pub(super) fn apply(&mut self, event: Event<Body>) {
        self.task = std::mem::replace(&mut self.task, Task::Empty).apply(event);
        health::follow(self);
        self.publish();
    }

    /// Publishes a note that nobody else published.
    pub(super) fn settle(&mut self) {
        if self.unpublished {
            self.publish();
        }
    }

    /// Publishes what is true now, with the next generation.
    pub(super) fn publish(&mut self) {
        let mut snapshot = Snapshot {
            container_id: self.container_id.clone(),
            generation: self.publisher.borrow().generation() + 1,
            shim_pid: self.shim_pid,
            life: self.task.life(),
            restart_count: self.lives.restarts.count,
            journal: self.journal.as_ref().map_or(0, Journal::last),
            ..Snapshot::default()
        };
        self.unpublished = false;
        let body = self.task.init();
        snapshot.ports =
            body.map(|body| body.ports.iter().map(Reservation::held).collect()).unwrap_or_default();
        snapshot.health = self.health.as_ref().and_then(|health| health.told());
        snapshot.network_namespace = body.and_then(|body| body.network);
        snapshot.namespaces = body.map(|body| body.init.namespaces().held()).unwrap_or_default();
        let pid = |body: &Body| i32::try_from(body.init.host_pid()).unwrap_or_default();
        let state = match &self.task {
            Task::Empty => TaskState::Empty,
            Task::Prepared { init } => {
                snapshot.pid = pid(init);
                TaskState::Prepared
            }
            Task::Created { init, .. } => {
                snapshot.pid = pid(init);
                TaskState::Created
            }
            Task::Running { init, started_at, .. } | Task::Paused { init, started_at, .. } => {
                snapshot.pid = pid(init);
                snapshot.started_at = Some(timestamp(*started_at));
                snapshot.exit.clone_from(&self.lives.last);
                let paused = matches!(self.task, Task::Paused { .. });
                if paused { TaskState::Paused } else { TaskState::Running }
            }
            Task::Restarting { exit, .. } | Task::Stopped { exit, .. } => {
                snapshot.started_at = exit.started_at;
                snapshot.exit = Some(exit.clone());
                let stopped = matches!(self.task, Task::Stopped { .. });
                if stopped { TaskState::Stopped } else { TaskState::Restarting }
            }
        };
        snapshot.state = state.into();
        let stdio = body.and_then(|body| body.life.as_ref()).map(|life| life.stdio.clone());
        self.publisher.send_replace(Published { snapshot: Arc::new(snapshot), stdio });
    }

    pub(super) fn shim_pid(&self) -> i32 {
        self.shim_pid
    }

    async fn on_signal(&mut self, signal: i32) {
        if signal != SIGCHLD {
            // Somebody meant well or ill; a shim ends with its container and for no other reason.
            tracing::warn!(signal, "ignored a signal");
            return;
        }
        match self.reap().await {
            Ok(Some(exit)) => end::end(self, exit).await,
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "cannot reap children"),
        }
    }

    /// Reaps every child that has ended, adopted ones too, and answers with init's exit when it is among them.
    async fn reap(&mut self) -> io::Result<Option<process::Exit>> {
        let mut ended = None;
        while let Some(pid) = ended_child()? {
            if let (None, Some(body)) = (ended, self.task.living()) {
                ended = body.init.reap()?;
            }
            if let Some(health) = &mut self.health
                && health.reap(pid)?
            {
                continue;
            }
            if let Some(status) = self.execs.reap(pid)? {
                exec::reaped(self, pid, status).await;
                continue;
            }
            // Finds nobody when the one that was found is init, which has just been reaped.
            reap_child(pid)?;
        }
        Ok(ended)
    }

    /// Kills what a life that could not begin has left.
    pub(super) fn kill_remains(&self) {
        let Some(body) = self.task.init() else { return };
        if let Err(error) = body.cgroup.kill() {
            tracing::error!(%error, "cannot kill the container's cgroup");
        }
    }

    /// Kills every process of the container, whoever their parent is.
    pub(super) fn kill_all(&self) {
        let Some(body) = self.task.living() else { return };
        if let Err(error) = body.cgroup.kill() {
            tracing::error!(%error, "cannot kill the container's cgroup; killing its init");
            if let Err(error) = body.init.signal(process::SIGKILL) {
                tracing::error!(%error, "cannot kill init");
            }
        }
    }
}

/// How long the end of a life waits for its last output.
pub(super) const DRAIN: Duration = Duration::from_secs(2);

fn watched_pipe(pipe: OwnedFd) -> io::Result<AsyncFd<File>> {
    davit_sys::fd::set_nonblocking(&pipe, true)?;
    watched::watch(File::from(pipe), Interest::READABLE)
}

/// Resolves when the other end of a pipe is closed; never without a pipe.
async fn end_of_file(pipe: Option<&AsyncFd<File>>) {
    let Some(pipe) = pipe else { return std::future::pending().await };
    loop {
        match pipe.async_io(Interest::READABLE, |mut file| file.read(&mut [0; 16])).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "cannot watch the controller's pipe");
                return;
            }
        }
    }
}

/// Resolves when the pump has ended; never without one.
async fn ended(pump: Option<&mut JoinHandle<()>>) {
    match pump {
        Some(pump) => {
            // Nobody aborts it, and it does not panic: its end is all there is to know.
            let _ = pump.await;
        }
        None => std::future::pending().await,
    }
}
