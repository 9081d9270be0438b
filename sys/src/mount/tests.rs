//! Tests of mounts, each in a mount namespace of a thread that is thrown away.

use super::*;
use crate::file::{self, Root};
use crate::namespace::{self, Kind};

fn in_a_namespace<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(|| {
        namespace::leave(Kind::Mount).unwrap();
        let root = open_root();
        set_attributes(&root, TreeDepth::Recursive, Attributes::NONE, Some(Propagation::Private)).unwrap();
        f()
    });
    thread.join().unwrap()
}

fn open_root() -> Root {
    Root::open(Path::new("/")).unwrap()
}

#[test]
fn privileged_overlay_with_many_layers_by_descriptor() {
    in_a_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let base = FileSystem::open("tmpfs").unwrap().mount(Attributes::NONE).unwrap();
        attach(&base, file::open_dir(dir.path()).unwrap()).unwrap();
        for name in ["a", "b", "upper", "work", "at"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("a/who"), "a").unwrap();
        std::fs::write(dir.path().join("b/who"), "b").unwrap();
        std::fs::write(dir.path().join("b/only"), "b").unwrap();
        let overlay = FileSystem::open("overlay").unwrap();
        for lower in ["a", "b"] {
            overlay.set_fd("lowerdir+", file::open_dir(&dir.path().join(lower)).unwrap()).unwrap();
        }
        overlay.set_fd("upperdir", file::open_dir(&dir.path().join("upper")).unwrap()).unwrap();
        overlay.set_fd("workdir", file::open_dir(&dir.path().join("work")).unwrap()).unwrap();
        let tree = overlay.mount(Attributes::NO_DEV).unwrap();
        attach(&tree, file::open_dir(&dir.path().join("at")).unwrap()).unwrap();
        assert_eq!(std::fs::read(dir.path().join("at/who")).unwrap(), b"a");
        assert_eq!(std::fs::read(dir.path().join("at/only")).unwrap(), b"b");
        std::fs::write(dir.path().join("at/new"), "x").unwrap();
        assert!(dir.path().join("upper/new").exists());
    });
}

#[test]
fn privileged_errors_carry_the_kernels_words() {
    in_a_namespace(|| {
        let overlay = FileSystem::open("overlay").unwrap();
        let error = overlay.set("no-such-option", "1").unwrap_err().to_string();
        assert!(error.contains("no-such-option"), "{error}");
    });
}

#[test]
fn privileged_a_bound_tree_is_read_only_below_too() {
    in_a_namespace(|| {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(from.path().join("sub")).unwrap();
        let below = FileSystem::open("tmpfs").unwrap().mount(Attributes::NONE).unwrap();
        attach(&below, file::open_dir(&from.path().join("sub")).unwrap()).unwrap();
        let tree = open_tree(rustix::fs::CWD, from.path(), TreeDepth::Recursive).unwrap();
        let private = Some(Propagation::Private);
        set_attributes(&tree, TreeDepth::Recursive, Attributes::READ_ONLY, private).unwrap();
        attach(&tree, file::open_dir(to.path()).unwrap()).unwrap();
        assert!(std::fs::write(to.path().join("x"), "").is_err());
        assert!(std::fs::write(to.path().join("sub/x"), "").is_err());
        std::fs::write(from.path().join("sub/x"), "").unwrap();
    });
}

#[test]
fn privileged_change_of_root_leaves_nothing_behind() {
    in_a_namespace(|| {
        // The thread shares its root with the others until it has one of its own.
        rustix_unshare_fs();
        let base = FileSystem::open("tmpfs").unwrap().mount(Attributes::NONE).unwrap();
        attach(&base, file::open_dir(Path::new("/sys")).unwrap()).unwrap();
        change_root(&base).unwrap();
        assert_eq!(std::fs::read_dir("/").unwrap().count(), 0);
        reconfigure(&base, &[("size", "64k")]).unwrap();
    });
}

fn rustix_unshare_fs() {
    // SAFETY: the thread shares only its root and working directory with others, and no code relies on that.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FS).unwrap() }
}
