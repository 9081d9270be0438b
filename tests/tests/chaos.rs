//! A few short storms of `davit-chaos` on every change; `docs/chaos.md` tells of the long ones, and of those
//! where programs fail at chosen points.
//!
//! `DAVIT_TEST_SEED` gives another seed.

use std::time::Duration;

use davit_tests::chance::setting;
use davit_tests::chaos::{Settings, run};
use davit_tests::engine::Services;

/// What the first storm of a seed has: kills of the engine beside a full disk and kills of shims, a registry that stops,
/// one that lies.
const SEEDS: [u64; 2] = [114, 27];

fn settings(seed: u64, services: Services) -> Settings {
    let seed = setting("DAVIT_TEST_SEED").unwrap_or(seed);
    // Shown when the test fails.
    eprintln!("DAVIT_TEST_SEED={seed}");
    Settings {
        seed,
        containers: 8,
        clients: 2,
        storms: 2,
        time: Duration::ZERO,
        storm: Duration::from_secs(8),
        services,
        pool: 2,
    }
}

#[test]
fn nothing_is_lost_in_a_storm() {
    let counts = run(settings(SEEDS[0], Services::of_this_run())).unwrap();
    assert!(counts.asked > 0 && counts.granted > 0 && counts.lines > 0 && counts.events > 0, "{counts:?}");
}

#[test]
fn nothing_is_lost_in_a_storm_over_services_that_are_killed_alone() {
    let counts = run(settings(SEEDS[1], Services::Separate)).unwrap();
    assert!(counts.asked > 0 && counts.granted > 0, "{counts:?}");
}
