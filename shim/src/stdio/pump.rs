//! The one task that reads what a container says and hands it on: log, ring, clients.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use davit_proto::types::Exit;
use davit_sys::pty::WindowSize;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::client::{Client, Frame, PIECE};
use super::input::{Input, Rules, Typist};
use super::log::{Limits, Log};
use super::ring::Ring;
use super::source::{Ends, More, Source};
use super::{Offsets, Stream};

/// Clients at a time.
const CLIENTS: usize = 64;
/// How long output may still come after the init process has ended, from others that hold its pipes.
const GRACE: Duration = Duration::from_millis(200);
/// Most reads of one stream at the end, so that such others cannot hold up the end itself.
const LAST_READS: usize = 64;

/// How a client attaches.
#[derive(Debug)]
pub struct Attach {
    /// It will type, under this session; empty for one of its own.
    pub session: Option<String>,
    /// Which output it wants.
    pub wants: [bool; 2],
    /// From which offsets on; none for from now on.
    pub from: Option<[u64; 2]>,
}

/// A client's side of being attached.
#[derive(Debug)]
pub struct Attachment {
    /// Offset of the first byte of each stream that comes.
    pub starts: [u64; 2],
    /// What was said since the offsets asked for.
    pub replay: Vec<Frame>,
    /// What comes from now on.
    pub frames: mpsc::Receiver<Frame>,
    /// Closed when `frames` is gone.
    pub alive: mpsc::Sender<Frame>,
    /// Where to type; none when the container has no open input.
    pub typist: Option<Typist>,
}

/// Why a call to the pump came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum StdioError {
    /// The pump has ended with its life.
    #[error("the container's streams are closed")]
    Closed,
    /// Too many clients.
    #[error("{CLIENTS} clients are attached already")]
    TooMany,
    /// Input could not be opened.
    #[error("open standard input")]
    Input(#[source] io::Error),
    /// There is no terminal.
    #[error("the container has no terminal")]
    NoTerminal,
    /// The terminal refused.
    #[error("resize the terminal")]
    Resize(#[source] io::Error),
}

#[derive(Debug)]
enum Order {
    Attach(Attach, oneshot::Sender<Result<Attachment, StdioError>>),
    Resize(WindowSize, oneshot::Sender<Result<(), StdioError>>),
    Renew(Ends, oneshot::Sender<Result<(), StdioError>>),
    Drain(oneshot::Sender<()>),
    Finish(Exit),
}

/// How others speak to the pump.
#[derive(Debug, Clone)]
pub struct Handle {
    orders: mpsc::Sender<Order>,
    offsets: Offsets,
}

impl Handle {
    /// Joins a client.
    pub async fn attach(&self, attach: Attach) -> Result<Attachment, StdioError> {
        self.ask(|reply| Order::Attach(attach, reply)).await?
    }

    /// Sets the size of the terminal.
    pub async fn resize(&self, size: WindowSize) -> Result<(), StdioError> {
        self.ask(|reply| Order::Resize(size, reply)).await?
    }

    /// Goes on with the streams of the next life; log, offsets and clients stay.
    pub async fn renew(&self, ends: Ends) -> Result<(), StdioError> {
        self.ask(|reply| Order::Renew(ends, reply)).await?
    }

    /// After the init process has ended: reads everything that it left, so that the log is whole.
    pub async fn drain(&self) -> Result<(), StdioError> {
        self.ask(Order::Drain).await
    }

    /// Sends the exit to every client once all output was sent; then the pump ends.
    pub async fn finish(&self, exit: Exit) -> Result<(), StdioError> {
        self.orders.send(Order::Finish(exit)).await.map_err(|_| StdioError::Closed)
    }

    /// Bytes said so far.
    pub fn offset(&self, stream: Stream) -> u64 {
        self.offsets.get(stream)
    }

    async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, StdioError> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(order(reply)).await.map_err(|_| StdioError::Closed)?;
        answer.await.map_err(|_| StdioError::Closed)
    }
}

/// What the pump is told at its start.
#[derive(Debug)]
pub struct Setup {
    /// The shim's ends of the streams.
    pub ends: Ends,
    /// Close input after its first client.
    pub stdin_once: bool,
    /// Folder of the log.
    pub log: PathBuf,
    /// How long the log may grow.
    pub limits: Limits,
}

/// Starts a pump for one life.
pub fn start(setup: Setup) -> (Handle, JoinHandle<()>) {
    let (sender, orders) = mpsc::channel(4);
    let offsets = Offsets::default();
    let rules = Rules { once: setup.stdin_once, terminal: setup.ends.terminal };
    let pump = Pump {
        orders,
        outputs: setup.ends.outputs,
        terminal: setup.ends.terminal,
        size: None,
        rules,
        input: setup.ends.input.map(|end| Input::new(end, rules)),
        heard: Heard {
            log: Log::open(setup.log, setup.limits),
            rings: None,
            clients: Vec::new(),
            offsets: offsets.clone(),
        },
        exit: None,
        buffer: Vec::new(),
    };
    (Handle { orders: sender, offsets }, tokio::spawn(pump.run()))
}

struct Pump {
    orders: mpsc::Receiver<Order>,
    outputs: [Option<Source>; 2],
    terminal: bool,
    /// What the terminal was last resized to.
    size: Option<WindowSize>,
    rules: Rules,
    input: Option<Input>,
    heard: Heard,
    /// Set when the life is over, with the moment at which nothing more is waited for.
    exit: Option<(Exit, Instant)>,
    /// Takes memory only during a burst of output.
    buffer: Vec<u8>,
}

enum Wake {
    Order(Option<Order>),
    Readable,
    Over,
}

impl Pump {
    async fn run(mut self) {
        loop {
            match self.wait().await {
                Wake::Order(Some(order)) => self.obey(order).await,
                Wake::Readable => self.read_burst().await,
                Wake::Order(None) | Wake::Over => break,
            }
        }
        let Some((exit, _)) = self.exit else { return };
        for client in self.heard.clients {
            tokio::spawn(client.finish(exit.clone()));
        }
    }

    async fn wait(&mut self) -> Wake {
        let over = match &self.exit {
            Some(_) if self.outputs.iter().all(Option::is_none) => return Wake::Over,
            Some((_, deadline)) => Some(*deadline),
            None => None,
        };
        let [stdout, stderr] = &self.outputs;
        tokio::select! {
            order = self.orders.recv() => Wake::Order(order),
            () = readable(stdout.as_ref()) => Wake::Readable,
            () = readable(stderr.as_ref()) => Wake::Readable,
            () = sleep_until(over.unwrap_or_else(Instant::now)), if over.is_some() => Wake::Over,
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Attach(attach, reply) => {
                let attachment = self.attach(attach);
                // A caller that has gone takes its queue along.
                let _ = reply.send(attachment);
            }
            Order::Resize(size, reply) => {
                let _ = reply.send(self.resize(size));
            }
            Order::Renew(ends, reply) => {
                self.drain().await;
                let _ = reply.send(self.renew(ends));
            }
            Order::Drain(reply) => {
                self.drain().await;
                let _ = reply.send(());
            }
            Order::Finish(exit) => {
                self.input = None;
                self.exit = Some((exit, Instant::now() + GRACE));
            }
        }
    }

    fn attach(&mut self, attach: Attach) -> Result<Attachment, StdioError> {
        let typist = match (&mut self.input, attach.session) {
            (Some(input), Some(session)) => Some(input.attach(&session).map_err(StdioError::Input)?),
            _ => None,
        };
        let heard = &mut self.heard;
        heard.clients.retain(Client::is_there);
        if heard.clients.len() >= CLIENTS {
            return Err(StdioError::TooMany);
        }
        let now = Stream::BOTH.map(|stream| heard.offsets.get(stream));
        let rings = heard.rings.get_or_insert_with(|| now.map(Ring::starting_at));
        let (mut starts, mut replay) = (now, Vec::new());
        if let Some(from) = attach.from {
            for stream in Stream::BOTH.into_iter().filter(|stream| attach.wants[stream.index()]) {
                let (mut offset, pieces) = rings[stream.index()].replay(from[stream.index()], PIECE);
                starts[stream.index()] = offset;
                for data in pieces {
                    let length = data.len() as u64;
                    replay.push(Frame::Output { stream, offset, data });
                    offset += length;
                }
            }
        }
        let (client, frames) = Client::new(attach.wants);
        let alive = client.sender();
        heard.clients.push(client);
        Ok(Attachment { starts, replay, frames, alive, typist })
    }

    fn renew(&mut self, ends: Ends) -> Result<(), StdioError> {
        self.outputs = ends.outputs;
        match (&mut self.input, ends.input) {
            (Some(input), Some(end)) => input.renew(end).map_err(StdioError::Input)?,
            (input, end) => *input = end.map(|end| Input::new(end, self.rules)),
        }
        match self.size {
            Some(size) => self.resize(size),
            None => Ok(()),
        }
    }

    fn resize(&mut self, size: WindowSize) -> Result<(), StdioError> {
        if self.terminal {
            self.size = Some(size);
        }
        match &self.outputs[Stream::Stdout.index()] {
            Some(source) if self.terminal => source.resize(size).map_err(StdioError::Resize),
            Some(_) => Err(StdioError::NoTerminal),
            None if self.terminal => Err(StdioError::Closed),
            None => Err(StdioError::NoTerminal),
        }
    }

    /// Reads each stream once, so that orders get their turn in a long burst. What came to both since the last time
    /// is taken to have come to standard output first.
    async fn read_burst(&mut self) {
        let mut more = false;
        for stream in Stream::BOTH {
            more |= self.read(stream, Source::read).await == More::Now;
        }
        if !more {
            self.rest();
        }
    }

    async fn read(&mut self, stream: Stream, how: fn(&Source, &mut Vec<u8>) -> io::Result<More>) -> More {
        // A read that was not tried leaves the buffer as it was.
        self.buffer.clear();
        let Some(source) = &self.outputs[stream.index()] else { return More::Never };
        let more = how(source, &mut self.buffer).unwrap_or_else(|error| {
            tracing::warn!(?stream, %error, "cannot read the container's output");
            More::Never
        });
        if !self.buffer.is_empty() {
            self.heard.hear(stream, &self.buffer).await;
        }
        if more == More::Never {
            self.outputs[stream.index()] = None;
        }
        more
    }

    async fn drain(&mut self) {
        for stream in Stream::BOTH {
            for _ in 0..LAST_READS {
                if self.read(stream, Source::read_now).await != More::Now {
                    break;
                }
            }
        }
        self.rest();
    }

    /// Gives back what a burst took.
    fn rest(&mut self) {
        self.buffer = Vec::new();
        self.heard.log.rest();
    }
}

/// Ready when there is something to read; never for a stream that is over.
async fn readable(source: Option<&Source>) {
    match source {
        Some(source) => {
            // An error here comes back from the read, which is the next thing done.
            let _ = source.readable().await;
        }
        None => std::future::pending().await,
    }
}

/// Where output goes.
struct Heard {
    log: Log,
    /// From the first client on.
    rings: Option<[Ring; 2]>,
    clients: Vec<Client>,
    offsets: Offsets,
}

impl Heard {
    async fn hear(&mut self, stream: Stream, data: &[u8]) {
        self.log.write(stream, data, SystemTime::now());
        let mut offset = self.offsets.advance(stream, data.len());
        if let Some(rings) = &mut self.rings {
            rings[stream.index()].push(data);
        }
        self.clients.retain(Client::is_there);
        if self.clients.is_empty() {
            return;
        }
        for piece in data.chunks(PIECE) {
            let piece = Bytes::copy_from_slice(piece);
            for client in &mut self.clients {
                client.offer(stream, offset, &piece).await;
            }
            offset += piece.len() as u64;
        }
        // The connections' tasks send what was queued.
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
#[path = "pump_tests.rs"]
mod tests;
