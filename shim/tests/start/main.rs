//! Starts real containers through the init API, without gRPC: what is inside, and how it ends.
//!
//! It has its own `main`, because init is this very program executed again. Needs root and a static busybox.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed scene")]
#![expect(clippy::print_stdout, reason = "it is its own test harness")]

#[path = "../../src/cgroup/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the shim uses more of it, and its unit tests run there")]
mod cgroup;
#[path = "../../src/init/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the shim uses more of it, and its unit tests run there")]
mod init;
#[path = "../../src/watched.rs"]
mod watched;

mod confinement;
mod fixture;
mod lifecycle;
mod measure;
mod mounts;
mod shim;
mod user;
mod userns;

use std::panic::catch_unwind;
use std::process::ExitCode;

/// A test and its name.
pub type Scene = (&'static str, fn());

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("init") => return init::child::run(),
        Some("enter") => return init::enter::run(),
        Some("guard") => return init::guard::run(),
        Some("shim") => return shim::run(),
        Some("measure") => return measure::run(),
        _ => {}
    }
    if words.iter().any(|word| word == "--list") {
        return ExitCode::SUCCESS;
    }
    if let Some(why) = fixture::missing() {
        println!("skipped: {why}");
        return ExitCode::SUCCESS;
    }
    let wanted = words.into_iter().find(|word| !word.starts_with('-')).unwrap_or_default();
    let scenes =
        [lifecycle::SCENES, shim::SCENES, confinement::SCENES, mounts::SCENES, user::SCENES, userns::SCENES]
            .concat();
    let mut failed = 0;
    for (name, scene) in scenes.into_iter().filter(|(name, _)| name.contains(&wanted)) {
        let result = catch_unwind(scene);
        println!("test {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        failed += usize::from(result.is_err());
    }
    fixture::clean_up();
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
