//! What the probes of a health check say together: pure.
//!
//! Docker's rules: one success makes healthy; so many failures in a row make unhealthy; those in the start period do not
//! count, until the first success.

use std::collections::VecDeque;
use std::time::Duration;

use davit_proto::types::{Health, HealthStatus, Probe};

/// Probes that are remembered.
const PROBES: usize = 5;

/// Times and numbers of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Time between checks.
    pub interval: Duration,
    /// Time from the start of a life in which failures do not count.
    pub start_period: Duration,
    /// Time between checks in that period.
    pub start_interval: Duration,
    /// Failures in a row until it is unhealthy.
    pub retries: u32,
}

/// The judgement about one life.
#[derive(Debug)]
pub struct Judgement {
    status: HealthStatus,
    streak: u32,
    probes: VecDeque<Probe>,
}

impl Default for Judgement {
    fn default() -> Self {
        Self { status: HealthStatus::Starting, streak: 0, probes: VecDeque::new() }
    }
}

impl Judgement {
    /// Hears of a probe that began at an age of the life. True when the judgement is another one now.
    pub fn hear(&mut self, probe: Probe, age: Duration, rules: Rules) -> bool {
        let before = self.status;
        if probe.exit_code == 0 {
            (self.status, self.streak) = (HealthStatus::Healthy, 0);
        } else if !(self.status == HealthStatus::Starting && age < rules.start_period) {
            self.streak = self.streak.saturating_add(1);
            if self.streak >= rules.retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        if self.probes.len() == PROBES {
            self.probes.pop_front();
        }
        self.probes.push_back(probe);
        self.status != before
    }

    /// Time until the next probe, at an age of the life.
    pub fn pause(&self, age: Duration, rules: Rules) -> Duration {
        let starts = self.status == HealthStatus::Starting && age < rules.start_period;
        if starts { rules.start_interval } else { rules.interval }
    }

    /// Whether it is unhealthy.
    pub fn is_unhealthy(&self) -> bool {
        self.status == HealthStatus::Unhealthy
    }

    /// As docker names it, and the failures in a row.
    pub fn told(&self) -> (String, u32) {
        let status = match self.status {
            HealthStatus::Healthy => "healthy",
            HealthStatus::Unhealthy => "unhealthy",
            HealthStatus::Starting | HealthStatus::Unspecified => "starting",
        };
        (status.to_owned(), self.streak)
    }

    /// All of it.
    pub fn health(&self) -> Health {
        Health {
            status: self.status.into(),
            failing_streak: self.streak,
            probes: self.probes.iter().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        interval: Duration::from_secs(30),
        start_period: Duration::from_secs(10),
        start_interval: Duration::from_secs(5),
        retries: 3,
    };

    fn hear(judgement: &mut Judgement, exit_code: i32, age: u64) -> (bool, String, u32) {
        let probe = Probe { exit_code, ..Probe::default() };
        let changed = judgement.hear(probe, Duration::from_secs(age), RULES);
        let (status, streak) = judgement.told();
        (changed, status, streak)
    }

    #[test]
    fn failures_count_after_the_start_period_and_a_success_forgets_them() {
        let mut j = Judgement::default();
        assert_eq!(hear(&mut j, 1, 9), (false, "starting".into(), 0));
        assert_eq!(j.pause(Duration::from_secs(9), RULES), RULES.start_interval);
        assert_eq!(j.pause(Duration::from_secs(10), RULES), RULES.interval);
        assert_eq!(hear(&mut j, 1, 10), (false, "starting".into(), 1));
        assert_eq!(hear(&mut j, -1, 11), (false, "starting".into(), 2));
        assert_eq!(hear(&mut j, 2, 12), (true, "unhealthy".into(), 3));
        assert!(j.is_unhealthy());
        assert_eq!(hear(&mut j, 2, 13), (false, "unhealthy".into(), 4));
        assert_eq!(hear(&mut j, 0, 14), (true, "healthy".into(), 0));
        assert_eq!(j.health().probes.len(), PROBES);
        assert_eq!(j.health().probes.last().map(|probe| probe.exit_code), Some(0));
    }

    #[test]
    fn once_healthy_the_start_period_is_over() {
        let mut j = Judgement::default();
        assert_eq!(hear(&mut j, 0, 1), (true, "healthy".into(), 0));
        assert_eq!(j.pause(Duration::from_secs(1), RULES), RULES.interval);
        assert_eq!(hear(&mut j, 1, 2), (false, "healthy".into(), 1));
    }
}
