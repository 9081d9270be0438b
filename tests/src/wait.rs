//! Waiting on a condition with a deadline.

use std::time::{Duration, Instant};

/// How long a condition may take to come true before a test fails. Generous: the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Asks until the answer is `Some`.
///
/// # Panics
/// When it did not come true in time.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asks until the answer is true.
///
/// # Panics
/// When it did not come true in time.
pub fn until_true(what: &str, mut ask: impl FnMut() -> bool) {
    until(what, || ask().then_some(()));
}
