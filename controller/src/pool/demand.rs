//! How many prepared shims of one kind are worth having. Pure.
//!
//! None until somebody asks, then a few; more when they do not last, fewer when they do; none again when nobody has
//! asked for long. So whoever starts a container now and then finds one ready, and an engine that only runs what it
//! has pays for nothing.

use std::time::{Duration, Instant};

/// What the first who asks is worth.
const FIRST: usize = 2;
/// How long they must have lasted before there are fewer.
pub const CALM: Duration = Duration::from_secs(30);
/// How long nobody must have asked before there is none.
pub const FORGOTTEN: Duration = Duration::from_secs(5 * 60);

/// What is known of those who ask.
#[derive(Debug, Clone)]
pub struct Demand {
    most: usize,
    target: usize,
    /// When somebody asked last.
    asked: Option<Instant>,
    /// When the number changed last, or was found too small.
    judged: Option<Instant>,
}

impl Demand {
    /// Nobody has asked yet. There will never be more than `most`.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, target: 0, asked: None, judged: None }
    }

    /// Somebody asked, and found one or did not.
    pub fn ask(&mut self, found: bool, now: Instant) {
        self.age(now);
        self.asked = Some(now);
        if !found {
            self.target = (self.target * 2).max(FIRST).min(self.most);
            self.judged = Some(now);
        }
    }

    /// How many there should be now.
    pub fn target(&mut self, now: Instant) -> usize {
        self.age(now);
        self.target
    }

    fn age(&mut self, now: Instant) {
        let since =
            |then: Option<Instant>| then.map_or(Duration::MAX, |then| now.saturating_duration_since(then));
        if since(self.asked) >= FORGOTTEN {
            self.target = 0;
        }
        while self.target > FIRST && since(self.judged) >= CALM {
            self.target = (self.target / 2).max(FIRST);
            self.judged = self.judged.map(|then| then + CALM);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nobody_asks_so_there_is_none() {
        let mut demand = Demand::new(4);
        assert_eq!(demand.target(Instant::now()), 0);
    }

    #[test]
    fn it_grows_when_they_do_not_last_and_shrinks_when_they_do() {
        let begun = Instant::now();
        let mut demand = Demand::new(8);
        for (found, target) in [(false, 2), (true, 2), (false, 4), (false, 8), (false, 8), (true, 8)] {
            demand.ask(found, begun);
            assert_eq!(demand.target(begun), target);
        }
        assert_eq!(demand.target(begun + CALM), 4);
        assert_eq!(demand.target(begun + CALM * 2), 2);
        assert_eq!(demand.target(begun + CALM * 9), 2, "somebody asked not long ago");
        assert_eq!(demand.target(begun + FORGOTTEN), 0);
        demand.ask(false, begun + FORGOTTEN * 2);
        assert_eq!(demand.target(begun + FORGOTTEN * 2), 2, "it begins anew");
    }

    #[test]
    fn calm_counts_from_the_last_want() {
        let begun = Instant::now();
        let mut demand = Demand::new(4);
        demand.ask(false, begun);
        demand.ask(false, begun);
        demand.ask(false, begun + CALM / 2);
        assert_eq!(demand.target(begun + CALM), 4);
        assert_eq!(demand.target(begun + CALM * 3 / 2), 2);
    }

    #[test]
    fn a_pool_of_one_or_none_is_possible() {
        for most in [0, 1] {
            let mut demand = Demand::new(most);
            (0..3).for_each(|_| demand.ask(false, Instant::now()));
            assert_eq!(demand.target(Instant::now()), most);
        }
    }

    proptest! {
        #[test]
        fn it_is_bounded_and_ends(most in 0_usize..20, asks in proptest::collection::vec((any::<bool>(), 0_u64..400), 0..60)) {
            let mut now = Instant::now();
            let mut demand = Demand::new(most);
            for (found, seconds) in asks {
                now += Duration::from_secs(seconds);
                demand.ask(found, now);
                prop_assert!(demand.target(now) <= most);
                prop_assert!(found || demand.target(now) >= most.min(FIRST));
            }
            prop_assert_eq!(demand.target(now + FORGOTTEN), 0);
        }
    }
}
