//! Exec: adds a process to the running container.
//!
//! ```text
//!   begin ──▶ Joining ── it executed ──▶ Running ── reaped ──▶ Ended (remembered for a while)
//!                └── it did not, and was reaped ──▶ forgotten
//! ```
//!
//! The clone is done at once; the driver hears of all that follows as [`News`] and from the reaper, in any order.

use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use davit_proto::journal::What;
use davit_proto::time::timestamp;
use davit_proto::types::{self, Exit};
use davit_sys::process::{self, Child};
use davit_sys::pty::WindowSize;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::driver::{Driver, Reply};
use super::end::how;
use super::error::TaskError;
use super::execs::{Exec, News, Stage, View};
use super::state::{Command, Denied};
use crate::cgroup::Leaf;
use crate::init::exec::{self, Addition, Joining};
use crate::init::exec_plan::{Wishes, plan_exec};
use crate::init::{Failure, FailureKind, InitError, StdioPlan};
use crate::stdio::pump::{self, Audience};
use crate::stdio::source::{self, Ends};

/// How long an exec that hangs up goes on without a client, and how long it then has after SIGHUP.
const ALONE: Duration = Duration::from_secs(10);
/// When it is looked whether killed processes have gone.
const GONE: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(500), Duration::from_secs(5)];
const SIGHUP: i32 = 1;
/// Most characters of a command in the journal.
const COMMAND: usize = 200;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Its id.
    pub id: String,
    /// What runs and as whom.
    pub wishes: Wishes,
    /// Keep standard input open for clients.
    pub open_stdin: bool,
    /// Size of its terminal at the start.
    pub size: Option<WindowSize>,
    /// It waits for its clients, and ends without them.
    pub hangs_up: bool,
    /// Who asks; may be empty.
    pub actor: String,
}

/// What calls ask about added processes.
#[derive(Debug)]
pub enum Ask {
    /// Add one; answered when it runs, with its number on the host.
    Begin(Box<Options>, Reply<i32>),
    /// One of them, for its streams and its exit.
    Find(String, Reply<View>),
    /// Send a signal to one, on behalf of somebody.
    Kill(String, i32, String, Reply<()>),
    /// All of them.
    List(Reply<Vec<types::Exec>>),
}

pub(super) fn serve(driver: &mut Driver, ask: Ask) {
    // A caller that has gone does not want its answer; what it asked for was done all the same.
    match ask {
        Ask::Begin(options, reply) => exec(driver, *options, reply),
        Ask::Find(id, reply) => {
            let _ = reply.send(driver.execs.view(&id));
        }
        Ask::Kill(id, signal, actor, reply) => {
            let _ = reply.send(kill(driver, &id, signal, actor));
        }
        Ask::List(reply) => {
            let _ = reply.send(Ok(driver.execs.list()));
        }
    }
}

/// Begins an exec; `reply` hears of it when it runs or cannot. One that was begun before is answered the same.
fn exec(driver: &mut Driver, options: Options, reply: Reply<i32>) {
    if let Some(known) = driver.execs.find_mut(&options.id) {
        if known.options.wishes != options.wishes {
            let rule = "another exec has this id";
            // A caller that has gone does not want its answer.
            let _ = reply.send(Err(TaskError::Invalid { name: "exec_id", value: options.id, rule }));
            return;
        }
        match &mut known.stage {
            Stage::Joining { .. } if known.failed => {
                let _ = reply.send(Err(TaskError::ExecEnded(options.id)));
            }
            Stage::Joining { replies, .. } => replies.push(reply),
            Stage::Running { .. } => {
                let _ = reply.send(Ok(known.host_pid));
            }
            Stage::Ended { .. } => {
                let _ = reply.send(Ok(0));
            }
        }
        return;
    }
    match begin(driver, options) {
        Ok(exec) => driver.execs.push(exec, reply),
        Err(error) => {
            let _ = reply.send(Err(error));
        }
    }
}

fn begin(driver: &mut Driver, options: Options) -> Result<Exec, TaskError> {
    driver.execs.admit()?;
    let (shown, ends) = if options.wishes.terminal {
        (Shown::Terminal(options.size), None)
    } else {
        let (given, ends) = source::pipes(options.open_stdin).map_err(TaskError::Streams)?;
        (Shown::Pipes(given), Some(ends))
    };
    let Added { child, host_pid, leaf, leaf_name, joining } = add(driver, options.wishes.clone(), shown)?;
    let news = driver.execs.news();
    let id = options.id.clone();
    tokio::spawn(async move {
        let outcome = super::joining::join(joining).await;
        // Without a driver the shim is ending.
        let _ = news.send(News::Joined { id, outcome, ends });
    });
    let host_pid = i32::try_from(host_pid).unwrap_or_default();
    let (exit, _) = watch::channel(None);
    let stage = Stage::Joining { child, leaf, replies: Vec::new(), reaped: None };
    let cause = String::new();
    Ok(Exec { options, host_pid, leaf_name, stage, failed: false, hung_up: false, found: false, exit, cause })
}

/// Where the streams of a process come from.
#[derive(Debug)]
pub(super) enum Shown {
    /// A terminal of its own, of this size if it is known.
    Terminal(Option<WindowSize>),
    /// These.
    Pipes([OwnedFd; 3]),
}

/// A process on its way into the container, in a cgroup of its own.
#[derive(Debug)]
pub(super) struct Added {
    pub child: Child,
    pub host_pid: u32,
    pub leaf: Leaf,
    pub leaf_name: String,
    pub joining: Joining,
}

/// Begins a process of the container. Whoever begins it reaps it and lets go of its cgroup.
pub(super) fn add(driver: &mut Driver, wishes: Wishes, shown: Shown) -> Result<Added, TaskError> {
    driver.admit(Command::Exec)?;
    let name = driver.execs.name();
    let spec = driver.bundle.spec()?;
    let body = driver.task.living().ok_or(Denied::NotRunning)?;
    let (stdio, streams) = match shown {
        Shown::Terminal(size) => (StdioPlan::terminal(size), None),
        Shown::Pipes(streams) => (StdioPlan::Given, Some(streams)),
    };
    let tasks = body.cgroup.tasks_files();
    let plan = plan_exec(spec, body.init.shape(), tasks, wishes, stdio);
    let plan = plan.map_err(|failure| unborn(&failure.into()))?;
    let leaf = body.cgroup.leaf(&name)?;
    let ids = body.init.shape().own_ids().copied();
    let addition = Addition { init: body.init.pidfd(), cgroup: leaf.unified(), plan, streams, ids };
    match exec::begin(addition) {
        Ok(exec::Added { child, host_pid, joining }) => {
            Ok(Added { child, host_pid, leaf, leaf_name: name, joining })
        }
        Err(error) => {
            driver.execs.let_go(&body.cgroup, name);
            Err(unborn(&error))
        }
    }
}

/// What makes no sense inside the container counts as a command that cannot be executed, as it does for docker.
fn unborn(error: &InitError) -> TaskError {
    let exit_code = match error {
        InitError::Failure(Failure { kind: FailureKind::Invalid | FailureKind::Refused, .. }) => 126,
        error => error.exit_code().into(),
    };
    TaskError::Exec { message: davit_proto::status::chain(error), exit_code }
}

/// Something came of an exec.
pub(super) async fn hear(driver: &mut Driver, news: News) {
    match news {
        News::Joined { id, outcome: Ok(master), ends } => {
            let ends = match (ends, master) {
                (Some(ends), _) => Ok(ends),
                (None, Some(master)) => {
                    let open_stdin = driver.execs.find(&id).is_some_and(|exec| exec.options.open_stdin);
                    source::terminal(master, open_stdin)
                }
                (None, None) => Err(std::io::Error::other("the process sent no terminal")),
            };
            match ends {
                Ok(ends) => started(driver, &id, ends).await,
                Err(error) => failed(driver, &id, TaskError::Streams(error)),
            }
        }
        News::Joined { id, outcome: Err(error), .. } => failed(driver, &id, unborn(&error)),
        News::Alone { id, kill } => hang_up(driver, &id, kill).await,
        News::Probed(said) => super::health::hear(driver, said),
        News::Sweep => {
            if let Some(body) = driver.task.init() {
                driver.execs.sweep(&body.cgroup);
            }
        }
    }
}

/// It executed.
async fn started(driver: &mut Driver, id: &str, ends: Ends) {
    let news = driver.execs.news();
    let Some(exec) = driver.execs.find_mut(id) else { return };
    if !matches!(exec.stage, Stage::Joining { .. }) {
        return;
    }
    let (audience, lonely) = match exec.options.hangs_up {
        true => {
            let (told, lonely) = watch::channel(false);
            (Audience::Awaited(told), Some(lonely))
        }
        false => (Audience::Any, None),
    };
    let stdin_once = exec.options.hangs_up;
    let (stdio, _pump) = pump::start(pump::Setup { ends, stdin_once, log: None, audience });
    if let Some(lonely) = lonely {
        tokio::spawn(watch_clients(id.to_owned(), lonely, news));
    }
    let Some((replies, reaped)) = exec.run(stdio, SystemTime::now()) else { return };
    let host_pid = exec.host_pid;
    let actor = exec.options.actor.clone();
    let command = one_line(&exec.options.wishes.args);
    driver.note(What::ExecStart { exec: id.to_owned(), command }, actor);
    driver.settle();
    for reply in replies {
        let _ = reply.send(Ok(host_pid));
    }
    if let Some((status, at)) = reaped {
        ended(driver, id, status, at).await;
    }
}

/// It did not execute: it has ended or does so now, and is forgotten with its end.
fn failed(driver: &mut Driver, id: &str, error: TaskError) {
    let Some(exec) = driver.execs.find_mut(id) else { return };
    let Stage::Joining { leaf, replies, reaped, .. } = &mut exec.stage else { return };
    if let Err(error) = leaf.kill() {
        tracing::error!(%error, "cannot kill a process that did not execute");
    }
    let (gone, replies) = (reaped.is_some(), std::mem::take(replies));
    exec.failed = true;
    let mut error = Some(error);
    for reply in replies {
        // Who asked a second time for the same asks a third time or gives up.
        let _ = reply.send(Err(error.take().unwrap_or_else(|| TaskError::ExecEnded(id.to_owned()))));
    }
    if gone {
        forget(driver, id);
    }
}

fn forget(driver: &mut Driver, id: &str) {
    let Some(name) = driver.execs.forget(id) else { return };
    if let Some(body) = driver.task.init() {
        driver.execs.let_go(&body.cgroup, name);
    }
}

/// The reaper found the end of a process of ours.
pub(super) async fn reaped(driver: &mut Driver, pid: i32, status: process::Exit) {
    let at = SystemTime::now();
    let Some(exec) = driver.execs.by_pid_mut(pid) else { return };
    let id = exec.options.id.clone();
    match &mut exec.stage {
        Stage::Joining { .. } if exec.failed => forget(driver, &id),
        Stage::Joining { reaped, .. } => *reaped = Some((status, at)),
        Stage::Running { .. } => ended(driver, &id, status, at).await,
        Stage::Ended { .. } => {}
    }
}

/// It ran and has ended: recorded, then told.
async fn ended(driver: &mut Driver, id: &str, status: process::Exit, at: SystemTime) {
    let life = driver.task.life();
    let Some(exec) = driver.execs.find_mut(id) else { return };
    let Stage::Running { leaf, stdio, started_at, .. } = &exec.stage else { return };
    let (stdio, started_at) = (stdio.clone(), *started_at);
    let hung_up = exec.hung_up;
    if hung_up && let Err(error) = leaf.kill() {
        tracing::warn!(%error, "cannot kill what an exec without clients has left");
    }
    let exit = Exit {
        life,
        how: Some(how(status)),
        exit_code: status.code().into(),
        started_at: Some(timestamp(started_at)),
        finished_at: Some(timestamp(at)),
        ..Exit::default()
    };
    exec.host_pid = 0;
    // With this its pidfd and its leaf's descriptor are closed.
    exec.stage = Stage::Ended { stdio: stdio.clone(), at: Instant::now() };
    let (name, cause) = (std::mem::take(&mut exec.leaf_name), std::mem::take(&mut exec.cause));
    if let Some(body) = driver.task.init() {
        driver.execs.let_go(&body.cgroup, name);
    }
    driver.note(What::ExecExit { exec: id.to_owned(), exit_code: exit.exit_code }, cause);
    driver.settle();
    if let Some(exec) = driver.execs.find_mut(id) {
        exec.exit.send_replace(Some(exit.clone()));
    }
    driver.execs.trim();
    if hung_up {
        sweep_later(driver);
    }
    // Without a pump nobody is attached.
    let _ = stdio.finish(exit).await;
}

/// A signal for an exec.
fn kill(driver: &mut Driver, id: &str, signal: i32, actor: String) -> Result<(), TaskError> {
    let exec = driver.execs.find_mut(id).ok_or_else(|| TaskError::NoExec(id.to_owned()))?;
    let Stage::Running { child, .. } = &exec.stage else { return Err(TaskError::ExecEnded(id.to_owned())) };
    match process::signal(&child.pidfd, signal) {
        // It has ended, and its end will be seen in a moment.
        Err(error) if super::kill::is_gone(&error) => return Ok(()),
        sent => sent.map_err(|source| TaskError::Signal { signal, source })?,
    }
    let from = if actor.is_empty() { "" } else { " from " };
    exec.cause = format!("signal {signal}{from}{actor}");
    Ok(())
}

/// Nobody has listened for a while.
async fn hang_up(driver: &mut Driver, id: &str, kill: bool) {
    let Some(exec) = driver.execs.find_mut(id) else { return };
    let Stage::Running { child, leaf, stdio, .. } = &exec.stage else { return };
    let done = match kill {
        true => leaf.kill().map_err(|error| error.to_string()),
        false => process::signal(&child.pidfd, SIGHUP).map_err(|error| error.to_string()),
    };
    if let Err(error) = done {
        tracing::warn!(error, "an exec without clients could not be ended");
    }
    exec.cause = match kill {
        true => "it was killed, for its client had gone and it did not mind SIGHUP".to_owned(),
        false => "its client had gone".to_owned(),
    };
    exec.hung_up = true;
    if kill {
        let stdio = stdio.clone();
        sweep_later(driver);
        stdio.release().await;
    }
}

/// Looks a moment later whether what was killed has gone.
pub(super) fn sweep_later(driver: &mut Driver) {
    tokio::spawn(sweep_soon(driver.execs.news()));
}

/// What was killed is gone a moment later, and nobody tells of grandchildren.
async fn sweep_soon(news: mpsc::UnboundedSender<News>) {
    for pause in GONE {
        sleep(pause).await;
        // Without a driver the shim is ending.
        let _ = news.send(News::Sweep);
    }
}

/// Tells the driver when an exec has been alone for too long; ends with its streams.
async fn watch_clients(id: String, mut lonely: watch::Receiver<bool>, news: mpsc::UnboundedSender<News>) {
    for kill in [false, true] {
        if alone(&mut lonely).await.is_err() {
            return;
        }
        if news.send(News::Alone { id: id.clone(), kill }).is_err() {
            return;
        }
    }
}

/// Resolves when nobody was there for [`ALONE`] without a break.
async fn alone(lonely: &mut watch::Receiver<bool>) -> Result<(), watch::error::RecvError> {
    loop {
        lonely.wait_for(|alone| *alone).await?;
        tokio::select! {
            back = lonely.wait_for(|alone| !*alone) => { back?; }
            () = sleep(ALONE) => return Ok(()),
        }
    }
}

/// A command for a person.
fn one_line(args: &[String]) -> String {
    let line = args.join(" ");
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(COMMAND).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_in_time_keeps_it() {
        let (told, lonely) = watch::channel(false);
        let (news, mut heard) = mpsc::unbounded_channel();
        let begun = Instant::now();
        tokio::spawn(watch_clients("e".into(), lonely, news));
        told.send_replace(true);
        sleep(ALONE - Duration::from_secs(1)).await;
        told.send_replace(false);
        sleep(ALONE * 3).await;
        assert!(heard.try_recv().is_err());
        told.send_replace(true);
        assert!(matches!(heard.recv().await, Some(News::Alone { kill: false, .. })));
        assert_eq!(begun.elapsed(), ALONE * 5 - Duration::from_secs(1));
        assert!(matches!(heard.recv().await, Some(News::Alone { kill: true, .. })));
        assert_eq!(begun.elapsed(), ALONE * 6 - Duration::from_secs(1));
        drop(told);
        assert!(heard.recv().await.is_none());
    }

    #[test]
    fn commands_are_one_short_line() {
        assert_eq!(one_line(&["sh".into(), "-c".into(), "a\nb\u{1b}".into()]), "sh -c a b ");
        assert_eq!(one_line(&["x".repeat(1000)]).len(), COMMAND);
    }
}
