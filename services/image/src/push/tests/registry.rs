//! A registry in memory that takes uploads in chunks, and fails as it is told.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use davit_proto::id::Digest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::digest::digest;

/// What happens to the next chunk instead of its being taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection ends after so many bytes, which are kept.
    Cut(usize),
    /// The connection ends after so many bytes, and the session with it.
    CutAndForget(usize),
    /// This is answered.
    Status(u16),
    /// Nothing is answered until [`Fixture::release`].
    Hang,
}

#[derive(Default)]
struct State {
    blobs: HashMap<String, Vec<u8>>,
    /// Repositories in which a blob may be read.
    linked: Vec<(String, String)>,
    manifests: HashMap<String, Vec<u8>>,
    sessions: HashMap<String, Vec<u8>>,
    requests: Vec<String>,
    faults: Vec<Fault>,
    received: u64,
}

/// The registry.
pub(super) struct Fixture {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    hung: Arc<Semaphore>,
    released: Arc<Semaphore>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fixture {
    /// Starts; the first large chunks meet these faults, one each.
    pub(super) async fn start(faults: &[Fault]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let faults = faults.iter().rev().copied().collect();
        let state = Arc::new(Mutex::new(State { faults, ..State::default() }));
        let (hung, released) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let shared = (Arc::clone(&state), Arc::clone(&hung), Arc::clone(&released));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, hung, released) = shared.clone();
                tokio::spawn(async move { serve(stream, &state, &hung, &released).await });
            }
        });
        Self { address, state, hung, released, task }
    }

    pub(super) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    pub(super) fn blob(&self, digest: &Digest) -> Option<Vec<u8>> {
        let state = self.state.lock().unwrap();
        let manifest = state.manifests.values().find(|bytes| self::digest(bytes) == *digest);
        state.blobs.get(digest.as_str()).or(manifest).cloned()
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    /// Bytes of bodies so far.
    pub(super) fn received(&self) -> u64 {
        self.state.lock().unwrap().received
    }

    /// Waits until a chunk hangs.
    pub(super) async fn hung(&self) {
        self.hung.acquire().await.unwrap().forget();
    }

    /// Lets it go on.
    pub(super) fn release(&self) {
        self.released.add_permits(1);
    }
}

/// One request, then the end of the connection. A client that goes away is no fault of the test's.
async fn serve(
    mut stream: TcpStream,
    state: &Mutex<State>,
    hung: &Semaphore,
    released: &Semaphore,
) -> Option<()> {
    let (head, rest) = read_head(&mut stream).await?;
    let (first, _) = head.split_once("\r\n")?;
    let (method, target) = first.strip_suffix(" HTTP/1.1")?.split_once(' ')?;
    let length: usize = value(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let plain = target.split_once('?').map_or(target, |(path, _)| path);
    let fault = {
        let mut state = state.lock().unwrap();
        state.requests.push(format!("{method} {plain}"));
        if method == "PATCH" && length > 100_000 { state.faults.pop() } else { None }
    };
    let limit = match fault {
        Some(Fault::Cut(limit) | Fault::CutAndForget(limit)) => limit.min(length),
        _ => length,
    };
    let body = read_body(&mut stream, rest, limit).await?;
    if fault == Some(Fault::Hang) {
        hung.add_permits(1);
        released.acquire().await.unwrap().forget();
    }
    let answer = {
        let mut state = state.lock().unwrap();
        state.received += body.len() as u64;
        match fault {
            Some(Fault::Cut(_)) => {
                state.append(plain, &body);
                return None;
            }
            Some(Fault::CutAndForget(_)) => {
                state.sessions.remove(plain);
                return None;
            }
            Some(Fault::Status(status)) => (status, Vec::new()),
            _ => state.answer(method, target, &head, body),
        }
    };
    let mut text = format!("HTTP/1.1 {} Because\r\nConnection: close\r\n", answer.0);
    for (name, value) in &answer.1 {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !answer.1.iter().any(|(name, _)| *name == "Content-Length") {
        text.push_str("Content-Length: 0\r\n");
    }
    stream.write_all(format!("{text}\r\n").as_bytes()).await.ok()?;
    stream.shutdown().await.ok()
}

type Answer = (u16, Vec<(&'static str, String)>);

impl State {
    fn append(&mut self, session: &str, bytes: &[u8]) {
        if let Some(held) = self.sessions.get_mut(session) {
            held.extend_from_slice(bytes);
        }
    }

    fn place(&self, session: &str) -> Vec<(&'static str, String)> {
        let held = self.sessions.get(session).map_or(0, Vec::len);
        vec![("Location", session.to_owned()), ("Range", format!("0-{}", held.saturating_sub(1)))]
    }

    fn answer(&mut self, method: &str, target: &str, head: &str, body: Vec<u8>) -> Answer {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let repository = path.strip_prefix("/v2/").unwrap_or(path);
        let repository = repository.split("/blobs/").next().unwrap_or_default().to_owned();
        let last = path.rsplit('/').next().unwrap_or_default().to_owned();
        match method {
            "HEAD" if path.contains("/manifests/") => match self.manifests.get(path) {
                Some(bytes) => (200, vec![("Docker-Content-Digest", digest(bytes).to_string())]),
                None => (404, Vec::new()),
            },
            "HEAD" => match self.blobs.get(&last) {
                Some(bytes) if self.linked.contains(&(repository, last.clone())) => {
                    (200, vec![("Content-Length", bytes.len().to_string())])
                }
                _ => (404, Vec::new()),
            },
            "POST" => self.begin(&repository, query),
            "GET" if self.sessions.contains_key(path) => (204, self.place(path)),
            "PATCH" if self.sessions.contains_key(path) => {
                let held = self.sessions.get(path).map_or(0, Vec::len);
                let start =
                    value(head, "content-range").and_then(|range| range.split_once('-')?.0.parse().ok());
                if start.is_some_and(|start: usize| start != held) {
                    return (416, self.place(path));
                }
                self.append(path, &body);
                (202, self.place(path))
            }
            "PUT" if path.contains("/manifests/") => {
                let named = digest(&body).to_string();
                self.manifests.insert(path.to_owned(), body);
                (201, vec![("Docker-Content-Digest", named)])
            }
            "PUT" => {
                let Some(bytes) = self.sessions.remove(path) else { return (404, Vec::new()) };
                let wanted = query.trim_start_matches("digest=").replace("%3A", ":");
                if digest(&bytes).as_str() != wanted {
                    return (400, Vec::new());
                }
                self.blobs.insert(wanted.clone(), bytes);
                self.linked.push((repository, wanted));
                (201, Vec::new())
            }
            _ => (404, Vec::new()),
        }
    }

    fn begin(&mut self, repository: &str, query: &str) -> Answer {
        let get = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        if let (Some(mount), Some(from)) = (get("mount"), get("from"))
            && self.linked.contains(&(from.to_owned(), mount.to_owned()))
        {
            self.linked.push((repository.to_owned(), mount.to_owned()));
            return (201, Vec::new());
        }
        let session = format!("/v2/{repository}/blobs/uploads/{}", self.requests.len());
        self.sessions.insert(session.clone(), Vec::new());
        (202, self.place(&session))
    }
}

async fn read_head(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        // A connection that opens with TLS is closed, as plain servers do.
        if stream.read_buf(&mut bytes).await.ok()? == 0 || bytes.first() == Some(&0x16) {
            return None;
        }
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Some((String::from_utf8(bytes).ok()?, rest));
        }
    }
}

async fn read_body(stream: &mut TcpStream, mut body: Vec<u8>, limit: usize) -> Option<Vec<u8>> {
    while body.len() < limit {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    body.truncate(limit);
    Some(body)
}

fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}
