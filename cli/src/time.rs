//! Points in time, as docker shows and reads them.

use std::time::{Duration, SystemTime};

use davit_proto::time::{system_time, timestamp};
use jiff::tz::TimeZone;
use prost_types::Timestamp;

use crate::human;
use crate::spec::Invalid;

/// Docker's way to say "never".
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Time since a point; nothing for one that lies ahead.
pub fn since(at: &Timestamp, now: SystemTime) -> Duration {
    now.duration_since(system_time(at)).unwrap_or_default()
}

/// "5 seconds ago"; empty for never.
pub fn ago(at: Option<&Timestamp>, now: SystemTime) -> String {
    at.map(|at| format!("{} ago", human::duration(since(at, now)))).unwrap_or_default()
}

fn point(at: &Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::new(at.seconds, at.nanos).ok()
}

/// RFC 3339 in UTC, with as many digits as say something; docker's word for never when there is none.
pub fn exact(at: Option<&Timestamp>) -> String {
    at.and_then(point).map_or_else(|| NEVER.to_owned(), |at| at.to_string())
}

/// RFC 3339 in UTC with nine digits always, so that lines stand below each other.
pub fn fixed(at: &Timestamp) -> String {
    point(at).map_or_else(|| NEVER.to_owned(), |at| format!("{at:.9}"))
}

/// The local time as tables of docker show it: "2021-05-01 12:00:00 +0900 KST".
pub fn local(at: Option<&Timestamp>) -> String {
    let zoned = at.and_then(point).map(|at| at.to_zoned(TimeZone::system()));
    zoned.map(|at| at.strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()).unwrap_or_default()
}

/// The local time as `docker version` and `history` show it.
pub fn local_exact(at: Option<&Timestamp>) -> String {
    let zoned = at.and_then(point).map(|at| at.to_zoned(TimeZone::system()));
    zoned.map(|at| at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()).unwrap_or_default()
}

/// `--since` and `--until`: a length of time before now, seconds since 1970, or a date with or without a
/// time and a zone.
pub fn parse(flag: &str, text: &str, now: SystemTime) -> Result<Timestamp, Invalid> {
    let read = human::parse_duration(text)
        .and_then(|length| now.checked_sub(length))
        .map(timestamp)
        .or_else(|| unix(text))
        .or_else(|| date(text));
    read.ok_or_else(|| {
        Invalid::new(flag, text, "a time such as 42m, 1700000000 or 2026-11-20T10:00:00Z is wanted")
    })
}

/// `seconds[.nanoseconds]`.
fn unix(text: &str) -> Option<Timestamp> {
    let (seconds, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 9 || !part.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos = format!("{part:0<9}").parse().ok()?;
    let seconds = seconds.parse().ok()?;
    point(&Timestamp { seconds, nanos })?;
    Some(Timestamp { seconds, nanos })
}

fn date(text: &str) -> Option<Timestamp> {
    let zoned = text.parse::<jiff::Timestamp>().ok();
    let read = zoned.or_else(|| {
        let local = text.parse::<jiff::civil::DateTime>().ok()?;
        local.to_zoned(TimeZone::system()).ok().map(|at| at.timestamp())
    })?;
    let nanos = read.as_nanosecond();
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?;
    let nanos = i32::try_from(nanos.rem_euclid(1_000_000_000)).ok()?;
    Some(Timestamp { seconds, nanos })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::UNIX_EPOCH;

    fn at(seconds: i64, nanos: i32) -> Timestamp {
        Timestamp { seconds, nanos }
    }

    #[test]
    fn shown() {
        let time = at(1_619_838_000, 120_000_000);
        assert_eq!(exact(Some(&time)), "2021-05-01T03:00:00.12Z");
        assert_eq!(exact(Some(&at(1_619_838_000, 0))), "2021-05-01T03:00:00Z");
        assert_eq!(exact(None), NEVER);
        assert_eq!(fixed(&time), "2021-05-01T03:00:00.120000000Z");
        let now = UNIX_EPOCH + Duration::from_secs(1_619_838_008);
        assert_eq!(ago(Some(&time), now), "7 seconds ago");
        assert_eq!(ago(Some(&at(1_619_838_009, 0)), now), "Less than a second ago");
        assert_eq!(ago(None, now), "");
        assert!(local(Some(&time)).starts_with("2021-0"));
    }

    #[test]
    fn typed() {
        let now = UNIX_EPOCH + Duration::from_secs(10_000);
        for (text, wanted) in [
            ("10s", at(9_990, 0)),
            ("1h", at(6_400, 0)),
            ("1700000000", at(1_700_000_000, 0)),
            ("1700000000.5", at(1_700_000_000, 500_000_000)),
            ("2021-05-01T03:00:00Z", at(1_619_838_000, 0)),
            ("2021-05-01T03:00:00.12Z", at(1_619_838_000, 120_000_000)),
            ("2021-05-01T12:00:00+09:00", at(1_619_838_000, 0)),
        ] {
            assert_eq!(parse("--since", text, now).unwrap(), wanted, "{text}");
        }
        for zoneless in ["2021-05-01T03:00:00", "2021-05-01T03:00", "2021-05-01"] {
            let read = parse("--since", zoneless, now).unwrap().seconds;
            assert!((read - 1_619_838_000).abs() <= 86_400, "{zoneless}");
        }
        for bad in ["", "x", "yesterday", "1.0000000001", "2021-13-01", "99999999999999999999"] {
            assert!(parse("--since", bad, now).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_typed_makes_it_panic(text in "\\PC{0,30}", seconds in any::<i64>(), nanos in any::<i32>()) {
            let _ = parse("--since", &text, UNIX_EPOCH);
            let _ = (exact(Some(&at(seconds, nanos))), fixed(&at(seconds, nanos)), local(Some(&at(seconds, nanos))));
        }
    }
}
