//! The way from a prepared shim to a running init process, in two halves and a gate.
//!
//! ```text
//!   shim (serve, tokio)                                    init (`davit-shim init`, one thread)
//!   ContainerCgroup::create(parent, id)
//!   Init::prepare(&shape, &cgroup, None) ── clone3 + exec ─▶ joins v1 cgroups, unshares the cgroup view,
//!        │   ── Prepare{shape} ──────────────────────────▶   empty read-only tmpfs, /proc /dev /sys, masks, lo
//!        ◀── Prepared + fds mnt, net, ipc, uts, resolver ─   waits
//!   init.configure(Configuration{spec, bundle, lock, stdio})
//!        │   opens overlay, bind sources; compiles seccomp
//!        │   ── Configure{plan} + fds ───────────────────▶   root, binds, tmpfs, masks, limits, pivot, sysctls, user
//!        ◀── Configured{warnings} + fds root, pty master ─   waits at the gate
//!   init.start()
//!        │   ── Start ───────────────────────────────────▶   stdio, confinement, execve
//!        ◀── end of file (close-on-exec) or Failed ───────
//! ```
//!
//! A process that is added to a running container comes the same way, and joins instead of making:
//!
//! ```text
//!   exec::begin(Addition{…}) ── clone3 in init's pid namespace and a v2 leaf + exec ─▶ `davit-shim exec`
//!        │   ── Exec{plan} + fds init, stdio ────────────▶   v1 cgroups, init's namespaces, terminal, user
//!   task::joining::join(added.joining).await
//!        ◀── Joined + fd pty master ──────────────────────   stdio, confinement, execve
//!        ◀── end of file (close-on-exec) or Failed ───────
//! ```
//!
//! # What the rest of the shim calls
//!
//! All calls are synchronous and take a few milliseconds at most; they have their own deadline. After an error of
//! `configure` or `start` init has ended and is reaped, and `reap` answers with how.
//!
//! ```text
//! pub struct Shape { user, pid, net, ipc, uts, cgroup: Namespace, ids: Option<IdMap>, privileged: bool,
//!                    unmask: Vec<String> }
//! pub enum Namespace { Own, Host, Joined { path: PathBuf, inode: u64 } }
//!
//! impl Init {
//!     // `kept`: the namespaces of an earlier life of the same container (restart); else None.
//!     pub fn prepare(shape: &Shape, cgroup: &ContainerCgroup, kept: Option<&Kept>) -> Result<Init, InitError>;
//!     pub fn namespaces(&self) -> &Namespaces;                    // .keep() is what the next life gets
//!     pub fn take_names(&mut self) -> Option<Sockets>;           // the resolver's, where net is its own
//!     pub fn configure(&mut self, c: Configuration<'_>) -> Result<Configured, InitError>;
//!     pub fn start(&mut self) -> Result<(), InitError>;          // Ok: execve happened
//!     pub fn pidfd(&self) -> BorrowedFd<'_>;                     // readable when the process ended (AsyncFd)
//!     pub fn host_pid(&self) -> u32;                             // as `ps` on the host shows it
//!     pub fn replace(&mut self, dead: Init);                     // the next life in place of an earlier one
//!     pub fn signal(&self, signal: i32) -> io::Result<()>;
//!     pub fn reap(&self) -> io::Result<Option<Exit>>;            // None: still running; never blocks
//!     pub fn reap_blocking(&self) -> io::Result<Exit>;
//! }
//! pub struct Namespaces { pub mnt: Option<OwnedFd>, pub net: OwnedFd, pub ipc: OwnedFd, pub uts: OwnedFd,
//!                         pub user: Option<OwnedFd> }
//!     // Also where they are the host's. The net fd's number + davit_sys::namespace::inode(fd) are what the network
//!     // service is told; close mnt last and off the exit path: the kernel tears the mounts down then.
//! pub struct Configuration<'a> { spec: &'a oci_spec::runtime::Spec, bundle: &'a Path, lock: &'a Flock,
//!                                cgroup: &'a ContainerCgroup, stdio: Stdio }    // limits are set here too
//! pub enum Stdio { Terminal(Option<WindowSize>), Given([OwnedFd; 3]) }    // 0, 1, 2 of the container
//! pub struct Configured { pub root: OwnedFd /* O_PATH */, pub terminal: Option<OwnedFd> /* pty master */,
//!                         pub warnings: Vec<String> }
//! InitError::exit_code() -> 127 | 126 | 125
//! davit_sys::process::Exit = Exited(u8) | Signaled(u8)            // exit_code(): n, or 128+n
//! davit_sys::pty::{WindowSize, set_window_size(master, size)}
//! ```
//!
//! The cgroup is [`crate::cgroup::ContainerCgroup`]: made first, idempotent; removed after the last process.
//!
//! # What the spec may say beside OCI
//!
//! - a mount with destination `/`: type `overlay` with options `lowerdir=…` (repeated, topmost first), `upperdir=`,
//!   `workdir=`, `volatile`; or type `bind`. Without one, `root.path` is bound.
//! - annotations: `davit.user` (`name|uid[:group|gid]`, resolved inside), `davit.group-add`
//!   (names or numbers with commas between, resolved inside), `davit.init=true`, `davit.seccomp=default|unconfined`
//!   (only looked at without `linux.seccomp`), `davit.env-files` (variables whose values are in files of the host).

mod base;
pub mod child;
mod dev;
pub mod enter;
mod env_file;
pub mod error;
pub mod exec;
pub mod exec_child;
pub mod exec_plan;
pub mod guard;
mod message;
pub mod mount_plan;
pub mod parent;
pub mod plan;
mod process;
mod process_plan;
mod reaper;
pub mod rootfs;
mod seccomp;
pub mod shape;
mod shape_plan;
mod sockets;
pub mod source;
mod spec;
pub mod stopped;
mod sysctl;
mod user;
pub mod userns;

pub use error::{Failure, FailureKind, InitError};
pub use message::{Channel, Reply};
pub use parent::{Configuration, Init, Stdio};
pub use plan::StdioPlan;
pub use shape::{IdMap, Namespace, Shape};
pub use sockets::Sockets;
