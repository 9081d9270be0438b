//! The one task that reads what a container says and hands it on: log, ring, clients.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use davit_proto::types::Exit;
use davit_sys::pty::WindowSize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::client::{Client, Frame, PIECE, WINDOW};
use super::input::{Input, Rules, Typist};
use super::log::{Limits, Log};
use super::ring::{self, Ring};
use super::source::{Ends, More, PIPE, Source};
use super::{Offsets, Stream};

/// Clients at a time.
const CLIENTS: usize = 64;
/// How long output may still come after the init process has ended, from others that hold its pipes.
const GRACE: Duration = Duration::from_millis(200);
/// Most reads of one stream at the end, so that such others cannot hold up the end itself.
const LAST_READS: usize = 64;
/// The same where the output waits for clients: what the pipe held at the end is less than two of them.
const AWAITED_READS: usize = 2;
/// What is kept of each stream of which a client that says what it has seen may want any byte again: what it had not
/// seen, and one more read.
const KEPT: usize = WINDOW as usize + (2 * PIPE);
/// A burst of so many bytes is likely to go on: memory for it is kept until it was quiet for a moment.
const BULK: u64 = 4 << 10;
const QUIET: Duration = Duration::from_millis(100);
/// How long the end of an output that is in no log can be had after the exit.
pub const LINGER: Duration = Duration::from_secs(30);

/// How a client attaches.
#[derive(Debug)]
pub struct Attach {
    /// It will type, under this session; empty for one of its own.
    pub session: Option<String>,
    /// Which output it wants.
    pub wants: [bool; 2],
    /// From which offsets on; none for from now on.
    pub from: Option<[u64; 2]>,
    /// It will say what it has seen, under this session.
    pub says_seen: Option<String>,
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
    Seen(String, [u64; 2]),
    Release,
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

    /// The client of a session has taken everything before these offsets for good.
    pub async fn seen(&self, session: String, offsets: [u64; 2]) {
        // A pump that has ended waits for nobody.
        let _ = self.orders.send(Order::Seen(session, offsets)).await;
    }

    /// The output waits for its clients no longer.
    pub async fn release(&self) {
        // The same.
        let _ = self.orders.send(Order::Release).await;
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
    /// Folder of the log, and how long it may grow; none to keep only the end of the output.
    pub log: Option<(PathBuf, Limits)>,
    /// Whether the program waits for those who listen.
    pub audience: Audience,
}

/// Whom the output is for.
#[derive(Debug)]
pub enum Audience {
    /// Whoever listens; the program goes on without.
    Any,
    /// The clients that are there: without one, or when one does not take what there is, the program waits. Says
    /// whether there is none.
    Awaited(watch::Sender<bool>),
}

/// Starts a pump for one process.
pub fn start(setup: Setup) -> (Handle, JoinHandle<()>) {
    let (sender, orders) = mpsc::channel(4);
    let offsets = Offsets::default();
    let rules = Rules { once: setup.stdin_once, terminal: setup.ends.terminal };
    let rings = match (&setup.log, &setup.audience) {
        (Some(_), _) => None,
        (None, Audience::Any) => Some(ring::CAPACITY),
        (None, Audience::Awaited(_)) => Some(KEPT),
    };
    let pump = Pump {
        orders,
        audience: setup.audience,
        outputs: setup.ends.outputs,
        terminal: setup.ends.terminal,
        size: None,
        rules,
        input: setup.ends.input.map(|end| Input::new(end, rules)),
        heard: Heard {
            log: setup.log.map(|(folder, limits)| Log::open(folder, limits)),
            rings: rings.map(|capacity| Stream::BOTH.map(|_| Ring::with_capacity(capacity))),
            clients: Vec::new(),
            offsets: offsets.clone(),
        },
        exit: None,
        last_reads: [AWAITED_READS; 2],
        buffer: Vec::new(),
    };
    (Handle { orders: sender, offsets }, tokio::spawn(pump.run()))
}

struct Pump {
    orders: mpsc::Receiver<Order>,
    audience: Audience,
    outputs: [Option<Source>; 2],
    terminal: bool,
    /// What the terminal was last resized to.
    size: Option<WindowSize>,
    rules: Rules,
    input: Option<Input>,
    heard: Heard,
    /// Set when the life is over, with the moment at which nothing more is waited for.
    exit: Option<(Exit, Instant)>,
    /// Reads of each stream that are left at the end.
    last_reads: [usize; 2],
    /// Takes memory only during a burst of output.
    buffer: Vec<u8>,
}

enum Wake {
    Order(Option<Order>),
    Readable,
    ClientMoved,
    Quiet,
    Over,
}

impl Pump {
    async fn run(mut self) {
        loop {
            match self.wait().await {
                Wake::Order(Some(order)) => self.obey(order).await,
                Wake::Readable => self.read_burst().await,
                Wake::ClientMoved => {}
                Wake::Quiet => self.rest(),
                Wake::Over if self.reads_on().await => {}
                Wake::Order(None) | Wake::Over => break,
            }
        }
        let Some((exit, _)) = self.exit.clone() else { return };
        self.outputs = [None, None];
        self.part(&exit);
        if self.heard.log.is_none() {
            self.linger(&exit).await;
        }
    }

    /// Tells every client of the exit.
    fn part(&mut self, exit: &Exit) {
        for client in std::mem::take(&mut self.heard.clients) {
            tokio::spawn(client.finish(exit.clone()));
        }
    }

    /// What is in no log can be had from here for a while, by a client whose connection broke before the end.
    async fn linger(&mut self, exit: &Exit) {
        let until = Instant::now() + LINGER;
        while let Ok(Some(order)) = tokio::time::timeout_at(until, self.orders.recv()).await {
            self.obey(order).await;
            self.part(exit);
        }
    }

    async fn wait(&mut self) -> Wake {
        let now = Stream::BOTH.map(|stream| self.heard.offsets.get(stream));
        let mut held = None;
        if let Audience::Awaited(lonely) = &self.audience {
            self.heard.clients.retain(Client::is_there);
            let alone = self.heard.clients.is_empty();
            lonely.send_if_modified(|told| std::mem::replace(told, alone) != alone);
            held = Some(alone || !self.heard.clients.iter().all(|client| client.has_room(now)));
        }
        let awaited = held.is_some();
        let held = held.unwrap_or(false);
        let over = match &self.exit {
            Some(_) if self.outputs.iter().all(Option::is_none) => return Wake::Over,
            // For clients that may come back; the process itself is gone.
            Some((_, deadline)) if held => Some(*deadline + LINGER),
            Some((_, deadline)) => Some(*deadline),
            None => None,
        };
        let [stdout, stderr] = &self.outputs;
        tokio::select! {
            biased;
            order = self.orders.recv() => Wake::Order(order),
            () = sleep_until(over.unwrap_or_else(Instant::now)), if over.is_some() => Wake::Over,
            () = readable(stdout.as_ref()), if !held => Wake::Readable,
            () = readable(stderr.as_ref()), if !held => Wake::Readable,
            () = moved(&self.heard.clients, now), if awaited => Wake::ClientMoved,
            () = sleep(QUIET), if self.buffer.capacity() > 0 => Wake::Quiet,
        }
    }

    /// At the end: whether there was more in the pipes, which nobody shall miss for having been slow.
    async fn reads_on(&mut self) -> bool {
        let Audience::Awaited(_) = &self.audience else { return false };
        let before = Stream::BOTH.map(|stream| self.heard.offsets.get(stream));
        if self.heard.clients.is_empty() || !self.heard.clients.iter().all(|client| client.has_room(before)) {
            return false;
        }
        for stream in Stream::BOTH {
            self.read(stream, Source::read_now).await;
        }
        before != Stream::BOTH.map(|stream| self.heard.offsets.get(stream))
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
            Order::Seen(session, offsets) => {
                self.heard.clients.iter_mut().for_each(|client| client.has_seen(&session, offsets));
            }
            Order::Release => self.audience = Audience::Any,
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
        let (mut client, frames) = Client::new(attach.wants);
        if let Some(session) = attach.says_seen {
            client.says_seen(session, starts);
        }
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
        let said = |heard: &Heard| Stream::BOTH.map(|stream| heard.offsets.get(stream)).iter().sum::<u64>();
        let before = said(&self.heard);
        for stream in Stream::BOTH {
            more |= self.read(stream, Source::read).await == More::Now;
        }
        if !more && said(&self.heard) - before < BULK {
            self.rest();
        }
    }

    async fn read(&mut self, stream: Stream, how: fn(&Source, &mut Vec<u8>) -> io::Result<More>) -> More {
        // A read that was not tried leaves the buffer as it was.
        self.buffer.clear();
        if matches!((&self.audience, &self.exit), (Audience::Awaited(_), Some(_))) {
            // Somebody else who has the pipe could go on for ever.
            let left = &mut self.last_reads[stream.index()];
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => self.outputs[stream.index()] = None,
            }
        }
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
        if let Some(log) = &mut self.heard.log {
            log.rest();
        }
    }
}

/// Resolves when a client went, or made room.
async fn moved(clients: &[Client], now: [u64; 2]) {
    let first = clients.iter().find(|client| !client.has_room(now)).or(clients.first());
    match first {
        Some(client) => client.moved().await,
        None => std::future::pending().await,
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
    /// None for a process whose output is not the container's.
    log: Option<Log>,
    /// From the first client on; without a log from the first byte on.
    rings: Option<[Ring; 2]>,
    clients: Vec<Client>,
    offsets: Offsets,
}

impl Heard {
    async fn hear(&mut self, stream: Stream, data: &[u8]) {
        if let Some(log) = &mut self.log {
            log.write(stream, data, SystemTime::now());
        }
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
