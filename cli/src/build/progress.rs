//! What a build tells, on standard error: a picture on a terminal, lines elsewhere, JSON for programs, or nothing.
//!
//! Whatever ends the build (its end, a failure, a signal, a reader that is gone), the terminal is as it was before.

mod excerpt;
mod json;
mod live;
mod plain;
mod record;
mod tree;
mod words;

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use davit_proto::build::build_response::Event;
use davit_proto::build::{BuildResponse, Built};
use davit_proto::status::RemoteError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tonic::Streaming;

use crate::args::build::ProgressKind;
use crate::error::Error;
use crate::output;
use crate::stream::signal::{Caught, Signals};
use live::Live;
use record::{Change, Record};
use tree::Stand;

/// Between two looks at the clock and at who reads.
const TICK: Duration = Duration::from_millis(100);
/// Variables that say how to tell, when no flag does; the first that is there.
const VARIABLES: [&str; 2] = ["DAVIT_PROGRESS", "BUILDKIT_PROGRESS"];

/// A Dockerfile that errors are about.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it says.
    pub bytes: &'a [u8],
}

/// What comes next of a build.
#[derive(Debug)]
pub enum Next {
    /// Something that is not for the eye.
    Event(Event),
    /// Nothing more.
    End,
    /// A person or the system wants it to end.
    Signal(u32),
    /// It failed.
    Failed(RemoteError),
}

/// How work of this side ended.
#[derive(Debug)]
pub enum Done<T> {
    /// By itself.
    Work(T),
    /// A person or the system wanted it to end.
    Signal(u32),
}

/// How a build goes.
#[derive(Debug)]
pub struct Progress {
    show: Show,
    record: Record,
    signals: Signals,
    ticks: Interval,
    /// What is told only when nothing is drawn over it any more.
    later: Vec<String>,
}

#[derive(Debug)]
enum Show {
    /// Only what failed.
    Nothing,
    Lines,
    Json,
    Live(Box<Live>),
}

/// How to tell, by flags and surroundings.
///
/// # Errors
/// They do not go together, or there is no terminal for what needs one.
pub fn kind(flag: Option<ProgressKind>, quiet: bool) -> Result<ProgressKind, Error> {
    let named = || VARIABLES.into_iter().find_map(|name| Some((name, std::env::var(name).ok()?)));
    let wanted = match (flag, named().filter(|(_, value)| !value.is_empty())) {
        (Some(kind), _) => kind,
        (None, Some((name, value))) => clap::ValueEnum::from_str(&value, false)
            .map_err(|_| Error::Usage(format!("{name} is {value:?}, which is no way to tell of a build")))?,
        (None, None) => ProgressKind::Auto,
    };
    let terminal = io::stderr().is_terminal() && std::env::var("TERM").is_ok_and(|term| term != "dumb");
    match wanted {
        ProgressKind::Auto | ProgressKind::Quiet | ProgressKind::None if quiet => Ok(ProgressKind::Quiet),
        _ if quiet && flag.is_none() => Ok(ProgressKind::Quiet),
        _ if quiet => Err(Error::Usage("--quiet and --progress exclude each other".to_owned())),
        ProgressKind::Auto if terminal => Ok(ProgressKind::Tty),
        ProgressKind::Auto => Ok(ProgressKind::Plain),
        ProgressKind::Tty if !io::stderr().is_terminal() => {
            Err(Error::Usage("--progress tty needs a terminal at standard error".to_owned()))
        }
        ProgressKind::Rawjson => Ok(ProgressKind::Json),
        kind => Ok(kind),
    }
}

impl Progress {
    /// Begins to tell, and to listen to signals.
    ///
    /// # Errors
    /// Signals cannot be listened to.
    pub fn new(kind: ProgressKind) -> Result<Self, Error> {
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let show = match kind {
            ProgressKind::Quiet | ProgressKind::None => Show::Nothing,
            ProgressKind::Json | ProgressKind::Rawjson => Show::Json,
            ProgressKind::Tty => Show::Live(Box::new(Live::new(colours))),
            ProgressKind::Plain | ProgressKind::Auto => Show::Lines,
        };
        let signals = Signals::catch().map_err(|error| Error::io("listen to signals", error))?;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { show, record: Record::new(Instant::now()), signals, ticks, later: Vec::new() })
    }

    /// Waits for what comes next, and tells all that is to be told meanwhile.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub async fn next(&mut self, events: &mut Streaming<BuildResponse>) -> Result<Next, Error> {
        loop {
            tokio::select! {
                biased;
                caught = self.signals.next() => match caught {
                    Caught::Resize => self.draw(),
                    Caught::HangUp => return Ok(Next::Signal(1)),
                    Caught::Signal(number) => return Ok(Next::Signal(number)),
                },
                _ = self.ticks.tick() => {
                    self.draw();
                    self.read()?;
                }
                event = events.message() => match event {
                    Err(status) => return Ok(Next::Failed(status.into())),
                    Ok(None) => return Ok(Next::End),
                    Ok(Some(BuildResponse { event: None })) => {}
                    Ok(Some(BuildResponse { event: Some(event) })) => {
                        if let Some(event) = self.event(event)? {
                            return Ok(Next::Event(event));
                        }
                    }
                },
            }
        }
    }

    /// Waits for work of this side that follows the last event, and may tell of itself; a signal ends it.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Result<Done<T>, Error> {
        self.settle(Stand::Finished)?;
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                caught = self.signals.next() => match caught {
                    Caught::Resize => {}
                    Caught::HangUp => return Ok(Done::Signal(1)),
                    Caught::Signal(number) => return Ok(Done::Signal(number)),
                },
                done = &mut work => return Ok(Done::Work(done)),
                _ = self.ticks.tick() => self.read()?,
            }
        }
    }

    /// Tells of an event, or answers with it when it is not for the eye.
    fn event(&mut self, event: Event) -> Result<Option<Event>, Error> {
        match event {
            Event::Step(_)
            | Event::Output(_)
            | Event::Part(_)
            | Event::Planned(_)
            | Event::Warning(_)
            | Event::Finding(_) => {
                let changes = self.record.event(event, Instant::now());
                self.tell(&changes, "").map(|()| None)
            }
            other => Ok(Some(other)),
        }
    }

    fn tell(&mut self, changes: &[Change], cause: &str) -> Result<(), Error> {
        for change in changes {
            match &self.show {
                Show::Nothing => {}
                Show::Lines => say(&plain::lines(&self.record, change, cause))?,
                Show::Json => {
                    if let Some(object) = json::change(&self.record, change) {
                        say(&format!("{object}\n"))?;
                    }
                }
                Show::Live(_) => {
                    if let Change::Warning(_) = change {
                        self.later.push(plain::lines(&self.record, change, cause));
                    }
                }
            }
        }
        Ok(())
    }

    fn draw(&mut self) {
        if let Show::Live(live) = &mut self.show {
            live.draw(&self.record);
        }
    }

    /// Whether somebody still reads what this writes.
    fn read(&self) -> Result<(), Error> {
        let gone = match self.show {
            Show::Nothing => is_gone(io::stdout()),
            _ => is_gone(io::stderr()),
        };
        if gone { Err(Error::Pipe) } else { Ok(()) }
    }

    /// Nothing is drawn over any more: what follows are lines.
    fn settle(&mut self, stand: Stand) -> Result<(), Error> {
        if let Show::Live(live) = &mut self.show {
            let lines = live.end(&self.record, stand);
            self.show = Show::Lines;
            say(&(lines.join("\n") + "\n"))?;
        }
        self.later.drain(..).try_for_each(|text| say(&text))
    }

    /// The image is whole.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub fn built(&mut self, built: &Built) -> Result<(), Error> {
        self.settle(Stand::Finished)?;
        match self.show {
            Show::Json => say(&format!("{}\n", json::built(built))),
            Show::Nothing => Ok(()),
            Show::Lines | Show::Live(_) => self.findings(),
        }
    }

    /// All that checks found, in a line each.
    fn findings(&self) -> Result<(), Error> {
        let found = &self.record.findings;
        if found.is_empty() {
            return Ok(());
        }
        let plural = if found.len() == 1 { "" } else { "s" };
        let mut text = format!("\n {} warning{plural} found:\n", found.len());
        for finding in found {
            let at = if finding.line == 0 { String::new() } else { format!(" (line {})", finding.line) };
            text +=
                &format!(" - {}: {}{at}\n", output::visible(&finding.check), output::visible(&finding.text));
        }
        say(&text)
    }

    /// It was only looked at: tells what was found, with the lines, and answers with how much that is.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub fn checked(&mut self, text: Text<'_>) -> Result<usize, Error> {
        self.settle(Stand::Finished)?;
        let found = &self.record.findings;
        if matches!(self.show, Show::Json | Show::Nothing) {
            return Ok(found.len());
        }
        for finding in found {
            let mut shown =
                format!("WARNING: {}\n{}\n", output::visible(&finding.check), output::visible(&finding.text));
            if let Some(line) = usize::try_from(finding.line).ok().filter(|line| *line > 0) {
                shown += &excerpt::lines(text.name, &String::from_utf8_lossy(text.bytes), line);
            }
            say(&(shown + "\n"))?;
        }
        let plural = if found.len() == 1 { " was" } else { "s were" };
        match found.len() {
            0 => say("Check complete, no warnings found.\n")?,
            number => say(&format!("Check complete, {number} warning{plural} found.\n"))?,
        }
        Ok(found.len())
    }

    /// A signal ended it.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub fn cancelled(&mut self) -> Result<(), Error> {
        let changes = self.record.cancel(Instant::now());
        self.tell(&changes, "")?;
        self.settle(Stand::Ended)?;
        match self.show {
            Show::Json => say("{\"type\":\"cancelled\"}\n"),
            Show::Nothing => Ok(()),
            Show::Lines | Show::Live(_) => say("davit: the build was cancelled\n"),
        }
    }

    /// It failed: tells what the step said last, and the lines of the Dockerfile. The sentence itself is left to the
    /// caller, unless it was told already.
    ///
    /// # Errors
    /// Always: the failure.
    pub fn failed(&mut self, error: RemoteError, text: Text<'_>) -> Error {
        self.fail(&error, text)
            .map_or_else(|gone| gone, |told| if told { Error::Reported } else { error.into() })
    }

    fn fail(&mut self, error: &RemoteError, text: Text<'_>) -> Result<bool, Error> {
        let value = |wanted: &str| {
            let found = error.values.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.as_str())
        };
        let number = |wanted: &str| value(wanted).and_then(|value| value.parse::<usize>().ok());
        let step = number("step").and_then(|step| u32::try_from(step).ok()).filter(|step| *step > 0);
        let changes = self.record.fail(step, Instant::now());
        self.tell(&changes, value("cause").unwrap_or(&error.message))?;
        self.settle(Stand::Ended)?;
        if let Show::Json = self.show {
            return say(&format!("{}\n", json::failed(error, step))).map(|()| true);
        }
        if let Some(failed) = self.record.failed().filter(|step| !step.last.is_empty()) {
            say(&excerpt::last(failed))?;
        }
        if let Some(line) = number("line") {
            say(&excerpt::lines(text.name, &String::from_utf8_lossy(text.bytes), line))?;
        }
        if !matches!(self.show, Show::Nothing) {
            self.findings()?;
        }
        Ok(false)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // On whatever way out: a picture that nobody ended is taken away.
        if let Show::Live(live) = &mut self.show {
            drop(live.end(&self.record, Stand::Ended));
        }
    }
}

/// Writes to standard error. A full disk behind it ends no build, a reader that is gone does.
fn say(text: &str) -> Result<(), Error> {
    match io::stderr().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Error::Pipe),
        _ => Ok(()),
    }
}

/// Whether the reader of a pipe is gone.
fn is_gone(stream: impl AsFd) -> bool {
    let mut asked = [PollFd::new(&stream, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut asked, Some(&now)).is_ok_and(|_| asked[0].revents().contains(PollFlags::ERR))
}
