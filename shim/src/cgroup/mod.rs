//! The cgroups of a container: born in, limited by, frozen and killed through, gone with it.
//!
//! ```text
//!   <v2>/<parent>/shims          the shims of one engine
//!   <v2>/<parent>/<id>/exec-<n>  a process that was added to it, and what that started
//!   <v2>/<parent>/<id>           a container: membership, freezing, killing; limits where v2 has the controllers
//!   <v1 …>/<parent>/shims        the same in every v1 hierarchy that the host mounts:
//!   <v1 …>/<parent>/<id>         limits and devices, where the host is hybrid or old
//! ```
//!
//! A task frozen through v1 cannot be killed, so freezing and killing only ever go through v2; where the host has it
//! not mounted, we mount it detached. Nobody writes a pid into `cgroup.procs`: that waits for a grace period. The
//! first process is cloned into its v2 cgroup and puts itself into the v1 ones, through `tasks`, while it has one
//! thread.

mod device;
mod dir;
mod events;
mod layout;
mod oom;
mod v1;
mod v2;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxResources;

pub use device::DevicePolicy;
use dir::Dir;
use events::Events;
pub use layout::{Layout, Legacy};
pub use oom::OomWatch;

/// Why something about a cgroup failed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The parent's name is none.
    #[error("cgroup parent {0:?} is not a path of plain names")]
    Parent(String),
    /// A file or folder refused.
    #[error("{what}: {}", crate::init::error::reason(.source))]
    Io {
        /// Operation and object.
        what: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel does not take the value of a limit.
    #[error("limit cannot be set: {what}: {}", crate::init::error::reason(.source))]
    Limit {
        /// Value and file.
        what: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// This host cannot limit that.
    #[error("{limit} cannot be limited on this host: it has no {lacks}")]
    Unlimited {
        /// What was to be limited, and to what.
        limit: String,
        /// The kernel's file.
        lacks: String,
    },
    /// More memory is in use than it shall be limited to, and cannot be taken back.
    #[error("memory cannot be limited to {limit} bytes: {used} bytes are in use")]
    InUse {
        /// The limit asked for, in bytes.
        limit: u64,
        /// What is in use, in bytes.
        used: u64,
    },
    /// It was asked for something and did not happen in time.
    #[error("{0}")]
    Timeout(&'static str),
}

impl CgroupError {
    /// Tells a value that the kernel does not take from a file that cannot be written.
    fn of_limit(self) -> Self {
        use io::ErrorKind::{InvalidInput, PermissionDenied, ResourceBusy};
        const ERANGE: i32 = 34;
        match self {
            Self::Io { what, source }
                if matches!(source.kind(), InvalidInput | PermissionDenied | ResourceBusy)
                    || source.raw_os_error() == Some(ERANGE) =>
            {
                Self::Limit { what, source }
            }
            other => other,
        }
    }
}

/// What it means that a host has no file for a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Somebody asked for the limit: what cannot be kept is refused.
    Required,
    /// It is a default, kept where it can be.
    Wished,
}

impl Need {
    fn missing(self, files: &[&str], value: &str, told: &mut Vec<String>) -> Result<(), CgroupError> {
        let file = files.first().copied().unwrap_or_default();
        match self {
            Self::Required => {
                Err(CgroupError::Unlimited { limit: format!("{file} ({value})"), lacks: files.join(" or ") })
            }
            Self::Wished => {
                told.push(format!("this host has no {file}: it is not limited to {value}"));
                Ok(())
            }
        }
    }
}

/// What a container has used, and uses now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Processor time, in nanoseconds.
    pub cpu_nanoseconds: u64,
    /// Memory that could not be given back at once, in bytes.
    pub memory: u64,
    /// What memory is limited to, in bytes.
    pub memory_limit: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
    /// Bytes read from block devices.
    pub block_read: u64,
    /// Bytes written to them.
    pub block_written: u64,
}

/// Names the operation and object of a failed file operation.
trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, CgroupError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, CgroupError> {
        self.map_err(|source| CgroupError::Io { what: what(), source })
    }
}

/// Where limits are kept: v1 hierarchies or the unified one.
trait Limits: std::fmt::Debug + Send + Sync {
    /// Sets what is asked for, now or while it runs, and says in words what this host cannot limit.
    fn set(&self, resources: &LinuxResources) -> Result<Vec<String>, CgroupError>;
    /// How many processes the kernel killed here for want of memory.
    fn oom_kills(&self) -> Result<u64, CgroupError>;
    /// Tells when that number may have grown; none where memory is not counted.
    fn watch_oom(&self) -> Result<Option<OomWatch>, CgroupError>;
    /// Reads the counters; what this host does not count is 0.
    fn counters(&self) -> Result<Counters, CgroupError>;
}

/// The cgroups of one container, in every hierarchy.
#[derive(Debug)]
pub struct ContainerCgroup {
    unified: Dir,
    unified_parent: Dir,
    container_id: String,
    legacy: Vec<PathBuf>,
    layout: Layout,
    limits: Box<dyn Limits>,
    devices: Devices,
    killed: AtomicBool,
}

/// Where devices are allowed and denied: which is the one thing that may be on another hierarchy than the limits.
#[derive(Debug)]
enum Devices {
    Legacy(PathBuf),
    Filter(v2::Gate),
}

/// Most processes that are listed.
const LISTED: usize = 100_000;
/// Deepest cgroup below a container's that is looked into.
const DEPTH: usize = 8;

/// How long emptying, freezing and removing may take.
const PATIENCE: Duration = Duration::from_secs(5);

impl ContainerCgroup {
    /// Makes the cgroups of a container, or finds them made.
    pub fn create(parent: &str, container_id: &str) -> Result<Self, CgroupError> {
        let parent = plan_parent(parent)?;
        let layout = Layout::of_this_host()?;
        let unified_root = Dir::unified(&layout)?;
        let unified_parent = v2::make_parent(&unified_root, &parent)?;
        let unified = unified_parent.make(container_id)?;
        let mut legacy = Vec::with_capacity(layout.legacy.len());
        for hierarchy in &layout.legacy {
            legacy.push(v1::make(hierarchy, &parent, container_id)?);
        }
        let (limits, devices) = controllers(&layout, &legacy, &unified)?;
        let container_id = container_id.to_owned();
        let killed = AtomicBool::new(false);
        Ok(Self { unified, unified_parent, container_id, legacy, layout, limits, devices, killed })
    }

    /// The v2 cgroup, to be cloned into.
    pub fn unified(&self) -> BorrowedFd<'_> {
        self.unified.as_fd()
    }

    /// Makes a v2 cgroup below the container's, for one more process of it. It has no limits of its own, and no
    /// controller is handed down to it, so that the container's own may go on holding processes.
    pub fn leaf(&self, name: &str) -> Result<Leaf, CgroupError> {
        self.unified.make(name).map(Leaf)
    }

    /// Removes a leaf; one that still has processes is busy and stays, and one that is gone is fine. False when it
    /// stays.
    pub fn remove_leaf(&self, name: &str) -> Result<bool, CgroupError> {
        match self.unified.remove_tree(name) {
            Err(CgroupError::Io { source, .. }) if source.kind() == io::ErrorKind::ResourceBusy => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// The v1 files that a single-threaded process writes `0` to, to join.
    pub fn tasks_files(&self) -> Vec<String> {
        self.legacy.iter().map(|dir| dir.join("tasks").to_string_lossy().into_owned()).collect()
    }

    /// What the host mounts, for the view inside.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Sets limits and device rules, and answers with warnings.
    pub fn set_limits(
        &self,
        resources: &LinuxResources,
        devices: &DevicePolicy,
    ) -> Result<Vec<String>, CgroupError> {
        match &self.devices {
            Devices::Legacy(dir) => v1::set_devices(dir, devices)?,
            Devices::Filter(gate) => gate.set(devices)?,
        }
        self.limits.set(resources)
    }

    /// Changes limits, and answers with warnings. The device rules stay.
    pub fn update_limits(&self, resources: &LinuxResources) -> Result<Vec<String>, CgroupError> {
        self.limits.set(resources)
    }

    /// What the container has used, and uses now.
    pub fn counters(&self) -> Result<Counters, CgroupError> {
        self.limits.counters()
    }

    /// Its processes, those of execs too, as this process counts. One that it cannot see is not listed.
    pub fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        let mut pids = Vec::new();
        self.unified.list_processes(&mut pids, DEPTH)?;
        pids.truncate(LISTED);
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Tells when the kernel kills for want of memory; none where it does not count memory.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>, CgroupError> {
        self.limits.watch_oom()
    }

    /// Kills every process, frozen ones too.
    pub fn kill(&self) -> Result<(), CgroupError> {
        self.killed.store(true, Ordering::Relaxed);
        self.unified.write("cgroup.kill", "1")
    }

    /// Stops every process where it is, and returns when all have stopped.
    pub async fn freeze(&self) -> Result<(), CgroupError> {
        let events = Events::open(&self.unified)?;
        self.unified.write("cgroup.freeze", "1")?;
        events.wait("frozen", true, PATIENCE, "processes did not freeze in time").await
    }

    /// Lets the processes go on.
    pub async fn thaw(&self) -> Result<(), CgroupError> {
        let events = Events::open(&self.unified)?;
        self.begin_thaw()?;
        events.wait("frozen", false, PATIENCE, "processes did not thaw in time").await
    }

    /// The same, without waiting for it.
    pub fn begin_thaw(&self) -> Result<(), CgroupError> {
        self.unified.write("cgroup.freeze", "0")
    }

    /// Kills every process, and returns when none is left.
    pub async fn empty(&self) -> Result<(), CgroupError> {
        let events = Events::open(&self.unified)?;
        if events.is("populated")? {
            self.kill()?;
        }
        events.wait("populated", false, PATIENCE, "killed processes did not end in time").await
    }

    /// Gets it ready for another life: nobody is left in it, and who is cloned into it lives. Limits are to be set
    /// again.
    pub async fn renew(&mut self) -> Result<(), CgroupError> {
        self.empty().await?;
        if self.killed.swap(false, Ordering::Relaxed) {
            // Linux 6.10 and later compare how often the parent's cgroup was killed with how often this one was, and
            // kill at once whoever is cloned into one that was killed more often.
            retry_busy(|| self.unified_parent.remove_tree(&self.container_id))?;
            self.unified = self.unified_parent.make(&self.container_id)?;
            (self.limits, self.devices) = controllers(&self.layout, &self.legacy, &self.unified)?;
        }
        self.begin_thaw()
    }

    /// How many processes the kernel has killed for want of memory since the cgroup was made.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        self.limits.oom_kills()
    }

    /// The limit of memory in bytes; none without one, or where it cannot be read.
    pub fn memory_limit(&self) -> Option<u64> {
        self.counters().map(|counters| counters.memory_limit).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read the limit of memory");
            None
        })
    }

    /// Removes the cgroups in every hierarchy; the last process must have been killed. What is not there is fine.
    pub fn remove(&self) -> Result<(), CgroupError> {
        if self.unified_parent.has(&self.container_id)? {
            self.await_event("populated", false, "cgroup still has processes")?;
            retry_busy(|| self.unified_parent.remove_tree(&self.container_id))?;
        }
        for dir in &self.legacy {
            retry_busy(|| v1::remove_tree(dir))?;
        }
        Ok(())
    }

    /// Waits on the kernel's notification that the events file has changed.
    fn await_event(&self, key: &str, wanted: bool, late: &'static str) -> Result<(), CgroupError> {
        let deadline = Instant::now() + PATIENCE;
        let events = self.unified.open("cgroup.events")?;
        loop {
            if (counter(&dir::read_again(&events)?, key) == Some(1)) == wanted {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(CgroupError::Timeout(late));
            }
            davit_sys::fd::wait_priority(&events, left).doing(|| "watch cgroup.events".to_owned())?;
        }
    }
}

/// Where limits are set, and where devices are allowed.
fn controllers(
    layout: &Layout,
    legacy: &[PathBuf],
    unified: &Dir,
) -> Result<(Box<dyn Limits>, Devices), CgroupError> {
    let limits: Box<dyn Limits> = if layout.has_legacy("memory") || layout.has_legacy("pids") {
        Box::new(v1::Controllers::new(layout, legacy))
    } else {
        Box::new(v2::Controllers::new(unified.try_clone()?))
    };
    let on_devices = |l: &Legacy| l.controllers.iter().any(|c| c == "devices");
    let devices = match layout.legacy.iter().position(on_devices).and_then(|at| legacy.get(at)) {
        Some(dir) => Devices::Legacy(dir.clone()),
        None => Devices::Filter(v2::Gate::new(unified.try_clone()?)),
    };
    Ok((limits, devices))
}

/// The v2 cgroup of a process that was added to a container, and of what that started.
#[derive(Debug)]
pub struct Leaf(Dir);

impl Leaf {
    /// To be cloned into.
    pub fn unified(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Kills every process in it, frozen ones too.
    pub fn kill(&self) -> Result<(), CgroupError> {
        self.0.write("cgroup.kill", "1")
    }
}

/// Puts this single-threaded process into the v1 cgroups of its engine's shims; the v2 one is answered, for a clone.
pub fn enter_shims(parent: &str) -> Result<OwnedFd, CgroupError> {
    let parent = plan_parent(parent)?;
    let layout = Layout::of_this_host()?;
    for hierarchy in &layout.legacy {
        let tasks = v1::make(hierarchy, &parent, "shims")?.join("tasks");
        std::fs::write(&tasks, "0").doing(|| format!("join {}", tasks.display()))?;
    }
    let parent = v2::make_parent(&Dir::unified(&layout)?, &parent)?;
    Ok(parent.make("shims")?.into())
}

/// Kills every process of a v2 cgroup that is held open.
pub fn kill_all(unified: OwnedFd) -> Result<(), CgroupError> {
    Dir::from(unified).write("cgroup.kill", "1")
}

/// The components of a cgroup parent, which may come from a configuration file.
fn plan_parent(parent: &str) -> Result<Vec<String>, CgroupError> {
    let components: Vec<String> = parent.split('/').filter(|c| !c.is_empty()).map(str::to_owned).collect();
    let plain = |c: &String| c != "." && c != ".." && !c.contains('\0') && c.len() < 200;
    if components.is_empty() || components.len() > 16 || !components.iter().all(plain) {
        return Err(CgroupError::Parent(parent.to_owned()));
    }
    Ok(components)
}

/// The value of a key in a flat keyed file (`key value` a line).
fn counter(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// A cgroup whose last task is just leaving is busy for a moment more.
fn retry_busy(mut attempt: impl FnMut() -> Result<(), CgroupError>) -> Result<(), CgroupError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Err(CgroupError::Io { source, .. })
                if source.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(2));
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests;
