//! Why a container is as it is: each change with its time, its cause and who asked, also after its removal.

use davit_tests::engine::Engine;
use davit_tests::wait::until_true;

/// Changes and causes, without the times and the head.
fn why(engine: &Engine, name: &str) -> Vec<(String, String)> {
    let table = engine.ok(["why", name]).stdout;
    let head = table.lines().next().unwrap_or_default();
    let (change, cause) = (head.find("CHANGE").unwrap(), head.find("CAUSE").unwrap());
    let row = |line: &str| {
        assert!(line.starts_with("20") && line[..change].trim_end().ends_with('Z'), "{line}");
        (line[change..cause].trim_end().to_owned(), line.get(cause..).unwrap_or_default().to_owned())
    };
    table.lines().skip(1).map(row).collect()
}

#[test]
fn every_change_has_its_cause_and_outlives_the_container() {
    let mut engine = Engine::start().unwrap();
    engine.ok(["run", "-d", "--name", "web", "busybox", "sleep", "1000"]);
    engine.ok(["pause", "web"]);
    engine.ok(["unpause", "web"]);
    engine.ok(["kill", "web"]);
    until_true("it is over", || engine.field("web", "{{.State.Running}}") == "false");
    engine.ok(["rename", "web", "shop"]);
    let expected = [
        ("was created", "create by uid 0"),
        ("was started", "start by uid 0"),
        ("was paused", "pause by uid 0"),
        ("was resumed", "resume by uid 0"),
        ("was sent signal 9 (SIGKILL)", "kill by uid 0"),
        ("was ended by signal 9 (SIGKILL)", "signal 9 from kill by uid 0"),
        ("renamed from web to shop", "rename by uid 0"),
    ];
    let told = why(&engine, "shop");
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for ((change, cause), (wanted, by)) in told.iter().zip(expected) {
        assert!(change == wanted && cause.starts_with(by), "{change} / {cause}, not {wanted} / {by}");
    }
    // What took how long.
    assert!(told[0].1.contains("network ") && told[0].1.contains(" ms"), "{}", told[0].1);

    engine.ok(["start", "shop"]);
    engine.ok(["stop", "-t", "0", "shop"]);
    let id = engine.field("shop", "{{.Id}}");
    engine.ok(["rm", "shop"]);
    engine.kill_controller().unwrap();
    engine.start_controller().unwrap();
    let gone = why(&engine, "shop");
    assert_eq!(gone, why(&engine, &id[..12]));
    let last: Vec<&str> = gone.iter().rev().take(2).map(|(change, _)| change.as_str()).collect();
    assert_eq!(last, ["was removed", "is being removed"]);
    assert!(gone.iter().any(|(change, _)| change.starts_with("was asked to stop by signal 15 (SIGTERM)")));

    let missing = engine.davit(["why", "nobody"]);
    assert_eq!(missing.code, 1);
    assert!(missing.stderr.contains("no such container: nobody"), "{missing:?}");
}

#[test]
fn a_program_that_cannot_be_executed_is_explained() {
    let engine = Engine::start().unwrap();
    assert_eq!(engine.davit(["run", "--name", "c", "busybox", "/nowhere"]).code, 127);
    let told = why(&engine, "c");
    assert!(told.iter().any(|(change, _)| change.starts_with("could not be started: ")), "{told:#?}");
    assert_eq!(engine.actions(&engine.field("c", "{{.Id}}")), ["create"], "neither start nor die");
}
