//! The pump between a terminal (or a pipe) and a container: one loop for `run`, `start --attach`, `attach`
//! and `exec`, so that the same event has the same effect in each.
//!
//! | event | without a raw terminal | with a raw terminal (`-it`) |
//! |---|---|---|
//! | Ctrl-C | SIGINT goes to the container; three within two seconds leave it running | a key for the container |
//! | other signals | go to the container (`--sig-proxy=false`: leave it running) | leave it running |
//! | end of input | the container's input ends | – |
//! | detach keys | – | leave it running |
//! | the terminal is closed | a container that this command started is stopped; others are left running | the same |
//! | the reader of standard output goes | leave it running | the same |
//! | the engine goes | wait for it and go on where it was | the same |

pub mod frame;
mod input;
pub mod output;
mod ready;
pub mod signal;
mod typed;

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::{Duration, Instant};

use davit_proto::container::AttachOffsets;
use davit_proto::status::RemoteError;
use davit_proto::types::{Exit, Output, TerminalSize};
use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::detach::{self, DetachKeys};
use crate::error::Error;
use crate::terminal;

pub use frame::{Down, Up};
use input::{Read, Stdin};
use output::Writer;
use signal::{Caught, Signals};
pub use typed::Lost;
use typed::Typed;

/// Frames of input that may wait for the engine.
const WAITING: usize = 8;
/// Bytes of output after which it is told that they were written out.
const SEEN: u64 = 64 << 10;
/// Interrupts in this time that mean: let me out.
const IMPATIENCE: Duration = Duration::from_secs(2);
/// How many of them.
const INTERRUPTS: usize = 3;

/// How a client sits at a container.
#[derive(Debug)]
pub struct Manner {
    /// Sends what comes from standard input.
    pub stdin: bool,
    /// The container has a terminal.
    pub terminal: bool,
    /// Keys that leave.
    pub detach: DetachKeys,
    /// Passes signals on; without a word it depends on the terminal.
    pub sig_proxy: Option<bool>,
}

/// How it came to an end.
#[derive(Debug)]
pub enum Ended {
    /// The process ended.
    Exit(Exit),
    /// The person left by the detach keys.
    Detached,
    /// A signal told us to leave.
    Signal(u32),
    /// The terminal was closed.
    HungUp,
    /// The connection broke.
    Broken(RemoteError),
}

/// Frames from the engine.
pub type Downlink = Pin<Box<dyn Stream<Item = Result<Down, RemoteError>>>>;

/// Input to the engine. It waits when the container does not read.
#[derive(Debug)]
pub struct Uplink {
    input: Option<mpsc::Sender<Up>>,
}

/// What a person wants besides typing. It goes by calls of its own, for input that nobody reads would hold it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The terminal has another size.
    Resize(TerminalSize),
    /// A signal for the process.
    Signal(u32),
    /// Output was written out for good, up to these offsets.
    Seen(AttachOffsets),
    /// The person leaves by the detach keys, and the process goes on.
    Keep,
}

/// Where orders come from.
pub type Orders = mpsc::UnboundedReceiver<Order>;

/// The two ends of the way to the engine; `open` is the first frame on it.
pub fn uplink<T: From<Up> + Send + 'static>(open: T) -> (Uplink, impl Stream<Item = T> + Send + 'static) {
    let (input, inputs) = mpsc::channel(WAITING);
    let frames = futures_util::stream::iter([open]).chain(ReceiverStream::new(inputs).map(T::from));
    (Uplink { input: Some(input) }, frames)
}

/// One seat at a container: what it wrote so far, what was typed so far. Outlives a broken connection.
#[derive(Debug)]
pub struct Seat {
    manner: Manner,
    raw: Option<terminal::Raw>,
    stdin: Option<Stdin>,
    signals: Signals,
    writer: Writer,
    typed: Typed,
    orders: mpsc::UnboundedSender<Order>,
    interrupts: Vec<Instant>,
    /// Where it is told what was written out: up to where that was done.
    told: Option<u64>,
}

impl Seat {
    /// Takes a seat: raw mode, when a person types at a container's terminal. What the person wants besides typing
    /// comes out of the second half.
    pub fn take(manner: Manner) -> Result<(Self, Orders), Error> {
        let raw = (manner.stdin && manner.terminal && terminal::at_stdin())
            .then(terminal::Raw::enter)
            .transpose()?;
        let signals = Signals::catch().map_err(|error| Error::io("catch signals", error))?;
        let stdin = manner.stdin.then(Stdin::open);
        let (orders, wanted) = mpsc::unbounded_channel();
        let (writer, typed) = (Writer::default(), Typed::default());
        Ok((
            Self { manner, raw, stdin, signals, writer, typed, orders, interrupts: Vec::new(), told: None },
            wanted,
        ))
    }

    /// Tells by orders what was written out: whoever sends the output keeps it until then.
    pub fn tell_seen(&mut self) {
        self.told = Some(0);
    }

    /// All that came was written out.
    fn seen(&mut self) {
        let Some(told) = &mut self.told else { return };
        let offsets = self.writer.offsets();
        let all = offsets.stdout + offsets.stderr;
        if all - *told >= SEEN {
            *told = all;
            // Nobody there to hear it: the process has ended.
            let _ = self.orders.send(Order::Seen(offsets));
        }
    }

    /// Next bytes wanted of each stream.
    pub fn offsets(&self) -> AttachOffsets {
        self.writer.offsets()
    }

    /// The streams begin here, says the engine.
    pub fn begin(&mut self, stdout: u64, stderr: u64) {
        self.writer.begin(stdout, stderr);
    }

    /// Writes output that came another way than by the pump; what was written before is left out.
    pub async fn write(&mut self, output: Output) -> Result<(), Error> {
        self.writer.take(Down::Output(output));
        while self.writer.is_waiting() {
            self.writer.progress().await?;
        }
        Ok(())
    }

    /// Leaves the terminal as it was found.
    pub fn leave(&mut self) {
        self.raw = None;
    }

    /// Tells the terminal's size.
    pub fn resize(&self, size: TerminalSize) {
        // Nobody there to hear it: then nobody shows anything either.
        let _ = self.orders.send(Order::Resize(size));
    }

    /// Carries bytes and events until something ends it. The container has taken so many bytes of input before.
    pub async fn pump(&mut self, mut up: Uplink, mut down: Downlink, taken: u64) -> Result<Ended, Error> {
        let mut pending: VecDeque<Up> = match self.manner.stdin {
            true => self.typed.again(taken)?.into_iter().map(Up).collect(),
            false => VecDeque::new(),
        };
        if self.stdin.is_none() && pending.is_empty() {
            up.input = None;
        }
        loop {
            let full = self.writer.is_waiting();
            tokio::select! {
                biased;
                caught = self.signals.next() => {
                    if let Some(ended) = self.caught(caught) {
                        return Ok(ended);
                    }
                }
                written = self.writer.progress(), if full => {
                    written?;
                    if !self.writer.is_waiting() {
                        self.seen();
                    }
                }
                frame = down.next(), if !full => match frame {
                    Some(Ok(Down::Exit(exit))) => return Ok(Ended::Exit(exit)),
                    Some(Ok(frame)) => self.writer.take(frame),
                    Some(Err(error)) => return Ok(Ended::Broken(error)),
                    None => return Ok(Ended::Broken(frame::cut_off())),
                },
                sent = send(&mut up, &mut pending), if !pending.is_empty() => {
                    if !sent {
                        // The engine takes no more input; what it still says is worth hearing.
                        self.stdin = None;
                    }
                }
                read = input::next(&mut self.stdin), if pending.is_empty() && self.stdin.is_some() => {
                    match self.typed(read) {
                        Next::Send(frame) => pending.push_back(frame),
                        Next::Detach(rest) => {
                            self.part(&up, rest);
                            return Ok(Ended::Detached);
                        }
                        Next::Nothing => {}
                    }
                }
            }
        }
    }

    /// What was read becomes a frame, or the wish to leave.
    fn typed(&mut self, read: Read) -> Next {
        let Read::Bytes(bytes) = read else {
            self.stdin = None;
            return Next::Send(Up(self.typed.finish()));
        };
        let bytes = if self.raw.is_none() {
            bytes
        } else {
            match self.manner.detach.feed(&bytes) {
                detach::Typed::Forward(bytes) if bytes.is_empty() => return Next::Nothing,
                detach::Typed::Forward(bytes) => bytes.into(),
                detach::Typed::Detach(bytes) => return Next::Detach(bytes),
            }
        };
        Next::Send(Up(self.typed.push(bytes)))
    }

    /// Sends what was typed before the detach keys, if there is room.
    fn part(&mut self, up: &Uplink, rest: Vec<u8>) {
        if let (false, Some(input)) = (rest.is_empty(), &up.input) {
            let frame = Up(self.typed.push(rest.into()));
            let _ = input.try_send(frame);
        }
    }

    /// What a signal does: see the table above.
    fn caught(&mut self, caught: Caught) -> Option<Ended> {
        let number = match caught {
            Caught::Resize => {
                if let (true, Some(size)) = (self.manner.terminal, terminal::size()) {
                    self.resize(size);
                }
                return None;
            }
            Caught::HangUp => return Some(Ended::HungUp),
            Caught::Signal(number) => number,
        };
        if !self.manner.sig_proxy.unwrap_or(self.raw.is_none()) || self.is_impatient(number) {
            return Some(Ended::Signal(number));
        }
        // Nobody there to hear it: the container has ended.
        let _ = self.orders.send(Order::Signal(number));
        None
    }

    fn is_impatient(&mut self, number: u32) -> bool {
        if number != signal::INTERRUPT {
            return false;
        }
        let now = Instant::now();
        self.interrupts.retain(|at| now.duration_since(*at) < IMPATIENCE);
        self.interrupts.push(now);
        self.interrupts.len() >= INTERRUPTS
    }
}

/// What comes of some typed bytes.
enum Next {
    Send(Up),
    Detach(Vec<u8>),
    Nothing,
}

/// Hands over a frame of input when there is room for it. False when nobody takes input any more.
async fn send(up: &mut Uplink, pending: &mut VecDeque<Up>) -> bool {
    let Some(input) = &up.input else {
        pending.clear();
        return false;
    };
    let Ok(permit) = input.reserve().await else {
        up.input = None;
        pending.clear();
        return false;
    };
    let Some(frame) = pending.pop_front() else {
        return true;
    };
    let last = frame.0.eof;
    permit.send(frame);
    if last {
        up.input = None;
    }
    true
}

#[cfg(test)]
mod tests;
