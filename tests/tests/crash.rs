//! The engine is cut off at every numbered step of a container's life, or fails there: afterwards the container is
//! fully there or fully gone, and nothing of it stays behind.

use std::collections::BTreeSet;
use std::process::Command;

use davit_tests::engine::{Engine, binaries};
use davit_tests::left;
use davit_tests::wait::{DEADLINE, until};

/// Those of shims that are prepared ahead are passed by other tests: `pool.rs`.
fn failpoints() -> Vec<String> {
    let listed = Command::new(binaries().join("davitd")).arg("--list-failpoints").output().unwrap();
    let points: Vec<String> = String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect();
    let points: Vec<_> =
        points.into_iter().filter(|point| !point.starts_with("pool.") && point != "release.early").collect();
    assert!(points.len() >= 15, "{points:?}");
    points
}

/// Lets a container be made, started and removed by an engine that is cut off or fails at `point`, and looks what the
/// next one makes of it.
fn cut_at(engine: &mut Engine, nothing: &BTreeSet<String>, point: &str, action: &str) {
    let setting = format!("{point}={action}");
    engine.start_controller_at(&setting).unwrap();
    engine.davit(["run", "-d", "--name", "c", "-v", "/data", "-p", "80", "busybox", "sleep", "1000"]);
    engine.davit(["network", "connect", "beside", "c"]);
    engine.davit(["network", "disconnect", "beside", "c"]);
    engine.davit(["update", "--publish-add", "81", "c"]);
    engine.davit(["commit", "c", "made"]);
    engine.davit(["rm", "-f", "-v", "c"]);
    engine.end_controller().unwrap();
    engine.start_controller().unwrap();
    engine.davit(["rmi", "-f", "made"]);

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
    left::settle(engine, nothing, &setting);
    // The name is free, and the next container works.
    assert_eq!(engine.ok(["run", "--rm", "--name", "c", "busybox", "echo", "works"]).stdout, "works\n");
    left::settle(engine, nothing, &setting);
    engine.kill_controller().unwrap();
}

fn sweep(action: &str) {
    let mut engine = Engine::start().unwrap();
    engine.ok(["network", "create", "beside"]);
    engine.ok(["run", "--rm", "--network", "beside", "busybox", "true"]);
    let nothing = left::nothing(&engine);
    engine.kill_controller().unwrap();
    for point in failpoints() {
        cut_at(&mut engine, &nothing, &point, action);
    }
}

#[test]
fn an_engine_that_dies_at_any_step_leaves_all_or_nothing() {
    sweep("abort");
}

/// What an engine had made for the next life of a stopped container, and did not come to tell of, is nobody's.
#[test]
fn a_start_that_is_cut_off_leaves_the_container_stopped_or_ready() {
    let mut engine = Engine::start().unwrap();
    engine.ok(["network", "create", "beside"]);
    engine.ok(["run", "--rm", "busybox", "true"]);
    engine.ok(["run", "--rm", "--network", "beside", "busybox", "true"]);
    let nothing = left::nothing(&engine);
    engine.ok([
        "run",
        "-d",
        "--name",
        "c",
        "--network",
        "beside",
        "-p",
        "9080:80",
        "busybox",
        "sleep",
        "1000",
    ]);
    engine.ok(["stop", "-t", "0", "c"]);
    for point in failpoints().iter().filter(|point| point.starts_with("create.") || *point == "start.wanted")
    {
        eprintln!("{point}");
        engine.kill_controller().unwrap();
        engine.start_controller_at(&format!("{point}=abort")).unwrap();
        engine.davit(["start", "c"]);
        engine.end_controller().unwrap();
        engine.start_controller().unwrap();
        engine.agree(DEADLINE);
        engine.ok(["network", "connect", "bridge", "c"]);
        engine.agree(DEADLINE);
        engine.ok(["start", "c"]);
        engine.agree(DEADLINE);
        engine.ok(["network", "disconnect", "bridge", "c"]);
        engine.ok(["stop", "-t", "0", "c"]);
        engine.agree(DEADLINE);
    }
    engine.ok(["rm", "c"]);
    left::settle(&engine, &nothing, "starts that were cut off");
}

#[test]
fn a_step_that_fails_leaves_all_or_nothing() {
    sweep("error");
}
