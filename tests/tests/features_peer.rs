//! What people know from other engines and no other test shows, each as small as it is.

use davit_tests::engine::{Answer, Engine};
use davit_tests::image::{Compression, Layout, busybox_layer};
use davit_tests::registry::Registry;
use davit_tests::wait::until_true;
use serde_json::json;

/// The first line that a throw-away container prints.
fn run(engine: &Engine, flags: &[&str], script: &str) -> String {
    let words = [&["run", "--rm"][..], flags, &["busybox", "sh", "-c", script]].concat();
    engine.ok(words).stdout.trim_end().to_owned()
}

#[test]
fn the_environment_of_the_host_and_the_image_is_chosen_from() {
    let engine = Engine::start().unwrap();
    engine.ok(["create", "--name", "base", "busybox"]);
    engine.ok(["commit", "-c", "ENV KEEP=image GONE=image SAME=image", "base", "env"]);
    let script = "echo $KEEP:${GONE-no}:$SAME:${HERE-no}:$MINE";
    let asked = |flags: &[&str]| {
        let words = [&["run", "--rm"][..], flags, &["env", "sh", "-c", script]].concat();
        engine.davit_in(&[("HERE", "host"), ("SAME", "host"), ("MINE", "host")], &words, "")
    };
    let said = |answer: Answer| answer.stdout;
    assert_eq!(said(asked(&[])), "image:image:image:no:\n");
    assert_eq!(said(asked(&["--env-host", "-e", "MINE=flag"])), "image:image:image:host:flag\n");
    assert_eq!(said(asked(&["--unsetenv", "GONE"])), "image:no:image:no:\n");
    assert_eq!(
        said(asked(&["--env-host", "--unsetenv", "GONE", "--unsetenv", "SAME"])),
        "image:no::host:host\n"
    );
    assert_eq!(asked(&["--unsetenv", "A=1"]).code, 125);
}

#[test]
fn masks_memory_and_process_ids_are_as_asked() {
    let engine = Engine::start().unwrap();
    assert_eq!(run(&engine, &[], "umask"), "0022");
    assert_eq!(run(&engine, &["--umask", "0027"], "umask; touch x; stat -c %a x"), "0027\n640");
    for wrong in ["8", "1777", "0o22", ""] {
        assert_eq!(engine.davit(["run", "--umask", wrong, "busybox", "true"]).code, 125, "{wrong}");
    }
    let script = "for d in /run /tmp /var/tmp; do touch $d/x && echo $d; done; touch /x 2>/dev/null || echo closed; \
        grep ' /run ' /proc/mounts | grep -c size=1024k";
    let flags = ["--read-only", "--read-only-tmpfs", "--tmpfs", "/run:size=1m"];
    assert_eq!(run(&engine, &flags, script), "/run\n/tmp\n/var/tmp\nclosed\n1");
    assert_eq!(
        run(&engine, &["--read-only-tmpfs"], "grep -c ' /tmp ' /proc/mounts || true"),
        "0",
        "only with --read-only"
    );

    let file = engine.host().folder().join("pid").display().to_string();
    engine.ok(["run", "-d", "--name", "back", "--pidfile", &file, "busybox", "sleep", "1000"]);
    let pid = std::fs::read_to_string(&file).unwrap();
    assert_eq!(pid, engine.field("back", "{{.State.Pid}}"));
    let front = engine.ok(["run", "--rm", "--pidfile", &file, "busybox", "sleep", "0.3"]);
    let next = std::fs::read_to_string(&file).unwrap();
    assert!(next != pid && next.parse::<u32>().is_ok(), "{next:?} {front:?}");
}

#[test]
fn a_name_is_taken_over_and_asked_for() {
    let engine = Engine::start().unwrap();
    let first = engine.ok(["run", "-d", "--name", "web", "busybox", "sleep", "1000"]).line().to_owned();
    let taken = engine.davit(["run", "-d", "--name", "web", "busybox", "true"]);
    assert!(taken.code == 125 && taken.stderr.contains("web"), "{taken:?}");
    let missing =
        engine.davit(["run", "-d", "--replace", "--pull", "never", "--name", "web", "nowhere.invalid/x"]);
    assert_eq!(missing.code, 125, "{missing:?}");
    assert_eq!(
        engine.field("web", "{{.Id}} {{.State.Status}}"),
        format!("{first} running"),
        "nothing took its place"
    );
    let second = engine.ok(["run", "-d", "--replace", "--name", "web", "busybox", "sleep", "1000"]);
    assert_ne!(second.line(), first);
    assert_eq!(engine.ok(["create", "--replace", "--name", "other", "busybox"]).line().len(), 64);
    assert_eq!(engine.davit(["run", "--replace", "busybox"]).code, 125);

    engine.ok(["volume", "create", "data"]);
    engine.ok(["network", "create", "net"]);
    for (noun, there) in [("container", "web"), ("image", "busybox"), ("volume", "data"), ("network", "net")]
    {
        let answer = engine.davit([noun, "exists", there]);
        assert_eq!((answer.code, answer.stdout.as_str(), answer.stderr.as_str()), (0, "", ""), "{noun}");
        let answer = engine.davit([noun, "exists", "nothing"]);
        assert_eq!((answer.code, answer.stdout.as_str(), answer.stderr.as_str()), (1, "", ""), "{noun}");
    }
    let away = engine.davit(["--host", "unix:///nonexistent.sock", "container", "exists", "web"]);
    assert_eq!(away.code, 125, "{away:?}");
}

#[test]
fn what_is_here_will_do_when_nothing_newer_can_be_fetched() {
    let engine = Engine::start_empty().unwrap();
    let registry = Registry::start(engine.host()).unwrap();
    let name = format!("{}/app", registry.address());
    let layer = busybox_layer().unwrap();
    let push = |word: &str| {
        let mut layout = Layout::new(engine.host().folder().join(word)).unwrap();
        layout.layer(&layer, Compression::Gzip).unwrap();
        layout.finish("t", &json!({"Cmd": ["echo", word], "Env": ["PATH=/bin"]})).unwrap();
        registry.push_layout(engine.host(), layout.folder(), "t", "app:latest").unwrap();
    };
    push("old");
    let newer = |engine: &Engine| engine.davit(["run", "--rm", "--pull", "newer", "-q", &name]);
    assert_eq!(newer(&engine).stdout, "old\n");
    push("new");
    assert_eq!(engine.ok(["run", "--rm", &name]).stdout, "old\n");
    assert_eq!(newer(&engine).stdout, "new\n");
    std::fs::remove_dir_all(registry.data().join("repositories/app")).unwrap();
    let kept = newer(&engine);
    assert!(kept.stdout == "new\n" && kept.stderr.contains("WARNING"), "{kept:?}");
    let none = engine.davit(["run", "--rm", "--pull", "newer", &format!("{}/none", registry.address())]);
    assert_eq!(none.code, 125, "{none:?}");
}

#[test]
fn health_is_waited_for() {
    let engine = Engine::start().unwrap();
    let check = ["--health-cmd", "cat /ok", "--health-interval", "100ms"];
    let begin = |name: &str, script: &str| {
        engine.ok([&["run", "-d", "--name", name][..], &check, &["busybox", "sh", "-c", script]].concat());
    };
    begin("well", "sleep 0.5; touch /ok; sleep 1000");
    assert_eq!(engine.ok(["wait", "--condition", "healthy", "well"]).line(), "healthy");
    assert_eq!(engine.field("well", "{{.State.Health.Status}}"), "healthy");
    begin("ends", "sleep 0.5");
    let ended = engine.davit(["wait", "--condition", "healthy", "ends"]);
    assert!(ended.code == 1 && ended.stderr.contains("is not running"), "{ended:?}");
    engine.ok(["run", "-d", "--name", "unasked", "busybox", "sleep", "1000"]);
    let unasked = engine.davit(["wait", "--condition", "healthy", "unasked"]);
    assert!(unasked.code == 1 && unasked.stderr.contains("no health check"), "{unasked:?}");
}

#[test]
fn logs_of_several_say_whose_each_line_is() {
    let engine = Engine::start().unwrap();
    for name in ["one", "two"] {
        engine.ok(["run", "--name", name, "busybox", "sh", "-c", "echo a; echo b >&2"]);
    }
    let id = engine.field("one", "{{.Id}}");
    let both = engine.ok(["logs", "--names", "one", "two"]);
    assert_eq!((both.stdout.as_str(), both.stderr.as_str()), ("one a\ntwo a\n", "one b\ntwo b\n"));
    let short = engine.ok(["logs", "-n", "1", "one", "two"]);
    assert!(short.stderr.starts_with(&format!("{} b\n", &id[..12])), "{short:?}");
    assert_eq!(engine.ok(["logs", "--details", "--names", "one"]).stdout, "a\n", "one alone is as ever");
    let some = engine.davit(["logs", "none", "two"]);
    assert!(some.code == 1 && some.stdout.ends_with(" a\n"), "{some:?}");
    engine.ok([
        "run",
        "-d",
        "--name",
        "slow",
        "busybox",
        "sh",
        "-c",
        "while [ ! -e /go ]; do sleep 0.05; done; echo late",
    ]);
    let mut follow = engine.command(["logs", "-f", "--names", "one", "slow"]);
    let piped = std::process::Stdio::piped;
    let following = follow.stdout(piped()).stderr(piped()).spawn().unwrap();
    engine.ok(["exec", "slow", "touch", "/go"]);
    let seen = following.wait_with_output().unwrap().stdout;
    let mut lines: Vec<&str> = std::str::from_utf8(&seen).unwrap().lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["one a", "slow late"]);
}

#[test]
fn swappiness_is_the_kernels() {
    let engine = Engine::start().unwrap();
    let asked =
        engine.davit(["run", "-d", "--name", "c", "--memory-swappiness", "7", "busybox", "sleep", "1000"]);
    let place = davit_tests::cgroup::Cgroup::of(&engine, asked.line());
    match place.hierarchy() {
        davit_tests::cgroup::Hierarchy::Legacy => {
            assert_eq!(place.number("memory.swappiness"), 7);
            assert_eq!(engine.field("c", "{{.HostConfig.MemorySwappiness}}"), "7");
        }
        davit_tests::cgroup::Hierarchy::Unified => assert!(asked.stderr.contains("cgroup v2"), "{asked:?}"),
    }
    assert_eq!(engine.davit(["run", "--memory-swappiness", "101", "busybox"]).code, 125);
}

#[test]
fn keys_that_leave_are_read_from_a_file() {
    let engine = Engine::start().unwrap();
    let folder = engine.host().folder().join("docker");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("config.json");
    let settings = [("DOCKER_CONFIG", folder.to_str().unwrap())];
    let ran = |text: &str, flags: &[&str]| {
        std::fs::write(&file, text).unwrap();
        engine.davit_in(&settings, &[&["run", "--rm"][..], flags, &["busybox", "echo", "x"]].concat(), "")
    };
    let wrong = ran(r#"{"detachKeys":"ctrl-1"}"#, &[]);
    assert!(wrong.code == 125 && wrong.stderr.contains("detachKeys"), "{wrong:?}");
    assert_eq!(ran(r#"{"detachKeys":"ctrl-1"}"#, &["--detach-keys", "a,b"]).stdout, "x\n");
    assert_eq!(ran(r#"{"detachKeys":"ctrl-a,d"}"#, &[]).stdout, "x\n");
    let torn = ran("{", &[]);
    assert!(torn.stdout == "x\n" && torn.stderr.contains("WARNING"), "{torn:?}");
    until_true("all of them are gone", || engine.ok(["ps", "-aq"]).stdout.is_empty());
}

#[test]
fn addresses_are_kept_and_neighbours_kept_apart() {
    let engine = Engine::start().unwrap();
    let kept = ["--aux-address", "router=10.77.0.2", "--aux-address", "printer=10.77.0.4"];
    engine.ok([&["network", "create", "--subnet", "10.77.0.0/29"][..], &kept, &["net"]].concat());
    let told = engine.ok([
        "network",
        "inspect",
        "-f",
        "{{range .IPAM.Config}}{{.AuxiliaryAddresses.router}}{{end}}",
        "net",
    ]);
    assert_eq!(told.line(), "10.77.0.2");
    let begin = |name: &str, network: &str| {
        engine.ok(["run", "-d", "--name", name, "--network", network, "busybox", "sleep", "1000"]);
        engine.field(name, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
    };
    assert_eq!(["a", "b", "c"].map(|name| begin(name, "net")), ["10.77.0.3", "10.77.0.5", "10.77.0.6"]);
    let refused = |flags: &[&str]| {
        let answer =
            engine.davit([&["run", "--rm", "--network", "net"][..], flags, &["busybox", "true"]].concat());
        assert_eq!(answer.code, 125, "{answer:?}");
        answer.stderr
    };
    assert!(refused(&["--ip", "10.77.0.4"]).contains("kept for \"printer\""));
    assert!(refused(&[]).contains("net"), "there is no other one");
    for wrong in ["x=10.78.0.1", "10.77.0.2", "x=10.76.0.1"] {
        let words = ["network", "create", "--subnet", "10.76.0.0/29", "--aux-address", wrong, "wrong"];
        assert_eq!(engine.davit(words).code, 1, "{wrong}");
    }

    engine.ok(["network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "apart"]);
    engine.ok(["network", "create", "-o", "icc=true", "together"]);
    let reaches = |from: &str, address: &str| {
        engine.davit(["exec", from, "ping", "-c", "1", "-W", "2", address]).code == 0
    };
    let far = begin("far", "apart");
    begin("near", "apart");
    assert!(!reaches("near", &far), "neighbours do not hear each other");
    let gateway = engine.field("near", "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}");
    assert!(reaches("near", &gateway), "and everybody reaches the host");
    let friend = begin("friend", "together");
    begin("other", "together");
    assert!(reaches("other", &friend));
    assert_eq!(engine.davit(["network", "create", "-o", "icc=maybe", "wrong"]).code, 1);
}
