//! Patience: how often a host is asked again, how long between, and when it is enough.

use std::time::Duration;

use tokio::time::Instant;

use super::error::Failure;

/// How long to wait for what. A registry that hangs ends in one error after [`Patience::progress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For the connection, with its handshake.
    pub connect: Duration,
    /// To find out whether a host that may speak either speaks TLS.
    pub probe: Duration,
    /// For the head of an answer.
    pub answer: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
    /// In all without progress, over every attempt at one host.
    pub progress: Duration,
    /// Bytes of a blob that count as progress, so that a byte a second does not.
    pub progress_bytes: u64,
    /// Attempts in a row without progress.
    pub attempts: u32,
    /// The wait before the second attempt; it doubles from there.
    pub backoff: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            probe: Duration::from_secs(5),
            answer: Duration::from_secs(15),
            idle: Duration::from_secs(15),
            progress: Duration::from_secs(40),
            progress_bytes: 32 * 1024,
            attempts: 6,
            backoff: Duration::from_millis(250),
        }
    }
}

impl Patience {
    pub(super) fn for_mirror(self) -> Self {
        Self { progress: self.progress / 4, attempts: self.attempts.min(2), ..self }
    }
}

/// The patience left with one host.
#[derive(Debug)]
pub(super) struct Budget {
    patience: Patience,
    spent: Duration,
    failures: u32,
}

impl Budget {
    pub(super) fn new(patience: Patience) -> Self {
        Self { patience, spent: Duration::ZERO, failures: 0 }
    }

    /// Starts anew: something useful came.
    pub(super) fn reset(&mut self) {
        self.spent = Duration::ZERO;
        self.failures = 0;
    }

    /// Waits for a step for as long as patience lasts. Only the time spent waiting here counts: a reader that takes
    /// its time is not the registry's fault.
    pub(super) async fn spend<T>(
        &mut self,
        step: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let started = Instant::now();
        let left = self.patience.progress.saturating_sub(self.spent);
        let outcome = tokio::time::timeout(left, step).await;
        self.spent += started.elapsed();
        outcome.unwrap_or(Err(Failure::TimedOut(self.patience.progress)))
    }

    /// Counts time that went by without progress outside of [`Budget::spend`].
    pub(super) fn charge(&mut self, waited: Duration) {
        self.spent += waited;
    }

    /// How long to wait before the next attempt; `None` if there is to be none.
    pub(super) fn next_delay(&mut self, failure: &Failure) -> Option<Duration> {
        self.failures += 1;
        if !failure.is_transient() || self.failures >= self.patience.attempts {
            return None;
        }
        let doubled = self.patience.backoff.saturating_mul(1 << (self.failures - 1).min(6));
        let delay = failure.retry_after().unwrap_or(doubled).max(doubled.min(self.patience.backoff));
        let left = self.patience.progress.saturating_sub(self.spent);
        (delay < left).then_some(delay)
    }

    /// Waits before the next attempt, at the expense of the budget.
    pub(super) async fn rest(&mut self, delay: Duration) {
        tokio::time::sleep(delay).await;
        self.spent += delay;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::error::Message;

    fn transient() -> Failure {
        Failure::Server { status: 503, message: Message::default() }
    }

    #[test]
    fn the_wait_doubles_and_the_attempts_end() {
        let mut budget = Budget::new(Patience::default());
        let waits: Vec<_> = std::iter::from_fn(|| budget.next_delay(&transient())).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000].map(Duration::from_millis));
        budget.reset();
        assert_eq!(budget.next_delay(&transient()), Some(Duration::from_millis(250)));
    }

    #[test]
    fn a_registry_may_say_when_but_not_too_late() {
        let limited = |seconds| Failure::RateLimited {
            retry_after: Some(Duration::from_secs(seconds)),
            message: Message::default(),
        };
        let mut budget = Budget::new(Patience::default());
        assert_eq!(budget.next_delay(&limited(3)), Some(Duration::from_secs(3)));
        assert_eq!(budget.next_delay(&limited(0)), Some(Duration::from_millis(250)));
        assert_eq!(budget.next_delay(&limited(3600)), None);
    }

    #[test]
    fn what_cannot_pass_is_not_tried_again() {
        let mut budget = Budget::new(Patience::default());
        assert_eq!(budget.next_delay(&Failure::Tls("expired".into())), None);
    }

    #[tokio::test]
    async fn time_spent_waiting_is_bounded_over_all_steps() {
        let progress = Duration::from_millis(30);
        let mut budget = Budget::new(Patience { progress, ..Patience::default() });
        let never = || std::future::pending::<Result<(), Failure>>();
        assert_eq!(budget.spend(never()).await, Err(Failure::TimedOut(progress)));
        assert_eq!(budget.next_delay(&transient()), None);
        budget.reset();
        assert_eq!(budget.spend(async { Ok(1) }).await, Ok(1));
    }
}
