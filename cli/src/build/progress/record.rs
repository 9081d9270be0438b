//! What is known of a build so far: its steps, what they said last, how far their parts are. Nothing is shown here.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use davit_proto::build::build_response::Event;
use davit_proto::build::{Finding, Output, Part, Step as WireStep, StepState};

use super::words::Lines;

/// Lines of output that are kept of each step, for whoever wants to know why it failed.
const LAST: usize = 20;
/// Parts that are kept of each step.
const PARTS: usize = 256;
/// Findings that are kept.
const FINDINGS: usize = 1000;

/// How a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It goes on.
    Running,
    /// It is done.
    Done,
    /// It was done before.
    Cached,
    /// It failed.
    Failed,
    /// It was given up.
    Cancelled,
}

/// One step.
#[derive(Debug)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: State,
    /// Its parts, in the order in which they were heard of.
    pub parts: Vec<Moving>,
    /// Its last lines of output.
    pub last: VecDeque<String>,
    begun: Instant,
    took: Option<Duration>,
    lines: Lines,
}

/// A part of a step.
#[derive(Debug)]
pub struct Moving {
    /// What the engine says of it.
    pub part: Part,
    begun: Instant,
    took: Option<Duration>,
}

impl Moving {
    /// How long it took, or takes.
    pub fn time(&self, now: Instant) -> Duration {
        self.took.unwrap_or_else(|| now.saturating_duration_since(self.begun))
    }
}

impl Step {
    /// How long it took, or takes.
    pub fn time(&self, now: Instant) -> Duration {
        self.took.unwrap_or_else(|| now.saturating_duration_since(self.begun))
    }
}

/// What an event changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A step began.
    Begun(u32),
    /// A step said a whole line, so long after it began.
    Line {
        /// Its number.
        number: u32,
        /// After this time.
        at: Duration,
        /// Without anything that would drive a terminal.
        text: String,
        /// On standard error.
        stderr: bool,
    },
    /// A part of a step moved on: the step's number, and which part.
    Part(u32, usize),
    /// A step ended.
    Ended(u32),
    /// Something is probably not meant.
    Warning(String),
    /// A check found something.
    Finding(Finding),
}

/// A build.
#[derive(Debug)]
pub struct Record {
    /// When it began.
    pub begun: Instant,
    /// Its steps by number.
    pub steps: BTreeMap<u32, Step>,
    /// How many there will be at least.
    pub planned: usize,
    /// What checks found.
    pub findings: Vec<Finding>,
}

impl Record {
    /// Of a build that begins.
    pub fn new(now: Instant) -> Self {
        Self { begun: now, steps: BTreeMap::new(), planned: 0, findings: Vec::new() }
    }

    /// Something happened.
    pub fn event(&mut self, event: Event, now: Instant) -> Vec<Change> {
        match event {
            Event::Step(step) => self.step(&step, now),
            Event::Output(output) => self.output(&output, now),
            Event::Part(part) => self.part(part, now),
            Event::Planned(planned) => {
                self.planned = usize::try_from(planned.steps).unwrap_or(usize::MAX);
                Vec::new()
            }
            Event::Warning(text) => vec![Change::Warning(text)],
            Event::Finding(finding) => {
                if self.findings.len() < FINDINGS {
                    self.findings.push(finding.clone());
                }
                vec![Change::Finding(finding)]
            }
            _ => Vec::new(),
        }
    }

    fn step(&mut self, told: &WireStep, now: Instant) -> Vec<Change> {
        let number = told.number;
        let took = told.took.as_ref().and_then(|took| Duration::try_from(*took).ok());
        let state = match told.state() {
            StepState::Running => {
                self.steps.insert(
                    number,
                    Step {
                        name: told.name.clone(),
                        state: State::Running,
                        parts: Vec::new(),
                        last: VecDeque::new(),
                        begun: now,
                        took: None,
                        lines: Lines::default(),
                    },
                );
                return vec![Change::Begun(number)];
            }
            StepState::Cached => State::Cached,
            StepState::Done => State::Done,
            StepState::Failed => State::Failed,
            StepState::Unspecified => return Vec::new(),
        };
        self.end(number, state, took, now)
    }

    fn end(&mut self, number: u32, state: State, took: Option<Duration>, now: Instant) -> Vec<Change> {
        let Some(step) = self.steps.get_mut(&number) else { return Vec::new() };
        let at = step.time(now);
        let rest: Vec<(bool, String)> = step.lines.rest().collect();
        let mut changes = step.say(number, at, rest);
        step.state = state;
        step.took = Some(took.unwrap_or(at));
        changes.push(Change::Ended(number));
        changes
    }

    fn output(&mut self, output: &Output, now: Instant) -> Vec<Change> {
        let Some(step) = self.steps.get_mut(&output.number) else { return Vec::new() };
        let lines = step.lines.take(&output.data, output.stderr);
        let lines = lines.into_iter().map(|line| (output.stderr, line)).collect();
        step.say(output.number, step.time(now), lines)
    }

    fn part(&mut self, part: Part, now: Instant) -> Vec<Change> {
        let number = part.number;
        let Some(step) = self.steps.get_mut(&number) else { return Vec::new() };
        let index = match step.parts.iter().position(|known| known.part.name == part.name) {
            Some(index) => index,
            None if step.parts.len() == PARTS => return Vec::new(),
            None => {
                step.parts.push(Moving { part: part.clone(), begun: now, took: None });
                step.parts.len() - 1
            }
        };
        let known = &mut step.parts[index];
        known.took = part.done.then(|| known.time(now));
        known.part = part;
        vec![Change::Part(number, index)]
    }

    /// The build failed: the step that is to blame failed, those that went on with it were given up.
    pub fn fail(&mut self, blamed: Option<u32>, now: Instant) -> Vec<Change> {
        let running: Vec<u32> = self.running().map(|(number, _)| number).collect();
        // What nobody is blamed for is the only one's fault that could be.
        let blamed = blamed.or_else(|| running.first().copied().filter(|_| running.len() == 1));
        let mut changes = Vec::new();
        for number in running {
            let state = if Some(number) == blamed { State::Failed } else { State::Cancelled };
            changes.extend(self.end(number, state, None, now));
        }
        changes
    }

    /// The build was given up.
    pub fn cancel(&mut self, now: Instant) -> Vec<Change> {
        let running: Vec<u32> = self.running().map(|(number, _)| number).collect();
        running.into_iter().flat_map(|number| self.end(number, State::Cancelled, None, now)).collect()
    }

    /// The step that failed.
    pub fn failed(&self) -> Option<&Step> {
        self.steps.values().find(|step| step.state == State::Failed)
    }

    /// Steps that go on.
    pub fn running(&self) -> impl Iterator<Item = (u32, &Step)> {
        let running = self.steps.iter().filter(|(_, step)| step.state == State::Running);
        running.map(|(number, step)| (*number, step))
    }

    /// How many steps are done, and how many there are.
    pub fn counts(&self) -> (usize, usize) {
        let done = self.steps.values().filter(|s| matches!(s.state, State::Done | State::Cached)).count();
        (done, self.planned.max(self.steps.len()))
    }
}

impl Step {
    fn say(&mut self, number: u32, at: Duration, lines: Vec<(bool, String)>) -> Vec<Change> {
        let mut changes = Vec::with_capacity(lines.len());
        for (stderr, text) in lines {
            if self.last.len() == LAST {
                self.last.pop_front();
            }
            self.last.push_back(text.clone());
            changes.push(Change::Line { number, at, text, stderr });
        }
        changes
    }
}
