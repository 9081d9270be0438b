//! A part of a tree that is attached nowhere.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::overlay::on_a_thread;
use super::{Attributes, Propagation, TreeDepth, attach, open_tree, set_attributes};
use crate::file::{self, Root};
use crate::namespace;

/// A detached copy of what is at a path of a detached tree; a link of it does not lead out of it.
pub fn open_subtree(tree: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let found = Root::from_fd(tree.try_clone()?).open_path(path)?;
    match open_tree(&found, Path::new(""), TreeDepth::Single) {
        // Before 6.15 only what a mount namespace has can be copied.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => while_attached(tree, &found),
        other => other,
    }
}

/// The copy from a mount namespace of a thread that is thrown away.
fn while_attached(tree: &OwnedFd, found: &OwnedFd) -> io::Result<OwnedFd> {
    on_a_thread(|| {
        namespace::leave(namespace::Kind::Mount)?;
        let root = file::open_dir(Path::new("/"))?;
        set_attributes(&root, TreeDepth::Recursive, Attributes::NONE, Some(Propagation::Private))?;
        // Any directory will do: nobody else sees this namespace, and it ends with the thread.
        attach(tree, file::open_dir(Path::new("/sys"))?)?;
        open_tree(found.as_fd(), Path::new(""), TreeDepth::Single)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::FileSystem;

    #[test]
    fn privileged_both_ways_show_the_part() {
        for attached in [false, true] {
            let tree = FileSystem::open("tmpfs").unwrap().mount(Attributes::NONE).unwrap();
            let root = Root::from_fd(tree.try_clone().unwrap());
            root.make_dirs(Path::new("a/b"), 0o755).unwrap();
            root.make_file(Path::new("a/b/file"), 0o644).unwrap();
            file::symlink_at("/a".as_ref(), &tree, "link".as_ref()).unwrap();
            file::symlink_at("/etc".as_ref(), &tree, "out".as_ref()).unwrap();
            let open = |path: &str| match attached {
                false => open_subtree(&tree, Path::new(path)),
                true => while_attached(&tree, &root.open_path(Path::new(path)).unwrap()),
            };
            let part = Root::from_fd(open("link/b").unwrap());
            part.open_path(Path::new("file")).unwrap();
            if !attached {
                assert_eq!(open("out").unwrap_err().kind(), io::ErrorKind::NotFound);
            }
        }
    }
}
