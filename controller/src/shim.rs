//! Launches a shim, finds a living one, dials it. Nothing else: what to ask of it is the callers' business.
//!
//! A shim is known by its folder `run/shim/<id>/`: the socket, which the controller binds before the shim exists so
//! that a dial never has to wait for it, and `shim.json`, by which a process is recognised beyond doubt.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use davit_proto::id::ContainerId;
use davit_proto::status::RemoteError;
use davit_proto::task::tasks_client::TasksClient;
use davit_sys::memory::SealedExecutable;
use davit_sys::process::{self, Exit, NewNamespaces, Spawn};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::config::Config;
use crate::error::Error;

/// Descriptors that a shim is born with.
const LISTENER: i32 = 3;
const UNCONFIGURED: i32 = 4;
/// The largest `shim.json` that is read.
const IDENTITY: usize = 4096;
/// How much of a shim's last words is told.
const WORDS: usize = 2000;
/// How often a connection is tried, and how long the answer may take. The end of a shim the kernel tells at once, and
/// calls have limits of their own: this is for one that stands still and that nobody asks for anything. More often, and
/// two hundred idle shims would never let the host rest.
const ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3));
/// Limit of calls that only ask or nudge.
pub const SHORT: Duration = Duration::from_secs(5);
/// Limit of calls that make or undo something.
pub const LONG: Duration = Duration::from_secs(30);

/// The binary every shim runs, where no container can reach it.
#[derive(Debug)]
pub struct Program(SealedExecutable);

impl Program {
    /// Seals the `davit-shim` that lies beside this program.
    ///
    /// # Errors
    /// When there is none, or it cannot be sealed.
    pub fn beside_us() -> Result<Self, Error> {
        let ours = std::env::current_exe().map_err(Error::io("find this program's own path"))?;
        // Cargo puts test binaries one folder below the programs.
        let folders = ours.ancestors().skip(1).take(2);
        let found = folders.map(|folder| folder.join("davit-shim")).find(|path| path.is_file());
        let path = found.ok_or_else(|| Error::Io {
            doing: format!("find davit-shim beside {}", ours.display()),
            source: io::ErrorKind::NotFound.into(),
        })?;
        Self::new(&path)
    }

    /// Seals the program at `path`.
    ///
    /// # Errors
    /// When it cannot be read or sealed.
    pub fn new(path: &Path) -> Result<Self, Error> {
        SealedExecutable::new(path).map(Self).map_err(Error::io(format!("seal {}", path.display())))
    }

    /// What to execute.
    #[must_use]
    pub fn path(&self) -> CString {
        self.0.c_path()
    }
}

/// Which process a shim is, as it wrote itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Identity {
    /// Its process id as the host sees it.
    pub pid: i32,
    /// Its start time, field 22 of its stat.
    pub start_time: u64,
    /// The boot it belongs to.
    pub boot_id: String,
}

/// What is known of the process behind a shim's folder.
#[derive(Debug)]
pub enum Process {
    /// It lives; the descriptor becomes readable when it ends.
    Alive(Identity, OwnedFd),
    /// It is gone, beyond doubt.
    Gone,
    /// It never said who it is. Its socket tells more.
    Unnamed,
}

impl Identity {
    /// Reads `shim.json`; `None` when it was never written.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub fn read(folder: &Path) -> io::Result<Option<Self>> {
        match davit_sys::file::read_bounded(&folder.join("shim.json"), IDENTITY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        }
    }

    /// A descriptor of the very process, or `None` when it has ended: the number alone proves nothing.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn open(&self, boot_id: &str) -> io::Result<Option<OwnedFd>> {
        if self.boot_id != boot_id {
            return Ok(None);
        }
        let Ok(pid) = u32::try_from(self.pid) else { return Ok(None) };
        let pidfd = match process::pidfd_open(self.pid) {
            Ok(pidfd) => pidfd,
            // ESRCH; EINVAL is a number that no process can have.
            Err(error) if matches!(error.raw_os_error(), Some(3 | 22)) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Opened first, compared second: from here on the number cannot come to mean another process.
        match process::start_time(pid) {
            Ok(start) if start == self.start_time => Ok(Some(pidfd)),
            Ok(_) => Ok(None),
            Err(error) if matches!(error.raw_os_error(), Some(2 | 3)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Looks for the process behind a shim's folder.
///
/// # Errors
/// When what is there cannot be read, so that nothing is known.
pub fn find(folder: &Path, boot_id: &str) -> io::Result<Process> {
    match Identity::read(folder)? {
        None => Ok(Process::Unnamed),
        Some(identity) => Ok(match identity.open(boot_id)? {
            Some(pidfd) => Process::Alive(identity, pidfd),
            None => Process::Gone,
        }),
    }
}

/// Waits until the process behind a pidfd has ended.
///
/// # Errors
/// When the descriptor cannot be polled.
#[expect(
    deprecated,
    reason = "sound for an OwnedFd, which keeps its descriptor; the successor is unsafe to call"
)]
pub async fn ended(pidfd: OwnedFd) -> io::Result<()> {
    let pidfd = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
    // Named for the type: the guard only says that it is readable, which is all there is to know.
    let _readable = pidfd.readable().await?;
    Ok(())
}

/// A connection to one shim. When it breaks it stays broken: whoever supervises the shim finds out why and dials a
/// new one.
#[derive(Debug, Clone)]
pub struct Shim {
    id: ContainerId,
    channel: Channel,
}

impl Shim {
    /// Dials the socket in a shim's folder.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn dial(id: &ContainerId, folder: &Path) -> Result<Self, Error> {
        let unreachable = |why: String| Error::Unreachable { id: id.clone(), why };
        // By the folder's descriptor: a socket's path may have 107 bytes, the run directory any number.
        let folder = open_path(folder).map_err(|error| unreachable(error.to_string()))?;
        let stream = UnixStream::connect(socket_path(&folder)).await;
        let stream = stream.map_err(|error| unreachable(format!("dial its socket: {error}")))?;
        let once = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
        let connector = tower::service_fn(move |_| {
            let stream = once.lock().map(|mut stream| stream.take()).unwrap_or_default();
            async move { stream.ok_or(io::Error::new(io::ErrorKind::NotConnected, "the connection has ended")) }
        });
        // A shim that was stopped keeps its connections; only a question that nobody answers shows it.
        let endpoint = Endpoint::from_static("http://shim")
            .http2_keep_alive_interval(ALIVE.0)
            .keep_alive_timeout(ALIVE.1)
            .keep_alive_while_idle(true);
        let channel = endpoint.connect_with_connector(connector).await;
        let channel = channel.map_err(|error| unreachable(davit_proto::status::chain(&error)))?;
        Ok(Self { id: id.clone(), channel })
    }

    /// Its container.
    #[must_use]
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// A client of its service. Every call needs a limit: see [`within`].
    #[must_use]
    pub fn tasks(&self) -> TasksClient<Channel> {
        TasksClient::new(self.channel.clone())
    }
}

/// Awaits a call for so long at most.
///
/// # Errors
/// When it fails or takes too long; both name what was done.
pub async fn within<T, E: Into<RemoteError>>(
    limit: Duration,
    doing: impl Into<String>,
    call: impl Future<Output = Result<tonic::Response<T>, E>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(failure)) => Err(Error::peer(doing)(failure)),
        Err(_) => Err(Error::TimedOut { doing: doing.into(), seconds: limit.as_secs() }),
    }
}

/// Whose processes a container sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pids {
    /// Its own, in a namespace nested in its shim's.
    Own,
    /// Others too, so that nothing can be nested.
    Shared,
}

/// A shim that was launched and not yet configured.
#[derive(Debug)]
pub struct Launched {
    /// The connection.
    pub shim: Shim,
    /// While this is open the shim waits to be configured; when it closes before, the shim ends.
    pub hold: io::PipeWriter,
}

/// Launches a shim for a container. Its folder is made anew.
///
/// # Errors
/// When the shim does not come up; its last words are in the error.
pub async fn launch(
    config: &Config,
    program: &Arc<Program>,
    id: &ContainerId,
    pids: Pids,
) -> Result<Launched, Error> {
    let folder = config.shim_dir(id);
    let birth =
        Birth::new(config, id, &folder, pids).map_err(Error::io(format!("prepare {}", folder.display())))?;
    let (program, hold) = (program.clone(), birth.hold);
    let (args, fds, log) = (birth.args, birth.fds, folder.join("shim.log"));
    let spawned = tokio::task::spawn_blocking(move || spawn(&program, &args, &fds));
    // The socket listens already, so the dial need not wait for the shim.
    let (spawned, shim) = tokio::join!(spawned, Shim::dial(id, &folder));
    let failed = |why: String| Error::Launch { id: id.clone(), why };
    match spawned.map_err(|error| failed(error.to_string()))? {
        Ok(Exit::Exited(0)) => Ok(Launched { shim: shim?, hold }),
        Ok(exit) => Err(failed(last_words(&log).unwrap_or_else(|| format!("it ended with {exit}")))),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Everything a shim is born with.
struct Birth {
    args: Vec<CString>,
    fds: Vec<(OwnedFd, i32)>,
    hold: io::PipeWriter,
}

impl Birth {
    fn new(config: &Config, id: &ContainerId, folder: &Path, pids: Pids) -> io::Result<Self> {
        // A dead shim's folder would tell lies about the new one.
        remove_folder(folder)?;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let handle = open_path(folder)?;
        let listener = UnixListener::bind(socket_path(&handle))?;
        std::fs::set_permissions(folder.join("shim.sock"), std::fs::Permissions::from_mode(0o600))?;
        let log = File::options().create(true).append(true).mode(0o600).open(folder.join("shim.log"))?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let (configured, hold) = io::pipe()?;
        let bundle = config.bundle(id);
        let words: [&[u8]; 14] = [
            b"davit-shim",
            b"launch",
            b"--id",
            id.as_str().as_bytes(),
            b"--bundle",
            bundle.as_os_str().as_bytes(),
            b"--run",
            folder.as_os_str().as_bytes(),
            b"--instance",
            config.instance.as_bytes(),
            b"--cgroup-parent",
            config.cgroup_parent.as_bytes(),
            b"--unconfigured-fd",
            b"4",
        ];
        let shared: &[&[u8]] = if pids == Pids::Shared { &[b"--shared-pid"] } else { &[] };
        let args = words.iter().chain(shared).map(|word| CString::new(*word)).collect::<Result<_, _>>()?;
        let fds = vec![
            (OwnedFd::from(null.try_clone()?), 0),
            (OwnedFd::from(null), 1),
            (OwnedFd::from(log), 2),
            (OwnedFd::from(listener), LISTENER),
            (OwnedFd::from(configured), UNCONFIGURED),
        ];
        Ok(Self { args, fds, hold })
    }
}

/// Runs the launch stage to its end; the shim itself is nobody's child by then.
fn spawn(program: &Program, args: &[CString], fds: &[(OwnedFd, i32)]) -> io::Result<Exit> {
    let borrowed: Vec<_> = fds.iter().map(|(fd, number)| (fd.as_fd(), *number)).collect();
    let child = process::spawn(&Spawn {
        program: &program.path(),
        args,
        env: &environment(),
        fds: &borrowed,
        namespaces: NewNamespaces::NONE,
        cgroup: None,
        session: true,
    })?;
    process::wait(&child.pidfd)
}

/// Nothing of our environment reaches a shim but what is meant for davit.
fn environment() -> Vec<CString> {
    std::env::vars_os()
        .filter(|(name, _)| name.as_encoded_bytes().starts_with(b"DAVIT_"))
        .filter_map(|(name, value)| {
            let mut pair = name.into_encoded_bytes();
            pair.push(b'=');
            pair.extend_from_slice(value.as_encoded_bytes());
            CString::new(pair).ok()
        })
        .collect()
}

/// Removes a shim's folder; one that is not there is no error.
///
/// # Errors
/// When the file system refuses.
pub fn remove_folder(folder: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else { return Ok(()) };
    match davit_sys::file::open_dir(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(parent) => davit_sys::file::remove_tree(&parent, name),
    }
}

fn open_path(folder: &Path) -> io::Result<OwnedFd> {
    davit_sys::file::open_dir(folder)
}

fn socket_path(folder: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/shim.sock", folder.as_raw_fd()))
}

/// The end of a shim's log, as one line.
#[must_use]
pub fn last_words(log: &Path) -> Option<String> {
    let bytes = davit_sys::file::read_bounded(log, 1 << 20).ok()?;
    let tail = bytes.get(bytes.len().saturating_sub(WORDS)..)?;
    let text = String::from_utf8_lossy(tail);
    let text = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_identity(folder: &Path, pid: u32, start_time: u64, boot_id: &str) {
        let json =
            format!(r#"{{"container_id":"x","pid":{pid},"start_time":{start_time},"boot_id":"{boot_id}"}}"#);
        std::fs::write(folder.join("shim.json"), json).unwrap();
    }

    #[test]
    fn a_process_is_known_by_number_start_and_boot() {
        let folder = tempfile::tempdir().unwrap();
        let (pid, boot) = (std::process::id(), process::boot_id().unwrap());
        let start = process::start_time(pid).unwrap();
        assert!(matches!(find(folder.path(), &boot).unwrap(), Process::Unnamed));
        write_identity(folder.path(), pid, start, &boot);
        assert!(matches!(find(folder.path(), &boot).unwrap(), Process::Alive(..)));
        assert!(matches!(find(folder.path(), "another boot").unwrap(), Process::Gone));
        write_identity(folder.path(), pid, start + 1, &boot);
        assert!(matches!(find(folder.path(), &boot).unwrap(), Process::Gone), "the number was used again");
        write_identity(folder.path(), 0x7fff_fff0, 1, &boot);
        assert!(matches!(find(folder.path(), &boot).unwrap(), Process::Gone));
        std::fs::write(folder.path().join("shim.json"), "{").unwrap();
        assert!(find(folder.path(), &boot).is_err(), "unreadable is not gone");
    }

    #[tokio::test]
    async fn a_socket_below_a_long_path_is_reached() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("x".repeat(120));
        std::fs::create_dir(&long).unwrap();
        let id = ContainerId::generate().unwrap();
        assert!(matches!(Shim::dial(&id, &long).await, Err(Error::Unreachable { .. })));
        let handle = open_path(&long).unwrap();
        let listener = UnixListener::bind(socket_path(&handle)).unwrap();
        Shim::dial(&id, &long).await.unwrap();
        drop(listener);
    }
}
