//! `davit-chaos`: an hour of chaos by hand, or as much as is wanted.
//!
//! ```text
//! davit-chaos [--seed N] [--minutes N] [--containers N] [--clients N] [--seconds N] [--pool N] [--separate]
//!             [--failpoints | --failpoint NAME=MODE[,NAME=MODE]…]
//! ```
//!
//! Needs root, the release binaries (`deploy/build`, or `DAVIT_BIN_DIR`), `docker-registry` and `skopeo`. Prints the seed
//! first and what was counted last; with `DAVIT_TEST_KEEP=FILE` the engine's log of a run that failed is kept there. Ends with an error, and all that is known of it, as soon as an invariant is broken.

use std::time::Duration;

use anyhow::{Context as _, bail};
use davit_tests::chance;
use davit_tests::chaos::{Settings, failpoints, run, sweep};
use davit_tests::engine::Services;

fn main() -> anyhow::Result<()> {
    let mut settings = Settings {
        seed: chance::seed(),
        containers: 50,
        clients: 5,
        storms: 1,
        time: Duration::from_secs(600),
        storm: Duration::from_secs(20),
        services: Services::Embedded,
        pool: 4,
    };
    let (mut points, mut seconds) = (Vec::new(), None);
    let mut sweeps = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        if flag == "--separate" {
            settings.services = Services::Separate;
            continue;
        }
        if flag == "--failpoints" {
            sweeps = true;
            continue;
        }
        let value = arguments.next().with_context(|| format!("{flag} wants a value"))?;
        if flag == "--failpoint" {
            points.push(value);
            continue;
        }
        let number: u64 = value.parse().with_context(|| format!("{flag} {value}: not a number"))?;
        match flag.as_str() {
            "--seed" => settings.seed = number,
            "--minutes" => settings.time = Duration::from_secs(60 * number),
            "--containers" => settings.containers = usize::try_from(number)?,
            "--clients" => settings.clients = usize::try_from(number)?,
            "--pool" => settings.pool = usize::try_from(number)?,
            "--seconds" => seconds = Some(Duration::from_secs(number)),
            _ => bail!(
                "{flag}: there is --seed, --minutes, --containers, --clients, --seconds, --pool, --separate, --failpoint \
                 and --failpoints"
            ),
        }
    }
    println!("--seed {}", settings.seed);
    if sweeps {
        points = failpoints(settings.seed)?;
    }
    settings.storm = seconds.unwrap_or(Duration::from_secs(if points.is_empty() { 20 } else { 3 }));
    let counts = if points.is_empty() { run(settings)? } else { sweep(settings, &points)? };
    println!("{counts:#?}");
    Ok(())
}
