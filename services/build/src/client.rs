//! What a build asks of its client once the context is here: secrets, and agents that hold keys.
//!
//! ```text
//! a step ── SecretWanted{number, id} ─▶ client      a command ── connects ─▶ socket ── AgentOpen, AgentData ─▶ client
//!        ◀── Secret{number, data} ─────                       ◀───────────── socket ◀──────────── AgentData ──
//! ```
//!
//! A secret is asked for when a step wants it, is handed to that step, and is overwritten when the step has it on its
//! memory file system. From the first one on this process leaves no core dump.

mod agent;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use davit_proto::build::build_request::Frame;
use davit_proto::build::build_response::Event;
use davit_proto::build::{AgentData, AgentOpen, BuildOpen, BuildRequest, Secret as WireSecret, SecretWanted};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tonic::Streaming;

use crate::error::Error;
use crate::progress::Progress;

pub use agent::{Agent, Permissions};

/// The largest secret, as elsewhere.
pub const LARGEST: usize = 500 << 10;
/// Frames of an agent that may wait for a command that does not read.
const WAITING: usize = 64;
/// Connections to agents at the same time.
const CONNECTIONS: usize = 64;

/// A secret: it does not print, and is overwritten when nobody needs it any more.
pub struct Secret(Vec<u8>);

impl Secret {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}

/// The client of one build.
#[derive(Debug)]
pub struct Client {
    progress: Progress,
    secrets: BTreeSet<String>,
    agents: BTreeSet<String>,
    waiting: Arc<Mutex<Waiting>>,
    reader: AbortHandle,
}

/// Who waits for frames.
#[derive(Debug, Default)]
struct Waiting {
    /// The client sends no more.
    gone: bool,
    last: u32,
    secrets: HashMap<u32, oneshot::Sender<WireSecret>>,
    connections: HashMap<u32, mpsc::Sender<AgentData>>,
}

impl Client {
    /// Listens to what comes from a client after its context.
    pub fn new(frames: Streaming<BuildRequest>, progress: Progress, options: &BuildOpen) -> Self {
        let waiting: Arc<Mutex<Waiting>> = Arc::default();
        let reader = tokio::spawn(read(frames, Arc::clone(&waiting))).abort_handle();
        let (secrets, agents) = (options.secrets.iter(), options.agents.iter());
        Self {
            progress,
            secrets: secrets.cloned().collect(),
            agents: agents.cloned().collect(),
            waiting,
            reader,
        }
    }

    /// Whether it has a secret.
    pub fn has_secret(&self, id: &str) -> bool {
        self.secrets.contains(id)
    }

    /// Whether it reaches an agent.
    pub fn has_agent(&self, id: &str) -> bool {
        self.agents.contains(id)
    }

    /// Asks for a secret.
    ///
    /// # Errors
    /// The client cannot read it, or is gone.
    pub async fn secret(&self, id: &str) -> Result<Secret, Error> {
        davit_sys::privilege::set_dumpable(false).map_err(Error::io("forbid core dumps"))?;
        let (answer, told) = oneshot::channel();
        let number = {
            let mut waiting = lock(&self.waiting);
            if waiting.gone {
                return Err(Error::Cancelled);
            }
            waiting.last = waiting.last.wrapping_add(1);
            let number = waiting.last;
            waiting.secrets.insert(number, answer);
            number
        };
        self.progress.tell(Event::SecretWanted(SecretWanted { number, id: id.to_owned() })).await?;
        let WireSecret { data, error, .. } = told.await.map_err(|_| Error::Cancelled)?;
        if !error.is_empty() {
            return Err(Error::Invalid(format!("secret {id:?}: {error}")));
        }
        // The only copy where nobody else looks at the bytes of the frame.
        let secret = Secret(Vec::from(data));
        if secret.bytes().len() > LARGEST {
            return Err(Error::Invalid(format!("secret {id:?} has more than {} KiB", LARGEST >> 10)));
        }
        Ok(secret)
    }

    /// The way to agents, for who forwards a socket.
    fn line(&self) -> Line {
        Line { progress: self.progress.clone(), waiting: Arc::clone(&self.waiting) }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands each frame to who waits for it. A frame that nobody waits for any more is dropped.
async fn read(mut frames: Streaming<BuildRequest>, waiting: Arc<Mutex<Waiting>>) {
    while let Ok(Some(BuildRequest { frame })) = frames.message().await {
        match frame {
            Some(Frame::Secret(secret)) => {
                let answer = lock(&waiting).secrets.remove(&secret.number);
                // A step that was given up wants nothing.
                drop(answer.map(|answer| answer.send(secret)));
            }
            Some(Frame::Agent(data)) => deliver(&mut lock(&waiting), data),
            _ => break,
        }
    }
    let mut waiting = lock(&waiting);
    *waiting = Waiting { gone: true, last: waiting.last, ..Waiting::default() };
}

/// A command that does not read what it asked for loses its connection, so that nothing else waits for it.
fn deliver(waiting: &mut Waiting, data: AgentData) {
    let (connection, last) = (data.connection, data.last);
    let sent = waiting.connections.get(&connection).map(|to| to.try_send(data));
    if last || matches!(sent, Some(Err(_))) {
        waiting.connections.remove(&connection);
    }
}

/// The way to the agents of a client.
#[derive(Debug, Clone)]
struct Line {
    progress: Progress,
    waiting: Arc<Mutex<Waiting>>,
}

impl Line {
    /// Opens a connection; none when there are too many.
    async fn open(&self, id: &str) -> Option<(u32, mpsc::Receiver<AgentData>)> {
        let (to, from) = mpsc::channel(WAITING);
        let connection = {
            let mut waiting = lock(&self.waiting);
            if waiting.gone || waiting.connections.len() >= CONNECTIONS {
                return None;
            }
            waiting.last = waiting.last.wrapping_add(1);
            let connection = waiting.last;
            waiting.connections.insert(connection, to);
            connection
        };
        let open = AgentOpen { connection, id: id.to_owned() };
        self.progress.tell(Event::AgentOpen(open)).await.ok()?;
        Some((connection, from))
    }

    /// Sends what a command says.
    async fn send(&self, data: AgentData) -> Result<(), Error> {
        self.progress.tell(Event::Agent(data)).await
    }

    fn close(&self, connection: u32) {
        lock(&self.waiting).connections.remove(&connection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret(b"hush".to_vec())), "Secret");
    }

    #[test]
    fn who_does_not_read_loses_the_connection_and_nobody_waits() {
        let mut waiting = Waiting::default();
        let (to, mut from) = mpsc::channel(1);
        waiting.connections.insert(7, to);
        let data = |last| AgentData { connection: 7, last, ..AgentData::default() };
        deliver(&mut waiting, data(false));
        assert!(waiting.connections.contains_key(&7));
        deliver(&mut waiting, data(false));
        assert!(!waiting.connections.contains_key(&7));
        assert!(from.try_recv().is_ok() && from.try_recv().is_err());
        deliver(&mut waiting, data(true));
    }
}
