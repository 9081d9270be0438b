//! create, start, attach, stop, kill, rm, wait, ps, logs, inspect, rename.

use davit_tests::engine::Engine;
use davit_tests::wait::until_true;

#[test]
fn a_life_in_single_steps() {
    let engine = Engine::start().unwrap();
    let id = engine.ok(["create", "--name", "web", "busybox", "sh", "-c", "echo begun; exec sleep 1000"]);
    let id = id.line().to_owned();
    assert_eq!(id.len(), 64);
    assert_eq!(engine.field("web", "{{.State.Status}}"), "created");
    assert_eq!(engine.ok(["ps", "-q"]).stdout, "");
    assert_eq!(engine.ok(["start", "web"]).line(), "web");
    assert_eq!(engine.field("web", "{{.State.Status}}"), "running");
    assert_eq!(engine.ok(["ps", "-q"]).line(), &id[..12]);
    assert_eq!(engine.ok(["ps", "-q", "--no-trunc"]).line(), id);
    until_true("the log has its line", || engine.ok(["logs", "web"]).stdout == "begun\n");

    let refused = engine.davit(["rm", "web"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("running"), "{refused:?}");
    assert_eq!(engine.ok(["rename", "web", "shop"]).code, 0);
    assert_eq!(engine.davit(["inspect", "web"]).code, 1);
    assert_eq!(engine.ok(["stop", "-t", "1", "shop"]).line(), "shop");
    assert_eq!(engine.field("shop", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    assert!(engine.ok(["ps", "-a"]).stdout.contains("Exited (137)"));

    assert_eq!(engine.ok(["start", &id[..7]]).code, 0, "a unique prefix names it");
    assert_eq!(engine.ok(["kill", "shop"]).line(), "shop");
    assert_eq!(engine.ok(["wait", "shop"]).line(), "137");
    assert_eq!(engine.ok(["logs", "shop"]).stdout, "begun\nbegun\n", "the log spans lives");
    assert_eq!(engine.ok(["rm", "shop"]).line(), "shop");
    assert_eq!(engine.ok(["ps", "-a", "-q"]).stdout, "");
    assert!(!engine.root().join("containers").join(&id).exists());
}

#[test]
fn what_a_container_writes_stays_with_it_and_never_reaches_the_image() {
    let engine = Engine::start().unwrap();
    engine.ok(["create", "--name", "a", "busybox", "sh", "-c", "echo more >> /tmp/file; cat /tmp/file"]);
    assert_eq!(engine.ok(["start", "-a", "a"]).stdout, "more\n");
    assert_eq!(engine.ok(["start", "-a", "a"]).stdout, "more\nmore\n");
    assert_eq!(engine.davit(["run", "--rm", "busybox", "cat", "/tmp/file"]).code, 1);
    engine.ok(["rm", "a"]);
}

#[test]
fn ps_shows_dockers_columns_and_filters() {
    let engine = Engine::start().unwrap();
    engine.ok(["run", "-d", "--name", "up", "-l", "tier=front", "busybox", "sleep", "1000"]);
    engine.davit(["run", "--name", "down", "busybox", "sh", "-c", "exit 4"]);
    let table = engine.ok(["ps", "-a"]).stdout;
    let head = table.lines().next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(head, "CONTAINER ID IMAGE COMMAND CREATED STATUS PORTS NAMES");
    assert!(table.contains("Exited (4)") && table.contains("Up "), "{table}");
    let names = |filter: &str| engine.ok(["ps", "-a", "--filter", filter, "--format", "{{.Names}}"]).stdout;
    assert_eq!(names("status=running"), "up\n");
    assert_eq!(names("exited=4"), "down\n");
    assert_eq!(names("label=tier=front"), "up\n");
    assert_eq!(names("name=dow"), "down\n");
    assert_eq!(names("ancestor=busybox"), "down\nup\n");
    assert_eq!(engine.davit(["ps", "--filter", "nonsense=1"]).code, 1);
    assert_eq!(engine.ok(["ps", "-l", "--format", "{{.Names}}"]).stdout, "down\n");
    assert_eq!(engine.ok(["rm", "-f", "up", "down"]).stdout, "up\ndown\n");
}

#[test]
fn logs_tail_since_timestamps_and_follow() {
    let engine = Engine::start().unwrap();
    engine.ok([
        "run",
        "-d",
        "--name",
        "c",
        "busybox",
        "sh",
        "-c",
        "seq 1 100; sleep 1; echo last; echo err >&2",
    ]);
    let followed = engine.ok(["logs", "-f", "c"]);
    assert_eq!(followed.stdout.lines().count(), 101);
    assert_eq!(followed.stdout.lines().next_back(), Some("last"));
    assert_eq!(followed.stderr, "err\n");
    assert_eq!(engine.ok(["logs", "--tail", "2", "c"]).stdout.lines().count() + 1, 2);
    assert_eq!(engine.ok(["logs", "-n", "0", "c"]).stdout, "");
    let stamped = engine.ok(["logs", "-t", "-n", "2", "c"]).stdout;
    assert!(stamped.starts_with("20") && stamped.trim_end().ends_with("Z last"), "{stamped}");
    assert_eq!(engine.ok(["logs", "--since", "1h", "c"]).stdout.lines().count(), 101);
    assert_eq!(engine.ok(["logs", "--until", "1h", "c"]).stdout, "");
    engine.ok(["rm", "c"]);
}

#[test]
fn names_are_unique_and_generated_ones_are_words() {
    let engine = Engine::start().unwrap();
    engine.ok(["create", "--name", "one", "busybox"]);
    let taken = engine.davit(["create", "--name", "one", "busybox"]);
    assert_eq!(taken.code, 1, "{taken:?}");
    assert!(taken.stderr.contains("one"), "{taken:?}");
    engine.ok(["create", "busybox"]);
    let name = engine.ok(["ps", "-a", "-l", "--format", "{{.Names}}"]);
    let (adjective, noun) = name.line().split_once('_').expect("two words");
    assert!(!adjective.is_empty() && !noun.is_empty());
    engine.ok(["container", "prune", "-f"]);
    assert_eq!(engine.ok(["ps", "-a", "-q"]).stdout, "");
}

#[test]
fn detached_auto_remove_leaves_nothing() {
    let engine = Engine::start().unwrap();
    engine.ok(["run", "-d", "--rm", "--name", "brief", "busybox", "true"]);
    until_true("it is removed", || engine.ok(["ps", "-a", "-q"]).stdout.is_empty());
    let left = || std::fs::read_dir(engine.root().join("containers")).map_or(0, Iterator::count);
    until_true("its folder is gone", || left() == 0);
    until_true("no shim runs", || engine.processes_with("davit-shim").is_empty());
}

#[test]
fn paused_containers_stand_still_and_can_be_ended() {
    let engine = Engine::start().unwrap();
    for name in ["one", "two", "three", "four"] {
        let counts = "trap 'exit 5' TERM; while :; do echo x; sleep 0.02; done";
        engine.ok(["run", "-d", "--name", name, "busybox", "sh", "-c", counts]);
    }
    assert_eq!(engine.ok(["pause", "one", "two", "three", "four"]).stdout, "one\ntwo\nthree\nfour\n");
    assert_eq!(
        engine.field("one", "{{.State.Status}} {{.State.Running}} {{.State.Paused}}"),
        "paused true true"
    );
    let listed = engine.ok(["ps", "--filter", "status=paused", "--format", "{{.Status}}"]).stdout;
    assert!(
        listed.lines().count() == 4 && listed.lines().all(|line| line.ends_with(" (Paused)")),
        "{listed}"
    );
    let written = engine.ok(["logs", "one"]).stdout;
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(engine.ok(["logs", "one"]).stdout, written, "it stands still");

    let again = engine.davit(["pause", "one", "nobody"]);
    assert_eq!((again.code, again.stdout.as_str()), (1, ""));
    assert!(again.stderr.contains("already paused") && again.stderr.contains("nobody"), "{again:?}");
    assert!(engine.davit(["rm", "one"]).stderr.contains("paused"));

    engine.ok(["unpause", "one"]);
    until_true("it goes on", || engine.ok(["logs", "one"]).stdout.len() > written.len());
    assert!(engine.davit(["unpause", "one"]).stderr.contains("not paused"));
    engine.ok(["stop", "two"]);
    assert_eq!(
        engine.field("two", "{{.State.Status}} {{.State.ExitCode}}"),
        "exited 5",
        "it was thawed to answer"
    );
    engine.ok(["kill", "three"]);
    until_true("killed while it stood still", || {
        engine.field("three", "{{.State.Status}} {{.State.ExitCode}}") == "exited 137"
    });
    engine.ok(["rm", "-f", "four"]);
    let one = engine.field("one", "{{.Id}}");
    assert_eq!(engine.actions(&one), ["create", "start", "pause", "unpause"]);
    let refused = engine.davit(["pause", "two"]);
    assert!(refused.code == 1 && refused.stderr.contains("not running"), "{refused:?}");
}

#[test]
fn waits_have_conditions() {
    let engine = Engine::start().unwrap();
    engine.ok(["create", "--name", "c", "busybox", "sh", "-c", "sleep 0.5; exit 6"]);
    assert_eq!(engine.ok(["wait", "c"]).line(), "0", "it does not run");
    let waiting = |condition: &str| {
        let mut command = engine.command(["wait", "--condition", condition, "c"]);
        command.stdout(std::process::Stdio::piped()).spawn().unwrap()
    };
    let (next, removed) = (waiting("next-exit"), waiting("removed"));
    engine.ok(["start", "c"]);
    assert_eq!(next.wait_with_output().unwrap().stdout, b"6\n");
    engine.ok(["rm", "c"]);
    assert_eq!(removed.wait_with_output().unwrap().stdout, b"6\n");
    assert_eq!(engine.davit(["wait", "--condition", "tomorrow", "c"]).code, 125);
}

#[test]
fn a_stop_signal_is_obeyed_at_once() {
    let engine = Engine::start().unwrap();
    engine.ok([
        "run",
        "-d",
        "--name",
        "polite",
        "--stop-signal",
        "USR1",
        "busybox",
        "sh",
        "-c",
        "trap 'echo bye; exit 7' USR1; echo ready; while :; do sleep 0.05; done",
    ]);
    until_true("the trap is set", || engine.ok(["logs", "polite"]).stdout == "ready\n");
    engine.ok(["stop", "polite"]);
    assert_eq!(engine.field("polite", "{{.State.ExitCode}}"), "7");
    assert_eq!(engine.ok(["logs", "polite"]).stdout, "ready\nbye\n");
}

#[test]
fn what_was_killed_can_be_started_at_once() {
    let engine = Engine::start().unwrap();
    engine.ok(["run", "-d", "--name", "c", "--restart", "always", "busybox", "sleep", "1000"]);
    for _ in 0..5 {
        engine.ok(["kill", "c"]);
        assert_eq!(engine.field("c", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
        engine.ok(["start", "c"]);
        assert_eq!(engine.field("c", "{{.State.Status}}"), "running");
    }
}
