//! What a build tells, one line after the other.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use davit_proto::build::build_response::Event;
use davit_proto::build::{Built, Output, Step, StepState};

use crate::output::{complain, visible};
use crate::reference::familiar;

/// Lines of a Dockerfile before and after the one that an error is about.
const AROUND: usize = 4;

/// Tells how a build goes, on standard error.
#[derive(Debug)]
pub struct Progress {
    quiet: bool,
    begun: BTreeMap<u32, Instant>,
    /// Output of steps that is no whole line yet.
    partial: BTreeMap<u32, Vec<u8>>,
    /// The last output of each step, for who sees nothing else.
    last: Vec<String>,
}

/// Lines of output that a quiet build shows when it fails.
const LAST: usize = 20;
/// Bytes that are told although their line goes on.
const LINE: usize = 16 << 10;

impl Progress {
    /// Tells everything, or only what failed.
    pub fn new(quiet: bool) -> Self {
        Self { quiet, begun: BTreeMap::new(), partial: BTreeMap::new(), last: Vec::new() }
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            complain(text);
        }
    }

    /// Something happened.
    pub fn event(&mut self, event: Event) {
        match event {
            Event::Step(step) => self.step(&step),
            Event::Output(output) => self.output(&output),
            Event::Warning(text) => self.say(&format!("WARNING: {}", visible(&text))),
            Event::Finding(finding) => {
                let text = format!("WARNING: {} (line {}): {}", finding.check, finding.line, finding.text);
                self.say(&visible(&text));
            }
            Event::Needed(_) | Event::Files(_) | Event::Built(_) | Event::Part(_) | Event::Planned(_) => {}
        }
    }

    fn step(&mut self, step: &Step) {
        let number = step.number;
        let took = step.took.as_ref().and_then(|took| Duration::try_from(*took).ok()).unwrap_or_default();
        self.rest(number);
        match step.state() {
            StepState::Running => {
                self.begun.insert(number, Instant::now());
                self.last.clear();
                self.say(&format!("#{number} {}", visible(&step.name)));
            }
            StepState::Cached => self.say(&format!("#{number} CACHED\n")),
            StepState::Done => self.say(&format!("#{number} DONE {:.1}s\n", took.as_secs_f64())),
            StepState::Failed => self.say(&format!("#{number} FAILED {:.1}s\n", took.as_secs_f64())),
            StepState::Unspecified => {}
        }
    }

    fn output(&mut self, output: &Output) {
        let mut open = self.partial.remove(&output.number).unwrap_or_default();
        for piece in output.data.split_inclusive(|byte| *byte == b'\n') {
            open.extend_from_slice(piece);
            if piece.ends_with(b"\n") || open.len() > LINE {
                self.line(output.number, &std::mem::take(&mut open));
            }
        }
        if !open.is_empty() {
            self.partial.insert(output.number, open);
        }
    }

    /// One whole line of a step.
    fn line(&mut self, number: u32, line: &[u8]) {
        let begun = self.begun.get(&number).map(Instant::elapsed).unwrap_or_default();
        let text = String::from_utf8_lossy(line);
        let line = visible(text.trim_end_matches(['\n', '\r'])).into_owned();
        self.say(&format!("#{number} {:.3} {line}", begun.as_secs_f64()));
        if self.last.len() == LAST {
            self.last.remove(0);
        }
        self.last.push(line);
    }

    /// What a step said last without ending its line.
    fn rest(&mut self, number: u32) {
        if let Some(rest) = self.partial.remove(&number) {
            self.line(number, &rest);
        }
    }

    /// The image is whole.
    pub fn built(&self, built: &Built) {
        self.say(&format!("built {}", built.image_id));
        for reference in &built.references {
            self.say(&format!("named {}", familiar(reference)));
        }
    }

    /// The lines of the Dockerfile around one.
    pub fn lines(&mut self, name: &str, text: &str, line: usize) {
        if self.quiet {
            self.last.iter().for_each(|line| complain(line));
        }
        let first = line.saturating_sub(AROUND + 1);
        complain(&format!("{name}:{line}\n--------------------"));
        for (index, shown) in text.lines().enumerate().skip(first).take(line + AROUND - first) {
            let mark = if index + 1 == line { ">>>" } else { "   " };
            complain(&format!("{:4} | {mark} {}", index + 1, visible(shown)));
        }
        complain("--------------------");
    }
}
