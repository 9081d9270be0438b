//! The policy of garbage collection: what was set, checked, and said in sentences.
//!
//! Without any setting only content goes that nobody can name. Images go only where one of the limits is set.

use std::time::Duration;

use serde::Deserialize;

use crate::filter::{self, Filter};
use crate::list::Summary;
use crate::remove::GRACE;

/// How often by default.
const INTERVAL: Duration = Duration::from_secs(600);
/// How long an image must have been idle by default.
const MIN_AGE: Duration = Duration::from_secs(3600);
/// How long a step stays that no build needs, by default.
const STEPS_AGE: Duration = Duration::from_secs(14 * 24 * 3600);
/// How far below the high watermark the low one is by default, in percent of the file system.
const GAP: u8 = 10;

/// What was set, by the same names as flags and in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Settings {
    /// How often content and images that nothing uses are collected; 0 for never [default: 10m]
    #[arg(long, value_name = "DURATION")]
    pub gc_interval: Option<String>,
    /// How long content stays that no image and no container needs [default: 24h]
    #[arg(long, value_name = "DURATION")]
    pub gc_grace: Option<String>,
    /// Use of the file system from which on images without a container go, the least recently used first
    #[arg(long, value_name = "PERCENT")]
    pub gc_high: Option<u8>,
    /// Use of the file system down to which they go [default: 10 below --gc-high]
    #[arg(long, value_name = "PERCENT")]
    pub gc_low: Option<u8>,
    /// Disk space of all images beyond which those without a container go, the least recently used first
    #[arg(long, value_name = "BYTES")]
    pub gc_budget: Option<String>,
    /// How long an image must have been idle to go by these limits [default: 1h]
    #[arg(long, value_name = "DURATION")]
    pub gc_min_age: Option<String>,
    /// Remove images without a tag when they were idle for so long
    #[arg(long, value_name = "DURATION")]
    pub gc_dangling_age: Option<String>,
    /// Remove what steps of builds left when no build needed it for so long; 0 for never [default: 336h]
    #[arg(long, value_name = "DURATION")]
    pub gc_steps_age: Option<String>,
    /// Disk space of steps of builds beyond which the least recently needed go [default: a tenth of the file system]
    #[arg(long, value_name = "BYTES")]
    pub gc_steps_budget: Option<String>,
    /// Images that never go: reference=PATTERN or label=KEY[=VALUE] (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub gc_keep: Vec<String>,
}

impl Settings {
    /// These settings, with `file`'s where they are silent.
    #[must_use]
    pub fn or(self, file: Self) -> Self {
        Self {
            gc_interval: self.gc_interval.or(file.gc_interval),
            gc_grace: self.gc_grace.or(file.gc_grace),
            gc_high: self.gc_high.or(file.gc_high),
            gc_low: self.gc_low.or(file.gc_low),
            gc_budget: self.gc_budget.or(file.gc_budget),
            gc_min_age: self.gc_min_age.or(file.gc_min_age),
            gc_dangling_age: self.gc_dangling_age.or(file.gc_dangling_age),
            gc_steps_age: self.gc_steps_age.or(file.gc_steps_age),
            gc_steps_budget: self.gc_steps_budget.or(file.gc_steps_budget),
            gc_keep: if self.gc_keep.is_empty() { file.gc_keep } else { self.gc_keep },
        }
    }
}

/// A setting that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {flag} {value:?}: {rule}")]
pub struct PolicyError {
    /// Name of the flag.
    pub flag: &'static str,
    /// Its value.
    pub value: String,
    /// What it would have to be.
    pub rule: &'static str,
}

/// Use of the file system, in percent, from which on images go and down to which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// From here on.
    pub high: u8,
    /// Down to here.
    pub low: u8,
}

/// What goes by itself, and when.
#[derive(Debug)]
pub struct Policy {
    /// How often; `None` for never.
    pub interval: Option<Duration>,
    /// How long content stays that nothing needs.
    pub grace: Duration,
    /// Limit by the file system.
    pub watermarks: Option<Watermarks>,
    /// Limit by the space of all images, in bytes.
    pub budget: Option<u64>,
    /// How long an image must have been idle to go by a limit.
    pub min_age: Duration,
    /// How long an image without a tag must have been idle to go.
    pub dangling_age: Option<Duration>,
    /// How long no build must have needed a step for it to go; `None` for never.
    pub steps_age: Option<Duration>,
    /// Bytes that only steps may take; `None` for a share of the file system.
    pub steps_budget: Option<u64>,
    keep: Vec<(String, Filter)>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            interval: Some(INTERVAL),
            grace: GRACE,
            watermarks: None,
            budget: None,
            min_age: MIN_AGE,
            dangling_age: None,
            steps_age: Some(STEPS_AGE),
            steps_budget: None,
            keep: Vec::new(),
        }
    }
}

impl Policy {
    /// Understands what was set.
    ///
    /// # Errors
    /// When a value makes no sense.
    pub fn new(settings: &Settings) -> Result<Self, PolicyError> {
        let mut policy = Self::default();
        let age = |flag, text: &Option<String>| text.as_deref().map(|text| duration(flag, text)).transpose();
        if let Some(interval) = age("gc-interval", &settings.gc_interval)? {
            policy.interval = (!interval.is_zero()).then_some(interval);
        }
        policy.grace = age("gc-grace", &settings.gc_grace)?.unwrap_or(policy.grace);
        policy.min_age = age("gc-min-age", &settings.gc_min_age)?.unwrap_or(policy.min_age);
        policy.dangling_age = age("gc-dangling-age", &settings.gc_dangling_age)?;
        if let Some(steps_age) = age("gc-steps-age", &settings.gc_steps_age)? {
            policy.steps_age = (!steps_age.is_zero()).then_some(steps_age);
        }
        policy.steps_budget =
            settings.gc_steps_budget.as_deref().map(|text| bytes("gc-steps-budget", text)).transpose()?;
        policy.watermarks = watermarks(settings.gc_high, settings.gc_low)?;
        policy.budget = settings.gc_budget.as_deref().map(|text| bytes("gc-budget", text)).transpose()?;
        for text in &settings.gc_keep {
            policy.keep.push((text.clone(), keep(text)?));
        }
        Ok(policy)
    }

    /// Whether images go by a limit at all.
    #[must_use]
    pub fn has_limit(&self) -> bool {
        self.watermarks.is_some() || self.budget.is_some()
    }

    /// Whether an image never goes.
    #[must_use]
    pub fn keeps(&self, summary: &Summary) -> bool {
        self.keep.iter().any(|(_, filter)| filter.shows(summary))
    }

    /// The policy in sentences.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let Some(interval) = self.interval else { return vec!["never".to_owned()] };
        let mut said = vec![
            format!("every {}", span(interval)),
            format!("content that no image and no container needs goes after {}", span(self.grace)),
        ];
        if let Some(age) = self.dangling_age {
            said.push(format!("images without a tag go when idle for {}", span(age)));
        }
        if let Some(age) = self.steps_age {
            said.push(format!("steps of builds go when no build needed them for {}", span(age)));
        }
        said.push(match self.steps_budget {
            Some(budget) => {
                format!("beyond {budget} bytes of steps of builds, the least recently needed go first")
            }
            None => {
                "beyond a tenth of the file system, the least recently needed steps of builds go".to_owned()
            }
        });
        let idle = span(self.min_age);
        if let Some(Watermarks { high, low }) = self.watermarks {
            said.push(format!(
                "from {high}% of the file system on, images idle for {idle} go, the least recently used first, down to \
                 {low}%"
            ));
        }
        if let Some(budget) = self.budget {
            said.push(format!(
                "beyond {budget} bytes of images, those idle for {idle} go, the least recently used first"
            ));
        }
        said.extend(self.keep.iter().map(|(text, _)| format!("images with {text} stay")));
        said
    }
}

fn invalid(flag: &'static str, value: impl ToString, rule: &'static str) -> PolicyError {
    PolicyError { flag, value: value.to_string(), rule }
}

fn duration(flag: &'static str, text: &str) -> Result<Duration, PolicyError> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    filter::age(text).ok_or_else(|| invalid(flag, text, "must be a duration such as 30m or 24h"))
}

fn watermarks(high: Option<u8>, low: Option<u8>) -> Result<Option<Watermarks>, PolicyError> {
    let Some(high) = high else {
        return match low {
            Some(low) => Err(invalid("gc-low", low, "means nothing without gc-high")),
            None => Ok(None),
        };
    };
    if !(1..=99).contains(&high) {
        return Err(invalid("gc-high", high, "must be 1 to 99 percent"));
    }
    let low = low.unwrap_or_else(|| high.saturating_sub(GAP));
    if low >= high {
        return Err(invalid("gc-low", low, "must be less than gc-high"));
    }
    Ok(Some(Watermarks { high, low }))
}

/// Bytes with a unit in powers of 1024, as docker's flags take them.
fn bytes(flag: &'static str, text: &str) -> Result<u64, PolicyError> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim().to_ascii_lowercase();
    let shift = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
        "" => Some(0_u32),
        "k" => Some(10),
        "m" => Some(20),
        "g" => Some(30),
        "t" => Some(40),
        _ => None,
    };
    let number = number.parse::<u64>().ok();
    let value = number.zip(shift).and_then(|(number, shift)| number.checked_mul(1 << shift));
    value.ok_or_else(|| invalid(flag, text, "must be bytes such as 20g or 500m"))
}

fn keep(text: &str) -> Result<Filter, PolicyError> {
    let pair = text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    pair.and_then(|pair| Filter::parse_keep(&[pair]).ok())
        .ok_or_else(|| invalid("gc-keep", text, "must be reference=PATTERN or label=KEY[=VALUE]"))
}

/// A length of time in the largest unit that it is whole in.
fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    match (seconds % 3600, seconds % 60) {
        (0, _) if seconds > 0 => format!("{}h", seconds / 3600),
        (_, 0) if seconds > 0 => format!("{}m", seconds / 60),
        _ => format!("{}s", length.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(change: impl FnOnce(&mut Settings)) -> Result<Policy, PolicyError> {
        let mut settings = Settings::default();
        change(&mut settings);
        Policy::new(&settings)
    }

    #[test]
    fn by_default_no_image_goes() {
        let policy = set(|_| ()).unwrap();
        assert!(!policy.has_limit() && policy.dangling_age.is_none());
        assert_eq!(
            policy.sentences(),
            [
                "every 10m",
                "content that no image and no container needs goes after 24h",
                "steps of builds go when no build needed them for 336h",
                "beyond a tenth of the file system, the least recently needed steps of builds go"
            ]
        );
    }

    #[test]
    fn limits_are_read_and_said() {
        let policy = set(|settings| {
            settings.gc_high = Some(85);
            settings.gc_budget = Some("20GiB".into());
            settings.gc_dangling_age = Some("90m".into());
            settings.gc_keep = vec!["label=keep".into(), "reference=base/*".into()];
            settings.gc_interval = Some("90s".into());
        })
        .unwrap();
        assert_eq!(policy.watermarks, Some(Watermarks { high: 85, low: 75 }));
        assert_eq!(policy.budget, Some(20 << 30));
        let said = policy.sentences().join("; ");
        for part in ["every 90s", "idle for 90m", "down to 75%", "21474836480 bytes", "label=keep stay"] {
            assert!(said.contains(part), "{part} in {said}");
        }
        assert_eq!(set(|settings| settings.gc_interval = Some("0".into())).unwrap().sentences(), ["never"]);
    }

    #[test]
    fn wrong_values_are_named() {
        let flag = |change: fn(&mut Settings)| set(change).unwrap_err().flag;
        assert_eq!(flag(|s| s.gc_high = Some(100)), "gc-high");
        assert_eq!(flag(|s| s.gc_low = Some(10)), "gc-low");
        assert_eq!(flag(|s| (s.gc_high, s.gc_low) = (Some(50), Some(50))), "gc-low");
        assert_eq!(flag(|s| s.gc_budget = Some("lots".into())), "gc-budget");
        assert_eq!(flag(|s| s.gc_steps_budget = Some("some".into())), "gc-steps-budget");
        assert_eq!(flag(|s| s.gc_min_age = Some("soon".into())), "gc-min-age");
        assert_eq!(flag(|s| s.gc_keep = vec!["until=3h".into()]), "gc-keep");
        assert_eq!(flag(|s| s.gc_keep = vec!["label".into()]), "gc-keep");
    }
}
