//! gRPC over a Unix socket with as little memory as it takes: hyper's HTTP/2 directly, small windows, no router.
//!
//! A peer costs a bounded amount: so many connections, so many streams each, 64 KiB a window, and one that never
//! speaks is hung up on.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use davit_proto::task::tasks_server::TasksServer;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::body::Body;
use tonic::codegen::Service as _;

use crate::api::{self, Api};

/// Connections at a time: one for each client that types, which any exec may have, and some for everything else.
const CONNECTIONS: usize = 640;
/// Streams of one connection at a time: each exec that somebody listens to is one.
const STREAMS: u32 = 640;
/// Bytes that may be under way, of a stream and of a connection.
const WINDOW: u32 = 64 << 10;
/// Bytes of one stream's answer that wait to be sent.
const SEND: usize = 16 << 10;
/// Bytes of the headers of a request.
const HEADERS: u32 = 16 << 10;
/// How long a peer may take for its first byte.
const FIRST: Duration = Duration::from_secs(10);
/// How often a quiet peer is asked whether it is there, and how long it may take to say so.
const ALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));

/// Whether a call was served since this was last looked at.
pub static CALLED: AtomicBool = AtomicBool::new(false);

/// Serves one socket.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    tasks: TasksServer<Api>,
    uid: u32,
    connections: JoinSet<()>,
    closing: watch::Sender<bool>,
}

impl Server {
    /// A server on a socket that listens already.
    pub fn new(listener: UnixListener, api: Api) -> io::Result<Self> {
        let uid = std::fs::metadata("/proc/self")?.uid();
        let (closing, _) = watch::channel(false);
        Ok(Self { listener, tasks: api.into_server(), uid, connections: JoinSet::new(), closing })
    }

    /// Accepts and serves; never returns.
    pub async fn accept(&mut self) -> Infallible {
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => self.admit(stream),
                    Err(error) => {
                        // Out of descriptors, most likely: the peers wait in the queue meanwhile.
                        tracing::error!(%error, "cannot accept");
                        sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(_) = self.connections.join_next() => {}
            }
        }
    }

    /// Root and our own user only. By uid alone: the pid means nothing across pid namespaces.
    fn admit(&mut self, stream: UnixStream) {
        let trusted = stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == self.uid);
        if !trusted {
            tracing::warn!("hung up on a peer of another uid");
        } else if self.connections.len() >= CONNECTIONS {
            tracing::warn!("hung up on a peer: {CONNECTIONS} are connected already");
        } else {
            let (tasks, closing) = (self.tasks.clone(), self.closing.subscribe());
            self.connections.spawn(connection(stream, tasks, closing));
        }
    }

    /// Takes no more calls; those that run are answered.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Resolves when every connection has been served to its end.
    pub async fn drained(&mut self) {
        while self.connections.join_next().await.is_some() {}
    }
}

async fn connection(stream: UnixStream, tasks: TasksServer<Api>, mut closing: watch::Receiver<bool>) {
    let spoke = tokio::select! {
        spoke = timeout(FIRST, stream.readable()) => matches!(spoke, Ok(Ok(()))),
        () = closed(&mut closing) => false,
    };
    if !spoke {
        return;
    }
    let watched = closing.clone();
    let service = service_fn(move |request| route(tasks.clone(), watched.clone(), request));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(STREAMS)
        .max_send_buf_size(SEND)
        .max_header_list_size(HEADERS)
        .keep_alive_interval(ALIVE.0)
        .keep_alive_timeout(ALIVE.1)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = closed(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Resolves when the server takes no more calls; its end counts as well.
async fn closed(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

async fn route(
    mut tasks: TasksServer<Api>,
    closing: watch::Receiver<bool>,
    request: http::Request<Incoming>,
) -> Result<http::Response<Body>, Infallible> {
    const REFLECTION: &str = "grpc.reflection.v1.ServerReflection";
    const OLD_REFLECTION: &str = "grpc.reflection.v1alpha.ServerReflection";
    let service = request.uri().path().split('/').nth(1).unwrap_or_default();
    let answer = match service {
        api::NAME => tasks.call(request).await,
        api::HEALTH => api::HealthServer::new(api::Health { closing }).call(request).await,
        // The index is built for a call and goes with it: it is larger than all the rest of an idle shim.
        REFLECTION => match reflection().build_v1() {
            Ok(mut service) => service.call(request).await,
            Err(error) => Ok(no_reflection(&request, &error)),
        },
        OLD_REFLECTION => match reflection().build_v1alpha() {
            Ok(mut service) => service.call(request).await,
            Err(error) => Ok(no_reflection(&request, &error)),
        },
        _ => Ok(api::unknown_path(request.uri().path())),
    };
    CALLED.store(true, Ordering::Relaxed);
    answer
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(davit_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name(api::NAME)
        .with_service_name(api::HEALTH)
}

fn no_reflection(
    request: &http::Request<Incoming>,
    error: &tonic_reflection::server::Error,
) -> http::Response<Body> {
    tracing::error!(%error, "cannot build the reflection index");
    api::unknown_path(request.uri().path())
}
