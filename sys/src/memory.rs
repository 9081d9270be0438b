//! A program in a memory file that nobody can change: what containers see of the engine's binary.

#![expect(unsafe_code, reason = "MFD_EXEC is unknown to the wrappers")]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, SealFlags};

use crate::{mount, process};

const MFD_EXEC: libc::c_uint = 0x10;

/// An executable that no process, however it came to see it, can write to.
#[derive(Debug)]
pub struct SealedExecutable {
    fd: OwnedFd,
}

impl SealedExecutable {
    /// Copies the file at `path` into a sealed memory file.
    ///
    /// Where the host forbids to execute memory files (`vm.memfd_noexec=2`) it is the file itself, seen through a
    /// read-only mount that belongs to no mount namespace.
    pub fn new(path: &Path) -> io::Result<Self> {
        let name = path.file_name().unwrap_or(path.as_os_str());
        let name = CString::new(name.as_encoded_bytes())?;
        match memory_file(&name) {
            Ok(fd) => Self::seal(path, fd),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Self::read_only(path),
            Err(e) => Err(e),
        }
    }

    fn seal(path: &Path, fd: OwnedFd) -> io::Result<Self> {
        let mut copy = File::from(fd);
        io::copy(&mut File::open(path)?, &mut copy)?;
        // For everybody: in a user namespace it is executed by somebody else than root.
        rustix::fs::fchmod(&copy, Mode::from_raw_mode(0o555))?;
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        rustix::fs::fcntl_add_seals(&copy, seals)?;
        // The writable description must not live on: executing a file that is open for writing is ETXTBSY.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(fd_path(copy.as_fd()), flags, Mode::empty())?;
        Self::keep(fd)
    }

    fn read_only(path: &Path) -> io::Result<Self> {
        let tree = mount::open_tree(rustix::fs::CWD, path, mount::TreeDepth::Single)?;
        let set = mount::Attributes::READ_ONLY.with(mount::Attributes::NO_SUID);
        mount::set_attributes(&tree, mount::TreeDepth::Single, set, Some(mount::Propagation::Private))?;
        Self::keep(tree)
    }

    /// Under a number that no descriptor is handed over by, so that the path stays true in a child until it executes.
    fn keep(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { fd: rustix::io::fcntl_dupfd_cloexec(fd, process::TARGETS)? })
    }

    /// A path that means the executable in this process and, until it executes, in its children.
    pub fn path(&self) -> PathBuf {
        fd_path(self.fd.as_fd())
    }

    /// The path as system calls want it.
    pub fn c_path(&self) -> CString {
        CString::new(format!("/proc/self/fd/{}", self.fd.as_raw_fd())).unwrap_or_default()
    }
}

impl AsFd for SealedExecutable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn fd_path(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn memory_file(name: &CString) -> io::Result<OwnedFd> {
    let plain = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // Kernels before 6.3 refuse the flag that later ones want to see.
    for flags in [plain | MFD_EXEC, plain] {
        // SAFETY: the name is a valid C string; the result is a new descriptor or an error.
        let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
        if fd >= 0 {
            // SAFETY: just returned by the kernel, owned by nobody else.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::InvalidInput {
            return Err(error);
        }
    }
    Err(io::Error::from_raw_os_error(libc::EINVAL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Exit, NewNamespaces, Spawn, spawn, wait};
    use std::io::Write;

    fn runs(executable: &SealedExecutable) -> Exit {
        let args = [c"sh".to_owned(), c"-c".to_owned(), c"exit 3".to_owned()];
        let child = spawn(&Spawn {
            program: &executable.c_path(),
            args: &args,
            env: &[],
            fds: &[(File::open("/dev/null").unwrap().as_fd(), 3)],
            namespaces: NewNamespaces::NONE,
            cgroup: None,
            session: false,
        });
        wait(child.unwrap().pidfd).unwrap()
    }

    #[test]
    fn runs_and_cannot_be_written() {
        let sealed = SealedExecutable::new(Path::new("/bin/sh")).unwrap();
        assert_eq!(runs(&sealed), Exit::Exited(3));
        let writable = std::fs::OpenOptions::new().write(true).open(sealed.path());
        assert!(writable.and_then(|mut f| f.write_all(b"x")).is_err());
        assert!(std::fs::OpenOptions::new().write(true).truncate(true).open(sealed.path()).is_err());
    }

    #[test]
    fn privileged_read_only_mount_runs_and_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("sh");
        std::fs::copy("/bin/sh", &program).unwrap();
        let shown = SealedExecutable::read_only(&program).unwrap();
        assert_eq!(runs(&shown), Exit::Exited(3));
        let error = std::fs::OpenOptions::new().write(true).open(shown.path()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS));
    }
}
