//! The last values of something, as bars in one line.

use std::collections::VecDeque;
use std::fmt;

/// Values that are kept.
const LENGTH: usize = 20;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The last values, in percent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sparkline(VecDeque<f64>);

impl Sparkline {
    /// Adds the newest value.
    pub fn push(&mut self, value: f64) {
        if self.0.len() == LENGTH {
            self.0.pop_front();
        }
        self.0.push_back(value.max(0.0));
    }
}

impl fmt::Display for Sparkline {
    /// The highest bar is the highest value, and never less than 100 %, so that a quiet container looks quiet.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let highest = self.0.iter().copied().fold(100.0_f64, f64::max);
        self.0.iter().try_for_each(|value| write!(f, "{}", bar(value / highest)))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is cut to 0 to 7 before"
)]
fn bar(part: f64) -> char {
    let height = (part.clamp(0.0, 1.0) * 7.0).round() as usize;
    BARS.get(height).copied().unwrap_or('█')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_values_are_bars() {
        let mut line = Sparkline::default();
        assert_eq!(line.to_string(), "");
        for value in [0.0, 50.0, 100.0, -3.0] {
            line.push(value);
        }
        assert_eq!(line.to_string(), "▁▅█▁");
        line.push(200.0);
        assert_eq!(line.to_string(), "▁▃▅▁█", "the highest is the measure");
        for _ in 0..100 {
            line.push(0.0);
        }
        assert_eq!(line.to_string().chars().count(), LENGTH);
    }
}
