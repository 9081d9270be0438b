//! A little chaos: see [`davit_tests::chaos`]. `DAVIT_TEST_SEED` chooses what happens, `DAVIT_TEST_STORMS` how much.
//! `cargo run --release -p davit-tests --bin davit-chaos` does it for as long as one likes.

use std::time::Duration;

use davit_tests::chance::{seed, setting};
use davit_tests::chaos::{Settings, run};
use davit_tests::engine::Services;

#[test]
fn nothing_is_lost_in_a_storm() {
    let seed = seed();
    eprintln!("DAVIT_TEST_SEED={seed}");
    let settings = Settings {
        seed,
        containers: 12,
        clients: 3,
        storms: usize::try_from(setting("DAVIT_TEST_STORMS").unwrap_or(2)).unwrap(),
        time: Duration::ZERO,
        storm: Duration::from_secs(10),
        services: Services::of_this_run(),
    };
    let counts = run(settings).unwrap();
    assert!(counts.granted > 10, "too little happened: {counts:?}");
}
