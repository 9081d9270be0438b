//! `davit-shim enter`: the stage between the shim and an init that lives in a user namespace.
//!
//! ```text
//!   shim (root of the host)                                enter (one thread)
//!   spawn into the container's v2 cgroup ─────────────────▶ joins v1 cgroups, while it still may
//!        ── Enter{shape, kept} (+ the namespace to join) ─▶ unshares a user namespace, or joins the kept one
//!        ◀── Unshared + fd user ───────────────────────────
//!   writes uid_map and gid_map
//!        ── Mapped ───────────────────────────────────────▶ becomes its root; clones init as the shim's child,
//!        ◀── Cloned + init's pidfd ────────────────────────  so that pid, net, ipc, uts, mnt belong to it; ends
//! ```
//!
//! A clone straight into a new user namespace will not do: its process has no ids there until somebody writes the
//! maps, and an `execve` without ids loses all rights.

use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use davit_sys::namespace::{self, Kind};
use davit_sys::process::{self, Child};
use davit_sys::{fd, privilege};
use serde::{Deserialize, Serialize};

use super::child::{CHANNEL, join_cgroups};
use super::error::{Failure, Step};
use super::message::Channel;
use super::parent::spawn_init;
use super::shape::Shape;

/// The descriptor under which this stage finds its own socket; init's is [`CHANNEL`].
pub const STAGE: i32 = 4;

/// What the shim tells this stage.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// What to do; with the user namespace to join, where there is one already.
    Enter {
        /// What init is to be.
        shape: Box<Shape>,
        /// The namespaces of an earlier life are joined, not made.
        kept: bool,
        /// v1 `tasks` files to write `0` to.
        tasks: Vec<String>,
    },
    /// The maps are written.
    Mapped,
}

/// What this stage answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// It is in a new user namespace, which comes along.
    Unshared,
    /// Init runs; its pidfd comes along.
    Cloned {
        /// Its number as this stage and the shim count.
        pid: i32,
    },
    /// A step failed.
    Failed(Failure),
}

/// Follows the shim's orders, and ends.
pub fn run() -> ExitCode {
    let (Ok(socket), Ok(stage)) = (fd::inherited(CHANNEL), fd::inherited(STAGE)) else {
        eprintln!("davit-shim enter: started without a shim");
        return ExitCode::from(2);
    };
    let stage = Channel::new(stage);
    let (answer, pidfd) = match follow(&stage, &socket) {
        Ok(child) => (Answer::Cloned { pid: child.pid }, Some(child.pidfd)),
        Err(failure) => (Answer::Failed(failure), None),
    };
    let fds: Vec<_> = pidfd.iter().map(AsFd::as_fd).collect();
    match stage.send(&answer, &fds) {
        Ok(()) => ExitCode::SUCCESS,
        // The shim has gone, and init with it.
        Err(_) => ExitCode::FAILURE,
    }
}

fn follow(stage: &Channel, socket: &OwnedFd) -> Result<Child, Failure> {
    privilege::set_dumpable(false).step("become undumpable")?;
    let (order, fds) = next(stage)?;
    let Order::Enter { shape, kept, tasks } = order else { return Err(out_of_turn()) };
    join_cgroups(&tasks)?;
    match fds.first() {
        Some(user) => namespace::enter(user, Kind::User).step("join the user namespace")?,
        None => unshare(stage)?,
    }
    // The namespace's root: what we were outside has no number in here.
    privilege::set_identity(0, 0, &[]).step("become root of the user namespace")?;
    spawn_init(&shape, kept, None, socket.as_fd(), process::spawn_sibling).step("clone init")
}

fn unshare(stage: &Channel) -> Result<(), Failure> {
    const ENOSPC: i32 = 28;
    const EUSERS: i32 = 87;
    match namespace::leave(Kind::User) {
        Err(e) if matches!(e.raw_os_error(), Some(ENOSPC | EUSERS)) => {
            let why = "this host allows no more of them (sysctl user.max_user_namespaces)";
            return Err(Failure::invalid(format!("make a user namespace: {why}")));
        }
        other => other.step("make a user namespace")?,
    }
    let own = namespace::open_own(Kind::User).step("hold the user namespace")?;
    stage.send(&Answer::Unshared, &[own.as_fd()]).step("answer the shim")?;
    match next(stage)? {
        (Order::Mapped, _) => Ok(()),
        (Order::Enter { .. }, _) => Err(out_of_turn()),
    }
}

fn next(stage: &Channel) -> Result<(Order, Vec<OwnedFd>), Failure> {
    let order = stage.receive().step("receive orders")?;
    order.ok_or_else(|| Failure::invalid("the shim has gone"))
}

fn out_of_turn() -> Failure {
    Failure::invalid("an order came out of turn")
}
