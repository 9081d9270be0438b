//! Overlays from open directories, on every kernel since 5.15.
//!
//! Newest first: layers by descriptor (6.13), layers one by one as strings (6.5), and the old call in a mount
//! namespace of a thread that is thrown away, from where a detached copy is taken.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::{Attributes, FileSystem, Propagation, TreeDepth, attach, open_tree, set_attributes};
use crate::{namespace, privilege};

/// An overlay to be mounted.
#[derive(Debug)]
pub struct Overlay<'a> {
    /// Read-only layers, the topmost first; all in the caller's mount namespace.
    pub lower: &'a [OwnedFd],
    /// The writable layer and its work directory.
    pub upper: Option<(OwnedFd, OwnedFd)>,
    /// Detached trees that the layers lie in, where they are not mounted in the caller's mount namespace.
    pub trees: &'a [OwnedFd],
    /// User and group that own what the overlay makes for itself, where the layers' mounts have no number for this
    /// process's own: it would be read-only otherwise.
    pub owner: Option<(u32, u32)>,
    /// Options with a value.
    pub options: &'a [(&'a str, &'a str)],
    /// Nothing is synced for this overlay's sake, and its upper layer is lost when the host crashes.
    pub volatile: bool,
}

impl Overlay<'_> {
    /// A detached mount of the overlay. One that has a writable layer is writable.
    pub fn mount(&self) -> io::Result<OwnedFd> {
        let tree = match self.owner {
            None => self.by_best_way(),
            // On a thread that is thrown away, so that nothing else of the process is done as somebody else.
            Some((uid, gid)) => {
                on_a_thread(|| privilege::with_file_identity(uid, gid, || self.by_best_way()))
            }
        }?;
        match &self.upper {
            Some((_, work)) if crate::file::is_read_only(&tree)? => Err(why_read_only(work)),
            _ => Ok(tree),
        }
    }

    fn by_best_way(&self) -> io::Result<OwnedFd> {
        let refusal = match self.by_descriptor() {
            Err(e) if is_too_new(&e) => e,
            other => return other,
        };
        let older = match self.by_string() {
            Err(e) if is_too_new(&e) && !self.trees.is_empty() => self.with_trees_attached(),
            Err(e) if is_too_new(&e) => self.in_a_namespace(),
            other => other,
        };
        // Where nothing works the newest way has the kernel's own words.
        older.map_err(|_| refusal)
    }

    fn configure(&self) -> io::Result<FileSystem> {
        let overlay = FileSystem::open("overlay")?;
        for (key, value) in self.options {
            overlay.set(key, value)?;
        }
        if self.volatile {
            overlay.flag("volatile")?;
        }
        Ok(overlay)
    }

    fn by_descriptor(&self) -> io::Result<OwnedFd> {
        let overlay = self.configure()?;
        for layer in self.lower {
            overlay.set_fd("lowerdir+", layer)?;
        }
        if let Some((upper, work)) = &self.upper {
            overlay.set_fd("upperdir", upper)?;
            overlay.set_fd("workdir", work)?;
        }
        overlay.mount(Attributes::NONE)
    }

    fn by_string(&self) -> io::Result<OwnedFd> {
        let overlay = self.configure()?;
        for layer in self.lower {
            overlay.set("lowerdir+", &name(layer))?;
        }
        if let Some((upper, work)) = &self.upper {
            overlay.set("upperdir", &name(upper))?;
            overlay.set("workdir", &name(work))?;
        }
        overlay.mount(Attributes::NONE)
    }

    /// The old call's options: one page of text.
    fn page(&self, lower: &[OwnedFd], upper: Option<&(OwnedFd, OwnedFd)>) -> io::Result<CString> {
        let lower: Vec<String> = lower.iter().map(name).collect();
        let mut options = format!("lowerdir={}", lower.join(":"));
        if let Some((upper, work)) = upper {
            options.push_str(&format!(",upperdir={},workdir={}", name(upper), name(work)));
        }
        for (key, value) in self.options {
            options.push_str(&format!(",{key}={value}"));
        }
        if self.volatile {
            options.push_str(",volatile");
        }
        if options.len() >= 4096 {
            let why = format!("{} layers are more than this kernel can stack", self.lower.len());
            return Err(io::Error::new(io::ErrorKind::ArgumentListTooLong, why));
        }
        Ok(CString::new(options)?)
    }

    fn in_a_namespace(&self) -> io::Result<OwnedFd> {
        let mount = || -> io::Result<OwnedFd> {
            namespace::leave(namespace::Kind::Mount)?;
            let root = crate::file::open_dir(Path::new("/"))?;
            set_attributes(&root, TreeDepth::Recursive, Attributes::NONE, Some(Propagation::Private))?;
            // The layers' descriptors belong to the namespace that was left; opened anew they belong to this one.
            let again = |fd: &OwnedFd| crate::file::open_dir(&std::fs::read_link(name(fd))?);
            let lower = self.lower.iter().map(again).collect::<io::Result<Vec<_>>>()?;
            let both = |(upper, work): &(OwnedFd, OwnedFd)| io::Result::Ok((again(upper)?, again(work)?));
            let upper = self.upper.as_ref().map(both).transpose()?;
            let page = self.page(&lower, upper.as_ref())?;
            // Any directory will do: nobody else sees this namespace, and it ends with the thread.
            rustix::mount::mount(c"overlay", c"/sys", c"overlay", MountFlags::empty(), page.as_c_str())?;
            open_tree(rustix::fs::CWD, Path::new("/sys"), TreeDepth::Single)
        };
        on_a_thread(mount)
    }

    /// Kernels before 6.15 take layers from the caller's mount namespace only: so from one that is thrown away.
    fn with_trees_attached(&self) -> io::Result<OwnedFd> {
        let mount = || -> io::Result<OwnedFd> {
            namespace::leave(namespace::Kind::Mount)?;
            let root = crate::file::open_dir(Path::new("/"))?;
            set_attributes(&root, TreeDepth::Recursive, Attributes::NONE, Some(Propagation::Private))?;
            let folder = FileSystem::open("tmpfs")?.mount(Attributes::NONE)?;
            attach(&folder, crate::file::open_dir(Path::new("/sys"))?)?;
            for (n, tree) in self.trees.iter().enumerate() {
                let name = n.to_string();
                crate::file::make_dir_at(&folder, name.as_ref(), 0o700)?;
                attach(tree, crate::file::open_dir_at(&folder, name.as_ref())?)?;
            }
            // What was opened below the trees is now mounted here.
            let refusal = match self.by_descriptor() {
                Err(e) if is_too_new(&e) => e,
                other => return other,
            };
            match self.by_string() {
                Err(e) if is_too_new(&e) => {}
                other => return other,
            }
            let page = self.page(self.lower, self.upper.as_ref())?;
            rustix::mount::mount(c"overlay", c"/sys", c"overlay", MountFlags::empty(), page.as_c_str())
                .map_err(|_| refusal)?;
            open_tree(rustix::fs::CWD, Path::new("/sys"), TreeDepth::Single)
        };
        on_a_thread(mount)
    }
}

/// An overlay whose work directory cannot be filled, as on a full disk, is mounted read-only without a word. Why it
/// cannot, trying the same tells.
fn why_read_only(work: &OwnedFd) -> io::Error {
    let name = std::ffi::OsStr::new(".probe");
    match crate::file::make_dir_at(work, name, 0o700).and_then(|()| crate::file::remove_dir_at(work, name)) {
        Err(error) => error,
        Ok(()) => io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "the kernel mounted it read-only"),
    }
}

pub(super) fn on_a_thread<T: Send>(f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| scope.spawn(f).join())
        .map_err(|_| io::Error::other("thread that mounts ended early"))?
}

/// What a kernel says that does not know how layers are given to it.
fn is_too_new(error: &io::Error) -> bool {
    // Before 6.5 a file system of the old kind takes no descriptors at all.
    let old = [Errno::INVAL, Errno::OPNOTSUPP];
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
        || Errno::from_io_error(error).is_some_and(|errno| old.contains(&errno))
}

/// A short name of an open directory; the kernel resolves it at once.
fn name(fd: &OwnedFd) -> String {
    let fd: BorrowedFd<'_> = std::os::fd::AsFd::as_fd(fd);
    format!("/proc/thread-self/fd/{}", fd.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file;

    type Way = fn(&Overlay<'_>) -> io::Result<OwnedFd>;

    #[test]
    fn privileged_all_ways_give_the_same() {
        let ways: [(&str, Way); 4] = [
            ("best", |o| o.mount()),
            ("descriptor", |o| o.by_descriptor()),
            ("string", |o| o.by_string()),
            ("old", |o| o.in_a_namespace()),
        ];
        for (what, way) in ways {
            let dir = tempfile::tempdir_in("/var/tmp").unwrap();
            for name in ["a", "b", "upper", "work"] {
                std::fs::create_dir(dir.path().join(name)).unwrap();
            }
            std::fs::write(dir.path().join("a/who"), "a").unwrap();
            std::fs::write(dir.path().join("b/who"), "b").unwrap();
            std::fs::write(dir.path().join("b/only"), "b").unwrap();
            let open = |name: &str| file::open_dir(&dir.path().join(name)).unwrap();
            let lower = [open("a"), open("b")];
            let options = [("redirect_dir", "off"), ("metacopy", "off"), ("index", "off")];
            let upper = Some((open("upper"), open("work")));
            let overlay =
                Overlay { lower: &lower, upper, trees: &[], owner: None, options: &options, volatile: true };
            let tree = file::Root::from_fd(way(&overlay).unwrap_or_else(|e| panic!("{what}: {e}")));
            assert_eq!(tree.read(Path::new("who"), 9).unwrap(), b"a", "{what}");
            assert_eq!(tree.read(Path::new("only"), 9).unwrap(), b"b", "{what}");
            let new = tree.resolve(Path::new("new"), file::OFlags::CREATE | file::OFlags::WRONLY, 0o644);
            new.unwrap();
            assert!(dir.path().join("upper/new").exists(), "{what}");
        }
    }

    /// A user namespace that maps 0 to `uid`, held by a process that is killed in the end.
    fn user_namespace(uid: u32) -> (std::process::Child, OwnedFd) {
        let child = std::process::Command::new("unshare").args(["--user", "sleep", "100"]).spawn().unwrap();
        let link = format!("/proc/{}/ns/user", child.id());
        let own = std::fs::read_link("/proc/self/ns/user").unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while std::fs::read_link(&link).unwrap() == own {
            assert!(std::time::Instant::now() < deadline, "unshare(1) made no user namespace");
            std::thread::yield_now();
        }
        namespace::map_ids(child.id(), uid, uid, 1000).unwrap();
        (child, namespace::open(Path::new(&link)).unwrap())
    }

    #[test]
    fn privileged_mapped_layers_keep_their_numbers_on_disk() {
        use std::os::unix::fs::MetadataExt as _;
        const UID: u32 = 500_000;
        let (mut holder, user) = user_namespace(UID);
        let ways: [(&str, Way); 2] =
            [("best", |o| o.by_best_way()), ("attached", |o| o.with_trees_attached())];
        for (what, way) in ways {
            let dir = tempfile::tempdir_in("/var/tmp").unwrap();
            for name in ["a", "own", "own/upper", "own/work"] {
                std::fs::create_dir(dir.path().join(name)).unwrap();
            }
            std::fs::write(dir.path().join("a/theirs"), "a").unwrap();
            std::os::unix::fs::chown(dir.path().join("a/theirs"), Some(7), Some(8)).unwrap();
            let mapped = |name: &str| {
                let folder = file::open_dir(&dir.path().join(name)).unwrap();
                let tree = open_tree(folder, Path::new(""), TreeDepth::Single).unwrap();
                super::super::set_id_map(&tree, TreeDepth::Single, &user).unwrap();
                tree
            };
            let (lower, own) = ([mapped("a")], mapped("own"));
            let below = |name: &str| file::open_dir_at(&own, name.as_ref()).unwrap();
            let upper = Some((below("upper"), below("work")));
            let trees = [lower[0].try_clone().unwrap(), own.try_clone().unwrap()];
            let overlay =
                Overlay { lower: &lower, upper, trees: &trees, owner: None, options: &[], volatile: false };
            let mounted = on_a_thread(|| privilege::with_file_identity(UID, UID, || way(&overlay)));
            let tree = file::Root::from_fd(mounted.unwrap_or_else(|e| panic!("{what}: {e}")));
            let seen = file::stat(tree.open_path(Path::new("theirs")).unwrap()).unwrap();
            assert_eq!((seen.st_uid, seen.st_gid), (UID + 7, UID + 8), "{what}");
            let change = tree.resolve(Path::new("theirs"), file::OFlags::WRONLY, 0).unwrap();
            file::chown(&change, UID + 3, UID + 4).unwrap();
            let on_disk = std::fs::metadata(dir.path().join("own/upper/theirs")).unwrap();
            assert_eq!((on_disk.uid(), on_disk.gid()), (3, 4), "{what}");
        }
        holder.kill().unwrap();
        holder.wait().unwrap();
    }
}
