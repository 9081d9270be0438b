//! `SOURCE_DATE_EPOCH`: the moment that an image is said to be made at, so that it does not depend on when it was.
//!
//! With it, the image, its history and every file that a step made or touched later are dated at it. Files that are
//! older keep their time.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

use crate::error::Error;

/// The argument that sets it.
pub const ARGUMENT: &str = "SOURCE_DATE_EPOCH";

/// When everything of a build is said to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    /// Seconds since 1970; none for the real time.
    fixed: Option<i64>,
    /// When the build began, in seconds and nanoseconds.
    begun: (i64, u32),
}

impl Epoch {
    /// As the arguments of a build say.
    ///
    /// # Errors
    /// The argument is no number of seconds.
    pub fn of(args: &HashMap<String, String>) -> Result<Self, Error> {
        let fixed = match args.get(ARGUMENT).map(String::as_str) {
            None | Some("") => None,
            Some(text) => Some(parse(text)?),
        };
        let begun = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let begun = (i64::try_from(begun.as_secs()).unwrap_or(0), begun.subsec_nanos());
        Ok(Self { fixed, begun })
    }

    /// Seconds since 1970 that no time may be later than; none for any time.
    #[must_use]
    pub fn limit(self) -> Option<i64> {
        self.fixed
    }

    /// The time of what is made now.
    #[must_use]
    pub fn now(self) -> (i64, u32) {
        self.fixed.map_or(self.begun, |fixed| (fixed, 0))
    }

    /// The time of what nobody gave one, which is not now: the same folder would be another one a second later.
    #[must_use]
    pub fn untold(self) -> (i64, u32) {
        (self.fixed.unwrap_or(0), 0)
    }

    /// The time of images, where it is not the real one.
    #[must_use]
    pub fn stamp(self) -> Option<Timestamp> {
        self.fixed.map(|seconds| Timestamp { seconds, nanos: 0 })
    }

    /// What of it goes into the name of a step.
    #[must_use]
    pub fn described(self) -> String {
        self.fixed.map_or_else(String::new, |fixed| fixed.to_string())
    }
}

/// The years that a timestamp can be written in: 0001 to 9999, of which none before 1970 makes sense here.
const LATEST: i64 = 253_402_300_799;

fn parse(text: &str) -> Result<i64, Error> {
    let seconds = text.parse::<i64>().ok().filter(|seconds| (0..=LATEST).contains(seconds));
    seconds.ok_or_else(|| {
        Error::Invalid(format!("invalid {ARGUMENT} {text:?}: must be a number of seconds since 1970"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Epoch, Error> {
        Epoch::of(&HashMap::from([(ARGUMENT.to_owned(), text.to_owned())]))
    }

    #[test]
    fn it_is_a_number_of_seconds() {
        let epoch = of("1700000000").unwrap();
        assert_eq!((epoch.limit(), epoch.now()), (Some(1_700_000_000), (1_700_000_000, 0)));
        assert_eq!(epoch.described(), "1700000000");
        for wrong in ["-1", "now", "1.5", "253402300800"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn without_it_time_is_real() {
        let epoch = of("").unwrap();
        assert_eq!((epoch.limit(), epoch.stamp(), epoch.described()), (None, None, String::new()));
        assert!(epoch.now().0 > 1_600_000_000);
    }
}
