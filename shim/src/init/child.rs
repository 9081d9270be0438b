//! `davit-shim init`: the list of steps from a bare clone to the container's process. One thread, no runtime.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use davit_sys::file::Root;
use davit_sys::mount::{self, TreeDepth};
use davit_sys::namespace::{self, Kind};
use davit_sys::process::Exit;
use davit_sys::{fd, privilege};

use super::base::Base;
use super::error::{Failure, Step};
use super::message::{Channel, Reply, Request};
use super::plan::{ConfigurePlan, JoinKind, PreparePlan, StdioPlan};
use super::process::{Ready, Streams};
use super::reaper::{self, Side};
use super::sockets::Sockets;
use super::{rootfs, sysctl};

/// The descriptor under which init finds its socket.
pub const CHANNEL: i32 = 3;

/// Why the steps ended without an `execve`.
enum End {
    /// The shim has gone or wants no more; so init goes.
    Unwanted,
    /// As a reaper, with the command's exit.
    Mirrored(Exit),
    /// A step failed.
    Failed(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Follows the shim's orders until the container's process takes over.
pub fn run() -> ExitCode {
    let Ok(socket) = fd::inherited(CHANNEL) else {
        eprintln!("davit-shim init: started without a shim");
        return ExitCode::from(2);
    };
    let mut channel = Some(Channel::new(socket));
    let Err(end) = follow(&mut channel);
    match end {
        End::Unwanted => ExitCode::from(1),
        End::Mirrored(exit) => ExitCode::from(exit.code()),
        End::Failed(failure) => {
            let code = failure.kind.exit_code();
            if let Some(channel) = &channel {
                // When nobody listens any more there is nobody to tell.
                let _ = channel.send(&Reply::Failed(failure), &[]);
            }
            ExitCode::from(code)
        }
    }
}

fn follow(slot: &mut Option<Channel>) -> Result<Infallible, End> {
    let channel = slot.as_ref().ok_or(End::Unwanted)?;
    // Before anything of the container's could look at us.
    privilege::set_dumpable(false).step("become undumpable")?;
    privilege::set_umask(0);
    let (Request::Prepare(plan), fds) = order(channel)? else { return Err(End::Unwanted) };
    let mut base = prepare(channel, &plan, fds)?;
    let (Request::Configure(plan), fds) = order(channel)? else { return Err(End::Unwanted) };
    let ready = configure(channel, *plan, fds, &mut base)?;
    drop(base);
    let (Request::Start, _) = order(channel)? else { return Err(End::Unwanted) };
    let mut ready = Some(ready);
    if let Some(capabilities) = ready.as_ref().and_then(Ready::reaper_capabilities) {
        let let_go = || {
            *slot = None;
            ready = None;
        };
        if let Side::Reaper(exit) = reaper::fork(capabilities, let_go)? {
            return Err(End::Mirrored(exit));
        }
    }
    match ready {
        Some(ready) => Ok(ready.run()?),
        None => Err(End::Unwanted),
    }
}

fn order(channel: &Channel) -> Result<(Request, Vec<OwnedFd>), End> {
    match channel.receive() {
        Ok(Some(order)) => Ok(order),
        Ok(None) => Err(End::Unwanted),
        Err(e) => Err(Failure::kernel("receive orders", &e).into()),
    }
}

fn prepare(channel: &Channel, plan: &PreparePlan, mut fds: Vec<OwnedFd>) -> Result<Base, Failure> {
    let dev = if plan.in_user_namespace { fds.pop() } else { None };
    join_cgroups(&plan.tasks)?;
    let shm = plan.joined_shm.then(|| take_shm(fds.pop())).transpose()?;
    join_namespaces(&plan.join, fds)?;
    if plan.own_cgroup_view {
        // After joining, so that its root is the container's cgroup.
        namespace::leave(Kind::Cgroup).step("unshare the cgroup view")?;
    }
    // Before the change of root takes the host's /proc away.
    let held = hold_namespaces()?;
    let base = Base::build(plan, shm, dev)?;
    if plan.bring_up_loopback {
        namespace::loopback_up().step("bring up loopback")?;
    }
    let names = plan.bring_up_loopback.then(Sockets::make).transpose().step("make the resolver's sockets")?;
    let names = names.map(Sockets::into_fds);
    let held: Vec<_> = held.iter().chain(names.iter().flatten()).map(AsFd::as_fd).collect();
    channel.send(&Reply::Prepared, &held).step("answer the shim")?;
    Ok(base)
}

/// Writing `0` into `tasks` moves the writing thread, and unlike a pid in `cgroup.procs` it waits for nobody.
pub fn join_cgroups(tasks: &[String]) -> Result<(), Failure> {
    tasks.iter().try_for_each(|path| std::fs::write(path, "0").step(format_args!("join {path}")))
}

fn join_namespaces(kinds: &[JoinKind], fds: Vec<OwnedFd>) -> Result<(), Failure> {
    if kinds.len() != fds.len() {
        return Err(Failure::invalid("namespaces to join are missing"));
    }
    for (kind, namespace) in kinds.iter().zip(fds) {
        let kind = match kind {
            JoinKind::Net => Kind::Net,
            JoinKind::Ipc => Kind::Ipc,
            JoinKind::Uts => Kind::Uts,
            JoinKind::Cgroup => Kind::Cgroup,
        };
        namespace::enter(namespace, kind).step(format_args!("join the {} namespace", kind.name()))?;
    }
    Ok(())
}

/// The `/dev/shm` that another container has mounted, as a tree of ours. Nothing but a look at its mounts is taken
/// there: this process has one thread, and comes back before it does anything else.
fn take_shm(mounts: Option<OwnedFd>) -> Result<OwnedFd, Failure> {
    let mounts = mounts.ok_or_else(|| Failure::invalid("the mounts to share /dev/shm of are missing"))?;
    let home = namespace::open_own(Kind::Mount).step("hold the mount namespace")?;
    namespace::enter(mounts, Kind::Mount).step("look at the mounts of the other container")?;
    let taken = Root::open(Path::new("/"))
        .and_then(|root| root.open_path(Path::new("dev/shm")))
        .and_then(|shm| mount::open_tree(shm, Path::new(""), TreeDepth::Single));
    namespace::enter(home, Kind::Mount).step("come back from the other container")?;
    taken.step("share /dev/shm of the other container")
}

fn hold_namespaces() -> Result<Vec<OwnedFd>, Failure> {
    let open =
        |kind: &Kind| namespace::open_own(*kind).step(format_args!("hold the {} namespace", kind.name()));
    super::parent::HELD.iter().map(open).collect()
}

fn configure(
    channel: &Channel,
    plan: ConfigurePlan,
    mut fds: Vec<OwnedFd>,
    base: &mut Base,
) -> Result<Ready, Failure> {
    let missing = || Failure::invalid("descriptors of the configuration are missing");
    let given = match plan.process.stdio {
        StdioPlan::Given => {
            let first = fds.len().checked_sub(3).ok_or_else(missing)?;
            Some(<[OwnedFd; 3]>::try_from(fds.split_off(first)).map_err(|_| missing())?)
        }
        StdioPlan::Terminal(_) => None,
    };
    let mut fds = fds.into_iter();
    let root = rootfs::build(base, &plan, fds.next().ok_or_else(missing)?, &mut fds)?;
    let (streams, master) = match (given, &plan.process.stdio) {
        (None, StdioPlan::Terminal(size)) => {
            let terminal = rootfs::open_terminal(base, *size)?;
            (Streams::Terminal(terminal.slave), Some(terminal.master))
        }
        (Some(streams), _) => (Streams::Given(streams), None),
        (None, StdioPlan::Given) => return Err(missing()),
    };
    rootfs::enter(&root, plan.readonly_root)?;
    sysctl::apply(&base.proc_sys, &plan.sysctls)?;
    name_host(&plan)?;
    let mut warnings = adjust_badness(plan.oom_score_adj)?;
    privilege::new_session_keyring().step("make a session keyring")?;
    let ready = Ready::new(plan.process, streams)?;
    warnings.extend(ready.warnings());
    let mut answer = vec![root.as_fd()];
    answer.extend(master.iter().map(AsFd::as_fd));
    channel.send(&Reply::Configured { warnings }, &answer).step("answer the shim")?;
    Ok(ready)
}

fn name_host(plan: &ConfigurePlan) -> Result<(), Failure> {
    if let Some(name) = &plan.hostname {
        namespace::set_host_name(name).step(format_args!("set host name {name}"))?;
    }
    if let Some(name) = &plan.domainname {
        namespace::set_domain_name(name).step(format_args!("set domain name {name}"))?;
    }
    Ok(())
}

/// Lowering it needs a right that not every host gives; a container starts all the same.
pub(super) fn adjust_badness(badness: Option<i32>) -> Result<Vec<String>, Failure> {
    let Some(badness) = badness else { return Ok(Vec::new()) };
    match std::fs::write("/proc/self/oom_score_adj", badness.to_string()) {
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            Ok(vec![format!("oom score adjustment {badness} cannot be set on this host")])
        }
        other => other.step("set oom score adjustment").map(|()| Vec::new()),
    }
}
