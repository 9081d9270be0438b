//! Commands of an engine's host that are run again and again, also while the engine is killed.

use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::engine::{Answer, Engine, binaries};
use crate::wait::DEADLINE;

/// A command to which words are added.
#[derive(Debug, Clone)]
pub struct Recipe {
    program: OsString,
    words: Vec<OsString>,
}

impl Recipe {
    /// One that is like this.
    #[must_use]
    pub fn of(command: &Command) -> Self {
        Self {
            program: command.get_program().to_owned(),
            words: command.get_args().map(OsString::from).collect(),
        }
    }

    /// `davit` of an engine. One that answers nothing for two minutes has the code 124.
    #[must_use]
    pub fn davit(engine: &Engine) -> Self {
        let mut command = engine.host().command("timeout");
        command.args(["120"]).arg(binaries().join("davit"));
        Self::of(command.arg("--host").arg(format!("unix://{}", engine.socket().display())))
    }

    /// Fetches the page at a port of the host's loopback.
    #[must_use]
    pub fn curl(engine: &Engine, port: u16) -> Self {
        let url = format!("http://127.0.0.1:{port}/");
        Self::of(engine.host().command("curl").args(["-s", "-S", "-m", "5", &url]))
    }

    /// Runs it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Answer {
        let mut command = Command::new(&self.program);
        let ran = command.args(&self.words).args(words).stdin(Stdio::null()).output();
        Answer::from(ran.expect("start a command"))
    }

    /// Asks the engine until it is there to be asked; answers with what it said.
    ///
    /// # Panics
    /// When it hangs, or the engine stays away.
    #[must_use]
    pub fn ask(&self, words: &[String]) -> Answer {
        let begun = Instant::now();
        loop {
            let answer = self.run(words);
            assert_ne!(answer.code, 124, "{words:?} hangs: {answer:?}");
            if !answer.stderr.contains("no engine answers at") {
                return answer;
            }
            assert!(begun.elapsed() < DEADLINE, "the engine stays away: {answer:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Answer {
    /// Whether the engine died amid it: nobody knows then what came of it.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.stderr.contains("went away")
    }
}
