//! Points in time as RFC 3339 text with nanoseconds, fast enough for every line of a log.

use std::time::{SystemTime, UNIX_EPOCH};

/// `2026-11-20T22:00:00.123456789Z`
pub type Stamp = [u8; 30];

const SECONDS_A_DAY: u64 = 86_400;

/// Writes stamps; remembers the last second, since most lines of a burst share it.
#[derive(Debug)]
pub struct Clock {
    second: u64,
    text: Stamp,
}

impl Clock {
    /// A clock that has written nothing yet.
    pub fn new() -> Self {
        Self { second: 0, text: *b"1970-01-01T00:00:00.000000000Z" }
    }

    /// The text of a point in time; one before 1970 is written as 1970's first moment.
    pub fn stamp(&mut self, time: SystemTime) -> Stamp {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if since.as_secs() != self.second {
            self.second = since.as_secs();
            self.write_second();
        }
        digits(&mut self.text, 20, 9, since.subsec_nanos().into());
        self.text
    }

    fn write_second(&mut self) {
        let (year, month, day) = civil(self.second / SECONDS_A_DAY);
        let clock = self.second % SECONDS_A_DAY;
        digits(&mut self.text, 0, 4, year);
        digits(&mut self.text, 5, 2, month);
        digits(&mut self.text, 8, 2, day);
        digits(&mut self.text, 11, 2, clock / 3600);
        digits(&mut self.text, 14, 2, clock / 60 % 60);
        digits(&mut self.text, 17, 2, clock % 60);
    }
}

/// The text of one point in time.
pub fn rfc3339(time: SystemTime) -> String {
    String::from_utf8_lossy(&Clock::new().stamp(time)).into_owned()
}

/// Writes `width` decimal digits at `at`, the lowest last.
fn digits(text: &mut Stamp, at: usize, width: usize, mut value: u64) {
    for slot in text.iter_mut().skip(at).take(width).rev() {
        *slot = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Days since 1970 as a date of the Gregorian calendar, by counting in eras of 400 years that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn at(seconds: u64, nanos: u32) -> SystemTime {
        UNIX_EPOCH + Duration::new(seconds, nanos)
    }

    #[test]
    fn known_moments() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000007Z"),
            (951_782_400, "2000-02-29T00:00:00.000000007Z"),
            (951_868_799, "2000-02-29T23:59:59.000000007Z"),
            (1_795_212_000, "2026-11-20T22:00:00.000000007Z"),
            (4_102_444_799, "2099-12-31T23:59:59.000000007Z"),
        ] {
            assert_eq!(rfc3339(at(seconds, 7)), text);
        }
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(9)), "1970-01-01T00:00:00.000000000Z");
    }

    proptest! {
        #[test]
        fn one_clock_for_many_moments_agrees_with_prost(
            moments in prop::collection::vec((0_u64..32_503_680_000, 0_u32..1_000_000_000), 1..20),
        ) {
            let mut clock = Clock::new();
            for (seconds, nanos) in moments {
                let stamp = clock.stamp(at(seconds, nanos));
                let text = std::str::from_utf8(&stamp).unwrap();
                let read: prost_types::Timestamp = text.parse().unwrap();
                prop_assert_eq!(read, davit_proto::time::timestamp(at(seconds, nanos)));
            }
        }
    }
}
