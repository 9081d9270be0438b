//! What a client is told while its build goes on.
//!
//! Each step is told of when it begins and when it ended well. What did not end when the build does was given up, but
//! for the one that the build's error names.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use davit_proto::build::build_response::Event;
use davit_proto::build::{BuildResponse, Output, Part, Planned, Step as WireStep, StepState};
use davit_proto::image::{LayerProgress, LayerState};
use tokio::sync::mpsc;

use crate::error::Error;

/// The way to the client.
#[derive(Debug, Clone)]
pub struct Progress {
    events: mpsc::Sender<Result<BuildResponse, Error>>,
    numbers: Arc<AtomicU32>,
}

/// A step that goes on.
#[derive(Debug)]
pub struct Step {
    progress: Progress,
    number: u32,
    name: String,
    begun: Instant,
}

/// Characters of an instruction in a step's name.
const SHOWN: usize = 200;
/// Between two words about the same part.
const PAUSE: Duration = Duration::from_millis(100);

impl Progress {
    /// Over a channel to the client.
    pub fn new(events: mpsc::Sender<Result<BuildResponse, Error>>) -> Self {
        Self { events, numbers: Arc::default() }
    }

    /// Tells something.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn tell(&self, event: Event) -> Result<(), Error> {
        let frame = BuildResponse { event: Some(event) };
        self.events.send(Ok(frame)).await.map_err(|_| Error::Cancelled)
    }

    /// Output of a step's command.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn output(&self, number: u32, data: Bytes, stderr: bool) -> Result<(), Error> {
        self.tell(Event::Output(Output { number, data, stderr })).await
    }

    /// So many steps will come beside those that began already.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn plan(&self, steps: usize) -> Result<(), Error> {
        let begun = self.numbers.load(Ordering::Relaxed);
        let steps = u32::try_from(steps).unwrap_or(u32::MAX).saturating_add(begun);
        self.tell(Event::Planned(Planned { steps })).await
    }

    /// A step begins.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn begin(&self, name: &str) -> Result<Step, Error> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let name = shortened(name);
        let step = Step { progress: self.clone(), number, name, begun: Instant::now() };
        self.tell(step.event(StepState::Running)).await?;
        Ok(step)
    }
}

impl Step {
    /// Its number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// It ended in this state.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn tell(self, state: StepState) -> Result<(), Error> {
        self.progress.tell(self.event(state)).await
    }

    /// Something that it did, which took no time.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn say(&self, line: &str) -> Result<(), Error> {
        let part = Part { number: self.number, name: line.to_owned(), done: true, ..Part::default() };
        self.progress.tell(Event::Part(part)).await
    }

    /// A part of it, of so many bytes, of which none is there yet.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn part(&self, name: &str, total: u64) -> Result<Moving<'_>, Error> {
        let part = Part { number: self.number, name: name.to_owned(), current: 0, total, done: false };
        self.progress.tell(Event::Part(part.clone())).await?;
        Ok(Moving { step: self, part, told: Instant::now() })
    }

    fn event(&self, state: StepState) -> Event {
        let took = prost_types::Duration::try_from(self.begun.elapsed()).ok();
        let took = took.filter(|_| state != StepState::Running);
        Event::Step(WireStep { number: self.number, name: self.name.clone(), state: state.into(), took })
    }
}

/// A part of a step that comes nearer to its end.
#[derive(Debug)]
pub struct Moving<'a> {
    step: &'a Step,
    part: Part,
    told: Instant,
}

impl Moving<'_> {
    /// So many bytes are there by now. Told now and then.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn at(&mut self, current: u64) -> Result<(), Error> {
        self.part.current = current;
        if self.told.elapsed() < PAUSE {
            return Ok(());
        }
        self.told = Instant::now();
        self.step.progress.tell(Event::Part(self.part.clone())).await
    }

    /// It is whole.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn done(mut self) -> Result<(), Error> {
        self.part.done = true;
        self.step.progress.tell(Event::Part(self.part.clone())).await
    }
}

/// The layers of a pull, as parts of the step that wants them.
#[derive(Debug, Default)]
pub struct Layers(HashMap<String, Instant>);

impl Layers {
    /// A layer moved on. Told now and then, and when it is whole.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn tell(&mut self, layer: &LayerProgress, step: &Step) -> Result<(), Error> {
        let done = matches!(layer.state(), LayerState::Complete | LayerState::Exists);
        match self.0.get(&layer.digest) {
            Some(told) if !done && told.elapsed() < PAUSE => return Ok(()),
            _ => drop(self.0.insert(layer.digest.clone(), Instant::now())),
        }
        let LayerProgress { digest: name, current, total, .. } = layer.clone();
        let part = Part { number: step.number, name, current, total, done };
        step.progress.tell(Event::Part(part)).await
    }
}

/// A text of one line that is not longer than anybody wants to read.
pub fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(SHOWN).is_some() {
        short.push('…');
    }
    short
}
