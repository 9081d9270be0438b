//! Clients at a container's streams: several at once, slow ones, stopped ones, and ones whose engine dies.

use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use davit_tests::engine::{Answer, Engine, binaries};
use davit_tests::host::Host;
use davit_tests::wait::until_true;

/// Sends a signal to a `davit` that a test started.
fn signal(client: &Child, name: &str) {
    let pid = Host::inner_pid(client).to_string();
    let status = std::process::Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}

#[test]
fn what_is_typed_over_three_deaths_of_the_engine_arrives_once_and_in_order() {
    let mut engine = Engine::start().unwrap();
    let mut client = engine
        .command(["run", "-i", "--rm", "busybox", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = client.stdin.take().unwrap();
    let mut stdout = client.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        text
    });
    let (sent, progress) = std::sync::mpsc::channel();
    let writer = std::thread::spawn(move || {
        let mut all = String::new();
        for block in 0..40 {
            let lines: String = (0..500).map(|line| format!("{block}-{line}\n")).collect();
            stdin.write_all(lines.as_bytes()).unwrap();
            all.push_str(&lines);
            sent.send(block).unwrap();
            // What is typed while the engine is away is the point.
            std::thread::sleep(Duration::from_millis(50));
        }
        all
    });
    // What an engine never heard of, its death may take along.
    until_true("the container runs", || !engine.ok(["ps", "-q"]).stdout.is_empty());
    for death in [5, 15, 25] {
        while progress.recv().expect("the client goes on reading") < death {}
        engine.kill_controller().unwrap();
        engine.start_controller().unwrap();
    }
    let sent = writer.join().unwrap();
    drop(progress);
    let answer = Answer::from(client.wait_with_output().unwrap());
    assert_eq!(answer.code, 0);
    let got = reader.join().unwrap();
    assert!(got == sent, "{} bytes came of {}", got.len(), sent.len());
}

#[test]
fn a_signal_passes_input_that_nobody_reads() {
    let engine = Engine::start().unwrap();
    let client = engine
        .command([
            "run",
            "-i",
            "--rm",
            "--name",
            "deaf",
            "busybox",
            "sh",
            "-c",
            "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done",
        ])
        .stdin(std::fs::File::open("/dev/zero").unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    until_true("it listens to signals", || engine.davit(["logs", "deaf"]).stdout.contains("ready"));
    signal(&client, "TERM");
    assert_eq!(Answer::from(client.wait_with_output().unwrap()).code, 7);
}

#[test]
fn a_client_that_never_reads_holds_up_nobody() {
    const BLOCKS: u64 = 400;
    const TICK: &str = "tick\n";
    let engine = Engine::start().unwrap();
    // Ticks until it is told to write, so that everybody is known to be attached by then.
    let script = format!(
        "until read -t 1 go; do echo tick; done; dd if=/dev/zero bs=65536 count={BLOCKS} 2>/dev/null | tr '\\0' 'x'; echo; echo done"
    );
    engine.ok(["run", "-di", "--name", "loud", "--log-opt", "max-size=1g", "busybox", "sh", "-c", &script]);
    let attach = |flags: &[&str]| {
        let mut command = engine.command([&["attach"], flags, &["loud"]].concat());
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut client = piped.spawn().unwrap();
        client.stdout.as_mut().unwrap().read_exact(&mut [0; TICK.len()]).unwrap();
        client
    };
    let stopped = attach(&["--no-stdin"]);
    let [mut one, mut two] = [attach(&["--no-stdin"]), attach(&[])];
    signal(&stopped, "STOP");
    let readers = [one.stdout.take(), two.stdout.take()].map(|stdout| {
        std::thread::spawn(move || {
            let mut text = String::new();
            stdout.unwrap().read_to_string(&mut text).unwrap();
            text
        })
    });
    two.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let begun = Instant::now();
    assert_eq!(engine.ok(["wait", "loud"]).line(), "0");
    let took = begun.elapsed();
    let expected = usize::try_from(BLOCKS * 65_536).unwrap() + "\ndone\n".len();
    let without_ticks = |text: &str| text.trim_start_matches(TICK).to_owned();
    for reader in readers {
        let text = without_ticks(&reader.join().unwrap());
        assert_eq!(text.len(), expected, "a client that reads misses nothing");
        assert!(text.ends_with("x\ndone\n"));
    }
    for client in [&mut one, &mut two] {
        assert!(client.wait().unwrap().success());
    }
    let log = without_ticks(&engine.ok(["logs", "loud"]).stdout);
    assert_eq!(log.len(), expected, "the log is whole");
    // The stopped client would hold it up for ever; a slow machine takes seconds.
    assert!(took < Duration::from_secs(60), "{took:?}");
    signal(&stopped, "CONT");
    // What stands between us and it stopped with it.
    let between = stopped.id().to_string();
    assert!(std::process::Command::new("kill").args(["-CONT", &between]).status().unwrap().success());
    let late = Answer::from(stopped.wait_with_output().unwrap());
    assert_eq!(late.code, 0, "{}", late.stderr);
    let (got, told) = (without_ticks(&late.stdout), late.stderr.contains("were lost"));
    assert!(got == log || told, "it got {} bytes of {expected}: {}", got.len(), late.stderr);
}

#[test]
fn flags_of_attach() {
    let engine = Engine::start().unwrap();
    let script = "trap 'echo hup' INT; echo ready; while :; do sleep 0.1; done";
    engine.ok(["run", "-d", "--name", "c", "busybox", "sh", "-c", script]);
    until_true("it listens to signals", || engine.davit(["logs", "c"]).stdout.contains("ready"));
    let attach = |flags: &[&str]| {
        // A signal that whoever runs the tests ignores, as a shell does for what it runs in the background, is ignored
        // by the client too.
        let mut command = engine.host().command("env");
        command.arg("--default-signal=INT").arg(binaries().join("davit"));
        command.arg("--host").arg(format!("unix://{}", engine.socket().display()));
        command.arg("attach").args(flags).arg("c");
        let client = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        until_true("it is attached", || {
            let status = format!("/proc/{}/status", Host::inner_pid(&client));
            let caught = std::fs::read_to_string(status).unwrap_or_default();
            let mask =
                caught.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0").trim().to_owned();
            u64::from_str_radix(&mask, 16).unwrap_or(0) & (1 << 1) != 0
        });
        client
    };
    let proxy = attach(&[]);
    signal(&proxy, "INT");
    until_true("the container heard it", || engine.davit(["logs", "c"]).stdout.contains("hup"));
    signal(&proxy, "KILL");
    let silent = attach(&["--sig-proxy=false"]);
    signal(&silent, "INT");
    assert_eq!(Answer::from(silent.wait_with_output().unwrap()).code, 130);
    assert_eq!(engine.ok(["logs", "c"]).stdout.matches("hup").count(), 1);
    assert_eq!(engine.field("c", "{{.State.Running}}"), "true");
    let wrong = engine.davit(["attach", "--detach-keys", "ctrl-?", "c"]);
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert!(wrong.stderr.contains("ctrl-?"), "{wrong:?}");
    let mut proxy = proxy;
    proxy.wait().unwrap();
}
