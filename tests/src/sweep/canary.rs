//! A container that runs while everything else is swept, and must not notice.

use crate::engine::Engine;
use crate::wait::until_true;

/// Counts, and ends with 42 when it is asked to.
const PROGRAM: &str =
    "trap 'echo last $n; exit 42' TERM; n=0; while :; do n=$((n + 1)); echo line $n; sleep 0.2; done";

/// What is known of it.
#[derive(Debug)]
pub struct Canary {
    life: String,
}

impl Canary {
    /// Starts it.
    #[must_use]
    pub fn new(engine: &Engine) -> Self {
        engine.ok(["run", "-d", "--name", "canary", "busybox", "sh", "-c", PROGRAM]);
        Self { life: life(engine) }
    }

    /// It is in the life that it was in at first.
    ///
    /// # Panics
    /// When it is not.
    pub fn sings(&self, engine: &Engine) {
        assert_eq!(life(engine), self.life, "the canary's life");
    }

    /// Ends it, and looks at its log and exit code.
    ///
    /// # Panics
    /// When they are not right.
    pub fn end(self, engine: &Engine) {
        self.sings(engine);
        engine.ok(["stop", "-t", "20", "canary"]);
        until_true("the canary has ended", || engine.field("canary", "{{.State.Status}}") == "exited");
        assert_eq!(engine.field("canary", "{{.State.ExitCode}}"), "42");
        let log = engine.ok(["logs", "canary"]).stdout;
        let count = log.lines().count() - 1;
        let mut wanted: String = (1..=count).map(|number| format!("line {number}\n")).collect();
        wanted.push_str(&format!("last {count}\n"));
        assert_eq!(log, wanted, "the canary's log");
        engine.ok(["rm", "canary"]);
    }
}

fn life(engine: &Engine) -> String {
    engine.field("canary", "{{.Id}} {{.State.Status}} {{.State.Pid}} {{.State.StartedAt}} {{.RestartCount}}")
}
