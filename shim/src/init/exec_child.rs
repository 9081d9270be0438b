//! `davit-shim exec`: the list of steps from a bare clone to a process inside a running container. One thread, no
//! runtime.
//!
//! It was cloned into init's process ids and into its own cgroup leaf. Until `execve` it is not dumpable, so that
//! nothing in the container can look into it or take its descriptors.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use davit_sys::file::{self, OFlags, Root};
use davit_sys::pty::{self, Pty, WindowSize};
use davit_sys::{fd, namespace, privilege};

use super::child::{CHANNEL, adjust_badness, join_cgroups};
use super::error::{Failure, Step};
use super::exec_plan::ExecPlan;
use super::message::{Channel, Reply, Request};
use super::plan::StdioPlan;
use super::process::{Ready, Streams};

/// Follows the shim's one order until the program takes over.
pub fn run() -> ExitCode {
    let Ok(socket) = fd::inherited(CHANNEL) else {
        eprintln!("davit-shim exec: started without a shim");
        return ExitCode::from(2);
    };
    let channel = Channel::new(socket);
    let Err(failure) = follow(&channel);
    let code = failure.kind.exit_code();
    // When nobody listens any more there is nobody to tell.
    let _ = channel.send(&Reply::Failed(failure), &[]);
    ExitCode::from(code)
}

fn follow(channel: &Channel) -> Result<Infallible, Failure> {
    // Before anything of the container's could look at us.
    privilege::set_dumpable(false).step("become undumpable")?;
    privilege::set_umask(0);
    let (plan, fds) = match channel.receive().step("receive orders")? {
        Some((Request::Exec(plan), fds)) => (*plan, fds),
        _ => return Err(Failure::invalid("received no order to join a container")),
    };
    let (ready, master) = join(plan, fds)?;
    let answer: Vec<_> = master.iter().map(AsFd::as_fd).collect();
    channel.send(&Reply::Joined, &answer).step("answer the shim")?;
    drop(answer);
    drop(master);
    ready.run()
}

fn join(plan: ExecPlan, fds: Vec<OwnedFd>) -> Result<(Ready, Option<OwnedFd>), Failure> {
    // The host's files, while they can be seen.
    join_cgroups(&plan.tasks)?;
    adjust_badness(plan.oom_score_adj)?;
    let missing = || Failure::invalid("descriptors of the process are missing");
    let mut fds = fds.into_iter();
    let init = fds.next().ok_or_else(missing)?;
    namespace::enter_all(&init, &plan.namespaces()).step("join the container's namespaces")?;
    drop(init);
    if plan.joins_user {
        // What we were outside has no number in here.
        privilege::set_identity(0, 0, &[]).step("become root of the user namespace")?;
    }
    privilege::new_session_keyring().step("make a session keyring")?;
    let (streams, master) = match &plan.process.stdio {
        StdioPlan::Given => {
            let given = <[OwnedFd; 3]>::try_from(fds.collect::<Vec<_>>()).map_err(|_| missing())?;
            (Streams::Given(given), None)
        }
        StdioPlan::Terminal(size) => {
            let Pty { master, slave, .. } = open_terminal(*size)?;
            (Streams::Terminal(slave), Some(master))
        }
    };
    Ok((Ready::new(plan.process, streams)?, master))
}

/// A terminal of the container's own devpts: what is there by that name may have been exchanged.
fn open_terminal(size: Option<(u16, u16)>) -> Result<Pty, Failure> {
    let root = Root::open(Path::new("/")).step("open the root")?;
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let devpts = root.resolve(Path::new("/dev/pts"), flags, 0).step("open /dev/pts")?;
    if !file::is_devpts(&devpts).step("look at /dev/pts")? {
        return Err(Failure::refused("/dev/pts is no devpts"));
    }
    let terminal = pty::open(&devpts).step("open a terminal")?;
    if let Some((rows, columns)) = size {
        pty::set_window_size(&terminal.master, WindowSize { rows, columns }).step("size the terminal")?;
    }
    Ok(terminal)
}
