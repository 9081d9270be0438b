//! The task's states, what may be asked in each, and how events move it: pure, so that it is tested without a process.
//!
//! ```text
//!            Prepared           Configured          Started           Paused
//!   Empty ───────────▶ Prepared ──────────▶ Created ───────▶ Running ◀──────────▶ Paused
//!                         │                   │               ▲ │      Resumed      │
//!                         │                   │       Started │ │ Waits             │ Waits
//!                         │                   │               │ ▼                   │
//!                         │                   │           Restarting ◀──────────────┘
//!                         │ Ended             │ Ended         │ Ended; also from Running and Paused
//!                         ▼                   ▼               ▼
//!                       Stopped ◀─────────────┴───────────────┘
//! ```
//!
//! `Restarting` waits for the time of the next life, by the restart policy; a life that could not begin then leads back
//! to it. `Stopped` is the last state of a shim: a life that begins after it has a shim of its own.

use std::cmp::Ordering;
use std::time::SystemTime;

use davit_proto::types::Exit;

/// What the task is doing. `I` is the init process; its remains are kept in `Stopped`, because letting go of a dead
/// process's namespaces costs time that nobody who waits for the exit shall pay.
#[derive(Debug)]
pub enum Task<I> {
    /// Nobody prepared anything.
    Empty,
    /// Namespaces and an init process that waits on an empty root.
    Prepared {
        /// The process.
        init: I,
    },
    /// The init process is configured and waits at the gate.
    Created {
        /// The process.
        init: I,
        /// Number of the container's last life, from its journal; 0 before the first.
        last_life: u64,
    },
    /// The container's program runs.
    Running {
        /// The process.
        init: I,
        /// Number of this life.
        life: u64,
        /// When `execve` succeeded.
        started_at: SystemTime,
    },
    /// The container's program runs, but frozen.
    Paused {
        /// The process.
        init: I,
        /// Number of this life.
        life: u64,
        /// When `execve` succeeded.
        started_at: SystemTime,
    },
    /// A life is over, which is on disk, and the next one waits for its time.
    Restarting {
        /// What is left of the process.
        init: I,
        /// How the last life ended.
        exit: Exit,
    },
    /// It is over, and that is on disk.
    Stopped {
        /// What is left of the process.
        init: I,
        /// How it ended.
        exit: Exit,
    },
}

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Make namespaces and an init process.
    Prepare,
    /// Hold ports; whether it holds them already is not a question of the state.
    Reserve,
    /// Give the init process its container.
    Configure,
    /// Open the gate.
    Start {
        /// For which life.
        life: u64,
    },
    /// Send a signal.
    Kill {
        /// It is SIGKILL, which nothing survives.
        is_last: bool,
    },
    /// Freeze it.
    Pause,
    /// Thaw it.
    Resume,
    /// Add a process.
    Exec,
    /// Ask it to end.
    Stop,
    /// End the shim.
    Delete {
        /// Also while the task runs.
        force: bool,
    },
}

/// What is to be done about a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admit {
    /// Do it.
    Proceed,
    /// It was done before: answer with what is.
    Repeat,
}

/// Why a command makes no sense now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Needs Prepare first.
    #[error("the task is not prepared")]
    NotPrepared,
    /// Needs Configure first.
    #[error("the task is not configured")]
    NotConfigured,
    /// Needs a running program.
    #[error("the container is not running")]
    NotRunning,
    /// Frozen processes can neither answer nor be added to.
    #[error("the container is paused")]
    Paused,
    /// Once is enough.
    #[error("the container is already paused")]
    AlreadyPaused,
    /// There is nothing to thaw.
    #[error("the container is not paused")]
    NotPaused,
    /// Not while the next life waits for its time.
    #[error("the container is restarting (life {last} is over)")]
    Restarting {
        /// The life that ended.
        last: u64,
    },
    /// Not while the program runs.
    #[error("the container is running (life {life})")]
    StillRunning {
        /// Its life.
        life: u64,
    },
    /// The life was used up.
    #[error("life {life} is over: the last one was life {last}")]
    LifeIsOver {
        /// What was asked for.
        life: u64,
        /// The last one that began.
        last: u64,
    },
    /// A shim has one life, and those that follow by policy.
    #[error("this shim's task has ended: another life needs another shim")]
    Ended,
    /// Lives are counted from 1.
    #[error("life 0 does not exist: the first is life 1")]
    NoSuchLife,
}

/// What happened.
#[derive(Debug)]
pub enum Event<I> {
    /// The init process waits on an empty root.
    Prepared {
        /// The process.
        init: I,
    },
    /// The init process waits at the gate.
    Configured {
        /// Number of the last life, from the journal.
        last_life: u64,
    },
    /// `execve` succeeded.
    Started {
        /// For which life.
        life: u64,
        /// When.
        at: SystemTime,
    },
    /// All processes are frozen.
    Paused,
    /// They go on.
    Resumed,
    /// The init process has ended, and another life will begin.
    Waits {
        /// How it ended.
        exit: Exit,
    },
    /// The init process has ended, or could not be started, and that was all.
    Ended {
        /// How.
        exit: Exit,
    },
}

/// Decides about a command.
pub fn admit<I>(task: &Task<I>, command: Command) -> Result<Admit, Denied> {
    match command {
        Command::Prepare => match task {
            Task::Empty => Ok(Admit::Proceed),
            Task::Stopped { .. } => Err(Denied::Ended),
            _ => Ok(Admit::Repeat),
        },
        Command::Reserve => match task {
            Task::Empty => Err(Denied::NotPrepared),
            Task::Stopped { .. } => Err(Denied::Ended),
            _ => Ok(Admit::Proceed),
        },
        Command::Configure => match task {
            Task::Empty => Err(Denied::NotPrepared),
            Task::Prepared { .. } => Ok(Admit::Proceed),
            Task::Stopped { .. } => Err(Denied::Ended),
            _ => Ok(Admit::Repeat),
        },
        Command::Start { life } => admit_start(task, life),
        Command::Exec => match task {
            Task::Running { .. } => Ok(Admit::Proceed),
            Task::Paused { .. } => Err(Denied::Paused),
            _ => Err(Denied::NotRunning),
        },
        Command::Kill { is_last } => match task {
            Task::Running { .. } | Task::Paused { .. } => Ok(Admit::Proceed),
            // The next life is what can be killed of it.
            Task::Restarting { .. } if is_last => Ok(Admit::Proceed),
            _ => Err(Denied::NotRunning),
        },
        Command::Stop => match task {
            Task::Running { .. } | Task::Paused { .. } | Task::Restarting { .. } => Ok(Admit::Proceed),
            Task::Stopped { .. } => Ok(Admit::Repeat),
            _ => Err(Denied::NotRunning),
        },
        Command::Pause => match task {
            Task::Running { .. } => Ok(Admit::Proceed),
            Task::Paused { .. } => Err(Denied::AlreadyPaused),
            _ => Err(Denied::NotRunning),
        },
        Command::Resume => match task {
            Task::Paused { .. } => Ok(Admit::Proceed),
            Task::Running { .. } => Err(Denied::NotPaused),
            _ => Err(Denied::NotRunning),
        },
        Command::Delete { force: true } => Ok(Admit::Proceed),
        Command::Delete { force: false } => match task {
            Task::Running { life, .. } => Err(Denied::StillRunning { life: *life }),
            Task::Paused { .. } => Err(Denied::Paused),
            Task::Restarting { exit, .. } => Err(Denied::Restarting { last: exit.life }),
            _ => Ok(Admit::Proceed),
        },
    }
}

fn admit_start<I>(task: &Task<I>, life: u64) -> Result<Admit, Denied> {
    if life == 0 {
        return Err(Denied::NoSuchLife);
    }
    match task {
        Task::Empty => Err(Denied::NotPrepared),
        Task::Prepared { .. } => Err(Denied::NotConfigured),
        Task::Created { last_life, .. } if life > *last_life => Ok(Admit::Proceed),
        Task::Created { last_life, .. } => Err(Denied::LifeIsOver { life, last: *last_life }),
        Task::Running { life: now, .. } | Task::Paused { life: now, .. } => match life.cmp(now) {
            Ordering::Equal => Ok(Admit::Repeat),
            Ordering::Greater => Err(Denied::StillRunning { life: *now }),
            Ordering::Less => Err(Denied::LifeIsOver { life, last: *now }),
        },
        Task::Restarting { exit, .. } => match life.cmp(&exit.life) {
            Ordering::Equal => Ok(Admit::Repeat),
            Ordering::Greater => Ok(Admit::Proceed),
            Ordering::Less => Err(Denied::LifeIsOver { life, last: exit.life }),
        },
        Task::Stopped { exit, .. } => match life.cmp(&exit.life) {
            Ordering::Equal => Ok(Admit::Repeat),
            Ordering::Greater => Err(Denied::Ended),
            Ordering::Less => Err(Denied::LifeIsOver { life, last: exit.life }),
        },
    }
}

impl<I> Task<I> {
    /// Moves the task. An event that cannot happen in a state changes nothing.
    #[must_use]
    pub fn apply(self, event: Event<I>) -> Self {
        match (self, event) {
            (Self::Empty, Event::Prepared { init }) => Self::Prepared { init },
            (Self::Prepared { init }, Event::Configured { last_life }) => Self::Created { init, last_life },
            (Self::Created { init, .. } | Self::Restarting { init, .. }, Event::Started { life, at }) => {
                Self::Running { init, life, started_at: at }
            }
            (Self::Running { init, life, started_at }, Event::Paused) => {
                Self::Paused { init, life, started_at }
            }
            (Self::Paused { init, life, started_at }, Event::Resumed) => {
                Self::Running { init, life, started_at }
            }
            (
                Self::Running { init, .. } | Self::Paused { init, .. } | Self::Restarting { init, .. },
                Event::Waits { exit },
            ) => Self::Restarting { init, exit },
            (
                Self::Prepared { init }
                | Self::Created { init, .. }
                | Self::Running { init, .. }
                | Self::Paused { init, .. }
                | Self::Restarting { init, .. },
                Event::Ended { exit },
            ) => Self::Stopped { init, exit },
            (unmoved, _) => unmoved,
        }
    }

    /// The init process, dead or alive.
    pub fn init(&self) -> Option<&I> {
        match self {
            Self::Empty => None,
            Self::Prepared { init }
            | Self::Created { init, .. }
            | Self::Running { init, .. }
            | Self::Paused { init, .. }
            | Self::Restarting { init, .. }
            | Self::Stopped { init, .. } => Some(init),
        }
    }

    /// The same, to be changed.
    pub fn init_mut(&mut self) -> Option<&mut I> {
        match self {
            Self::Empty => None,
            Self::Prepared { init }
            | Self::Created { init, .. }
            | Self::Running { init, .. }
            | Self::Paused { init, .. }
            | Self::Restarting { init, .. }
            | Self::Stopped { init, .. } => Some(init),
        }
    }

    /// The same, and nothing else of it.
    pub fn into_init(self) -> Option<I> {
        match self {
            Self::Empty => None,
            Self::Prepared { init }
            | Self::Created { init, .. }
            | Self::Running { init, .. }
            | Self::Paused { init, .. }
            | Self::Restarting { init, .. }
            | Self::Stopped { init, .. } => Some(init),
        }
    }

    /// The init process, where it lives.
    pub fn living(&self) -> Option<&I> {
        if matches!(self, Self::Restarting { .. } | Self::Stopped { .. }) { None } else { self.init() }
    }

    /// Number of the present life, or of the last one; 0 before the first.
    pub fn life(&self) -> u64 {
        match self {
            Self::Empty | Self::Prepared { .. } => 0,
            Self::Created { last_life, .. } => *last_life,
            Self::Running { life, .. } | Self::Paused { life, .. } => *life,
            Self::Restarting { exit, .. } | Self::Stopped { exit, .. } => exit.life,
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
