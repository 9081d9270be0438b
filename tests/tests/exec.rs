//! `exec` as a person types it: output, input, exit codes, flags, a terminal, and what happens when somebody goes.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use davit_tests::engine::Engine;
use davit_tests::host::Host;
use davit_tests::terminal::Terminal;
use davit_tests::wait::until_true;

/// An engine with one container that runs until it is killed.
fn engine() -> Engine {
    let engine = Engine::start().unwrap();
    engine.ok(["run", "-d", "--name", "box", "-e", "FROM=spec", "busybox", "sleep", "100000"]);
    engine
}

#[test]
fn exit_codes_and_messages_are_dockers() {
    let engine = engine();
    let code = |arguments: &[&str]| engine.davit(arguments).code;
    assert_eq!(code(&["exec", "box", "true"]), 0);
    assert_eq!(code(&["container", "exec", "box", "sh", "-c", "exit 42"]), 42);
    assert_eq!(code(&["exec", "box", "sh", "-c", "kill -9 $$"]), 137);
    assert_eq!(code(&["exec", "box", "no-such-command"]), 127);
    assert_eq!(code(&["exec", "box", "/etc/passwd"]), 126);
    assert_eq!(code(&["exec", "-w", "/nowhere", "box", "true"]), 127);
    assert_eq!(code(&["exec", "-u", "nosuch", "box", "true"]), 126);
    assert_eq!(code(&["exec", "nothing", "true"]), 1);
    assert_ne!(code(&["exec", "box"]), 0);
    let hostile = engine.davit(["exec", "-w", "/proc/self/fd/7", "box", "pwd"]);
    assert!(hostile.code != 0 && hostile.stdout.is_empty(), "{hostile:?}");
    engine.ok(["create", "--name", "still", "busybox", "true"]);
    let still = engine.davit(["exec", "still", "true"]);
    assert!(still.code == 1 && still.stderr.contains("is not running"), "{still:?}");
    engine.ok(["stop", "-t", "0", "box"]);
    assert_eq!(code(&["exec", "box", "true"]), 1);
}

#[test]
fn streams_flags_and_environment() {
    let engine = engine();
    let both = engine.ok(["exec", "box", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((both.stdout.as_str(), both.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(engine.davit_with_input(["exec", "-i", "box", "cat"], b"hi\n").stdout, "hi\n");
    assert_eq!(
        engine.davit_with_input(["exec", "box", "cat"], b"hi\n").stdout,
        "",
        "without -i there is no input"
    );
    let large: Vec<u8> = (0..400_000_u32).flat_map(|n| format!("{n:08}\n").into_bytes()).collect();
    let back = engine.davit_with_input(["exec", "-i", "box", "cat"], &large);
    assert!(back.stdout.as_bytes() == large, "{} of {} bytes came back", back.stdout.len(), large.len());

    let say = |arguments: &[&str]| engine.ok(arguments).stdout;
    assert_eq!(say(&["exec", "-e", "MORE=x=y", "box", "sh", "-c", "echo $FROM $MORE"]), "spec x=y\n");
    assert_eq!(say(&["exec", "-e", "FROM=flag", "box", "sh", "-c", "echo $FROM"]), "flag\n");
    assert_eq!(say(&["exec", "-w", "/tmp", "box", "pwd"]), "/tmp\n");
    assert_eq!(say(&["exec", "-u", "1234:56", "box", "sh", "-c", "id -u; id -g"]), "1234\n56\n");
    let effective = ["grep", "CapEff", "/proc/self/status"];
    let own = say(&[&["exec", "box"][..], &effective].concat());
    let all = say(&[&["exec", "--privileged", "box"][..], &effective].concat());
    assert_eq!(own, "CapEff:\t00000000a80425fb\n");
    assert!(all.starts_with("CapEff:\t000001ff"), "{all}");
    let file = engine.root().join("env");
    std::fs::write(&file, "# a comment\nONE=1\n").unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(say(&["exec", "--env-file", file, "box", "sh", "-c", "echo $ONE"]), "1\n");
}

#[test]
fn a_terminal_with_its_size_and_a_way_out() {
    let engine = engine();
    let program = engine.command(["exec", "-it", "box", "sh"]);
    let terminal = Terminal::run(&engine.host().name(), &program).unwrap();
    terminal.shows("/ #");
    terminal.line("tty; stty size; echo term=$TERM").unwrap();
    terminal.shows("24 80");
    terminal.shows("term=xterm");
    terminal.resize(100, 30).unwrap();
    until_true("the new size is seen inside", || {
        terminal.line("clear; stty size").unwrap();
        terminal.screen().contains("30 100")
    });
    terminal.line("sleep 2000").unwrap();
    until_true("it sleeps", || !engine.processes_with("^sleep 2000$").is_empty());
    terminal.key("C-c").unwrap();
    terminal.rests("/ #");
    terminal.line("echo interrupted=$?").unwrap();
    terminal.shows("interrupted=130");
    let ids = engine.field("box", "{{len .ExecIDs}}");
    assert_eq!(ids, "1");
    terminal.keys(&["C-p", "C-q"]).unwrap();
    terminal.shows("ended with 0");
    // Whoever leaves by the keys leaves it running for good.
    std::thread::sleep(Duration::from_secs(21));
    assert_eq!(engine.field("box", "{{len .ExecIDs}}"), "1");

    let second =
        Terminal::run(&format!("{}-2", engine.host().name()), &engine.command(["exec", "-it", "box", "sh"]));
    let second = second.unwrap();
    second.shows("/ #");
    second.line("exit 9").unwrap();
    second.shows("ended with 9");
}

#[test]
fn in_the_background_it_goes_on_and_without_its_client_it_ends() {
    let engine = engine();
    assert_eq!(engine.ok(["exec", "-d", "box", "sleep", "7001"]).stdout, "");
    let mut client = engine.command(["exec", "box", "sh", "-c", "echo up; sleep 7002"]);
    let mut client = client.stdout(Stdio::piped()).spawn().unwrap();
    let mut up = [0; 3];
    client.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    let listed = || engine.ok(["exec", "box", "ps"]).stdout;
    assert!(listed().contains("sleep 7001") && listed().contains("sleep 7002"));
    let pid = Host::inner_pid(&client).to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    client.wait().unwrap();
    until_true("it was hung up", || !listed().contains("sleep 7002"));
    assert!(listed().contains("sleep 7001"), "what is in the background stays");
}

#[test]
fn a_hundred_at_once() {
    let engine = engine();
    let waiting: Vec<_> = (0..100)
        .map(|n| {
            let script = format!("echo {n}; seq {n}; exit {n}");
            let mut command = engine.command(["exec", "box", "sh", "-c", &script]);
            (n, command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        })
        .collect();
    for (n, child) in waiting {
        let output = child.wait_with_output().unwrap();
        let wanted: String = [n].into_iter().chain(1..=n).map(|line| format!("{line}\n")).collect();
        assert_eq!(String::from_utf8_lossy(&output.stdout), wanted);
        assert_eq!(output.status.code(), Some(n), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(engine.field("box", "{{json .ExecIDs}}"), "null");
}

#[test]
fn the_engine_may_die_meanwhile() {
    let mut engine = engine();
    let script = "for n in $(seq 1 60); do seq 1 2000; sleep 0.1; done; read line; echo got $line; exit 5";
    let mut client = engine.command(["exec", "-i", "box", "sh", "-c", script]);
    let mut client =
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 1000];
    client.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    for _ in 0..2 {
        engine.kill_controller().unwrap();
        std::thread::sleep(Duration::from_secs(1));
        engine.start_controller().unwrap();
        engine.wait_until_it_answers();
    }
    client.stdin.take().unwrap().write_all(b"this\n").unwrap();
    let output = client.wait_with_output().unwrap();
    let whole = [first.to_vec(), output.stdout].concat();
    let one: String = (1..=2000).map(|n| format!("{n}\n")).collect();
    let wanted = format!("{}got this\n", one.repeat(60));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(whole == wanted.as_bytes(), "{} of {} bytes: {stderr}", whole.len(), wanted.len());
    assert_eq!(output.status.code(), Some(5), "{stderr}");
}

/// A container that ends when its init is asked to.
fn ends_by_a_signal(engine: &Engine) {
    let shared = engine.host().folder().join("shared");
    std::fs::create_dir_all(&shared).unwrap();
    let volume = format!("{}:/shared", shared.display());
    let script = "trap 'exit 3' TERM; while :; do sleep 1000 & wait; done";
    engine.ok(["run", "-d", "--name", "ends", "-v", &volume, "busybox", "sh", "-c", script]);
}

#[test]
fn a_command_that_ends_its_own_container_is_told_as_killed() {
    let engine = engine();
    ends_by_a_signal(&engine);
    for _ in 0..5 {
        let killed = engine.davit(["exec", "ends", "sh", "-c", "kill -TERM 1; exec sleep 1000"]);
        assert_eq!((killed.code, killed.stderr.as_str()), (137, ""), "{}", engine.end_of_log());
        assert_eq!(engine.ok(["wait", "ends"]).stdout, "3\n");
        engine.ok(["start", "ends"]);
    }
}

#[test]
fn the_end_of_its_container_is_heard_of_while_the_engine_is_away() {
    let mut engine = engine();
    ends_by_a_signal(&engine);
    let script = "echo up; while [ ! -e /shared/go ]; do sleep 0.1; done; kill -TERM 1; exec sleep 1000";
    let mut client = engine.command(["exec", "ends", "sh", "-c", script]);
    let mut client = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut up = [0; 3];
    client.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    let id = engine.ok(["ps", "-q", "--no-trunc", "--filter", "name=ends"]).stdout.trim().to_owned();
    engine.kill_controller().unwrap();
    std::fs::write(engine.host().folder().join("shared/go"), "").unwrap();
    let exit = engine.root().join("containers").join(id).join("exit");
    until_true("the container has ended", || exit.exists());
    engine.start_controller().unwrap();
    let output = client.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), stderr.as_ref()), (Some(137), ""), "{}", engine.end_of_log());
}

#[test]
fn not_while_it_is_paused() {
    let engine = engine();
    engine.ok(["pause", "box"]);
    let refused = engine.davit(["exec", "box", "true"]);
    assert!(refused.code == 1 && refused.stderr.contains("paused"), "{refused:?}");
    engine.ok(["unpause", "box"]);
    assert_eq!(engine.davit(["exec", "box", "sh", "-c", "exit 3"]).code, 3);
}

#[test]
fn in_a_user_namespace_it_is_root_of_that_only() {
    let engine = engine();
    engine.ok(["run", "-d", "--name", "mapped", "--userns", "auto", "busybox", "sleep", "100000"]);
    let say = |command: &str| engine.ok(["exec", "mapped", "sh", "-c", command]).stdout;
    assert_eq!(
        say("id -u; readlink /proc/self/ns/user /proc/self/ns/user >/dev/null; echo fine"),
        "0\nfine\n"
    );
    let maps = say("cat /proc/self/uid_map; cat /proc/1/uid_map");
    let maps: Vec<&str> = maps.lines().collect();
    assert!(maps.len() == 2 && maps[0] == maps[1] && !maps[0].ends_with("4294967295"), "{maps:?}");
    assert_eq!(say("echo text > /file && ls -ln /file | awk '{print $3, $4}'"), "0 0\n");
    assert_eq!(engine.davit(["exec", "-u", "1000:1000", "mapped", "id", "-u"]).stdout, "1000\n");
}

#[test]
fn a_slow_reader_slows_only_its_own_exec() {
    let engine = engine();
    let mut slow = engine.command(["exec", "box", "seq", "1", "3000000"]);
    let mut slow = slow.stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(engine.ok(["exec", "box", "echo", "quick"]).stdout, "quick\n");
    let mut whole = String::new();
    slow.stdout.take().unwrap().read_to_string(&mut whole).unwrap();
    assert_eq!(slow.wait().unwrap().code(), Some(0));
    assert!(whole.lines().enumerate().all(|(n, line)| line == (n + 1).to_string()));
    assert_eq!(whole.lines().count(), 3_000_000);
}
