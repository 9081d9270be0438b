//! The one task of a resolver: takes questions, answers what is known at once, and keeps those under way that others
//! are asked.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::Config;
use super::forward::{Upstream, Way, framed};
use super::known::{Known, look_up};
use super::message::{Code, MAX_QUERY, Query, Unread};
use crate::grpc;
use crate::init::Sockets;

/// Questions that others are asked at a time. Those above it are passed over; whoever asks does so again.
const UNDER_WAY: usize = 128;
/// Connections at a time; others wait in the kernel.
const CONNECTIONS: usize = 16;
/// How long a connection may be quiet.
const QUIET: Duration = Duration::from_secs(10);
/// A resolver that was not asked for so long lets its stack be given back.
const REST: Duration = Duration::from_secs(1);

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What all questions share.
#[derive(Debug)]
struct Shared {
    udp: UdpSocket,
    view: std::path::PathBuf,
    upstream: Upstream,
}

/// What becomes of a message.
enum Step {
    /// This is the answer.
    Answer(Vec<u8>),
    /// Others are asked.
    Ask,
    /// Nothing.
    Nothing,
}

/// Serves until the task is aborted.
pub fn start(sockets: Sockets, config: Config) -> io::Result<JoinHandle<()>> {
    let Sockets { udp, tcp } = sockets;
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    let (udp, tcp) = (UdpSocket::from_std(udp)?, TcpListener::from_std(tcp)?);
    let shared = Arc::new(Shared { udp, view: config.view, upstream: Upstream::new(config.servers) });
    Ok(tokio::spawn(run(shared, tcp)))
}

async fn run(shared: Arc<Shared>, tcp: TcpListener) {
    let (mut asked, mut connections) = (FuturesUnordered::<Work>::new(), FuturesUnordered::<Work>::new());
    let mut rest: Option<Instant> = None;
    loop {
        tokio::select! {
            ready = shared.udp.readable() => match ready {
                Ok(()) => asked.extend(take(&shared, asked.len() < UNDER_WAY)),
                Err(error) => return tracing::error!(%error, "cannot watch the resolver's socket"),
            },
            taken = tcp.accept(), if connections.len() < CONNECTIONS => {
                // A connection that was gone before it was taken is nobody's loss.
                connections.extend(taken.ok().map(|(stream, _)| converse(shared.clone(), stream)));
            }
            Some(()) = asked.next() => {}
            Some(()) = connections.next() => {}
            () = sleep_until(rest.unwrap_or_else(Instant::now)), if rest.is_some() => {
                rest = None;
                grpc::CALLED.store(true, Ordering::Relaxed);
                continue;
            }
        }
        rest = Some(Instant::now() + REST);
        // Whatever a container asks, its output comes first.
        tokio::task::yield_now().await;
    }
}

/// Takes one datagram, and answers at once where that is possible.
fn take(shared: &Arc<Shared>, may_ask: bool) -> Option<Work> {
    let mut room = vec![0; MAX_QUERY + 1];
    // Somebody else's datagram, an error that belongs to an earlier answer: the next look tells.
    let (length, asker) = shared.udp.try_recv_from(&mut room).ok()?;
    room.truncate(length);
    match step(shared, &room, Way::Udp) {
        Step::Answer(answer) => {
            tell(shared, &answer, asker);
            None
        }
        Step::Ask if may_ask => {
            room.shrink_to_fit();
            Some(Box::pin(pass_on(shared.clone(), room, asker)))
        }
        Step::Ask | Step::Nothing => None,
    }
}

/// An answer that there is no room for is lost, as any datagram may be.
fn tell(shared: &Shared, answer: &[u8], asker: SocketAddr) {
    if let Err(error) = shared.udp.try_send_to(answer, asker) {
        tracing::debug!(%error, "an answer was lost");
    }
}

fn step(shared: &Shared, message: &[u8], way: Way) -> Step {
    let query = match Query::read(message) {
        Ok(query) => query,
        Err(Unread::Answer(answer)) => return Step::Answer(answer),
        Err(Unread::Silence) => return Step::Nothing,
    };
    let answer = |code, records: &[_]| Step::Answer(query.answer(code, records, way == Way::Tcp));
    match look_up(&shared.view, &query) {
        Ok(Known::Here(records)) => answer(Code::Good, &records),
        Ok(Known::Absent) => answer(Code::Absent, &[]),
        Ok(Known::Elsewhere) => Step::Ask,
        Err(error) => {
            let error = davit_proto::status::chain(&error);
            tracing::debug!(error, "cannot read the names of the container's networks");
            answer(Code::Failed, &[])
        }
    }
}

async fn pass_on(shared: Arc<Shared>, message: Vec<u8>, asker: SocketAddr) {
    if let Some(answer) = ask(&shared, &message, Way::Udp).await {
        tell(&shared, &answer, asker);
    }
}

/// What others answer, or that nobody did.
async fn ask(shared: &Shared, message: &[u8], way: Way) -> Option<Vec<u8>> {
    let query = Query::read(message).ok()?;
    let answer = shared.upstream.ask(&query, way).await;
    Some(answer.unwrap_or_else(|| query.answer(Code::Failed, &[], way == Way::Tcp)))
}

/// One question after the other, until the asker is quiet or gone.
fn converse(shared: Arc<Shared>, mut stream: TcpStream) -> Work {
    Box::pin(async move {
        while let Ok(Ok(message)) = timeout(QUIET, receive(&mut stream)).await {
            let answer = match step(&shared, &message, Way::Tcp) {
                Step::Answer(answer) => Some(answer),
                Step::Ask => ask(&shared, &message, Way::Tcp).await,
                Step::Nothing => None,
            };
            drop(message);
            let Some(answer) = answer else { return };
            let sent = timeout(QUIET, stream.write_all(&framed(&answer))).await;
            if !matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
    })
}

async fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_QUERY {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}
