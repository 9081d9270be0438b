//! Health: runs the container's check again and again, and does what is wanted of one that fails.
//!
//! ```text
//!   Running ─▶ pause ─▶ probe: a process of the container, made as an exec is ─▶ reaped, or killed whole at its time
//!                ▲                                                                     │
//!                └──── journal where the judgement changed, publish, act ◀──────────────┘
//! ```
//!
//! Nothing is probed while the container is paused or waits for its next life. Each life is judged anew.

use std::time::{Duration, SystemTime};

use davit_proto::journal::What;
use davit_proto::time::timestamp;
use davit_proto::types::{self, Probe};
use davit_proto::wanted::OnUnhealthy;
use davit_sys::process::{self, Child, SIGKILL};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::driver::Driver;
use super::error::TaskError;
use super::exec::{self, Added};
use super::execs::News;
use super::judgement::{Judgement, Rules};
use super::note::Asked;
use super::restart::After;
use super::state::Task;
use super::stop::{self, Stop};
use crate::cgroup::Leaf;
use crate::init::exec::Joining;
use crate::init::exec_plan::Wishes;
use crate::stdio::source::{self, More, Source};

/// Most bytes that are kept of what a probe says.
const OUTPUT: usize = 4096;
/// Most reads of what a probe left in its pipe.
const LAST_READS: usize = 2;
/// Most characters of it in the journal.
const CAUSE: usize = 200;

/// How to see whether the container works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Time a probe may take.
    pub timeout: Duration,
    /// When to probe and what to make of it.
    pub rules: Rules,
    /// The signal that ends the container, where that is wanted of one that is unhealthy.
    pub stop_signal: i32,
    /// How long it then has; none for ever.
    pub stop_timeout: Option<Duration>,
}

/// What came of a probe.
#[derive(Debug)]
pub struct Said {
    number: u64,
    output: Vec<u8>,
    /// Why it did not execute.
    unborn: Option<String>,
}

/// The check at work. Takes no memory in a container without one.
#[derive(Debug)]
pub(super) struct Health {
    check: Check,
    judgement: Judgement,
    /// The life that is judged; 0 before the first.
    life: u64,
    began: Instant,
    /// When the next probe begins; none while nothing is probed.
    next: Option<Instant>,
    probe: Option<Running>,
    /// Counts the probes.
    count: u64,
}

#[derive(Debug)]
struct Running {
    child: Child,
    leaf: Leaf,
    leaf_name: String,
    started_at: SystemTime,
    /// Age of the life at its start.
    age: Duration,
    deadline: Instant,
    late: bool,
    /// Nobody wants to know any more.
    abandoned: bool,
    status: Option<process::Exit>,
    finish: Option<oneshot::Sender<()>>,
}

impl Health {
    /// A check that nothing was probed for.
    pub fn new(check: Check) -> Self {
        let judgement = Judgement::default();
        Self { check, judgement, life: 0, began: Instant::now(), next: None, probe: None, count: 0 }
    }

    /// When there is something to do.
    pub fn due(&self) -> Option<Instant> {
        match &self.probe {
            Some(probe) => (!probe.late).then_some(probe.deadline),
            None => self.next,
        }
    }

    /// Whether no process of a probe is left.
    pub fn is_over(&self) -> bool {
        self.probe.as_ref().is_none_or(|probe| probe.status.is_some())
    }

    /// What is told of it.
    pub fn told(&self) -> Option<types::Health> {
        (self.life > 0).then(|| self.judgement.health())
    }

    /// Reaps the process if it is the probe's.
    pub fn reap(&mut self, pid: i32) -> std::io::Result<bool> {
        let Some(probe) = self.probe.as_mut().filter(|probe| probe.child.pid == pid) else {
            return Ok(false);
        };
        let Some(status) = process::try_wait(&probe.child.pidfd)? else { return Ok(false) };
        probe.status = Some(status);
        if let Some(finish) = probe.finish.take() {
            // Who listens to a probe waits for this.
            let _ = finish.send(());
        }
        Ok(true)
    }

    fn schedule(&mut self) {
        let pause = self.judgement.pause(self.began.elapsed(), self.check.rules);
        self.next = Instant::now().checked_add(pause);
    }

    fn abandon(&mut self) {
        self.next = None;
        if let Some(probe) = &mut self.probe {
            probe.abandoned = true;
            probe.late = true;
            if let Err(error) = probe.leaf.kill() {
                tracing::warn!(%error, "cannot kill a health check");
            }
        }
    }
}

/// The task has moved: probes begin, wait or end with it.
pub(super) fn follow(driver: &mut Driver) {
    let Some(health) = &mut driver.health else { return };
    match &driver.task {
        Task::Running { life, .. } if *life != health.life => {
            health.judgement = Judgement::default();
            (health.life, health.began) = (*life, Instant::now());
            health.schedule();
            note(driver, String::new());
        }
        Task::Running { .. } => {
            if health.next.is_none() && health.probe.is_none() {
                health.schedule();
            }
        }
        _ => health.abandon(),
    }
}

fn note(driver: &mut Driver, cause: String) {
    let Some(health) = &driver.health else { return };
    let (status, failing_streak) = health.judgement.told();
    driver.note(What::Health { status, failing_streak }, cause);
}

/// It is time: for a probe to begin, or for one to be killed.
pub(super) fn is_due(driver: &mut Driver) {
    let Some(health) = &mut driver.health else { return };
    if let Some(probe) = &mut health.probe {
        probe.late = true;
        if let Err(error) = probe.leaf.kill() {
            tracing::error!(%error, "cannot kill a health check that is late");
        }
        return;
    }
    health.next = None;
    let at = SystemTime::now();
    if let Err(error) = begin(driver) {
        let age = driver.health.as_ref().map(|health| health.began.elapsed()).unwrap_or_default();
        let output = davit_proto::status::chain(&error);
        judge(driver, Probe { exit_code: -1, output, ..times(at) }, age);
    }
}

fn times(started_at: SystemTime) -> Probe {
    Probe {
        started_at: Some(timestamp(started_at)),
        finished_at: Some(timestamp(SystemTime::now())),
        ..Probe::default()
    }
}

fn begin(driver: &mut Driver) -> Result<(), TaskError> {
    let Some(health) = &driver.health else { return Ok(()) };
    let (args, timeout, age) = (health.check.args.clone(), health.check.timeout, health.began.elapsed());
    let number = health.count + 1;
    let (streams, output) = source::one_pipe().map_err(TaskError::Streams)?;
    let wishes = Wishes { args, ..Wishes::default() };
    let Added { child, leaf, leaf_name, joining, .. } =
        exec::add(driver, wishes, exec::Shown::Pipes(streams))?;
    let (finish, finished) = oneshot::channel();
    tokio::spawn(listen(number, (joining, output), finished, driver.execs.news()));
    let now = Instant::now();
    let probe = Running {
        child,
        leaf,
        leaf_name,
        started_at: SystemTime::now(),
        age,
        // A time that the clock cannot name never comes.
        deadline: now.checked_add(timeout).unwrap_or(now + Duration::from_secs(1 << 30)),
        late: false,
        abandoned: false,
        status: None,
        finish: Some(finish),
    };
    if let Some(health) = &mut driver.health {
        (health.count, health.probe) = (number, Some(probe));
    }
    Ok(())
}

/// Takes what a probe says, so that it is never held up, and tells of it when the process has ended.
async fn listen(
    number: u64,
    probe: (Joining, Source),
    mut finished: oneshot::Receiver<()>,
    news: mpsc::UnboundedSender<News>,
) {
    let (joining, source) = probe;
    let mut joining = std::pin::pin!(super::joining::join(joining));
    let (mut unborn, mut joined, mut open) = (None, false, true);
    let (mut output, mut buffer) = (Vec::new(), Vec::new());
    loop {
        tokio::select! {
            // A probe whose shim ends is of no interest.
            _ = &mut finished => break,
            outcome = &mut joining, if !joined => {
                joined = true;
                unborn = outcome.err();
            }
            ready = source.readable(), if open => {
                drop(ready);
                open = source.read(&mut buffer).is_ok_and(|more| more != More::Never);
                keep(&mut output, &buffer);
                buffer = Vec::new();
            }
        }
    }
    if !joined {
        // Its end of the socket is closed, so this does not take long.
        unborn = joining.await.err();
    }
    for _ in 0..LAST_READS {
        let more = source.read_now(&mut buffer);
        keep(&mut output, &buffer);
        if !matches!(more, Ok(More::Now)) {
            break;
        }
    }
    let unborn = unborn.map(|error| davit_proto::status::chain(&error));
    // Without a driver the shim is ending.
    let _ = news.send(News::Probed(Said { number, output, unborn }));
}

fn keep(output: &mut Vec<u8>, more: &[u8]) {
    let room = OUTPUT.saturating_sub(output.len());
    output.extend_from_slice(more.get(..room).unwrap_or(more));
}

/// A probe has ended.
pub(super) fn hear(driver: &mut Driver, said: Said) {
    let Some(health) = &mut driver.health else { return };
    if health.count != said.number {
        return;
    }
    let Some(probe) = health.probe.take() else { return };
    let timeout = health.check.timeout;
    let Running { leaf_name, started_at, age, late, abandoned, status, .. } = probe;
    if let Some(body) = driver.task.init() {
        driver.execs.let_go(&body.cgroup, leaf_name);
    }
    if late {
        exec::sweep_later(driver);
    }
    if abandoned {
        follow(driver);
        return;
    }
    let code = status.map_or(-1, |status| i32::from(status.code()));
    let (exit_code, output) = match (late, said.unborn) {
        (true, _) => (-1, format!("health check exceeded its timeout of {timeout:?}")),
        (false, Some(why)) => (if code == 0 { -1 } else { code }, why),
        (false, None) => (code, text(&said.output)),
    };
    judge(driver, Probe { exit_code, output, ..times(started_at) }, age);
}

/// What comes from inside, for a message that holds text only.
fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

fn judge(driver: &mut Driver, probe: Probe, age: Duration) {
    let Some(health) = &mut driver.health else { return };
    let cause = one_line(&probe);
    let changed = health.judgement.hear(probe, age, health.check.rules);
    let unhealthy = changed && health.judgement.is_unhealthy();
    health.schedule();
    if changed {
        note(driver, cause.clone());
    }
    driver.publish();
    if unhealthy && let Err(error) = act(driver, &cause) {
        let error = davit_proto::status::chain(&error);
        tracing::error!(%error, "nothing could be done about an unhealthy container");
    }
}

/// The last words of a probe, for a person.
fn one_line(probe: &Probe) -> String {
    let line = probe.output.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    let line: String = line.take(CAUSE).collect();
    match (probe.exit_code, line.is_empty()) {
        (0 | -1, _) => line,
        (code, true) => format!("exit code {code}"),
        (code, false) => format!("exit code {code}: {line}"),
    }
}

/// Does what is wanted of an unhealthy container.
fn act(driver: &mut Driver, cause: &str) -> Result<(), TaskError> {
    let wanted = driver.bundle.wanted()?;
    let after = match wanted.map(|wanted| wanted.on_unhealthy).unwrap_or_default() {
        OnUnhealthy::None => return Ok(()),
        OnUnhealthy::Kill => {
            super::kill::send(driver, SIGKILL, false)?;
            let actor = actor(cause);
            driver.note(What::Signal { signal: SIGKILL.unsigned_abs() }, actor.clone());
            let at = Instant::now();
            driver.asked = Some(Asked { signal: SIGKILL, actor, at, stop: false, overdue: None });
            return Ok(());
        }
        OnUnhealthy::Restart => After::Life,
        OnUnhealthy::Stop => After::Nothing,
    };
    let Some(health) = &driver.health else { return Ok(()) };
    let (signal, timeout) = (health.check.stop_signal, health.check.stop_timeout);
    stop::ask(driver, Stop { signal, timeout, actor: actor(cause) }, after)
}

fn actor(cause: &str) -> String {
    let colon = if cause.is_empty() { "" } else { ": " };
    format!("the health check{colon}{cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_probe_are_one_short_line() {
        let said = |exit_code, output: &str| {
            one_line(&Probe { exit_code, output: output.into(), ..Probe::default() })
        };
        assert_eq!(said(0, "fine\n"), "fine");
        assert_eq!(said(1, ""), "exit code 1");
        assert_eq!(said(7, " a\nb\u{1b}[0m "), "exit code 7: a b [0m");
        assert_eq!(said(-1, "late"), "late");
        assert_eq!(said(1, &"x".repeat(9999)).len(), CAUSE + "exit code 1: ".len());
    }

    #[test]
    fn only_the_beginning_is_kept() {
        let mut output = Vec::new();
        keep(&mut output, &[1; 4000]);
        keep(&mut output, &[2; 4000]);
        keep(&mut output, &[3; 4000]);
        assert_eq!((output.len(), output[4095]), (OUTPUT, 2));
    }
}
