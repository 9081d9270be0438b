//! Times and sizes in docker's words, both ways.

use std::time::Duration;

/// A length of time as tables say it: "5 seconds", "About a minute".
pub fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".into(),
        (1, ..) => "1 second".into(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".into(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (.., 1) => "About an hour".into(),
        (.., 2..48) => format!("{hours} hours"),
        (.., 48..336) => format!("{} days", hours / 24),
        (.., 336..1440) => format!("{} weeks", hours / 24 / 7),
        (.., 1440..8760) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// Bytes in powers of 1000 with three digits: "5.59MB".
pub fn size(bytes: u64) -> String {
    scaled(bytes, 1000.0, 3, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// Bytes in powers of 1000 with four digits: "16.43MB", as docker tells sums.
pub fn exact_size(bytes: u64) -> String {
    scaled(bytes, 1000.0, 4, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// Bytes in powers of 1024 with four digits: "3.852GiB".
pub fn binary_size(bytes: u64) -> String {
    scaled(bytes, 1024.0, 4, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

#[expect(clippy::cast_precision_loss, reason = "three or four digits are shown")]
fn scaled(bytes: u64, base: f64, digits: usize, units: &[&str]) -> String {
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{}{}", significant(value, digits), units.get(unit).unwrap_or(&""))
}

/// A number with so many significant digits and no zeros at its end.
fn significant(value: f64, digits: usize) -> String {
    let mut whole = 1;
    let mut bound = 10.0;
    while value >= bound {
        whole += 1;
        bound *= 10.0;
    }
    let text = format!("{value:.*}", digits.saturating_sub(whole));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A size as flags take it, in powers of 1024: "64m", "1.5GiB", "512".
pub fn parse_size(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start().to_ascii_lowercase();
    let shift = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
        "" => 0_u32,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    if unit == "ib" {
        return None;
    }
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift);
    }
    let value =
        number.parse::<f64>().ok().filter(|_| number.contains('.'))? * 2_f64.powi(shift.cast_signed());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked against the range")]
    (0.0..9.0e18).contains(&value).then_some(value as u64)
}

/// A length of time in Go's words: "1h30m", "1.5s", "100ms".
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = next;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_like_dockers() {
        for (seconds, wanted) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (13 * 86400, "13 days"),
            (14 * 86400, "2 weeks"),
            (59 * 86400, "8 weeks"),
            (60 * 86400, "2 months"),
            (364 * 86400, "12 months"),
            (365 * 86400, "1 years"),
            (800 * 86400, "2 years"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), wanted, "{seconds}");
        }
    }

    #[test]
    fn sizes_read_like_dockers() {
        for (bytes, wanted) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (5_590_000, "5.59MB"),
            (77_800_000, "77.8MB"),
            (187_000_000, "187MB"),
            (1_020_000_000, "1.02GB"),
        ] {
            assert_eq!(size(bytes), wanted);
        }
        assert_eq!(binary_size(4_136_000_000), "3.852GiB");
        assert_eq!(binary_size(1024), "1KiB");
        assert_eq!(size(u64::MAX), "18.4EB");
        assert_eq!((exact_size(16_430_123), exact_size(212)), ("16.43MB".into(), "212B".into()));
    }

    #[test]
    fn sizes_of_flags() {
        for (text, wanted) in [
            ("64m", Some(64 << 20)),
            ("1g", Some(1 << 30)),
            ("1.5GiB", Some(3 << 29)),
            ("512", Some(512)),
            ("512b", Some(512)),
            ("2 KB", Some(2048)),
            ("64M", Some(64 << 20)),
            ("", None),
            ("-1", None),
            ("m", None),
            ("1x", None),
            ("1ib", None),
            ("1.2.3m", None),
            ("18446744073709551615k", None),
            ("1e5", None),
        ] {
            assert_eq!(parse_size(text), wanted, "{text}");
        }
    }

    #[test]
    fn durations_of_flags() {
        for (text, wanted) in [
            ("10s", Some(Duration::from_secs(10))),
            ("1h30m", Some(Duration::from_secs(5400))),
            ("1.5s", Some(Duration::from_millis(1500))),
            ("100ms", Some(Duration::from_millis(100))),
            ("0", Some(Duration::ZERO)),
            ("", None),
            ("10", None),
            ("s", None),
            ("-1s", None),
            ("1d", None),
        ] {
            assert_eq!(parse_duration(text), wanted, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_typed_makes_a_parser_panic(text in "\\PC{0,40}", number in any::<u64>()) {
            let _ = (parse_size(&text), parse_duration(&text));
            let _ = (size(number), binary_size(number), duration(Duration::from_secs(number)));
        }

        #[test]
        fn whole_numbers_of_bytes_stay(number in 0_u64..u64::MAX) {
            prop_assert_eq!(parse_size(&number.to_string()), Some(number));
        }
    }
}
