//! HEALTHCHECK: how it is found out whether the program is well.

use serde_json::{Value, json};

use super::{Command, read};
use crate::error::{Error, Problem};
use crate::flag::Flags;
use crate::lexer::Statement;
use crate::word::Word;

/// What HEALTHCHECK says. Times are nanoseconds; 0 is the engine's default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healthcheck {
    /// What is run; none turns an inherited check off.
    pub command: Option<Command>,
    /// Time between two checks.
    pub interval: i64,
    /// Time that one may take.
    pub timeout: i64,
    /// Time in which a failure does not count.
    pub start_period: i64,
    /// Time between two checks in that time.
    pub start_interval: i64,
    /// Failures in a row that make the program unwell.
    pub retries: i64,
}

impl Healthcheck {
    pub(super) fn read(mut flags: Flags, rest: &Word, statement: &Statement) -> Result<Self, Error> {
        let missing =
            |what| Error::new(statement.name.at(), Problem::Missing { instruction: "HEALTHCHECK", what });
        let Some((form, rest)) = rest.first() else { return Err(missing("CMD and a command, or NONE")) };
        let none = match form.text().to_ascii_uppercase().as_str() {
            "NONE" => true,
            "CMD" => false,
            _ => {
                let word = form.text().to_owned();
                let problem =
                    Problem::Word { what: "health check", word, reason: "it begins with CMD or is NONE" };
                return Err(Error::new(form.at(), problem));
            }
        };
        if none {
            flags.finish(&[])?;
            if !rest.text().is_empty() {
                let word = rest.text().to_owned();
                let problem = Problem::Surplus { instruction: "HEALTHCHECK NONE", what: "nothing", word };
                return Err(Error::new(rest.at(), problem));
            }
            return Ok(Self::of(None));
        }
        let mut health = Self::of(None);
        for (name, time) in [
            ("interval", &mut health.interval),
            ("timeout", &mut health.timeout),
            ("start-period", &mut health.start_period),
            ("start-interval", &mut health.start_interval),
        ] {
            *time = flags.value(name)?.map_or(Ok(0), |value| duration(&value))?;
        }
        health.retries = flags.value("retries")?.map_or(Ok(0), |value| retries(&value))?;
        flags.finish(&[])?;
        if rest.text().is_empty() {
            return Err(missing("a command after CMD"));
        }
        health.command = Some(read::command(&rest)?);
        if health.command == Some(Command::Exec(Vec::new())) {
            return Err(missing("a command after CMD"));
        }
        Ok(health)
    }

    fn of(command: Option<Command>) -> Self {
        Self { command, interval: 0, timeout: 0, start_period: 0, start_interval: 0, retries: 0 }
    }

    /// As it stands in an image's config.
    #[must_use]
    pub fn value(&self) -> Value {
        let test = match &self.command {
            None => json!(["NONE"]),
            Some(Command::Shell(line)) => json!(["CMD-SHELL", line]),
            Some(Command::Exec(words)) => {
                let words = std::iter::once("CMD").chain(words.iter().map(String::as_str));
                words.collect()
            }
        };
        let mut value = json!({ "Test": test });
        for (name, number) in [
            ("Interval", self.interval),
            ("Timeout", self.timeout),
            ("StartPeriod", self.start_period),
            ("StartInterval", self.start_interval),
            ("Retries", self.retries),
        ] {
            if number != 0 {
                value[name] = json!(number);
            }
        }
        value
    }
}

fn retries(word: &Word) -> Result<i64, Error> {
    let number = word.text().parse::<i32>().ok().filter(|number| *number >= 0);
    number.map(i64::from).ok_or_else(|| wrong(word, "number of retries", "it must be a whole number from 0"))
}

fn wrong(word: &Word, what: &'static str, reason: &'static str) -> Error {
    Error::new(word.at(), Problem::Word { what, word: word.text().to_owned(), reason })
}

/// A time as `1h30m`, `1.5s` or `100ms`, in nanoseconds.
fn duration(word: &Word) -> Result<i64, Error> {
    let reason = "it must be a time with its unit, as 30s, 1m30s or 500ms";
    let nanoseconds = nanoseconds(word.text()).ok_or_else(|| wrong(word, "time", reason))?;
    if nanoseconds != 0 && nanoseconds < 1_000_000 {
        return Err(wrong(word, "time", "it cannot be less than 1ms"));
    }
    Ok(nanoseconds)
}

fn nanoseconds(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = 0_i64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit_ends = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_ends);
        let unit = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total = total.checked_add(scaled(number, unit)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

/// A decimal number of units, in units of 1.
fn scaled(number: &str, unit: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()? };
    let mut total = whole.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.chars() {
        place /= 10;
        total = total.checked_add(place.checked_mul(i64::from(digit.to_digit(10)?))?)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_reads_them() {
        for (text, wanted) in [
            ("0", Some(0)),
            ("30s", Some(30_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            (".5ms", Some(500_000)),
            ("1.s", Some(1_000_000_000)),
            ("100µs", Some(100_000)),
            ("", None),
            ("s", None),
            ("5", None),
            ("-1s", None),
            ("1.2.3s", None),
            ("1x", None),
            ("9999999999999h", None),
            (".s", None),
        ] {
            assert_eq!(nanoseconds(text), wanted, "{text}");
        }
    }
}
