//! A health check, off the wire.

use std::time::Duration;

use davit_proto::task::HealthCheck;

use super::signal_number;
use crate::task::TaskError;
use crate::task::health::Check;
use crate::task::judgement::Rules;

/// Docker's times, where nothing is said.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
/// Docker's number of failures.
const RETRIES: u32 = 3;
/// SIGTERM.
const TERM: u32 = 15;
/// A probe more often than this would be all that the shim does.
const SHORTEST: Duration = Duration::from_millis(1);

/// The check that a request describes.
pub fn decode(check: HealthCheck) -> Result<Check, TaskError> {
    if check.args.first().is_none_or(String::is_empty) {
        let rule = "must have a program";
        return Err(TaskError::Invalid { name: "health.args", value: String::new(), rule });
    }
    let time =
        |said: Option<Duration>, default: Duration| said.filter(|time| !time.is_zero()).unwrap_or(default);
    let stop_signal = if check.stop_signal == 0 { TERM } else { check.stop_signal };
    Ok(Check {
        args: check.args,
        timeout: time(check.timeout.as_ref().map(davit_proto::time::duration), TIMEOUT),
        rules: Rules {
            interval: time(check.interval.as_ref().map(davit_proto::time::duration), INTERVAL).max(SHORTEST),
            start_period: time(check.start_period.as_ref().map(davit_proto::time::duration), Duration::ZERO),
            start_interval: time(
                check.start_interval.as_ref().map(davit_proto::time::duration),
                START_INTERVAL,
            )
            .max(SHORTEST),
            retries: if check.retries == 0 { RETRIES } else { check.retries },
        },
        stop_signal: signal_number(stop_signal)?,
        stop_timeout: check.stop_timeout.as_ref().map(davit_proto::time::duration),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_dockers() {
        assert!(decode(HealthCheck::default()).is_err());
        let check = decode(HealthCheck { args: vec!["true".into()], ..HealthCheck::default() }).unwrap();
        assert_eq!((check.timeout, check.stop_signal, check.stop_timeout), (TIMEOUT, 15, None));
        let rules = Rules {
            interval: INTERVAL,
            start_period: Duration::ZERO,
            start_interval: START_INTERVAL,
            retries: 3,
        };
        assert_eq!(check.rules, rules);
    }
}
