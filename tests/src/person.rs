//! Somebody at a terminal of an engine's host.

use crate::engine::{Engine, binaries};
use crate::terminal::Terminal;
use crate::wait::until_true;

/// A person's shell on the engine's host, where `davit` is the command.
#[derive(Debug)]
pub struct Person {
    /// The terminal.
    pub terminal: Terminal,
    steps: u32,
}

impl Person {
    /// Sits down at an engine's host.
    ///
    /// # Panics
    /// When there is no terminal, or no shell in it.
    #[must_use]
    pub fn at(engine: &Engine) -> Self {
        let host = format!("unix://{}", engine.socket().display());
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", binaries().display());
        let mut shell = engine.host().command("env");
        shell.args([
            "-i",
            "TERM=xterm",
            &format!("PATH={path}"),
            &format!("DAVIT_HOST={host}"),
            "PS1=host$ ",
        ]);
        shell.args(["bash", "--norc", "--noprofile", "-i"]);
        let terminal = Terminal::run(&engine.host().name(), &shell).unwrap();
        terminal.shows("host$");
        Self { terminal, steps: 0 }
    }

    /// Types a line that ends by itself, and answers with what it printed. Its exit code must be this one.
    ///
    /// # Panics
    /// When it is another one, or it does not end.
    pub fn types(&mut self, line: &str, code: i32) -> String {
        self.steps += 1;
        let mark = format!("step-{}={code}", self.steps);
        self.terminal.line("clear").unwrap();
        self.terminal.line(line).unwrap();
        self.terminal.line(&format!("echo step-{}=$?", self.steps)).unwrap();
        self.terminal.shows(&mark)
    }

    /// Types a line that leads into a container.
    ///
    /// # Panics
    /// When it does not show this.
    pub fn enters(&mut self, line: &str, shows: &str) {
        self.terminal.line("clear").unwrap();
        self.terminal.line(line).unwrap();
        self.terminal.shows(shows);
    }

    /// Types into whatever runs.
    ///
    /// # Panics
    /// When it does not show this.
    pub fn says(&self, line: &str, shows: &str) -> String {
        self.terminal.line(line).unwrap();
        self.terminal.shows(shows)
    }

    /// Leaves a container that goes on.
    ///
    /// # Panics
    /// When the host's shell does not come back.
    pub fn detaches(&self) {
        self.terminal.keys(&["C-p", "C-q"]).unwrap();
        self.is_home();
    }

    /// Leaves a container by its shell's end.
    ///
    /// # Panics
    /// When the host's shell does not come back.
    pub fn leaves(&self) {
        self.terminal.line("exit").unwrap();
        self.is_home();
    }

    /// Waits until the prompt of the host is the last thing on the screen.
    ///
    /// # Panics
    /// When it does not come.
    pub fn is_home(&self) {
        until_true("the host's shell asks for more", || {
            let screen = self.terminal.screen();
            screen.lines().rfind(|line| !line.trim().is_empty()).is_some_and(|line| line.trim() == "host$")
        });
    }
}
