//! A real terminal: tmux types and shows what a person would type and see.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::wait::{until, until_true};

/// A terminal with one program in it. Dropping it ends the tmux server that is its own.
#[derive(Debug)]
pub struct Terminal {
    server: String,
}

impl Terminal {
    /// Opens a terminal of 80 by 24 and runs a program in it.
    ///
    /// # Errors
    /// When tmux cannot be started.
    pub fn run(server: &str, program: &Command) -> Result<Self> {
        let words: Vec<String> = std::iter::once(program.get_program())
            .chain(program.get_args())
            .map(|word| quote(&word.to_string_lossy()))
            .collect();
        // The shell stays, also when Ctrl-C is for the program, so that what that printed last, and its exit code, can
        // be read.
        let line = format!("trap : INT; {}; echo \"ended with $?\"; trap '' INT; exec cat", words.join(" "));
        let terminal = Self { server: server.to_owned() };
        let started = terminal.tmux(&["new-session", "-d", "-x", "80", "-y", "24", "sh", "-c", &line])?;
        anyhow::ensure!(started.status.success(), "tmux: {}", String::from_utf8_lossy(&started.stderr));
        Ok(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> Result<std::process::Output> {
        Command::new("tmux")
            .args(["-f", "/dev/null", "-L", &self.server])
            .args(arguments)
            .stdin(Stdio::null())
            .env("TERM", "xterm")
            .output()
            .context("run tmux")
    }

    /// Types text, then Enter.
    ///
    /// # Errors
    /// When tmux is gone.
    pub fn line(&self, text: &str) -> Result<()> {
        self.tmux(&["send-keys", "-l", text])?;
        self.key("Enter")
    }

    /// Presses one key in tmux's words: `C-p`, `Enter`.
    ///
    /// # Errors
    /// When tmux is gone.
    pub fn key(&self, key: &str) -> Result<()> {
        self.keys(&[key])
    }

    /// Presses keys one right after the other: nothing that the terminal itself answers comes in between.
    ///
    /// # Errors
    /// When tmux is gone.
    pub fn keys(&self, keys: &[&str]) -> Result<()> {
        let sent = self.tmux(&[&["send-keys"], keys].concat())?;
        anyhow::ensure!(sent.status.success(), "tmux: {}", String::from_utf8_lossy(&sent.stderr));
        Ok(())
    }

    /// Gives the terminal another size.
    ///
    /// # Errors
    /// When tmux is gone.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let sized = self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()])?;
        anyhow::ensure!(sized.status.success(), "tmux: {}", String::from_utf8_lossy(&sized.stderr));
        Ok(())
    }

    /// What the screen shows; a line that goes on in the next row of it is one line.
    #[must_use]
    pub fn screen(&self) -> String {
        let shown = self
            .tmux(&["capture-pane", "-p", "-J"])
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default();
        shown.lines().flat_map(|line| [line.trim_end(), "\n"]).collect()
    }

    /// Waits until a shell has shown its prompt and is at rest: shells that edit lines ask the terminal where its cursor
    /// is, and busybox's forgets what is typed before it has read the answer.
    ///
    /// # Panics
    /// When it never is.
    pub fn rests(&self, prompt: &str) {
        let mut before = String::new();
        until_true("the shell waits at its prompt", || {
            let screen = self.screen();
            let last = screen.lines().rfind(|line| !line.is_empty());
            let rests = last == Some(prompt) && screen == before;
            before = screen;
            rests
        });
    }

    /// Waits until the screen shows a text.
    ///
    /// # Panics
    /// When it never does, with what it shows.
    pub fn shows(&self, text: &str) -> String {
        let begun = std::time::Instant::now();
        until(&format!("the terminal shows {text:?}"), || {
            let screen = self.screen();
            if screen.contains(text) {
                return Some(screen);
            }
            assert!(begun.elapsed().as_secs() < 25, "the terminal does not show {text:?} but:\n{screen}");
            None
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Err(error) = self.tmux(&["kill-server"]) {
            eprintln!("end a terminal: {error}");
        }
    }
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
