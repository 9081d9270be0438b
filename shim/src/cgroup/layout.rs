//! What cgroup hierarchies the host mounts, and where.

use std::path::PathBuf;

use davit_sys::mount::{MountEntry, mount_table};
use serde::{Deserialize, Serialize};

use super::{CgroupError, Doing};

/// One v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Legacy {
    /// Where it is mounted.
    pub at: PathBuf,
    /// Its controllers, or one `name=…`.
    pub controllers: Vec<String>,
}

/// The host's hierarchies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Where v2 is mounted, if it is.
    pub unified: Option<PathBuf>,
    /// The v1 hierarchies.
    pub legacy: Vec<Legacy>,
}

/// Options of a v1 hierarchy that name no controller.
const NO_CONTROLLER: [&str; 8] =
    ["rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "favordynmods", "none"];

impl Layout {
    /// Reads the mount table of this process.
    pub fn of_this_host() -> Result<Self, CgroupError> {
        Ok(plan_layout(&mount_table().doing(|| "read the mount table".to_owned())?))
    }

    /// Whether a controller is on a v1 hierarchy.
    pub fn has_legacy(&self, controller: &str) -> bool {
        self.legacy.iter().any(|l| l.controllers.iter().any(|c| c == controller))
    }
}

/// Picks the hierarchies out of a mount table; a hierarchy that is mounted twice counts once.
fn plan_layout(table: &[MountEntry]) -> Layout {
    let mut layout = Layout { unified: None, legacy: Vec::new() };
    for entry in table {
        match entry.kind.as_str() {
            "cgroup2" if layout.unified.is_none() => layout.unified = Some(entry.target.clone()),
            "cgroup" => {
                let named =
                    |o: &&String| !NO_CONTROLLER.contains(&o.as_str()) && !o.starts_with("release_agent=");
                let controllers: Vec<String> = entry.options.iter().filter(named).cloned().collect();
                let seen = layout.legacy.iter().any(|l| l.controllers == controllers);
                if !seen && !controllers.is_empty() {
                    layout.legacy.push(Legacy { at: entry.target.clone(), controllers });
                }
            }
            _ => {}
        }
    }
    layout
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, target: &str, options: &[&str]) -> MountEntry {
        MountEntry {
            id: 2,
            parent: 1,
            root: "/".into(),
            target: target.into(),
            kind: kind.to_owned(),
            options: options.iter().map(|o| (*o).to_owned()).collect(),
        }
    }

    #[test]
    fn hybrid_joint_and_named_hierarchies() {
        let layout = plan_layout(&[
            entry("tmpfs", "/sys/fs/cgroup", &["rw"]),
            entry("cgroup", "/sys/fs/cgroup/cpu,cpuacct", &["rw", "cpu", "cpuacct"]),
            entry("cgroup", "/elsewhere", &["rw", "cpu", "cpuacct"]),
            entry("cgroup", "/sys/fs/cgroup/systemd", &["rw", "xattr", "release_agent=/x", "name=systemd"]),
            entry("cgroup2", "/sys/fs/cgroup/unified", &["rw", "nsdelegate"]),
        ]);
        assert_eq!(layout.unified, Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(layout.legacy.len(), 2);
        assert_eq!(layout.legacy[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(layout.legacy[1].controllers, ["name=systemd"]);
        assert!(layout.has_legacy("cpuacct") && !layout.has_legacy("memory"));
    }
}
