//! The shape of a container, off the wire.

use std::path::PathBuf;

use davit_proto::task;

use crate::init::{IdMap, Namespace, Shape};
use crate::task::TaskError;

/// The shape that a request asks for; without one, the standard shape.
pub fn decode(shape: Option<task::Shape>) -> Result<Shape, TaskError> {
    let Some(shape) = shape else { return Ok(Shape::standard()) };
    let standard = Shape::standard();
    Ok(Shape {
        user: namespace("shape.user", shape.user, standard.user)?,
        ids: shape.ids.map(|ids| IdMap { uid: ids.host_uid, gid: ids.host_gid, count: ids.count }),
        pid: namespace("shape.pid", shape.pid, standard.pid)?,
        net: namespace("shape.net", shape.net, standard.net)?,
        ipc: namespace("shape.ipc", shape.ipc, standard.ipc)?,
        uts: namespace("shape.uts", shape.uts, standard.uts)?,
        cgroup: namespace("shape.cgroup", shape.cgroup, standard.cgroup)?,
        privileged: shape.privileged,
        unmask: shape.unmask,
        cgroup_parent: Some(shape.cgroup_parent).filter(|parent| !parent.is_empty()),
        shm: joined_only("shape.shm", shape.shm)?,
    })
}

/// A namespace that is joined or none at all.
fn joined_only(name: &'static str, said: Option<task::Namespace>) -> Result<Option<Namespace>, TaskError> {
    match namespace(name, said, Namespace::Host)? {
        joined @ Namespace::Joined { .. } => Ok(Some(joined)),
        Namespace::Host | Namespace::Own => Ok(None),
    }
}

fn namespace(
    name: &'static str,
    said: Option<task::Namespace>,
    standard: Namespace,
) -> Result<Namespace, TaskError> {
    let Some(said) = said else { return Ok(standard) };
    match said.mode() {
        task::NamespaceMode::Unspecified => Ok(standard),
        task::NamespaceMode::Own => Ok(Namespace::Own),
        task::NamespaceMode::Host => Ok(Namespace::Host),
        task::NamespaceMode::Joined => {
            let path = PathBuf::from(&said.path);
            if !path.is_absolute() || said.inode == 0 {
                let rule = "a joined namespace needs an absolute path and its inode";
                return Err(TaskError::Invalid { name, value: said.path, rule });
            }
            Ok(Namespace::Joined { path, inode: said.inode })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_standard() {
        assert_eq!(decode(None).unwrap(), Shape::standard());
        assert_eq!(decode(Some(task::Shape::default())).unwrap(), Shape::standard());
        let unspecified = task::Shape { user: Some(task::Namespace::default()), ..task::Shape::default() };
        assert_eq!(decode(Some(unspecified)).unwrap(), Shape::standard());
    }

    #[test]
    fn a_joined_namespace_is_named_and_numbered() {
        let joined = |path: &str, inode| {
            let mode = task::NamespaceMode::Joined.into();
            let net = Some(task::Namespace { mode, path: path.into(), inode });
            decode(Some(task::Shape { net, ..task::Shape::default() }))
        };
        let path = PathBuf::from("/proc/7/fd/9");
        assert_eq!(joined("/proc/7/fd/9", 3).unwrap().net, Namespace::Joined { path, inode: 3 });
        assert!(joined("proc/7/fd/9", 3).is_err());
        assert!(joined("/proc/7/fd/9", 0).is_err());
    }
}
