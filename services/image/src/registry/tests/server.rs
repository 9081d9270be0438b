//! A small HTTP server that does to each request exactly what a test wants, and remembers the requests.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server does next with a connection.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Send(Vec<u8>),
    /// Sends one byte again and again, with a pause between.
    Drip(u8),
    /// Sends the same bytes again and again, without end.
    Endless(Vec<u8>),
    Hang,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first byte that a range asks for.
    pub(crate) fn offset(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

type Script = dyn Fn(&Seen, usize) -> Vec<Step> + Send + Sync;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Starts; `script` gets each request with its number from 0. A connection that opens with TLS is closed, as
    /// plain servers do, and counts as nothing.
    pub(crate) async fn start(script: impl Fn(&Seen, usize) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (script, log): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&script), Arc::clone(&log)));
            }
        });
        Self { address, seen, task }
    }

    pub(crate) fn reference(&self) -> String {
        format!("{}/repo:tag", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Script>, log: Arc<Mutex<Vec<Seen>>>) {
    // A test ends while its connections are open, so errors here are nobody's.
    let Ok(Some(request)) = read_request(&mut stream).await else { return };
    let steps = {
        let mut log = log.lock().unwrap();
        log.push(request.clone());
        script(&request, log.len() - 1)
    };
    for step in steps {
        if run(&mut stream, step).await.is_err() {
            return;
        }
    }
    // Each answer says `Connection: close`.
    stream.shutdown().await.ok();
}

async fn run(stream: &mut TcpStream, step: Step) -> std::io::Result<()> {
    match step {
        Step::Send(bytes) => stream.write_all(&bytes).await,
        Step::Drip(byte) => loop {
            stream.write_all(&[byte]).await?;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        },
        Step::Endless(bytes) => loop {
            stream.write_all(&bytes).await?;
        },
        Step::Hang => std::future::pending().await,
    }
}

async fn read_request(stream: &mut TcpStream) -> std::io::Result<Option<Seen>> {
    let mut bytes = Vec::new();
    let end = loop {
        if stream.read_buf(&mut bytes).await? == 0 || bytes[0] == 0x16 {
            return Ok(None);
        }
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut seen = Seen {
        method: first.next().unwrap_or_default().to_owned(),
        path: first.next().unwrap_or_default().to_owned(),
        headers,
        body: String::new(),
    };
    let length: usize = seen.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = bytes.split_off(end + 4);
    while body.len() < length && stream.read_buf(&mut body).await? > 0 {}
    seen.body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(seen))
}

/// A whole answer.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<Step> {
    let mut bytes = head(status, headers, Some(body.len()));
    bytes.extend_from_slice(body);
    vec![Step::Send(bytes)]
}

/// An answer that announces `length` bytes and sends only these.
pub(crate) fn partial(status: u16, headers: &[(&str, &str)], length: usize, body: &[u8]) -> Vec<Step> {
    let mut bytes = head(status, headers, Some(length));
    bytes.extend_from_slice(body);
    vec![Step::Send(bytes)]
}

/// The head of an answer; without a length the body ends with the connection.
pub(crate) fn head(status: u16, headers: &[(&str, &str)], length: Option<usize>) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} Because\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(length) = length {
        text.push_str(&format!("Content-Length: {length}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}
