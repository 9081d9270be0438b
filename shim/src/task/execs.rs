//! The processes that were added to the container: those that run, and the last ones that ended.
//!
//! Part of the driver's state, and nobody else's. Takes no memory before the first one.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use davit_proto::types::{self, Exit};
use davit_sys::process::{self, Child};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::driver::Reply;
use super::error::TaskError;
use super::exec::Options;
use super::health::Said;
use crate::cgroup::{ContainerCgroup, Leaf};
use crate::init::InitError;
use crate::stdio::pump;
use crate::stdio::source::Ends;

/// At a time.
const RUNNING: usize = 512;
/// Remembered after their end; for a moment it may be as many as may run.
const ENDED: usize = 64;
/// How long an exec's client may take to come for an end that it has not heard of, when the container has ended with it.
const COMING: Duration = Duration::from_secs(5);
/// Leaves that are remembered for having had processes at the end of their exec; the container's own end takes all.
const BUSY: usize = 64;

/// What comes of an exec.
#[derive(Debug)]
pub enum News {
    /// It executed, with its terminal; or did not.
    Joined {
        /// Which.
        id: String,
        /// How that went.
        outcome: Result<Option<OwnedFd>, InitError>,
        /// Our ends of its pipes, where it has no terminal.
        ends: Option<Ends>,
    },
    /// Its clients have gone for too long.
    Alone {
        /// Which.
        id: String,
        /// It was told before.
        kill: bool,
    },
    /// A health check's process has ended.
    Probed(Said),
    /// Processes that were killed should have gone by now.
    Sweep,
}

/// One process.
#[derive(Debug)]
pub(super) struct Exec {
    pub options: Options,
    /// As the host counts; 0 when it has ended.
    pub host_pid: i32,
    pub leaf_name: String,
    pub stage: Stage,
    /// It did not execute, and is forgotten when it is reaped.
    pub failed: bool,
    /// It was told that its clients have gone: what it leaves behind goes with it.
    pub hung_up: bool,
    /// Somebody came for its streams or its end.
    pub found: bool,
    pub exit: watch::Sender<Option<Exit>>,
    /// Why it will have ended, as far as that is known.
    pub cause: String,
}

/// How and when a process ended, once it was reaped.
pub(super) type Reaped = Option<(process::Exit, SystemTime)>;

/// Where it is on its way.
#[derive(Debug)]
pub(super) enum Stage {
    /// It is not known yet whether it executes; or it failed and is to be reaped.
    Joining { child: Child, leaf: Leaf, replies: Vec<Reply<i32>>, reaped: Reaped },
    /// It runs.
    Running { child: Child, leaf: Leaf, stdio: pump::Handle, started_at: SystemTime },
    /// It has ended, and its last output can be had for a while.
    Ended { stdio: pump::Handle, at: Instant },
}

impl Exec {
    /// From Joining to Running; who waits to hear of it, and its end when that has come already.
    pub fn run(&mut self, stdio: pump::Handle, started_at: SystemTime) -> Option<(Vec<Reply<i32>>, Reaped)> {
        let ended = Stage::Ended { stdio: stdio.clone(), at: Instant::now() };
        match std::mem::replace(&mut self.stage, ended) {
            Stage::Joining { child, leaf, replies, reaped } => {
                self.stage = Stage::Running { child, leaf, stdio, started_at };
                Some((replies, reaped))
            }
            other => {
                self.stage = other;
                None
            }
        }
    }

    fn pid(&self) -> Option<i32> {
        match &self.stage {
            Stage::Joining { child, .. } | Stage::Running { child, .. } => Some(child.pid),
            Stage::Ended { .. } => None,
        }
    }

    fn told(&self) -> types::Exec {
        let Options { id, wishes, open_stdin, .. } = &self.options;
        types::Exec {
            id: id.clone(),
            pid: self.host_pid,
            command: wishes.args.clone(),
            user: wishes.user.clone(),
            terminal: wishes.terminal,
            open_stdin: *open_stdin,
            privileged: wishes.privileged,
            exit: self.exit.borrow().clone(),
        }
    }
}

/// An exec as calls see it.
#[derive(Debug)]
pub struct View {
    /// Its streams.
    pub stdio: pump::Handle,
    /// Its exit, once it has ended.
    pub exit: watch::Receiver<Option<Exit>>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Execs {
    /// Oldest first.
    known: Vec<Exec>,
    /// Counts all that ever were, for the names of their cgroups.
    count: u64,
    busy: VecDeque<String>,
    news: Option<(mpsc::UnboundedSender<News>, mpsc::UnboundedReceiver<News>)>,
}

impl Execs {
    /// Whether there is room for one more.
    pub fn admit(&self) -> Result<(), TaskError> {
        match self.running() < RUNNING {
            true => Ok(()),
            false => Err(TaskError::TooManyExecs { limit: RUNNING }),
        }
    }

    /// A name for the cgroup of one more.
    pub fn name(&mut self) -> String {
        self.count += 1;
        format!("exec-{}", self.count)
    }

    fn running(&self) -> usize {
        self.known.iter().filter(|exec| exec.pid().is_some()).count()
    }

    /// Whether none has a process any more, and none is waited for by [`Execs::awaited_until`].
    pub fn are_over(&self) -> bool {
        self.running() == 0 && self.awaited_until().is_none()
    }

    /// Until when somebody may come to hear how an exec ended, which is in the future. Who begins one asks for its streams in a second call, and
    /// its command may have ended the container in between.
    pub fn awaited_until(&self) -> Option<Instant> {
        let coming = self.known.iter().filter(|exec| exec.options.hangs_up && !exec.found);
        let ends = coming.filter_map(|exec| match &exec.stage {
            Stage::Ended { at, .. } => Some(*at + COMING),
            Stage::Joining { .. } | Stage::Running { .. } => None,
        });
        let now = Instant::now();
        ends.filter(|until| *until > now).max()
    }

    /// One more, and who waits to hear of it.
    pub fn push(&mut self, mut exec: Exec, reply: Reply<i32>) {
        if let Stage::Joining { replies, .. } = &mut exec.stage {
            replies.push(reply);
        }
        self.known.push(exec);
    }

    /// Where tasks send their news.
    pub fn news(&mut self) -> mpsc::UnboundedSender<News> {
        self.news.get_or_insert_with(mpsc::unbounded_channel).0.clone()
    }

    /// The next news; never comes without an exec.
    pub async fn next(&mut self) -> News {
        match &mut self.news {
            Some((_, news)) => match news.recv().await {
                Some(news) => news,
                // We hold a sender.
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }

    pub fn find(&self, id: &str) -> Option<&Exec> {
        self.known.iter().find(|exec| exec.options.id == id)
    }

    pub fn find_mut(&mut self, id: &str) -> Option<&mut Exec> {
        self.known.iter_mut().find(|exec| exec.options.id == id)
    }

    pub fn by_pid_mut(&mut self, pid: i32) -> Option<&mut Exec> {
        self.known.iter_mut().find(|exec| exec.pid() == Some(pid))
    }

    /// Reaps the process if it is one of ours.
    pub fn reap(&self, pid: i32) -> std::io::Result<Option<process::Exit>> {
        let Some(exec) = self.known.iter().find(|exec| exec.pid() == Some(pid)) else { return Ok(None) };
        match &exec.stage {
            Stage::Joining { child, .. } | Stage::Running { child, .. } => process::try_wait(&child.pidfd),
            Stage::Ended { .. } => Ok(None),
        }
    }

    /// An exec for a call, from when it runs on.
    pub fn view(&mut self, id: &str) -> Result<View, TaskError> {
        let exec = self.find_mut(id).ok_or_else(|| TaskError::NoExec(id.to_owned()))?;
        let (Stage::Running { stdio, .. } | Stage::Ended { stdio, .. }) = &exec.stage else {
            return Err(TaskError::NoExec(id.to_owned()));
        };
        exec.found = true;
        Ok(View { stdio: stdio.clone(), exit: exec.exit.subscribe() })
    }

    /// All that run or ran, oldest first.
    pub fn list(&self) -> Vec<types::Exec> {
        let ran = self.known.iter().filter(|exec| !matches!(exec.stage, Stage::Joining { .. }));
        ran.map(Exec::told).collect()
    }

    /// Forgets one, and answers with the name of its cgroup.
    pub fn forget(&mut self, id: &str) -> Option<String> {
        let at = self.known.iter().position(|exec| exec.options.id == id)?;
        Some(self.known.remove(at).leaf_name)
    }

    /// Forgets the oldest that ended, but not those whose clients may still come for their last output.
    pub fn trim(&mut self) {
        let mut ended = self.known.iter().filter(|exec| exec.pid().is_none()).count();
        self.known.retain(|exec| {
            let Stage::Ended { at, .. } = &exec.stage else { return true };
            let goes = ended > RUNNING || (ended > ENDED && at.elapsed() > pump::LINGER);
            ended -= usize::from(goes);
            !goes
        });
    }

    /// Removes the cgroup of one that has ended, and those of others whose last process has gone since.
    pub fn let_go(&mut self, cgroup: &ContainerCgroup, name: String) {
        self.busy.push_back(name);
        self.sweep(cgroup);
    }

    /// Removes the cgroups of those that have ended and whose last process has gone since.
    pub fn sweep(&mut self, cgroup: &ContainerCgroup) {
        let names = std::mem::take(&mut self.busy);
        for name in names {
            match cgroup.remove_leaf(&name) {
                Ok(true) => {}
                // What it started lives on, as a child of init.
                Ok(false) => self.busy.push_back(name),
                Err(error) => tracing::warn!(%error, "cannot remove the cgroup of an exec"),
            }
        }
        while self.busy.len() > BUSY {
            self.busy.pop_front();
        }
    }
}
