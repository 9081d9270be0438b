//! One file system on its way: opened, configured, created, mounted and still detached.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::Attributes;

/// A file system that is being configured.
#[derive(Debug)]
pub struct FileSystem {
    fd: OwnedFd,
}

impl FileSystem {
    /// Starts a file system of a kernel type (`overlay`, `tmpfs`, `proc`…), which is also what mount tables call its
    /// source.
    pub fn open(kind: &str) -> io::Result<Self> {
        Self::open_from(kind, kind)
    }

    /// Starts a file system of a kernel type from a source: a device, a server's directory. `ENODEV` means that this
    /// kernel has no such type.
    pub fn open_from(kind: &str, source: &str) -> io::Result<Self> {
        let context = Self { fd: rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)? };
        context.set("source", source)?;
        Ok(context)
    }

    /// Takes up the file system that is mounted where `path` says, to change its options.
    pub fn pick(dir: impl AsFd, path: &Path) -> io::Result<Self> {
        let flags = rustix::mount::FsPickFlags::FSPICK_CLOEXEC
            | rustix::mount::FsPickFlags::FSPICK_NO_AUTOMOUNT
            | rustix::mount::FsPickFlags::FSPICK_EMPTY_PATH;
        Ok(Self { fd: rustix::mount::fspick(dir, path, flags)? })
    }

    /// Sets an option without a value.
    pub fn flag(&self, key: &str) -> io::Result<()> {
        self.explain(rustix::mount::fsconfig_set_flag(&self.fd, key))
    }

    /// Sets an option with a value.
    pub fn set(&self, key: &str, value: &str) -> io::Result<()> {
        self.explain(rustix::mount::fsconfig_set_string(&self.fd, key, value))
    }

    /// Sets an option to an open directory.
    pub fn set_fd(&self, key: &str, value: impl AsFd) -> io::Result<()> {
        self.explain(rustix::mount::fsconfig_set_fd(&self.fd, key, value))
    }

    /// Makes the file system and a detached mount of it.
    pub fn mount(self, attributes: Attributes) -> io::Result<OwnedFd> {
        self.explain(rustix::mount::fsconfig_create(&self.fd))?;
        let attributes = MountAttrFlags::from_bits_retain(attributes.bits());
        let mounted = rustix::mount::fsmount(&self.fd, FsMountFlags::FSMOUNT_CLOEXEC, attributes);
        self.explain(mounted)
    }

    /// Applies the options to a file system that is mounted already.
    pub fn reconfigure(self) -> io::Result<()> {
        self.explain(rustix::mount::fsconfig_reconfigure(&self.fd))
    }

    /// Adds what the kernel wrote into the context's log, which says far more than an errno.
    fn explain<T>(&self, result: rustix::io::Result<T>) -> io::Result<T> {
        result.map_err(|errno| {
            let error = io::Error::from(errno);
            let log = self.log();
            if log.is_empty() { error } else { io::Error::new(error.kind(), log) }
        })
    }

    fn log(&self) -> String {
        let mut lines = Vec::new();
        let mut buffer = [0u8; 512];
        // One message a read; the kernel keeps eight.
        for _ in 0..8 {
            match rustix::io::read(&self.fd, &mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(n) => {
                    let line = String::from_utf8_lossy(buffer.get(..n).unwrap_or_default());
                    // "e overlay: …": the letter is the severity.
                    let line = line.trim_end();
                    lines.push(line.get(2..).unwrap_or(line).to_owned());
                }
            }
        }
        lines.join("; ")
    }

    /// The context's descriptor number, for messages.
    pub fn number(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

/// Changes one option of the file system mounted at an open directory.
pub fn reconfigure(mount: impl AsFd, options: &[(&str, &str)]) -> io::Result<()> {
    let context = FileSystem::pick(mount, Path::new(""))?;
    for (key, value) in options {
        context.set(key, value)?;
    }
    context.reconfigure()
}
