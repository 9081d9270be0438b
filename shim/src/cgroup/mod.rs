//! The cgroups of a container: born in, limited by, frozen and killed through, gone with it.
//!
//! ```text
//!   <v2>/<parent>/shims          the shims of one engine
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
mod layout;
mod v1;
mod v2;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxResources;

pub use device::DevicePolicy;
use dir::Dir;
pub use layout::{Layout, Legacy};

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
    /// It was asked for something and did not happen in time.
    #[error("{0}")]
    Timeout(&'static str),
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
    /// Sets what is asked for, and says in words what this host cannot limit.
    fn set(&self, resources: &LinuxResources, devices: &DevicePolicy) -> Result<Vec<String>, CgroupError>;
    /// How many processes the kernel killed here for want of memory.
    fn oom_kills(&self) -> Result<u64, CgroupError>;
    /// How many bytes of memory there may be; none without a limit.
    fn memory_limit(&self) -> Result<Option<u64>, CgroupError>;
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
}

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
        let limits: Box<dyn Limits> = if layout.has_legacy("memory") || layout.has_legacy("pids") {
            Box::new(v1::Controllers::new(&layout, &legacy))
        } else {
            Box::new(v2::Controllers::new(unified.try_clone()?))
        };
        Ok(Self { unified, unified_parent, container_id: container_id.to_owned(), legacy, layout, limits })
    }

    /// The v2 cgroup, to be cloned into.
    pub fn unified(&self) -> BorrowedFd<'_> {
        self.unified.as_fd()
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
        self.limits.set(resources, devices)
    }

    /// Kills every process, frozen ones too.
    pub fn kill(&self) -> Result<(), CgroupError> {
        self.unified.write("cgroup.kill", "1")
    }

    /// Stops every process where it is, and returns when all have stopped.
    #[cfg_attr(not(test), expect(dead_code, reason = "pause and resume build on it"))]
    pub fn freeze(&self) -> Result<(), CgroupError> {
        self.unified.write("cgroup.freeze", "1")?;
        self.await_event("frozen", true, "processes did not freeze in time")
    }

    /// Lets the processes go on.
    #[cfg_attr(not(test), expect(dead_code, reason = "pause and resume build on it"))]
    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.unified.write("cgroup.freeze", "0")?;
        self.await_event("frozen", false, "processes did not thaw in time")
    }

    /// Whether any process is left.
    #[cfg_attr(not(test), expect(dead_code, reason = "pause and resume build on it"))]
    pub fn is_populated(&self) -> Result<bool, CgroupError> {
        self.event("populated")
    }

    /// How many processes the kernel has killed for want of memory since the cgroup was made.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        self.limits.oom_kills()
    }

    /// The limit of memory in bytes; none without one, or where it cannot be read.
    pub fn memory_limit(&self) -> Option<u64> {
        self.limits.memory_limit().unwrap_or_else(|error| {
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

    fn event(&self, key: &str) -> Result<bool, CgroupError> {
        Ok(counter(&self.unified.read("cgroup.events")?, key) == Some(1))
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
