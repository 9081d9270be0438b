//! Lives that follow each other by the restart policy, and lives that stand still.

use davit_tests::engine::Engine;
use davit_tests::wait::until_true;

/// The container's log on disk: nobody need be there to tell of it.
fn lines(engine: &Engine, id: &str) -> Vec<String> {
    let log = engine.root().join("containers").join(id).join("log/stdio.log");
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().filter_map(|line| line.splitn(4, ' ').nth(3).map(str::to_owned)).collect()
}

#[test]
fn policies_hold_while_the_controller_is_dead() {
    let mut engine = Engine::start().unwrap();
    let fails =
        engine.ok(["run", "-d", "--name", "fails", "--restart", "on-failure:3", "busybox", "sh", "-c"]
            .into_iter()
            .chain(["echo life; sleep 0.1; exit 3"]));
    let script = "ip -4 -o addr show eth0; readlink /proc/self/ns/net; hostname; sleep 0.1";
    let ever =
        engine.ok(["run", "-d", "--name", "ever", "--restart", "always", "busybox", "sh", "-c", script]);
    let (fails, ever) = (fails.line().to_owned(), ever.line().to_owned());
    engine.kill_controller().unwrap();
    until_true("one gives up and the other goes on", || {
        lines(&engine, &fails).len() == 4
            && lines(&engine, &ever).len() >= 12
            && engine.processes_with("davit-shim").len() == 1
    });
    engine.start_controller().unwrap();

    until_true("what gave up is known", || {
        engine.field("fails", "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}") == "exited 3 3"
    });
    assert_eq!(lines(&engine, &fails), ["life"; 4]);
    engine.ok(["stop", "ever"]);
    assert_eq!(engine.field("ever", "{{.State.Status}}"), "exited");
    let all = lines(&engine, &ever);
    assert!(all.len() >= 12 && all.len().is_multiple_of(3), "{all:?}");
    assert!(all.chunks(3).all(|life| life == &all[..3]), "address, namespace and name are kept: {all:?}");
    // Long after the next life would have begun.
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(lines(&engine, &ever).len(), all.len(), "who was stopped stays so");
    assert_eq!(engine.processes_with("davit-shim"), Vec::<u32>::new());

    engine.ok(["start", "ever"]);
    until_true("a person's start begins it anew", || lines(&engine, &ever).len() >= all.len() + 6);
    engine.ok(["rm", "-f", "ever"]);
    assert_eq!(engine.processes_with("davit-shim"), Vec::<u32>::new());
}

#[test]
fn who_is_in_the_foreground_stays_until_the_last_life_ends() {
    let engine = Engine::start().unwrap();
    let answer =
        engine.davit(["run", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo life; exit 7"]);
    assert_eq!((answer.stdout.as_str(), answer.code), ("life\nlife\nlife\n", 7), "{answer:?}");
}

#[test]
fn what_is_paused_stands_still() {
    let mut engine = Engine::start().unwrap();
    let count = "i=0; while :; do echo line $i; i=$((i+1)); usleep 1000; done";
    let id = engine.ok(["run", "-d", "--name", "c", "busybox", "sh", "-c", count]);
    let id = id.line().to_owned();
    until_true("it counts", || lines(&engine, &id).len() > 10);
    assert_eq!(engine.ok(["pause", "c"]).line(), "c");
    assert_eq!(engine.field("c", "{{.State.Status}} {{.State.Paused}}"), "paused true");
    let before = lines(&engine, &id).len();
    let again = engine.davit(["pause", "c"]);
    assert!(again.code == 1 && again.stderr.contains("already paused"), "{again:?}");
    let exec = engine.davit(["exec", "c", "true"]);
    assert!(exec.code != 0 && exec.stderr.contains("paused"), "{exec:?}");
    engine.kill_controller().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    engine.start_controller().unwrap();
    until_true("it is paused still", || engine.field("c", "{{.State.Status}}") == "paused");
    assert_eq!(lines(&engine, &id).len(), before);
    assert!(engine.ok(["ps"]).stdout.contains("(Paused)"));
    assert_eq!(engine.ok(["unpause", "c"]).line(), "c");
    until_true("it counts again", || lines(&engine, &id).len() > before);
    engine.ok(["pause", "c"]);
    engine.ok(["stop", "-t", "1", "c"]);
    assert_eq!(engine.field("c", "{{.State.Status}}"), "exited");
    assert_eq!(engine.ok(["rm", "c"]).line(), "c");
}

#[test]
fn shared_processes_are_shared_again_in_the_next_life() {
    let engine = Engine::start().unwrap();
    engine.ok(["run", "-d", "--name", "other", "busybox", "sleep", "1000"]);
    let namespace = ["readlink", "/proc/self/ns/pid"];
    let others = engine.ok(["exec", "other"].into_iter().chain(namespace)).line().to_owned();
    let script = "readlink /proc/self/ns/pid; sleep 5151 & sleep 0.1; exit 1";
    let run = |pid: &str| {
        let words = ["run", "-d", "--restart", "on-failure:2", "--pid", pid, "busybox", "sh", "-c", script];
        engine.ok(words).line().to_owned()
    };
    let (joined, host) = (run("container:other"), run("host"));
    until_true("both gave up", || {
        [&joined, &host]
            .iter()
            .all(|id| engine.field(id, "{{.State.Status}} {{.RestartCount}}") == "exited 2")
    });
    assert_eq!(lines(&engine, &joined), [others.as_str(); 3]);
    let seen = lines(&engine, &host);
    assert!(seen.len() == 3 && seen.iter().all(|life| life == &seen[0] && *life != others), "{seen:?}");
    assert_eq!(engine.processes_with("5151"), Vec::<u32>::new(), "nothing of a life outlives it");
    assert_eq!(engine.field("other", "{{.State.Status}}"), "running");
}
