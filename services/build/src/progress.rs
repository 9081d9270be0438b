//! What a client is told while its build goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use davit_proto::build::build_response::Event;
use davit_proto::build::{BuildResponse, Output, Step as WireStep, StepState};
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
    pub async fn output(&self, number: u32, data: Vec<u8>, stderr: bool) -> Result<(), Error> {
        self.tell(Event::Output(Output { number, data: data.into(), stderr })).await
    }

    /// A step begins.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn begin(&self, name: &str) -> Result<Step, Error> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let name = shortened(name);
        let step = Step { progress: self.clone(), number, name, begun: Instant::now() };
        step.tell(StepState::Running).await?;
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
    pub async fn tell(&self, state: StepState) -> Result<(), Error> {
        let took = prost_types::Duration::try_from(self.begun.elapsed()).ok();
        let took = took.filter(|_| state != StepState::Running);
        let step = WireStep { number: self.number, name: self.name.clone(), state: state.into(), took };
        self.progress.tell(Event::Step(step)).await
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
