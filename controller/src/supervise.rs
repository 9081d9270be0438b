//! Follows each living shim: one stream of states a shim, each change entered into the record. When the stream
//! breaks it is decided, never guessed, whether the shim is dead or only silent: dead is a process that the kernel
//! says is gone, by pid, start time and boot.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use davit_proto::container::Phase;
use davit_proto::id::ContainerId;
use davit_proto::status::chain;
use davit_proto::store::ContainerRecord;
use davit_proto::task::{Snapshot, TaskState, WatchRequest};
use davit_proto::time::system_time;
use davit_proto::types::{Exit, exit};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::container::bundle::Bundle;
use crate::container::journal;
use crate::container::live::{self, KILLED, status_of};
use crate::container::release::{self, How};
use crate::engine::Engine;
use crate::error::Error;
use crate::failpoint;
use crate::revive;
use crate::shim::{self, Process, SHORT, Shim};
use crate::store::{now, phase};

/// How long a shim whose connection broke may take to end before it counts as silent.
const ENDING: Duration = Duration::from_secs(1);
/// Pauses between dials of a silent shim.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// Pauses between tries to clear what a container left.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// Follows a shim that was just made, whose init waits at the gate.
pub fn follow(engine: &Arc<Engine>, shim: Shim) {
    let id = shim.id().clone();
    engine.shim_at(shim.clone(), TaskState::Created);
    spawn(Follower { engine: engine.clone(), id, told: None, pidfd: None }, Some(shim));
}

/// Follows a shim that an earlier controller made, and tells whether the kernel says that it lives. The answer comes when
/// it has said so itself, or it is known that it does not.
pub fn adopt(engine: &Arc<Engine>, id: &ContainerId) -> (bool, oneshot::Receiver<()>) {
    let (told, known) = oneshot::channel();
    let mut follower = Follower { engine: engine.clone(), id: id.clone(), told: Some(told), pidfd: None };
    follower.identify(&engine.config.shim_dir(id));
    let lives = follower.pidfd.is_some();
    if lives {
        engine.shim_expected(id)
    } else {
        engine.shim_asked(id)
    }
    spawn(follower, None);
    (lives, known)
}

fn spawn(follower: Follower, shim: Option<Shim>) {
    let (engine, id) = (follower.engine.clone(), follower.id.clone());
    let task = tokio::spawn(follower.run(shim));
    engine.shim_followed(&id, task.abort_handle());
}

/// What became of a shim whose connection broke.
enum Fate {
    /// Gone, beyond doubt.
    Gone,
    /// It may live.
    Unknown,
}

/// The task that follows one shim.
struct Follower {
    engine: Arc<Engine>,
    id: ContainerId,
    /// Who waits for the first news.
    told: Option<oneshot::Sender<()>>,
    /// The shim's process, once it is known: the folder may belong to its successor by the time this one is gone.
    pidfd: Option<OwnedFd>,
}

impl Follower {
    async fn run(mut self, first: Option<Shim>) {
        let folder = self.engine.config.shim_dir(&self.id);
        let mut shim = first;
        let mut pause = FIRST_PAUSE;
        loop {
            self.identify(&folder);
            let dialled = match shim.take() {
                Some(shim) => Ok(shim),
                None => Shim::dial(&self.id, &folder).await,
            };
            let why = match dialled {
                Ok(shim) => self.listen(&shim, &folder).await,
                Err(error) => chain(&error),
            };
            self.engine.shim_asked(&self.id);
            match self.look(&folder).await {
                Ok(Fate::Gone) => break,
                Ok(Fate::Unknown) => self.engine.shim_lost(&self.id, &why),
                Err(error) => self.engine.shim_lost(&self.id, &format!("{why}; {error}")),
            }
            tracing::warn!(container_id = %self.id, why, "a shim does not answer");
            self.tell();
            if self.ended_within(pause).await {
                break;
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
        // Recorded before anybody is told that it has no shim: it would be said to run, and does not. No await from the
        // last look to here: whoever launches the next shim finds this one gone.
        let end = record_end(&self.engine, &self.id);
        self.engine.shim_over(&self.id);
        self.tell();
        let (engine, id) = (self.engine.clone(), self.id.clone());
        tokio::spawn(async move { over(&engine, &id, end).await });
    }

    /// Takes hold of the process, so that it cannot be mistaken for another one later.
    fn identify(&mut self, folder: &Path) {
        if self.pidfd.is_none()
            && let Ok(Process::Alive(_, pidfd)) = shim::find(folder, &self.engine.facts.boot_id)
        {
            self.pidfd = Some(pidfd);
        }
    }

    /// Enters states until the stream ends; answers why it did.
    async fn listen(&mut self, shim: &Shim, folder: &Path) -> String {
        let mut tasks = shim.tasks();
        let mut stream = match timeout(SHORT, tasks.watch(WatchRequest { after_generation: 0 })).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return status.message().to_owned(),
            Err(_) => return "it took the question and gave no answer".to_owned(),
        };
        // A shim that lives tells its state at once; later ones come when they come.
        let mut patience = Some(SHORT);
        loop {
            let next = match patience.take() {
                Some(limit) => match timeout(limit, stream.message()).await {
                    Ok(next) => next,
                    Err(_) => return "it does not tell its state".to_owned(),
                },
                None => stream.message().await,
            };
            match next {
                Ok(Some(answer)) => {
                    let Some(snapshot) = answer.snapshot else { continue };
                    if snapshot.container_id != self.id.as_str() {
                        return format!("it serves container {:?}", snapshot.container_id);
                    }
                    self.identify(folder);
                    self.engine.shim_at(shim.clone(), snapshot.state());
                    enter(&self.engine, &self.id, &snapshot).await;
                    self.tell();
                }
                Ok(None) => return "it closed the connection".to_owned(),
                Err(status) => return status.message().to_owned(),
            }
        }
    }

    /// Dead or only silent?
    async fn look(&mut self, folder: &Path) -> io::Result<Fate> {
        self.identify(folder);
        if self.pidfd.is_some() {
            return Ok(if self.ended_within(ENDING).await { Fate::Gone } else { Fate::Unknown });
        }
        Ok(match shim::find(folder, &self.engine.facts.boot_id)? {
            Process::Gone => Fate::Gone,
            Process::Alive(..) => Fate::Unknown,
            // It never said its name: as long as nobody listens and nobody has the lock, nobody is there.
            Process::Unnamed => match std::os::unix::net::UnixStream::connect(folder.join("shim.sock")) {
                Ok(_) => Fate::Unknown,
                Err(error) if is_nobody(&error) && self.bundle().is_free()? => Fate::Gone,
                Err(_) => Fate::Unknown,
            },
        })
    }

    /// Waits that long, or until the process is gone.
    async fn ended_within(&self, limit: Duration) -> bool {
        let Some(pidfd) = self.pidfd.as_ref().and_then(|fd| fd.try_clone().ok()) else {
            tokio::time::sleep(limit).await;
            return false;
        };
        matches!(timeout(limit, shim::ended(pidfd)).await, Ok(Ok(())))
    }

    fn bundle(&self) -> Bundle {
        Bundle::new(self.engine.config.bundle(&self.id))
    }

    fn tell(&mut self) {
        if let Some(told) = self.told.take() {
            // Whoever asked may have stopped waiting.
            let _ = told.send(());
        }
    }
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

/// Enters one state into the record: what the journal says of it first, with times and causes, then what it could not.
async fn enter(engine: &Arc<Engine>, id: &ContainerId, snapshot: &Snapshot) {
    let begun = match snapshot.state() {
        TaskState::Running | TaskState::Paused => snapshot.life,
        TaskState::Stopped | TaskState::Restarting => {
            if let Err(error) = failpoint::pass(failpoint::EXIT_SEEN).await {
                // The exit is in its file, and is recorded when the shim is gone.
                tracing::warn!(%error, "exit left to be found");
                return;
            }
            0
        }
        TaskState::Unspecified | TaskState::Empty | TaskState::Prepared | TaskState::Created => 0,
    };
    let known = engine.store.get(id).is_some_and(|record| record.journal == snapshot.journal);
    if !known || snapshot.journal == 0 {
        journal::catch_up(engine, id, begun);
    }
    engine.store.update(id, |record| live::stated(record, snapshot));
    if snapshot.state() == TaskState::Stopped {
        engine.store.update(id, live::alone);
    }
}

/// A shim is gone, and its container's end is recorded: the rest is cleared when it is its turn. One that was cut off is
/// started again when its policy says so.
async fn over(engine: &Arc<Engine>, id: &ContainerId, end: Seen) {
    let turn = engine.turn(id).await;
    // Meanwhile it may have been started again, or removed.
    let Some(record) = engine.store.get(id).filter(|_| !engine.has_shim(id)) else { return };
    if let Err(error) = clear(engine, id, &record).await {
        tracing::error!(container_id = %id, error = %chain(&error), "failed to clear what a shim left");
        later(engine, id);
    }
    drop(turn);
    if end == Seen::CutOff {
        revive::after_a_cut(engine, id);
    }
}

/// Tries again to clear what a container left, until it succeeds: a service may be away for a while.
pub fn later(engine: &Arc<Engine>, id: &ContainerId) {
    let (engine, id) = (engine.clone(), id.clone());
    engine.settled(&id, false);
    tokio::spawn(async move {
        let mut pause = FIRST_RETRY;
        loop {
            tokio::time::sleep(pause).await;
            let _turn = engine.turn(&id).await;
            let Some(record) = engine.store.get(&id) else { return };
            let phase = phase(&record);
            let cleared = match phase {
                Phase::Creating => release::release(&engine, &id, release::UNDO).await,
                Phase::Removing => {
                    let how = How { volumes: record.remove_volumes, durable: false, told: true };
                    release::release(&engine, &id, how).await
                }
                // Whoever starts it again clears it first.
                _ if !engine.is_unsettled(&id) || live::is_live(phase) => return,
                _ => clear(&engine, &id, &record).await,
            };
            match cleared {
                Ok(()) => return,
                Err(error) => tracing::debug!(container_id = %id, error = %chain(&error), "not cleared yet"),
            }
            pause = (pause * 2).min(LAST_RETRY);
        }
    });
}

/// Clears what a container that ended holds, or all of it when it was to go with its end. The caller holds the turn.
///
/// # Errors
/// When a service fails.
pub async fn clear(engine: &Arc<Engine>, id: &ContainerId, record: &ContainerRecord) -> Result<(), Error> {
    let container = record.container.clone().unwrap_or_default();
    let auto_remove = container.spec.as_ref().is_some_and(|spec| spec.auto_remove);
    let has_run = status_of(&container).exit.is_some();
    if auto_remove && has_run {
        return release::release(engine, id, How { volumes: true, durable: false, told: true }).await;
    }
    release::settle(engine, id).await
}

/// How a shim went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It had nothing more to do.
    Done,
    /// It was killed while its container ran or was to be started again.
    CutOff,
}

/// Records how the last life of a container ended whose shim is gone: from the journal and the exit record that the
/// shim left, or, when it was killed before it could write them, as just that.
pub fn record_end(engine: &Engine, id: &ContainerId) -> Seen {
    journal::catch_up(engine, id, journal::ALL);
    let Some(record) = engine.store.get(id) else { return Seen::Done };
    let bundle = Bundle::new(engine.config.bundle(id));
    let mut seen = Seen::Done;
    match end_of(&record, &bundle) {
        Ok(None) => {}
        Ok(Some(End::Told(exit))) => {
            engine.store.update(id, |record| live::ended(record, &exit, ""));
        }
        Ok(Some(End::Killed(mut exit))) => {
            seen = Seen::CutOff;
            if exit.started_at.as_ref().is_some_and(|at| system_time(at) < engine.facts.booted_at) {
                "the host was restarted".clone_into(&mut exit.reason);
            }
            tracing::warn!(container_id = %id, life = exit.life, reason = exit.reason, "a life has no exit record");
            if let Err(error) = bundle.write_exit(&exit) {
                tracing::error!(container_id = %id, %error, "failed to write the exit of a killed shim's container");
            }
            engine.store.update(id, |record| live::ended(record, &exit, ""));
        }
        Err(error) => {
            tracing::error!(container_id = %id, %error, "failed to read how a container ended");
        }
    }
    engine.store.update(id, |record| {
        if phase(record) == Phase::Restarting {
            seen = Seen::CutOff;
        }
        live::alone(record)
    });
    seen
}

/// The end of a life.
#[derive(Debug, Clone, PartialEq)]
enum End {
    /// The shim recorded it.
    Told(Exit),
    /// The shim could not.
    Killed(Exit),
}

fn end_of(record: &ContainerRecord, bundle: &Bundle) -> io::Result<Option<End>> {
    let status = record.container.as_ref().map(status_of).unwrap_or_default();
    let journal = bundle.last_start()?;
    let by_record = if live::is_live(phase(record)) { status.life } else { 0 };
    let begun = journal.map_or(0, |(life, _)| life).max(by_record);
    let known = status.exit.as_ref().map_or(0, |exit| exit.life);
    let written = bundle.read_exit()?;
    if let Some(exit) = written.filter(|exit| exit.life >= begun) {
        return Ok((exit.life > known).then_some(End::Told(exit)));
    }
    if begun <= known {
        return Ok(None);
    }
    let at = journal.filter(|(life, _)| *life == begun).map(|(_, at)| at);
    Ok(Some(End::Killed(Exit {
        life: begun,
        how: Some(exit::How::Signal(9)),
        started_at: at.or(status.started_at),
        finished_at: Some(now()),
        oom_killed: false,
        reason: "its shim was killed".to_owned(),
        exit_code: KILLED,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use davit_proto::container::{Container, ContainerStatus};

    fn record(phase: Phase, life: u64, exit: Option<u64>) -> ContainerRecord {
        let exit = exit.map(|life| Exit { life, ..Exit::default() });
        let mut status = ContainerStatus { life, exit, ..ContainerStatus::default() };
        status.set_phase(phase);
        ContainerRecord {
            container: Some(Container { status: Some(status), ..Container::default() }),
            ..ContainerRecord::default()
        }
    }

    struct Files(tempfile::TempDir, Bundle);

    impl Files {
        fn new(exit: Option<u64>, journal: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let bundle = Bundle::new(folder.path().to_owned());
            if let Some(life) = exit {
                bundle.write_exit(&Exit { life, exit_code: 5, ..Exit::default() }).unwrap();
            }
            std::fs::write(bundle.file("life"), journal).unwrap();
            Self(folder, bundle)
        }
    }

    const STARTED_ONCE: &str =
        "{\"n\":1,\"life\":1,\"event\":\"start\",\"pid\":7,\"at\":\"2026-11-20T22:00:00Z\"}\n";

    fn told(end: Option<End>) -> Option<(u64, u32)> {
        match end? {
            End::Told(exit) => Some((exit.life, exit.exit_code)),
            End::Killed(exit) => panic!("killed in life {}", exit.life),
        }
    }

    fn killed(end: Option<End>) -> u64 {
        match end {
            Some(End::Killed(exit)) if exit.exit_code == KILLED && exit.started_at.is_some() => exit.life,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_exit_record_is_told_once() {
        let files = Files::new(Some(1), STARTED_ONCE);
        assert_eq!(told(end_of(&record(Phase::Running, 1, None), &files.1).unwrap()), Some((1, 5)));
        assert_eq!(
            told(end_of(&record(Phase::Created, 0, None), &files.1).unwrap()),
            Some((1, 5)),
            "unheard start"
        );
        assert_eq!(end_of(&record(Phase::Exited, 1, Some(1)), &files.1).unwrap(), None);
    }

    #[test]
    fn a_life_without_a_record_was_killed() {
        let files = Files::new(None, STARTED_ONCE);
        assert_eq!(killed(end_of(&record(Phase::Running, 1, None), &files.1).unwrap()), 1);
        assert_eq!(killed(end_of(&record(Phase::Created, 0, None), &files.1).unwrap()), 1, "unheard start");

        let second = format!("{STARTED_ONCE}{}", STARTED_ONCE.replace(":1,", ":2,"));
        let files = Files::new(Some(1), &second);
        assert_eq!(killed(end_of(&record(Phase::Running, 2, Some(1)), &files.1).unwrap()), 2);
        assert_eq!(killed(end_of(&record(Phase::Exited, 1, Some(1)), &files.1).unwrap()), 2);
    }

    #[test]
    fn one_that_waited_at_its_gate_has_no_end() {
        let files = Files::new(None, "");
        assert_eq!(end_of(&record(Phase::Created, 0, None), &files.1).unwrap(), None);
        let files = Files::new(Some(1), STARTED_ONCE);
        assert_eq!(end_of(&record(Phase::Exited, 1, Some(1)), &files.1).unwrap(), None);
    }

    #[test]
    fn unreadable_files_are_no_end() {
        let files = Files::new(None, "");
        std::fs::write(files.1.file("exit"), b"\xff\xff").unwrap();
        assert!(end_of(&record(Phase::Running, 1, None), &files.1).is_err());
        drop(files.0);
    }
}
