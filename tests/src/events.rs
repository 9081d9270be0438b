//! What the engine tells of a container's changes, and what its journal says.

use std::fs;
use std::path::PathBuf;

use davit_proto::journal::{Entry, What, entries};

use crate::engine::Engine;

/// The template with which events are printed for [`Event::read`].
pub const FORMAT: &str = "{{.Revision}}|{{.ID}}|{{.TimeNano}}|{{.Action}}";

/// One event of a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// Its revision.
    pub revision: u64,
    /// The container's id.
    pub id: String,
    /// When, in nanoseconds since 1970.
    pub at: i64,
    /// What happened.
    pub action: String,
}

impl Event {
    /// Reads lines that [`FORMAT`] made.
    ///
    /// # Panics
    /// When a line is none.
    #[must_use]
    pub fn read(text: &str) -> Vec<Self> {
        let one = |line: &str| {
            let mut parts = line.splitn(4, '|');
            Some(Self {
                revision: parts.next()?.parse().ok()?,
                id: parts.next()?.to_owned(),
                at: parts.next()?.parse().ok()?,
                action: parts.next()?.to_owned(),
            })
        };
        text.lines().map(|line| one(line).unwrap_or_else(|| panic!("an event: {line:?}"))).collect()
    }
}

impl Engine {
    /// All events of containers that the engine remembers, oldest first.
    #[must_use]
    pub fn past(&self) -> Vec<Event> {
        let filter = ["events", "--since", "24h", "--until", "0s", "--filter", "type=container"];
        Event::read(&self.ok(filter.into_iter().chain(["--format", FORMAT])).stdout)
    }

    /// The actions of one container, oldest first.
    #[must_use]
    pub fn actions(&self, id: &str) -> Vec<String> {
        self.past().into_iter().filter(|event| event.id == id).map(|event| event.action).collect()
    }

    /// A container's folder.
    #[must_use]
    pub fn bundle(&self, id: &str) -> PathBuf {
        self.seen_root().join("containers").join(id)
    }

    /// The journal of a container that is there.
    #[must_use]
    pub fn journal(&self, id: &str) -> Vec<Entry> {
        entries(&fs::read(self.bundle(id).join("life")).unwrap_or_default()).collect()
    }
}

/// What docker's words for a journal are, with the times of its entries.
///
/// # Panics
/// When a time is none.
#[must_use]
pub fn expected(journal: &[Entry]) -> Vec<(String, i64)> {
    let (mut stopping, mut over) = (0, 0);
    let mut told: Vec<(String, i64)> = Vec::new();
    for entry in journal {
        let at = nanoseconds(&entry.at);
        let mut tell = |action: &str| told.push((action.to_owned(), at));
        match &entry.what {
            What::Start { .. } => tell("start"),
            What::Signal { .. } | What::StopTimeout => tell("kill"),
            // There is nobody to be sent a signal between two lives.
            What::Stop { .. } if entry.life == over => tell("stop"),
            What::Stop { .. } => {
                stopping = entry.life;
                tell("kill");
            }
            What::Exit { .. } => {
                over = entry.life;
                tell("die");
                if stopping == entry.life {
                    tell("stop");
                }
            }
            What::Pause => tell("pause"),
            What::Resume => tell("unpause"),
            What::Restarting { .. } | What::GaveUp => {}
            other => panic!("not expected: {other:?}"),
        }
    }
    told
}

fn nanoseconds(text: &str) -> i64 {
    let output = std::process::Command::new("date").args(["-d", text, "+%s%N"]).output().expect("run date");
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or_else(|_| panic!("a time: {text}"))
}
