//! A client: asks for whatever people ask for, of containers that are its own, and remembers what it was answered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::witness::{PROGRAM, Witness};
use super::{Counts, NETWORKS, PULLED, Settings};
use crate::chance::Chance;
use crate::engine::Answer;
use crate::recipe::Recipe;

/// How long after it was asked for an end may come: the 20 seconds that are asked for, and those of a busy machine.
const MAY_END: Duration = Duration::from_secs(60);

/// A container as its client believes it to be. `None`: nobody can know, because an answer was lost or an error.
#[derive(Debug, Clone)]
pub struct Belief {
    /// Its name.
    pub name: String,
    /// Which container of this name it is.
    pub generation: u64,
    /// Whether it is there.
    pub there: Option<bool>,
    /// Whether it runs.
    pub running: Option<bool>,
    /// Until when an end may still come that was asked for and never answered: its shim keeps the time.
    pub may_end: Option<Instant>,
}

impl Belief {
    /// Believes that it runs or not, as far as that lasts.
    pub fn believe(&mut self, running: bool) {
        let may_end = self.may_end.is_some_and(|until| Instant::now() < until);
        self.running = if running && may_end { None } else { Some(running) };
    }
}

/// One who asks.
#[derive(Debug)]
pub struct Client {
    /// Its containers.
    pub beliefs: Vec<Belief>,
    chance: Chance,
    witness: Witness,
    asked: usize,
    granted: usize,
    cut: usize,
}

/// What is asked of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Run,
    Create,
    Start,
    Stop,
    Restart,
    Kill,
    Pause,
    Unpause,
    Remove,
    Exec,
    Look,
    Commit,
    Connect,
    Pull,
}

const OF_WHAT_IS_THERE: [Wish; 20] = [
    Wish::Start,
    Wish::Start,
    Wish::Start,
    Wish::Stop,
    Wish::Stop,
    Wish::Restart,
    Wish::Restart,
    Wish::Kill,
    Wish::Pause,
    Wish::Unpause,
    Wish::Unpause,
    Wish::Remove,
    Wish::Remove,
    Wish::Exec,
    Wish::Exec,
    Wish::Look,
    Wish::Look,
    Wish::Commit,
    Wish::Connect,
    Wish::Pull,
];

impl Client {
    /// One of several, with its share of the containers.
    #[must_use]
    pub fn new(number: usize, settings: &Settings, witness: &Witness) -> Self {
        let share = settings.containers / settings.clients.max(1);
        let belief = |at: usize| Belief {
            name: format!("k{number}x{at}"),
            generation: 0,
            there: Some(false),
            running: Some(false),
            may_end: None,
        };
        Self {
            beliefs: (0..share.max(1)).map(belief).collect(),
            chance: Chance::new(settings.seed.wrapping_add(number as u64)),
            witness: witness.clone(),
            asked: 0,
            granted: 0,
            cut: 0,
        }
    }

    /// Asks for one thing after the other.
    ///
    /// # Panics
    /// When an answer cannot be.
    pub fn play(&mut self, davit: &Recipe, over: &AtomicBool) {
        while !over.load(Ordering::SeqCst) {
            let at = usize::try_from(self.chance.below(self.beliefs.len() as u64)).unwrap_or_default();
            let wish = match self.beliefs[at].there {
                Some(false) if self.chance.below(8) == 0 => Wish::Create,
                Some(false) => Wish::Run,
                _ => self.chance.of(&OF_WHAT_IS_THERE),
            };
            let words = self.words(wish, at);
            let answer = davit.ask(&words);
            if std::env::var_os("DAVIT_TEST_TELL").is_some() {
                let told = words.join(" ").replace(PROGRAM, "…");
                eprintln!("{told}: {} {}", answer.code, answer.stderr.lines().next().unwrap_or_default());
            }
            self.asked += 1;
            self.granted += usize::from(answer.code == 0);
            self.cut += usize::from(answer.is_cut());
            self.learn(wish, at, &answer);
        }
    }

    fn words(&mut self, wish: Wish, at: usize) -> Vec<String> {
        let name = self.beliefs[at].name.clone();
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        match wish {
            Wish::Run | Wish::Create => self.make(wish, at),
            Wish::Start => words(&["start", &name]),
            Wish::Stop => words(&["stop", "-t", "20", &name]),
            Wish::Restart => words(&["restart", "-t", "20", &name]),
            Wish::Kill => words(&["kill", &name]),
            Wish::Pause => words(&["pause", &name]),
            Wish::Unpause => words(&["unpause", &name]),
            Wish::Remove => words(&["rm", "-f", "-v", &name]),
            Wish::Exec => words(&["exec", &name, "echo", "said"]),
            Wish::Look => words(self.chance.of(&[
                &["ps", "-a", "-s"][..],
                &["images"],
                &["system", "df"],
                &["volume", "ls"],
                &["network", "inspect", "one"],
            ])),
            Wish::Commit => words(&["commit", &name, &format!("committed:{name}")]),
            Wish::Connect => {
                let verb = self.chance.of(&["connect", "disconnect"]);
                words(&["network", verb, self.chance.of(&NETWORKS[1..]), &name])
            }
            Wish::Pull => match self.chance.below(3) {
                0 => words(&["rmi", "-f", PULLED]),
                1 => words(&["image", "prune", "-f"]),
                _ => words(&["pull", "-q", PULLED]),
            },
        }
    }

    /// A new container, with a folder of its own to say in that it lives.
    fn make(&mut self, wish: Wish, at: usize) -> Vec<String> {
        let belief = &mut self.beliefs[at];
        belief.generation += 1;
        let folder = self.witness.fresh(&belief.name, belief.generation);
        let mut words: Vec<String> =
            if wish == Wish::Run { vec!["run".into(), "-d".into()] } else { vec!["create".into()] };
        let policy = self.chance.of(&["no", "no", "always", "unless-stopped", "on-failure:5"]);
        let network = self.chance.of(&NETWORKS);
        for (flag, value) in [
            ("--name", belief.name.clone()),
            ("--label", format!("generation={}", belief.generation)),
            ("--restart", policy.to_owned()),
            ("--network", network.to_owned()),
            ("-v", format!("{}:/witness", folder.display())),
            ("-v", "/data".to_owned()),
        ] {
            words.extend([flag.to_owned(), value]);
        }
        words.extend(["busybox", "sh", "-c", PROGRAM].map(str::to_owned));
        words
    }

    /// What an answer tells of the container.
    fn learn(&mut self, wish: Wish, at: usize, answer: &Answer) {
        let belief = &mut self.beliefs[at];
        let granted = answer.code == 0;
        match (wish, granted) {
            (Wish::Run | Wish::Create, true) => {
                (belief.there, belief.may_end) = (Some(true), None);
                belief.believe(wish == Wish::Run);
            }
            (Wish::Run | Wish::Create, false) => (belief.there, belief.running) = (None, None),
            (Wish::Remove, true) => (belief.there, belief.running) = (Some(false), Some(false)),
            (Wish::Remove, false) => {
                belief.running = None;
                belief.there = None;
            }
            // Nothing of an end before it is left.
            (Wish::Restart, true) => (belief.running, belief.may_end) = (Some(true), None),
            (Wish::Start, true) => belief.believe(true),
            (Wish::Stop, true) => (belief.running, belief.may_end) = (Some(false), None),
            (Wish::Stop | Wish::Restart, false) | (Wish::Kill, _) => {
                (belief.running, belief.may_end) = (None, Some(Instant::now() + MAY_END));
            }
            (Wish::Exec, true) => assert_eq!(answer.stdout, "said\n", "exec in {}: {answer:?}", belief.name),
            (Wish::Start | Wish::Pause | Wish::Unpause, _) => {
                belief.running = None;
            }
            (Wish::Exec | Wish::Look | Wish::Commit | Wish::Connect | Wish::Pull, _) => {}
        }
    }

    /// Adds what it did.
    pub fn count(&mut self, counts: &mut Counts) {
        counts.asked += std::mem::take(&mut self.asked);
        counts.granted += std::mem::take(&mut self.granted);
        counts.cut += std::mem::take(&mut self.cut);
    }
}
