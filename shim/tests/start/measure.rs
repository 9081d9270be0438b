//! What a start costs: `start measure [rounds]`, printed and not judged.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::fixture::{Container, piped};

const STAGES: [&str; 7] = ["cgroup", "prepare", "configure", "start", "request to exec", "reaped", "removed"];

/// Runs `true` many times.
pub fn run() -> ExitCode {
    let rounds = std::env::args().nth(2).and_then(|n| n.parse().ok()).unwrap_or(100);
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); STAGES.len()];
    for _ in 0..rounds {
        for (list, time) in times.iter_mut().zip(once()) {
            list.push(time);
        }
    }
    println!("{:>16} {:>8} {:>8} {:>8}  us", "", "min", "p50", "p90");
    for (name, list) in STAGES.iter().zip(&mut times) {
        list.sort_unstable();
        let at = |part: usize| list[(list.len() - 1) * part / 10].as_micros();
        println!("{name:>16} {:>8} {:>8} {:>8}", at(0), at(5), at(9));
    }
    crate::fixture::clean_up();
    ExitCode::SUCCESS
}

fn once() -> [Duration; STAGES.len()] {
    let mut container = Container::command(&["true"]);
    // The fixture has made it; this is what making it again costs, which is what a shim does first.
    container.cgroup.remove().unwrap();
    let began = Instant::now();
    container.remake_cgroup();
    let made = began.elapsed();
    let mut init = container.prepare(None);
    let prepared = began.elapsed();
    let (stdio, _reader) = piped();
    container.configure(&mut init, stdio).unwrap();
    let configured = began.elapsed();
    init.start().unwrap();
    let started = began.elapsed();
    init.reap_blocking().unwrap();
    let reaped = began.elapsed();
    drop(init);
    container.cgroup.remove().unwrap();
    let removed = began.elapsed();
    container.remake_cgroup();
    [
        made,
        prepared - made,
        configured - prepared,
        started - configured,
        started,
        reaped - started,
        removed - reaped,
    ]
}
