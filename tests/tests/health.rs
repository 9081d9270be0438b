//! Health checks as a person sees them: their states, their log, and what happens to who fails.

use std::time::Duration;

use davit_tests::engine::Engine;
use davit_tests::image::{Compression, Layout, busybox_layer};
use davit_tests::wait::until_true;

/// Healthy as long as /ok is there.
const CHECK: [&str; 4] = ["--health-cmd", "cat /ok", "--health-interval", "200ms"];

fn run(engine: &Engine, name: &str, flags: &[&str], command: &[&str]) {
    let words = [&["run", "-d", "--name", name][..], &CHECK, flags, &["busybox"], command].concat();
    engine.ok(words);
}

fn status(engine: &Engine, name: &str) -> String {
    engine.field(name, "{{.State.Health.Status}}")
}

fn becomes(engine: &Engine, name: &str, wanted: &str) {
    until_true(&format!("{name} is {wanted}"), || status(engine, name) == wanted);
}

#[test]
fn starting_healthy_unhealthy_and_well_again() {
    let engine = Engine::start().unwrap();
    run(&engine, "c", &["--health-retries", "2"], &["sh", "-c", "sleep 2; touch /ok; sleep 100000"]);
    let first = engine.ok(["ps"]).stdout;
    assert!(first.contains("(health: starting)") || first.contains("(unhealthy)"), "{first}");
    becomes(&engine, "c", "healthy");
    assert!(engine.ok(["ps"]).stdout.contains("(healthy)"));
    assert_eq!(engine.field("c", "{{.State.Health.FailingStreak}}"), "0");
    engine.ok(["exec", "c", "rm", "/ok"]);
    becomes(&engine, "c", "unhealthy");
    until_true("the log is full", || engine.field("c", "{{len .State.Health.Log}}") == "5");
    let streak: u32 = engine.field("c", "{{.State.Health.FailingStreak}}").parse().unwrap();
    assert!(streak >= 2, "{streak}");
    let last = "{{with index .State.Health.Log 4}}{{.ExitCode}} {{.Output}}{{end}}";
    assert!(engine.field("c", last).starts_with("1 cat: can't open '/ok'"), "{}", engine.field("c", last));
    assert_eq!(engine.ok(["ps", "-q", "--filter", "health=unhealthy"]).stdout.lines().count(), 1);
    assert_eq!(engine.ok(["ps", "-q", "--filter", "health=healthy"]).stdout, "");
    engine.ok(["exec", "c", "touch", "/ok"]);
    becomes(&engine, "c", "healthy");
    let events = engine.ok(["events", "--since", "1h", "--until", "0s", "--filter", "container=c"]).stdout;
    let told: Vec<&str> = events.lines().filter(|line| line.contains("health_status")).collect();
    assert!(told.len() >= 3, "{events}");
    assert!(told.iter().any(|line| line.contains("health_status: unhealthy")), "{events}");
    assert!(told.last().unwrap().contains("health_status: healthy"), "{events}");
}

#[test]
fn failures_in_the_start_period_do_not_count() {
    let engine = Engine::start().unwrap();
    let flags = ["--health-start-period", "1h", "--health-start-interval", "100ms", "--health-retries", "1"];
    run(&engine, "c", &flags, &["sleep", "100000"]);
    until_true("it was probed", || engine.field("c", "{{len .State.Health.Log}}") == "5");
    assert_eq!(status(&engine, "c"), "starting");
    assert_eq!(engine.field("c", "{{.State.Health.FailingStreak}}"), "0");
    engine.ok(["exec", "c", "touch", "/ok"]);
    becomes(&engine, "c", "healthy");
}

#[test]
fn a_probe_that_takes_too_long_is_killed_whole() {
    let engine = Engine::start().unwrap();
    let check = "sleep 7777 & sleep 7777";
    let words =
        ["run", "-d", "--name", "c", "--health-cmd", check, "--health-interval", "100ms", "--health-timeout"];
    let words = [&words[..], &["300ms", "--health-retries", "2", "busybox", "sleep", "100000"]].concat();
    engine.ok(words);
    becomes(&engine, "c", "unhealthy");
    let last = engine.field("c", "{{with index .State.Health.Log 0}}{{.ExitCode}} {{.Output}}{{end}}");
    assert_eq!(last, "-1 health check exceeded its timeout of 300ms");
    // One probe runs at a time, and nothing of the others.
    for _ in 0..20 {
        let left = engine.processes_with("^sleep 7777$").len();
        assert!(left <= 2, "{left} are left");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_probe_may_what_the_container_may_and_has_no_descriptor_of_ours() {
    let engine = Engine::start().unwrap();
    let look =
        "ls /proc/self/fd; grep -E '^(Cap|Seccomp:|NoNewPrivs|Groups|Uid)' /proc/self/status; pwd; id -u";
    let words = [
        "run",
        "-d",
        "--name",
        "c",
        "-u",
        "1000",
        "-w",
        "/tmp",
        "--health-interval",
        "100ms",
        "--health-cmd",
    ];
    engine.ok([&words[..], &[look, "busybox", "sleep", "100000"]].concat());
    becomes(&engine, "c", "healthy");
    let probe = engine.field("c", "{{with index .State.Health.Log 0}}{{.Output}}{{end}}");
    let exec = engine.ok(["exec", "c", "sh", "-c", look]).stdout;
    assert_eq!(probe.trim(), exec.trim());
    // The fourth is the one that ls reads the folder through.
    assert!(probe.starts_with("0\n1\n2\n3\nUid:") && probe.contains("CapEff:\t0000000000000000"), "{probe}");
    assert!(probe.contains("Seccomp:\t2"), "{probe}");
}

#[test]
fn who_fails_is_killed_restarted_or_stopped_as_is_wanted() {
    let engine = Engine::start().unwrap();
    let retries = ["--health-retries", "2", "--health-on-failure"];
    run(&engine, "kill", &[&retries[..], &["kill"]].concat(), &["sleep", "100000"]);
    run(
        &engine,
        "stop",
        &[&retries[..], &["stop", "--restart", "always", "--stop-timeout", "1"]].concat(),
        &["sleep", "100000"],
    );
    run(
        &engine,
        "restart",
        &[&retries[..], &["restart", "--stop-timeout", "1"]].concat(),
        &["sleep", "100000"],
    );
    assert_eq!(engine.ok(["wait", "kill"]).line(), "137");
    assert_eq!(engine.ok(["wait", "stop"]).line(), "137");
    until_true("it was restarted twice", || {
        engine.field("restart", "{{.RestartCount}}").parse::<u32>().is_ok_and(|count| count >= 2)
    });
    assert_eq!(engine.field("stop", "{{.State.Status}} {{.RestartCount}}"), "exited 0");
    assert_eq!(engine.field("kill", "{{.State.Status}}"), "exited");
    let why = engine.ok(["why", "kill"]).stdout;
    assert!(why.contains("the health check"), "{why}");
}

#[test]
fn it_goes_on_while_the_controller_is_dead_and_not_while_it_is_paused() {
    let mut engine = Engine::start().unwrap();
    run(
        &engine,
        "judged",
        &["--health-retries", "1"],
        &["sh", "-c", "touch /ok; sleep 3; rm /ok; sleep 100000"],
    );
    run(&engine, "paused", &["--health-retries", "1"], &["sh", "-c", "touch /ok; sleep 100000"]);
    becomes(&engine, "judged", "healthy");
    becomes(&engine, "paused", "healthy");
    engine.ok(["pause", "paused"]);
    engine.kill_controller().unwrap();
    std::thread::sleep(Duration::from_secs(4));
    engine.start_controller().unwrap();
    engine.wait_until_it_answers();
    becomes(&engine, "judged", "unhealthy");
    let events =
        engine.ok(["events", "--since", "1h", "--until", "0s", "--filter", "container=judged"]).stdout;
    let told: Vec<&str> = events.lines().filter(|line| line.contains("health_status")).collect();
    assert_eq!(told.len(), 2, "{events}");
    assert_eq!(status(&engine, "paused"), "healthy", "a frozen container is not judged");
    engine.ok(["unpause", "paused"]);
    engine.ok(["exec", "paused", "rm", "/ok"]);
    becomes(&engine, "paused", "unhealthy");
}

#[test]
fn the_image_says_how_and_the_flags_say_better() {
    let engine = Engine::start().unwrap();
    let folder = engine.host().folder().join("checked");
    let mut layout = Layout::new(folder.clone()).unwrap();
    layout.layer(&busybox_layer().unwrap(), Compression::None).unwrap();
    let config = serde_json::json!({
        "Cmd": ["sleep", "100000"],
        "Env": ["PATH=/bin"],
        "Shell": ["/bin/sh", "-xc"],
        "Healthcheck": {"Test": ["CMD-SHELL", "echo $0 from the image"], "Interval": 200_000_000, "Retries": 1},
    });
    layout.finish("checked:1", &config).unwrap();
    let archive = folder.with_extension("tar");
    let tar =
        std::process::Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&folder).arg(".").status();
    assert!(tar.unwrap().success());
    engine.ok(["load", "-q", "-i", archive.to_str().unwrap()]);
    engine.ok(["run", "-d", "--name", "own", "checked:1"]);
    becomes(&engine, "own", "healthy");
    let said = engine.field("own", "{{with index .State.Health.Log 0}}{{.Output}}{{end}}");
    assert!(said.contains("+ echo") && said.contains("from the image"), "{said}");
    engine.ok(["run", "-d", "--name", "none", "--no-healthcheck", "checked:1"]);
    assert!(!engine.ok(["inspect", "none"]).stdout.contains("\"Health\""));
    engine.ok(["run", "-d", "--name", "other", "--health-cmd", "false", "checked:1"]);
    becomes(&engine, "other", "unhealthy");
    let wrong = engine.davit(["run", "--health-cmd", "x", "--health-interval", "1us", "checked:1"]);
    assert_ne!(wrong.code, 0);
}
