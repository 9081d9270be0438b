//! How davit's processes serve and dial each other: over a Unix socket with the peer's uid checked, or
//! inside one process over an in-memory pipe. There is one code path for both: callers only ever hold a
//! [`Channel`].

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Server};

/// Largest message either side takes, in bytes.
pub const MESSAGE_LIMIT: usize = 4 << 20;
/// Streams one connection may have open.
const STREAMS: u32 = 1024;
/// Connections that wait for the server loop.
const BACKLOG: usize = 64;
/// Bytes an in-memory pipe holds in each direction.
const PIPE: usize = 256 << 10;
/// How long a dial may take.
const DIAL: Duration = Duration::from_secs(5);

/// Where a service is.
#[derive(Debug, Clone)]
pub enum Address {
    /// A Unix socket, `unix:///path`.
    Unix(PathBuf),
    /// Served by this process.
    Here(InProcess),
}

/// A text that is no address.
#[derive(Debug, thiserror::Error)]
#[error("invalid address {0:?}: must be unix:///absolute/path")]
pub struct InvalidAddress(String);

impl std::str::FromStr for Address {
    type Err = InvalidAddress;
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        match text.strip_prefix("unix://") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            _ => Err(InvalidAddress(text.to_owned())),
        }
    }
}

/// Adds what every socket of davit serves beside its own services: reflection (v1 and the older v1alpha
/// that some tools still ask for) and health. `services` are the full names, such as
/// `davit.image.v1.Images`.
///
/// # Errors
/// When the descriptors cannot be read, which a test of this crate rules out.
pub async fn with_standard(
    routes: Routes,
    services: &[&str],
) -> Result<Routes, tonic_reflection::server::Error> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(crate::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let (reporter, health) = tonic_health::server::health_reporter();
    for service in services {
        reporter.set_service_status(*service, tonic_health::ServingStatus::Serving).await;
    }
    Ok(routes
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?))
}

/// Serves on a listening Unix socket until `stop` resolves; then running calls are finished. Peers of
/// another uid than root and our own are hung up on.
///
/// # Errors
/// When the transport fails as a whole; a single connection's failure ends only that connection.
pub async fn serve_unix(
    listener: UnixListener,
    routes: Routes,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    serve_unix_to(Peers::OurUser, listener, routes, stop).await
}

/// Who may speak to a socket once the file system let them connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peers {
    /// Processes of our own uid, and root.
    OurUser,
    /// Everyone whom the socket's mode admits: for a socket that belongs to a group on purpose.
    WhoeverConnects,
}

/// As [`serve_unix`], to the given peers.
///
/// # Errors
/// When the transport fails as a whole; a single connection's failure ends only that connection.
pub async fn serve_unix_to(
    peers: Peers,
    listener: UnixListener,
    routes: Routes,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let incoming = Incoming { listener, peers };
    server().add_routes(routes).serve_with_incoming_shutdown(incoming, stop).await
}

/// Binds a Unix socket with mode 0600, in place of one that a dead process left.
///
/// # Errors
/// When the socket is alive, or the file system refuses.
pub fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt as _;
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{} is being served", path.display())));
    }
    // Bound under another name and moved into place: nobody ever sees the socket with another mode.
    let fresh = path.with_extension("new");
    remove_if_there(&fresh)?;
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&fresh, path)?;
    Ok(listener)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn server() -> Server {
    Server::builder()
        .max_concurrent_streams(STREAMS)
        .http2_max_header_list_size(16 << 10)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
}

/// Opens a channel. The connection is made now, so that an absent service is told at once.
///
/// # Errors
/// When nobody answers there.
pub async fn dial(address: &Address) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_static("http://davit").connect_timeout(DIAL);
    match address.clone() {
        Address::Unix(path) => {
            endpoint
                .connect_with_connector(tower::service_fn(move |_| {
                    let path = path.clone();
                    async move { UnixStream::connect(path).await.map(TokioIo::new) }
                }))
                .await
        }
        Address::Here(service) => {
            endpoint
                .connect_with_connector(tower::service_fn(move |_| {
                    let service = service.clone();
                    async move { service.connect().await.map(TokioIo::new) }
                }))
                .await
        }
    }
}

/// As [`dial`], but the connection is made by the first call, and by each that finds none: for who starts before the
/// other does.
#[must_use]
pub fn dial_later(address: &Address) -> Channel {
    let endpoint = Endpoint::from_static("http://davit").connect_timeout(DIAL);
    match address.clone() {
        Address::Unix(path) => endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        })),
        Address::Here(service) => endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
            let service = service.clone();
            async move { service.connect().await.map(TokioIo::new) }
        })),
    }
}

/// A service inside this process; dialling it makes a fresh in-memory pipe.
#[derive(Debug, Clone)]
pub struct InProcess {
    dials: mpsc::Sender<io::Result<Pipe>>,
}

impl InProcess {
    /// Serves `routes` on a task of the present runtime, until every clone of the answer and every
    /// connection made by it is gone.
    #[must_use]
    pub fn serve(routes: Routes) -> Self {
        let (dials, incoming) = mpsc::channel(BACKLOG);
        tokio::spawn(async move {
            let served = server().add_routes(routes).serve_with_incoming(ReceiverStream::new(incoming)).await;
            if let Err(error) = served {
                tracing::error!(%error, "in-process service ended");
            }
        });
        Self { dials }
    }

    async fn connect(&self) -> io::Result<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(PIPE);
        self.dials.send(Ok(Pipe(theirs))).await.map_err(|_gone| {
            io::Error::new(io::ErrorKind::ConnectionRefused, "in-process service has ended")
        })?;
        Ok(ours)
    }
}

/// The server's end of an in-memory connection.
#[derive(Debug)]
pub struct Pipe(DuplexStream);

impl Connected for Pipe {
    type ConnectInfo = ();
    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Accepts connections of root and of our own uid only, unless it is told otherwise. The uid alone is compared: the pid is 0 across
/// pid namespaces.
struct Incoming {
    listener: UnixListener,
    peers: Peers,
}

impl tokio_stream::Stream for Incoming {
    type Item = io::Result<UnixStream>;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match self.listener.poll_accept(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Ok((stream, _))) => {
                    if self.peers == Peers::WhoeverConnects || admitted(&stream) {
                        return Poll::Ready(Some(Ok(stream)));
                    }
                    tracing::warn!("hung up on a peer of another uid");
                }
            }
        }
    }
}

fn admitted(stream: &UnixStream) -> bool {
    let ours = std::fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m));
    match (stream.peer_cred(), ours) {
        (Ok(peer), Ok(ours)) => peer.uid() == 0 || peer.uid() == ours,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;

    async fn routes() -> Routes {
        with_standard(Routes::default(), &["davit.image.v1.Images"]).await.unwrap()
    }

    async fn asks_health(address: &Address) {
        let channel = dial(address).await.unwrap();
        let answer = HealthClient::new(channel)
            .check(HealthCheckRequest { service: "davit.image.v1.Images".into() })
            .await
            .unwrap();
        assert_eq!(answer.into_inner().status, 1);
    }

    #[tokio::test]
    async fn the_same_routes_answer_in_process_and_over_a_socket() {
        asks_health(&Address::Here(InProcess::serve(routes().await))).await;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let listener = bind_unix(&path).unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let served = tokio::spawn(serve_unix(listener, routes().await, async move {
            let _ = stopped.await;
        }));
        asks_health(&Address::Unix(path.clone())).await;
        assert!(bind_unix(&path).is_err(), "a socket that is served is not taken over");
        stop.send(()).unwrap();
        served.await.unwrap().unwrap();
        bind_unix(&path).unwrap();
    }
}
