//! The promise: the controller dies, and no container notices.

use std::time::Duration;

use davit_tests::engine::Engine;
use davit_tests::wait::{until, until_true};

const COUNT: &str = "i=0; while :; do echo line $i; i=$((i+1)); usleep 10000; done";

fn numbers(log: &str) -> Vec<u64> {
    log.lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect()
}

#[test]
fn no_line_is_lost_while_the_controller_is_dead() {
    let mut engine = Engine::start().unwrap();
    engine.ok(["run", "-d", "--name", "counter", "busybox", "sh", "-c", COUNT]);
    until_true("it counts", || numbers(&engine.ok(["logs", "counter"]).stdout).len() > 10);
    let pid = engine.field("counter", "{{.State.Pid}}");

    engine.kill_controller().unwrap();
    std::thread::sleep(Duration::from_secs(10));
    engine.start_controller().unwrap();

    assert_eq!(engine.ok(["ps", "--format", "{{.Names}}"]).stdout, "counter\n", "right at once");
    until_true("its pid is the same", || engine.field("counter", "{{.State.Pid}}") == pid);
    engine.ok(["stop", "-t", "0", "counter"]);
    assert_eq!(engine.field("counter", "{{.State.ExitCode}}"), "137");
    let seen = numbers(&engine.ok(["logs", "counter"]).stdout);
    assert!(seen.len() > 500, "it counted on: {}", seen.len());
    assert!(seen.iter().copied().eq(0..seen.len() as u64), "no gap, no double");
}

#[test]
fn an_exit_while_the_controller_is_dead_is_told_with_its_code_and_time() {
    let mut engine = Engine::start().unwrap();
    engine.ok(["run", "-d", "--name", "brief", "busybox", "sh", "-c", "sleep 2; echo done; exit 42"]);
    engine.ok(["run", "-d", "--rm", "--name", "gone", "busybox", "sleep", "2"]);
    engine.kill_controller().unwrap();
    until_true("both end", || engine.processes_with("davit-shim").is_empty());
    let ended = std::time::SystemTime::now();
    std::thread::sleep(Duration::from_secs(2));
    engine.start_controller().unwrap();

    until_true("its code is known", || {
        engine.field("brief", "{{.State.Status}} {{.State.ExitCode}}") == "exited 42"
    });
    assert_eq!(engine.ok(["logs", "brief"]).stdout, "done\n");
    let finished = engine.field("brief", "{{.State.FinishedAt}}");
    let parsed = std::process::Command::new("date").args(["-d", &finished, "+%s"]).output().unwrap();
    let parsed: u64 = String::from_utf8_lossy(&parsed.stdout).trim().parse().unwrap();
    let ended = ended.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(ended.abs_diff(parsed) <= 1, "finished at {finished}, seen at {ended}");
    until_true("the --rm one is removed", || {
        engine.ok(["ps", "-a", "--format", "{{.Names}}"]).stdout == "brief\n"
    });
    assert_eq!(engine.ok(["wait", "brief"]).line(), "42");
}

#[test]
fn an_attached_client_sees_the_end_after_a_restart() {
    let mut engine = Engine::start().unwrap();
    engine.ok(["run", "-d", "--name", "c", "busybox", "sh", "-c", "sleep 4; exit 9"]);
    let shim = until("its shim", || engine.processes_with("davit-shim").first().copied());
    engine.kill_controller().unwrap();
    engine.start_controller().unwrap();
    assert_eq!(engine.processes_with("davit-shim").first(), Some(&shim), "the shim was not touched");
    assert_eq!(engine.ok(["wait", "c"]).line(), "9");
    engine.ok(["start", "c"]);
    engine.ok(["rm", "-f", "c"]);
    until_true("nothing is left", || engine.processes_with("davit-shim").is_empty());
}

/// Twenty containers; the controller is killed at random moments of run, stop and rm, fifty times.
#[test]
fn fifty_deaths_lose_nothing_and_double_nothing() {
    let mut engine = Engine::start().unwrap();
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let names: Vec<String> = (0..20).map(|n| format!("c{n}")).collect();
    for round in 0..50 {
        let name = &names[usize::try_from(next(20)).unwrap()];
        let words: Vec<&str> = match next(3) {
            0 => vec!["run", "-d", "--name", name, "busybox", "sleep", "1000"],
            1 => vec!["stop", "-t", "0", name],
            _ => vec!["rm", "-f", name],
        };
        let mut command = engine.command(&words);
        let mut child = command
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(next(60_000)));
        engine.kill_controller().unwrap_or_else(|e| panic!("round {round}: {e}"));
        // Only then is the client waited for: it waits for the engine in its turn.
        engine.start_controller().unwrap();
        child.wait().unwrap();
    }
    consistent(&engine);
    let all = engine.ok(["ps", "-a", "-q"]).stdout;
    let ids: Vec<&str> = all.lines().collect();
    if !ids.is_empty() {
        engine.ok(["rm", "-f"].iter().copied().chain(ids));
    }
    until_true("no shim is left", || engine.processes_with("davit-shim").is_empty());
    until_true("no folder is left", || {
        std::fs::read_dir(engine.root().join("containers")).map_or(0, Iterator::count) == 0
    });
    until_true("no run folder is left", || {
        std::fs::read_dir(engine.run_dir().join("shim")).map_or(0, Iterator::count) == 0
    });
    assert_eq!(engine.ok(["volume", "ls", "-q"]).stdout, "");
}

/// Every running container has exactly one `sleep`, and no `sleep` is without one.
fn consistent(engine: &Engine) {
    until_true("each running container has one process and no other is left", || {
        let running = engine.ok(["ps", "-q"]).stdout.lines().count();
        engine.processes_with("^sleep 1000$").len() == running
    });
}
