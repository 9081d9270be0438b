//! Waiting for an engine that went away: it is started again, and what was asked can go on.

use std::time::{Duration, Instant};

use davit_proto::status::RemoteError;

use crate::client::Unreachable;
use crate::error::Error;
use crate::output;
use crate::stream::frame::is_connection;

/// How long to wait in all.
const LIMIT: Duration = Duration::from_secs(60);
/// Time between attempts.
const PAUSE: Duration = Duration::from_millis(200);
/// Time after which a person is told of the waiting.
const SILENCE: Duration = Duration::from_secs(1);

/// One time of waiting.
#[derive(Debug)]
pub struct Patience {
    since: Instant,
    told: bool,
}

impl Patience {
    /// Begins to wait.
    pub fn new() -> Self {
        Self { since: Instant::now(), told: false }
    }

    /// Waits a little before the next attempt. False when there should be none.
    pub async fn is_left(&mut self) -> bool {
        if !self.told && self.since.elapsed() > SILENCE {
            self.told = true;
            output::complain("davit: the engine went away; waiting for it, containers go on");
        }
        tokio::time::sleep(PAUSE).await;
        self.since.elapsed() < LIMIT
    }
}

/// Whether the engine was there and is not now.
pub fn is_away(error: &Error) -> bool {
    match error {
        Error::Remote(error) => is_connection(error),
        Error::Unreachable(error) => matches!(error, Unreachable::Absent(_) | Unreachable::Other(..)),
        _ => false,
    }
}

/// Asks something that may be asked again until it is answered. An engine that was never there is not waited
/// for.
pub async fn ask<T>(mut ask: impl AsyncFnMut() -> Result<T, RemoteError>) -> Result<T, RemoteError> {
    let mut patience = Patience::new();
    loop {
        match ask().await {
            Err(error) if is_connection(&error) && patience.is_left().await => {}
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::frame::cut_off;

    #[tokio::test]
    async fn a_call_is_repeated_while_the_engine_is_away() {
        let mut calls = 0;
        let answer = ask(async || {
            calls += 1;
            if calls < 3 { Err(cut_off()) } else { Ok(calls) }
        });
        assert_eq!(answer.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_refusal_is_an_answer() {
        let refused = RemoteError { reason: "NO".into(), ..cut_off() };
        let answer: Result<(), _> = ask(async || Err(refused.clone())).await;
        assert_eq!(answer.unwrap_err(), refused);
        assert!(!is_away(&Error::Remote(refused)) && is_away(&Error::Remote(cut_off())));
    }
}
