//! Whether another life follows one that has ended, and after how long: pure.
//!
//! Docker's rules: `always` and `unless-stopped` begin again after every end, `on-failure` after one with a code other
//! than 0, as often as it says; nothing begins again once a person wants it stopped. The time between two lives doubles
//! from 100 ms to a minute, and starts over after a life of 10 s.

use std::fmt;
use std::time::Duration;

use davit_proto::wanted::{Mode, Restart, Want, Wanted};

/// Time before the first restart.
const FIRST: Duration = Duration::from_millis(100);
/// Longest time before a restart.
const LONGEST: Duration = Duration::from_secs(60);
/// A life of this length was none that failed at once.
const LONG: Duration = Duration::from_secs(10);

/// What came before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restarts {
    /// Restarts by policy since a person started the container.
    pub count: u32,
    /// Time that the last of them waited; zero before the first, and after a long life.
    pub delay: Duration,
}

/// What is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// One more life, after [`Restarts::delay`].
    Life(Restarts),
    /// None, because it was tried so often.
    GaveUp,
    /// None.
    Over,
}

impl Restarts {
    /// The next one, after a life of some length.
    pub fn next(self, lived: Duration) -> Self {
        let before = if lived >= LONG { Duration::ZERO } else { self.delay };
        let delay = if before.is_zero() { FIRST } else { (before * 2).min(LONGEST) };
        Self { count: self.count.saturating_add(1), delay }
    }
}

/// Decides what follows a life that ended with a code and was of some length.
pub fn decide(wanted: &Wanted, exit_code: u32, lived: Duration, before: Restarts) -> Next {
    if wanted.want == Want::Stop {
        return Next::Over;
    }
    let Restart { mode, max_retries } = wanted.restart;
    match mode {
        Mode::No => Next::Over,
        Mode::OnFailure if exit_code == 0 => Next::Over,
        Mode::OnFailure if max_retries > 0 && before.count >= max_retries => Next::GaveUp,
        Mode::OnFailure | Mode::Always | Mode::UnlessStopped => Next::Life(before.next(lived)),
    }
}

/// A policy as one says it on the command line.
#[derive(Debug)]
pub struct Shown(pub Restart);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.mode, self.0.max_retries) {
            (Mode::No, _) => f.write_str("no"),
            (Mode::OnFailure, 0) => f.write_str("on-failure"),
            (Mode::OnFailure, retries) => write!(f, "on-failure:{retries}"),
            (Mode::Always, _) => f.write_str("always"),
            (Mode::UnlessStopped, _) => f.write_str("unless-stopped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use davit_proto::wanted::OnUnhealthy;
    use proptest::prelude::*;

    fn wanted(mode: Mode, max_retries: u32) -> Wanted {
        let restart = Restart { mode, max_retries };
        Wanted { revision: 1, want: Want::Run, restart, on_unhealthy: OnUnhealthy::None }
    }

    fn goes_on(mode: Mode, code: u32) -> bool {
        matches!(decide(&wanted(mode, 0), code, Duration::ZERO, Restarts::default()), Next::Life(_))
    }

    #[test]
    fn each_policy_has_its_ends() {
        for (mode, after_success, after_failure) in [
            (Mode::No, false, false),
            (Mode::OnFailure, false, true),
            (Mode::Always, true, true),
            (Mode::UnlessStopped, true, true),
        ] {
            assert_eq!((goes_on(mode, 0), goes_on(mode, 137)), (after_success, after_failure), "{mode:?}");
            let stopped = Wanted { want: Want::Stop, ..wanted(mode, 0) };
            assert_eq!(decide(&stopped, 1, LONG, Restarts::default()), Next::Over, "{mode:?}");
        }
    }

    #[test]
    fn failures_are_counted() {
        let twice = wanted(Mode::OnFailure, 2);
        let mut restarts = Restarts::default();
        for count in 1..=2 {
            let Next::Life(next) = decide(&twice, 1, LONG, restarts) else { panic!("{restarts:?}") };
            assert_eq!(next.count, count);
            restarts = next;
        }
        assert_eq!(decide(&twice, 1, LONG, restarts), Next::GaveUp);
        assert_eq!(decide(&twice, 0, LONG, restarts), Next::Over);
    }

    #[test]
    fn policies_are_shown_as_they_are_said() {
        let shown = |mode, max_retries| Shown(Restart { mode, max_retries }).to_string();
        assert_eq!(shown(Mode::No, 3), "no");
        assert_eq!(shown(Mode::OnFailure, 0), "on-failure");
        assert_eq!(shown(Mode::OnFailure, 3), "on-failure:3");
        assert_eq!(shown(Mode::Always, 3), "always");
        assert_eq!(shown(Mode::UnlessStopped, 0), "unless-stopped");
    }

    proptest! {
        #[test]
        fn delays_double_up_to_a_minute_and_start_over(lived in prop::collection::vec(0_u64..12_000, 1..40)) {
            let mut restarts = Restarts::default();
            let mut quick = 0_u32;
            for (n, lived) in lived.into_iter().enumerate() {
                let lived = Duration::from_millis(lived);
                quick = if lived >= LONG { 0 } else { quick + u32::from(n > 0) };
                restarts = restarts.next(lived);
                let expected = 100_u64.saturating_mul(1 << quick.min(20)).min(60_000);
                prop_assert_eq!(restarts.delay, Duration::from_millis(expected));
                prop_assert_eq!(restarts.count as usize, n + 1);
            }
        }
    }
}
