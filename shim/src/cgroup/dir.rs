//! One cgroup directory of the v2 hierarchy, held open.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use davit_sys::file::{self, OFlags};
use davit_sys::mount::{Attributes, FileSystem};

use super::{CgroupError, Doing, Layout};

/// An open cgroup directory.
#[derive(Debug)]
pub(super) struct Dir(OwnedFd);

impl Dir {
    /// The root of the v2 hierarchy: where the host mounts it, or a mount of our own that nobody else sees.
    pub(super) fn unified(layout: &Layout) -> Result<Self, CgroupError> {
        match &layout.unified {
            Some(path) => file::open_dir(path).doing(|| format!("open {}", path.display())).map(Self),
            None => {
                let mounted = FileSystem::open("cgroup2").and_then(|fs| fs.mount(Attributes::NONE));
                mounted.doing(|| "mount the unified cgroup hierarchy".to_owned()).map(Self)
            }
        }
    }

    /// A child, made if it is not there.
    pub(super) fn make(&self, name: &str) -> Result<Self, CgroupError> {
        match file::make_dir_at(&self.0, name.as_ref(), 0o755) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(e).doing(|| format!("make cgroup {name}"));
            }
            _ => {}
        }
        file::open_dir_at(&self.0, name.as_ref()).doing(|| format!("open cgroup {name}")).map(Self)
    }

    /// Whether there is a child of this name.
    pub(super) fn has(&self, name: &str) -> Result<bool, CgroupError> {
        match file::stat_at(&self.0, name.as_ref()) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e).doing(|| format!("look at cgroup {name}")),
        }
    }

    /// Removes a child and the cgroups below it, which a privileged container may have made.
    pub(super) fn remove_tree(&self, name: &str) -> Result<(), CgroupError> {
        let doing = || format!("remove cgroup {name}");
        match file::remove_dir_at(&self.0, name.as_ref()) {
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => return other.doing(doing),
        }
        let child = Self(file::open_dir_at(&self.0, name.as_ref()).doing(doing)?);
        for below in file::list_dirs(&child.0).doing(doing)? {
            child.remove_tree(&below.to_string_lossy())?;
        }
        file::remove_dir_at(&self.0, name.as_ref()).doing(doing)
    }

    /// Adds the processes here and below, as deep as said.
    pub(super) fn list_processes(&self, pids: &mut Vec<i32>, depth: usize) -> Result<(), CgroupError> {
        let mut text = String::new();
        // Longer than other files here: a line a process.
        let read = self.open("cgroup.procs")?.take(1 << 20).read_to_string(&mut text);
        match read {
            Ok(_) => {}
            // A threaded cgroup lists its processes in the one above, which is the container's.
            Err(e) if e.kind() == io::ErrorKind::Unsupported => {}
            Err(e) => return Err(e).doing(|| "list processes".to_owned()),
        }
        pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
        if depth == 0 {
            return Ok(());
        }
        for below in file::list_dirs(&self.0).doing(|| "list cgroups".to_owned())? {
            match file::open_dir_at(&self.0, &below) {
                Ok(dir) => Self(dir).list_processes(pids, depth - 1)?,
                // The one of an exec that has just ended.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e).doing(|| format!("open cgroup {}", below.display())),
            }
        }
        Ok(())
    }

    /// Opens a file for reading.
    pub(super) fn open(&self, name: &str) -> Result<File, CgroupError> {
        let opened = file::open_at(&self.0, OsStr::new(name), OFlags::RDONLY, 0);
        opened.doing(|| format!("open {name}")).map(File::from)
    }

    /// Reads a file.
    pub(super) fn read(&self, name: &str) -> Result<String, CgroupError> {
        read_again(&self.open(name)?)
    }

    /// Writes a file.
    pub(super) fn write(&self, name: &str, value: &str) -> Result<(), CgroupError> {
        let opened = file::open_at(&self.0, OsStr::new(name), OFlags::WRONLY, 0);
        let written = opened.and_then(|fd| File::from(fd).write_all(value.as_bytes()));
        written.doing(|| format!("write {value:?} to {name}"))
    }

    /// A second handle.
    pub(super) fn try_clone(&self) -> Result<Self, CgroupError> {
        self.0.try_clone().doing(|| "keep a cgroup open".to_owned()).map(Self)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Dir {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Dir> for OwnedFd {
    fn from(dir: Dir) -> Self {
        dir.0
    }
}

/// Reads an open file from its start; the kernel's files here are small.
pub(super) fn read_again(mut file: &File) -> Result<String, CgroupError> {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(64 * 1024).read_to_string(&mut text));
    read.doing(|| "read a cgroup file".to_owned())?;
    Ok(text)
}
