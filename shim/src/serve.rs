//! The serving side: pid 1 of the shim's pid namespace, from the first line to the last.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use davit_sys::stack::Stack;
use davit_sys::supervise::SignalFd;
use davit_sys::{fd, process};
use tokio::net::UnixListener;
use tokio::time::timeout;

use crate::api::Api;
use crate::bundle::{self, Announcement, Bundle, BundleError};
use crate::failpoint;
use crate::grpc::{self, Server};
use crate::options::Options;
use crate::task::driver::{Driver, Setup};
use crate::task::teardown;
use crate::trace;

/// Where the controller puts the listening socket.
const SOCKET: i32 = 3;
/// How long the answers under way may hold up the letting go of namespaces, which they should not have to wait for.
const FLUSH: Duration = Duration::from_millis(50);
/// How long slow clients may take for their last bytes.
const LAST: Duration = Duration::from_secs(5);

/// Why a shim could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A step of its start failed.
    #[error("{what}")]
    Start {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its run directory cannot be written to.
    #[error(transparent)]
    Announce(#[from] BundleError),
}

fn start_error(what: &'static str) -> impl FnOnce(io::Error) -> ServeError {
    move |source| ServeError::Start { what, source }
}

/// Serves one container until its life is over.
pub fn run(options: Options) -> Result<(), ServeError> {
    // First of all: as pid 1 it would not die of a stray signal, but a shim in the host's namespace would.
    let signals = SignalFd::block_all().map_err(start_error("block signals"))?;
    let socket = fd::inherited(SOCKET).map_err(start_error("take over the socket"))?;
    let unconfigured = options.unconfigured_fd.map(fd::inherited).transpose();
    let unconfigured = unconfigured.map_err(start_error("take over the controller's pipe"))?;
    trace::start();
    failpoint::load().map_err(start_error("set the failpoints"))?;
    let shim_pid = announce(&options)?;
    let stack = Stack::find().map_err(start_error("find the stack"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .on_thread_park(move || rest(&stack))
        .build()
        .map_err(start_error("start the runtime"))?;
    let inherited = Inherited { signals, socket, unconfigured, shim_pid };
    runtime.block_on(boxed(options, inherited))
}

/// What the process found when it began.
struct Inherited {
    signals: SignalFd,
    socket: OwnedFd,
    unconfigured: Option<OwnedFd>,
    shim_pid: u32,
}

/// On the heap, and made in a call that is over: else it would lie on the stack once for each call that it is moved
/// through.
fn boxed(options: Options, inherited: Inherited) -> Pin<Box<dyn Future<Output = Result<(), ServeError>>>> {
    Box::pin(serve(options, inherited))
}

async fn serve(options: Options, inherited: Inherited) -> Result<(), ServeError> {
    let socket = StdListener::from(inherited.socket);
    socket.set_nonblocking(true).map_err(start_error("prepare the socket"))?;
    let listener = UnixListener::from_std(socket).map_err(start_error("watch the socket"))?;
    let (driver, handle) = Driver::new(Setup {
        container_id: options.id.to_string(),
        shim_pid: i32::try_from(inherited.shim_pid).unwrap_or_default(),
        bundle: Bundle::new(options.bundle),
        cgroup_parent: options.cgroup_parent,
        signals: inherited.signals,
        unconfigured: inherited.unconfigured,
    })
    .map_err(start_error("start the driver"))?;
    let mut server = Server::new(listener, Api::new(options.id, handle)).map_err(start_error("serve"))?;

    let task = tokio::select! {
        task = driver.run() => task,
        never = server.accept() => match never {},
    };
    server.close();
    let flushed = timeout(FLUSH, server.drained()).await.is_ok();
    // With its lock the container is free for its next shim, also while slow clients of this one still read.
    teardown(task).await;
    if !flushed && timeout(LAST, server.drained()).await.is_err() {
        tracing::warn!("a client did not take its last answer");
    }
    Ok(())
}

/// Called when there is nothing to do. A call leaves some 40 kB of stack behind, and a shim has nothing to do for most
/// of its days.
fn rest(stack: &Stack) {
    if grpc::CALLED.swap(false, Ordering::Relaxed)
        && let Err(error) = stack.trim()
    {
        tracing::warn!(%error, "cannot give back stack pages");
    }
}

/// Says who serves the container, before anything else can be asked.
fn announce(options: &Options) -> Result<u32, ServeError> {
    let pid = process::own_host_pid().map_err(start_error("read the own pid"))?;
    bundle::announce(
        &options.run,
        &Announcement {
            container_id: &options.id,
            pid,
            start_time: process::start_time(pid).map_err(start_error("read the own start time"))?,
            boot_id: process::boot_id().map_err(start_error("read the boot id"))?,
            instance: &options.instance,
        },
    )?;
    Ok(pid)
}
