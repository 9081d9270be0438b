//! The shim's side of init: clone it, hand it its plans, hold what outlives it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use davit_proto::task::HeldNamespace;
use davit_sys::file::Flock;
use davit_sys::namespace::{self, Kind};
use davit_sys::process::{self, Child, Exit, NewNamespaces, SIGKILL, Spawn};
use davit_sys::pty::WindowSize;
use oci_spec::runtime::{LinuxResources, Spec};

use super::child::CHANNEL;
use super::env_file;
use super::error::{Failure, FailureKind, InitError, Step};
use super::guard::Guard;
use super::message::{Channel, Reply, Request};
use super::plan::{ConfigurePlan, JoinKind, StdioPlan};
use super::shape::{IdMap, Namespace, Shape};
use super::shape_plan::{plan_join, plan_prepare};
use super::sockets::Sockets;
use super::spec::{SpecPlan, plan_spec};
use super::{dev, source, userns};
use crate::cgroup::{CgroupError, ContainerCgroup, DevicePolicy};

/// The namespaces that init hands to the shim, in this order.
pub const HELD: [Kind; 4] = [Kind::Mount, Kind::Net, Kind::Ipc, Kind::Uts];

/// How long init may take for one order.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The namespaces of a life, held open: for later lives, and for whoever joins.
#[derive(Debug)]
pub struct Namespaces {
    /// Mounts. Held so that an exit is told before the kernel takes them apart; while it is held the writable layer
    /// stays mounted, so the next life must not be configured before this one is dropped.
    pub mnt: Option<OwnedFd>,
    /// Network.
    pub net: OwnedFd,
    /// IPC.
    pub ipc: OwnedFd,
    /// Host name.
    pub uts: OwnedFd,
    /// Users, where the container has its own. Whoever joins the others joins it last.
    pub user: Option<OwnedFd>,
}

impl Namespaces {
    /// They come first among what init sends; what follows them are the resolver's sockets, if it made any.
    fn take(mut fds: Vec<OwnedFd>, user: Option<OwnedFd>) -> Result<(Self, Option<Sockets>), InitError> {
        let more = fds.split_off(fds.len().min(HELD.len()));
        let [mnt, net, ipc, uts] = <[OwnedFd; 4]>::try_from(fds).map_err(|_| nonsense())?;
        let names = match more.is_empty() {
            true => None,
            false => Some(Sockets::take(<[OwnedFd; 2]>::try_from(more).map_err(|_| nonsense())?)),
        };
        Ok((Self { mnt: Some(mnt), net, ipc, uts, user }, names))
    }

    /// What others may join, and where they find it in this process. One whose number cannot be read is not told of.
    pub fn held(&self) -> Vec<HeldNamespace> {
        let Self { mnt, net, ipc, uts, user: _ } = self;
        let mnt = mnt.iter().map(|mnt| (Kind::Mount, mnt));
        let held = [(Kind::Net, net), (Kind::Ipc, ipc), (Kind::Uts, uts)];
        mnt.chain(held)
            .filter_map(|(kind, fd)| {
                let inode = namespace::inode(fd).ok()?;
                Some(HeldNamespace { kind: kind.name().to_owned(), fd: fd.as_raw_fd(), inode })
            })
            .collect()
    }

    /// Holds what a later life has kept by the descriptors of the life before, whose numbers others were told.
    fn inherit(&mut self, before: Self) {
        let Self { mnt: _, net, ipc, uts, user } = before;
        (self.net, self.ipc, self.uts, self.user) = (net, ipc, uts, user);
    }

    /// What a later life goes on with.
    pub fn keep(&self) -> io::Result<Kept> {
        Ok(Kept {
            net: self.net.try_clone()?,
            ipc: self.ipc.try_clone()?,
            uts: self.uts.try_clone()?,
            user: self.user.as_ref().map(OwnedFd::try_clone).transpose()?,
        })
    }
}

/// The namespaces that outlive a life.
#[derive(Debug)]
pub struct Kept {
    net: OwnedFd,
    ipc: OwnedFd,
    uts: OwnedFd,
    /// What the others belong to, so they can only be kept together.
    user: Option<OwnedFd>,
}

/// Where the container's 0, 1 and 2 come from.
#[derive(Debug)]
pub enum Stdio {
    /// A new terminal, of this size if it is known.
    Terminal(Option<WindowSize>),
    /// These.
    Given([OwnedFd; 3]),
}

/// What makes a prepared init a container.
#[derive(Debug)]
pub struct Configuration<'a> {
    /// `config.json`.
    pub spec: &'a Spec,
    /// The folder that the spec's relative root is in.
    pub bundle: &'a Path,
    /// The lock on the bundle: without it the writable layer must not be mounted.
    pub lock: &'a Flock,
    /// Where limits are set.
    pub cgroup: &'a ContainerCgroup,
    /// Its streams.
    pub stdio: Stdio,
}

/// What the shim keeps of a configured container.
#[derive(Debug)]
pub struct Configured {
    /// The root, as an `O_PATH` handle: for copies, with volumes crossed.
    pub root: OwnedFd,
    /// The terminal's master.
    pub terminal: Option<OwnedFd>,
    /// What is not exactly as asked, in words.
    pub warnings: Vec<String>,
}

/// An init process, from the clone to its end. Dropping it while it waits ends it.
#[derive(Debug)]
pub struct Init {
    child: Child,
    host_pid: u32,
    channel: Channel,
    namespaces: Namespaces,
    shape: Shape,
    /// `/dev`, where only we may make nodes in it.
    dev: Option<OwnedFd>,
    /// Until somebody serves or drops them.
    names: Option<Sockets>,
    exit: OnceLock<Exit>,
    /// Where the pid namespace does not end the container with us.
    _guard: Option<Guard>,
}

impl Init {
    /// The first half: clones init, and returns when it waits on its empty root.
    ///
    /// `kept` are the namespaces of an earlier life, which this one shall go on with.
    pub fn prepare(shape: &Shape, cgroup: &ContainerCgroup, kept: Option<&Kept>) -> Result<Self, InitError> {
        refuse_unsupported(shape)?;
        let joined = open_joined(shape, kept)?;
        let ids = shape.own_ids();
        let dev = ids.map(|ids| dev::make(Some(ids))).transpose()?;
        let along: Vec<_> = joined.iter().chain(&dev).map(AsFd::as_fd).collect();
        // The stage before it has joined them, in a user namespace.
        let tasks = if ids.is_some() { Vec::new() } else { cgroup.tasks_files() };
        let plan = plan_prepare(shape, tasks, cgroup.layout(), kept.is_some());
        let shares_pids = !shape.pid.is_own();
        let guard = shares_pids.then(|| Guard::start(cgroup.unified())).transpose().step("start a guard")?;
        let (channel, theirs) = Channel::pair().map_err(InitError::Channel)?;
        channel.set_timeout(PATIENCE).map_err(InitError::Channel)?;
        // In its socket before it exists, so that it need not wait for us.
        channel.send(&Request::Prepare(plan), &along).map_err(InitError::Channel)?;
        let (child, user) = clone(shape, cgroup, kept, theirs.as_fd())?;
        drop(theirs);
        let host_pid = match process::host_pid(&child.pidfd) {
            Ok(pid) => pid,
            Err(e) => {
                end(&child);
                return Err(Failure::kernel("find init's pid", &e).into());
            }
        };
        match receive(&channel, &child, "was prepared") {
            Ok((Reply::Prepared, fds)) => {
                let (namespaces, names) = Namespaces::take(fds, user)?;
                let shape = shape.clone();
                let exit = OnceLock::new();
                Ok(Self { child, host_pid, channel, namespaces, shape, dev, names, exit, _guard: guard })
            }
            other => {
                end(&child);
                Err(unexpected(other))
            }
        }
    }

    /// The second half: gives init its root and everything that is the container's own; it waits at the gate.
    ///
    /// After an error init has ended and is reaped.
    pub fn configure(&mut self, configuration: Configuration<'_>) -> Result<Configured, InitError> {
        let configured = self.try_configure(configuration);
        self.end_after(configured)
    }

    fn try_configure(&self, configuration: Configuration<'_>) -> Result<Configured, InitError> {
        let Configuration { spec, bundle, lock, cgroup, stdio } = configuration;
        let stdio_plan = match &stdio {
            Stdio::Terminal(size) => StdioPlan::terminal(*size),
            Stdio::Given(_) => StdioPlan::Given,
        };
        let SpecPlan { root, trees, devices, mut configure } =
            plan_spec(spec, &self.shape, bundle, stdio_plan)?;
        env_file::add(spec, &mut configure.process.env)?;
        let user = self.namespaces.user.as_ref().map(AsFd::as_fd);
        let mut fds = vec![source::open_root(&root, user.zip(self.shape.own_ids()), lock)?];
        for tree in &trees {
            fds.push(source::open_tree(tree, user)?);
        }
        if let Some(ids) = self.shape.own_ids() {
            self.do_as_root(ids, &mut configure)?;
            if let Stdio::Given(streams) = &stdio {
                userns::give_streams(streams, ids)?;
            }
        }
        if let Stdio::Given(streams) = stdio {
            fds.extend(streams);
        }
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let request = Request::Configure(Box::new(configure));
        self.channel.send(&request, &borrowed).map_err(InitError::Channel)?;
        drop(borrowed);
        drop(fds);
        // While init mounts; it runs nothing of the container's before the gate opens.
        let mut warnings = set_limits(spec, cgroup, &devices)?;
        let (mut fds, more) = match receive(&self.channel, &self.child, "was configured") {
            Ok((Reply::Configured { warnings }, fds)) => (fds.into_iter(), warnings),
            other => return Err(unexpected(other)),
        };
        warnings.extend(more);
        let root = fds.next().ok_or_else(nonsense)?;
        Ok(Configured { root, terminal: fds.next(), warnings })
    }

    /// What init may not do itself in a user namespace.
    fn do_as_root(&self, ids: &IdMap, plan: &mut ConfigurePlan) -> Result<(), Failure> {
        if let Some(dev) = &self.dev {
            let nodes = std::mem::take(&mut plan.devices);
            nodes.iter().try_for_each(|node| dev::add_node(dev, node, Some(ids)))?;
        }
        userns::raise_limits(&self.child, &plan.process.limits)
    }

    /// Opens the gate. Returns when the container's program runs, or with the reason why it does not; then init has
    /// ended and is reaped.
    pub fn start(&mut self) -> Result<(), InitError> {
        let started = match self.channel.send(&Request::Start, &[]) {
            Err(e) => Err(InitError::Channel(e)),
            // Close-on-exec: the end of the socket is the beginning of the program.
            Ok(()) => match self.channel.receive::<Reply>() {
                Ok(None) => Ok(()),
                Ok(Some((Reply::Failed(failure), _))) => Err(failure.into()),
                Ok(Some(_)) => Err(nonsense()),
                Err(e) => Err(silence(e)),
            },
        };
        self.end_after(started)
    }

    /// Ends it at its gate.
    pub fn give_up(&self, why: io::Error) -> InitError {
        self.exit.get_or_init(|| end(&self.child));
        InitError::Channel(why)
    }

    fn end_after<T>(&self, result: Result<T, InitError>) -> Result<T, InitError> {
        if result.is_err() && self.exit.get().is_none() {
            self.exit.get_or_init(|| end(&self.child));
        }
        result
    }

    /// Readable when the process has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }

    /// The process's number as the host counts.
    pub fn host_pid(&self) -> u32 {
        self.host_pid
    }

    /// What is held open for later lives and for others.
    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// The sockets of the resolver, once; none where the network namespace is not the container's own.
    pub fn take_names(&mut self) -> Option<Sockets> {
        self.names.take()
    }

    /// Lets go of the mounts of a life that is over. The kernel takes them apart now, which takes its time.
    pub fn release_mounts(&mut self) {
        self.namespaces.mnt = None;
    }

    /// Takes the place of an earlier life, whose namespaces this one goes on with; its mounts are let go of.
    pub fn replace(&mut self, dead: Self) {
        self.namespaces.inherit(dead.namespaces);
    }

    /// What it was prepared as.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        process::signal(&self.child.pidfd, signal)
    }

    /// The process's end, if it has come; never waits.
    pub fn reap(&self) -> io::Result<Option<Exit>> {
        match self.exit.get() {
            Some(exit) => Ok(Some(*exit)),
            None => Ok(process::try_wait(&self.child.pidfd)?.map(|exit| *self.exit.get_or_init(|| exit))),
        }
    }

    /// Waits for the process's end.
    pub fn reap_blocking(&self) -> io::Result<Exit> {
        match self.exit.get() {
            Some(exit) => Ok(*exit),
            None => process::wait(&self.child.pidfd).map(|exit| *self.exit.get_or_init(|| exit)),
        }
    }
}

fn refuse_unsupported(shape: &Shape) -> Result<(), Failure> {
    match (&shape.user, shape.ids) {
        (Namespace::Host, None) => return Ok(()),
        (Namespace::Own, Some(ids)) if ids.count > 0 => {}
        (Namespace::Joined { .. }, _) => return Err(Failure::invalid("user namespaces cannot be joined")),
        (Namespace::Host | Namespace::Own, _) => {
            return Err(Failure::invalid("a user namespace and its ids must be asked for together"));
        }
    }
    // Namespaces of somebody else's are not this one's to mount from or to configure.
    let joined = |namespace: &Namespace| matches!(namespace, Namespace::Joined { .. });
    let foreign = [&shape.ipc, &shape.uts, &shape.cgroup].into_iter().any(joined);
    if shape.privileged || foreign || !shape.pid.is_own() || !shape.net.is_own() {
        let why = "cannot be privileged, nor share processes, network or another container's namespaces";
        return Err(Failure::invalid(format!("a container in a user namespace {why}")));
    }
    Ok(())
}

/// Opens what is to be joined, in the order of [`plan_join`].
fn open_joined(shape: &Shape, kept: Option<&Kept>) -> Result<Vec<OwnedFd>, Failure> {
    let mut fds = Vec::new();
    for kind in plan_join(shape, kept.is_some()) {
        let (namespace, held) = match kind {
            JoinKind::Net => (&shape.net, kept.map(|k| &k.net)),
            JoinKind::Ipc => (&shape.ipc, kept.map(|k| &k.ipc)),
            JoinKind::Uts => (&shape.uts, kept.map(|k| &k.uts)),
            JoinKind::Cgroup => (&shape.cgroup, None),
        };
        fds.push(match (namespace, held) {
            (Namespace::Joined { path, inode }, _) => open_checked(path, *inode)?,
            (_, Some(held)) => held.try_clone().step("keep a namespace")?,
            (_, None) => return Err(Failure::invalid("a namespace of an earlier life is missing")),
        });
    }
    if let Some(Namespace::Joined { path, inode }) = &shape.shm {
        fds.push(open_checked(path, *inode)?);
    }
    Ok(fds)
}

fn open_checked(path: &Path, inode: u64) -> Result<OwnedFd, Failure> {
    let shown = path.display();
    let opened = namespace::open(path).step(format_args!("open namespace {shown}"))?;
    let found = namespace::inode(&opened).step(format_args!("look at namespace {shown}"))?;
    if found != inode {
        return Err(Failure::refused(format!(
            "namespace {shown} is {found}, not {inode}: its owner has gone"
        )));
    }
    Ok(opened)
}

fn clone(
    shape: &Shape,
    cgroup: &ContainerCgroup,
    kept: Option<&Kept>,
    socket: BorrowedFd<'_>,
) -> Result<(Child, Option<OwnedFd>), Failure> {
    if let Some(ids) = shape.own_ids() {
        let user = match kept {
            None => None,
            Some(Kept { user: Some(user), .. }) => Some(user),
            Some(_) => return Err(Failure::invalid("the user namespace of an earlier life is missing")),
        };
        let entered = userns::clone(shape, ids, cgroup, user, socket)?;
        return Ok((entered.child, Some(entered.user)));
    }
    let child = spawn_init(shape, kept.is_some(), Some(cgroup.unified()), socket, process::spawn);
    Ok((child.step("clone init")?, None))
}

/// Starts init in new namespaces of the caller's user namespace, by one of the ways to start a program.
pub fn spawn_init(
    shape: &Shape,
    kept: bool,
    cgroup: Option<BorrowedFd<'_>>,
    socket: BorrowedFd<'_>,
    spawn: fn(&Spawn<'_>) -> io::Result<Child>,
) -> io::Result<Child> {
    let mut namespaces = NewNamespaces::MOUNT;
    for (own, flag) in [
        (shape.pid.is_own(), NewNamespaces::PID),
        (shape.net.is_own() && !kept, NewNamespaces::NET),
        (shape.ipc.is_own() && !kept, NewNamespaces::IPC),
        (shape.uts.is_own() && !kept, NewNamespaces::UTS),
    ] {
        if own {
            namespaces = namespaces.with(flag);
        }
    }
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    let null = null.as_fd();
    let args = [c"davit-shim", c"init"].map(CString::from);
    let command = Spawn {
        program: c"/proc/self/exe",
        args: &args,
        env: &[],
        fds: &[(null, 0), (null, 1), (null, 2), (socket, CHANNEL)],
        namespaces,
        cgroup,
        session: true,
    };
    match &shape.pid {
        Namespace::Joined { path, inode } => in_pid_namespace(path, *inode, || spawn(&command)),
        Namespace::Own | Namespace::Host => spawn(&command),
    }
}

/// Children made meanwhile belong to another pid namespace; the shim itself stays where it is.
fn in_pid_namespace<T>(path: &Path, inode: u64, f: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let home = namespace::open_own(Kind::Pid)?;
    let away = open_checked(path, inode).map_err(io::Error::other)?;
    namespace::enter(away, Kind::Pid)?;
    let result = f();
    namespace::enter(home, Kind::Pid)?;
    result
}

fn set_limits(spec: &Spec, cgroup: &ContainerCgroup, devices: &DevicePolicy) -> Result<Vec<String>, Failure> {
    let given = spec.linux().as_ref().and_then(|linux| linux.resources().clone());
    let resources: LinuxResources = given.unwrap_or_default();
    let limited = cgroup.set_limits(&resources, devices);
    limited.map_err(|e| match e {
        CgroupError::Io { .. } | CgroupError::Timeout(_) => Failure::new(FailureKind::Kernel, e.to_string()),
        other => Failure::invalid(other.to_string()),
    })
}

/// An answer, or how init ended instead of giving one.
fn receive(
    channel: &Channel,
    child: &Child,
    before: &'static str,
) -> Result<(Reply, Vec<OwnedFd>), InitError> {
    match channel.receive() {
        Ok(Some(reply)) => Ok(reply),
        Ok(None) => Err(InitError::Ended { before, exit: end(child) }),
        Err(e) => Err(silence(e)),
    }
}

fn silence(e: io::Error) -> InitError {
    match e.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            InitError::Timeout { seconds: PATIENCE.as_secs() }
        }
        _ => InitError::Channel(e),
    }
}

fn unexpected(reply: Result<(Reply, Vec<OwnedFd>), InitError>) -> InitError {
    match reply {
        Ok((Reply::Failed(failure), _)) => failure.into(),
        Ok(_) => nonsense(),
        Err(e) => e,
    }
}

fn nonsense() -> InitError {
    InitError::Channel(io::Error::new(io::ErrorKind::InvalidData, "init answered out of turn"))
}

/// Makes sure that an init which is of no use has ended, and reaps it.
fn end(child: &Child) -> Exit {
    // It may have ended by itself; the signal is for one that has not.
    let _ = process::signal(&child.pidfd, SIGKILL);
    // A child that cannot be waited for was reaped, and its end was by the signal for all we know.
    process::wait(&child.pidfd).unwrap_or(Exit::Signaled(9))
}
