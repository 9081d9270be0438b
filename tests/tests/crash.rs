//! The engine is cut off at every numbered step of a container's life, or fails there: afterwards the container is
//! fully there or fully gone, and nothing of it stays behind.

use std::fs;
use std::path::Path;
use std::process::Command;

use davit_tests::engine::{Engine, binaries};
use davit_tests::wait::until;

fn failpoints() -> Vec<String> {
    let listed = Command::new(binaries().join("davitd")).arg("--list-failpoints").output().unwrap();
    let points: Vec<String> = String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect();
    assert!(points.len() >= 15, "{points:?}");
    points
}

fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path().display().to_string()).collect()
}

/// Everything that a container leaves somewhere, by where it is.
fn left(engine: &Engine) -> Vec<String> {
    let mut left = Vec::new();
    for folder in ["containers", "trash", "volume/.use", "network/.holding"] {
        left.extend(names_in(&engine.root().join(folder)));
    }
    left.extend(names_in(&engine.run_dir().join("shim")));
    for hierarchy in names_in(Path::new("/sys/fs/cgroup")) {
        let parent = Path::new(&hierarchy).join(engine.host().name());
        let folders = names_in(&parent).into_iter().filter(|path| Path::new(path).is_dir());
        left.extend(folders.filter(|path| !path.ends_with("/shims")));
    }
    let shims = engine.processes_with("davit-shim serve");
    left.extend(shims.iter().map(|pid| format!("shim {pid}")));
    let ports =
        engine.host().command("ip").args(["-o", "link", "show", "master", "davit0"]).output().unwrap();
    left.extend(String::from_utf8_lossy(&ports.stdout).lines().map(str::to_owned));
    left.extend(engine.ok(["volume", "ls", "-q"]).stdout.lines().map(|name| format!("volume {name}")));
    left
}

fn settle(engine: &Engine, point: &str) {
    let mut last = Vec::new();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until("nothing is left", || {
            last = left(engine);
            last.is_empty().then_some(())
        });
    }));
    assert!(outcome.is_ok(), "{point} left {last:#?}\n{}", engine.end_of_log());
}

/// Lets a container be made, started and removed by an engine that is cut off or fails at `point`, and looks what the
/// next one makes of it.
fn cut_at(engine: &mut Engine, point: &str, action: &str) {
    let setting = format!("{point}={action}");
    engine.start_controller_at(&setting).unwrap();
    engine.davit(["run", "-d", "--name", "c", "-v", "/data", "-p", "80", "busybox", "sleep", "1000"]);
    engine.davit(["rm", "-f", "-v", "c"]);
    engine.end_controller().unwrap();
    engine.start_controller().unwrap();

    let there = until("each container is one thing or the other", || {
        let listed = engine.ok(["ps", "-a", "--format", "{{.Names}} {{.State}}"]).stdout;
        let between = ["creating", "removing", "unknown"].iter().any(|word| listed.contains(word));
        (!between).then_some(listed)
    });
    if !there.is_empty() {
        assert!(there.starts_with("c "), "{setting}: {there}");
        engine.ok(["start", "c"]);
        assert_eq!(engine.field("c", "{{.State.Running}}"), "true", "{setting}");
        engine.ok(["rm", "-f", "-v", "c"]);
    }
    settle(engine, &setting);
    // The name is free, and the next container works.
    assert_eq!(engine.ok(["run", "--rm", "--name", "c", "busybox", "echo", "works"]).stdout, "works\n");
    settle(engine, &setting);
    engine.kill_controller().unwrap();
}

fn sweep(action: &str) {
    let mut engine = Engine::start().unwrap();
    engine.kill_controller().unwrap();
    for point in failpoints() {
        cut_at(&mut engine, &point, action);
    }
}

#[test]
fn an_engine_that_dies_at_any_step_leaves_all_or_nothing() {
    sweep("abort");
}

#[test]
fn a_step_that_fails_leaves_all_or_nothing() {
    sweep("error");
}
