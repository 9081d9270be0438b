//! What a person sees of a build, what ends it, and what it may use.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use davit_tests::context::Context;
use davit_tests::engine::Engine;
use davit_tests::left;
use davit_tests::registry::Registry;
use davit_tests::terminal::Terminal;
use davit_tests::wait::{until, until_true};
use serde_json::Value;

/// A step that goes on until a file is there.
const WAITS: &str = "echo it waits; until [ -e /tmp/go ]; do sleep 0.1; done";

fn folder<'a>(engine: &'a Engine, name: &str, files: &[(&str, &str)]) -> Context<'a> {
    let context = Context::new(engine, name);
    for (name, text) in files {
        context.write(name, text);
    }
    context
}

/// The containers of steps that said that they wait.
fn waiting(engine: &Engine, wanted: usize) -> Vec<String> {
    until("the steps wait", || {
        let ids: Vec<String> = engine.ok(["ps", "-q"]).stdout.lines().map(str::to_owned).collect();
        let waits = |id: &&String| engine.davit(["logs", id.as_str()]).stdout.contains("it waits");
        (ids.iter().filter(waits).count() == wanted).then_some(ids)
    })
}

/// Lets a step that waits go on. It may be over before this is told of its own end: the build's says whether it went on.
fn go_on(engine: &Engine, step: &str) {
    engine.davit(["exec", step, "touch", "/tmp/go"]);
}

/// `davit build` in the background.
fn begin(context: &Context<'_>, flags: &[&str]) -> Child {
    let folder = context.path.display().to_string();
    let words = ["build"].into_iter().chain(flags.iter().copied()).chain([folder.as_str()]);
    let mut command = context.engine.command(words);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Sends a signal to every client that builds a folder.
fn signal(context: &Context<'_>, name: &str) {
    let pids = until("the client runs", || {
        let pids = context.engine.processes_with(&format!("davit .*build.* {}$", context.path.display()));
        (!pids.is_empty()).then_some(pids)
    });
    for pid in pids {
        context.engine.host().command("kill").args([name, &pid.to_string()]).output().unwrap();
    }
}

/// What builds have on disk only while they go on.
fn halves(engine: &Engine) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for below in ["build/blobs", "image/ingest"] {
        let entries = fs::read_dir(engine.root().join(below)).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.path());
        let whole = |path: &PathBuf| path.file_name().is_some_and(|name| name.len() == 64);
        found.extend(names.filter(|path| below == "image/ingest" || !whole(path)));
    }
    found
}

/// Waits until a build that was given up has left nothing.
fn nothing_left(engine: &Engine, before: &BTreeSet<String>, who: &str) {
    left::settle(engine, before, who);
    until_true("no half of a file is left", || halves(engine).is_empty());
}

#[test]
fn a_picture_on_a_terminal() {
    let engine = Engine::start().unwrap();
    let before = left::nothing(&engine);
    let dockerfile = format!("FROM busybox\nCOPY a /a\nRUN {WAITS}\n");
    let context = folder(&engine, "context", &[("Dockerfile", &dockerfile), ("a", "a")]);
    let words = ["build", "-t", "seen", context.path.to_str().unwrap()];
    let open = |name: &str| {
        Terminal::run(&format!("{}-{name}", engine.host().name()), &engine.command(words)).unwrap()
    };
    let terminal = open("seen");
    let screen = terminal.shows("=> => # it waits");
    assert!(screen.starts_with("[+] Building "), "{screen}");
    assert!(screen.contains(" => CACHED [1/3] FROM busybox"), "{screen}");
    assert!(screen.contains(" => [3/3] RUN echo it waits"), "{screen}");
    // A terminal that becomes smaller shows one picture, as much of it as there is room for.
    terminal.resize(40, 6).unwrap();
    until_true("the picture fits", || {
        let screen = terminal.screen();
        let headers = screen.matches("[+] Building").count();
        headers == 1
            && screen.contains("=> => # it waits")
            && screen.contains("[3/3] RUN")
            && screen.contains('…')
    });
    terminal.resize(80, 24).unwrap();
    for id in waiting(&engine, 1) {
        go_on(&engine, &id);
    }
    let screen = terminal.shows("ended with 0");
    assert_eq!(screen.matches("[+] Building").count(), 1, "{screen}");
    assert!(screen.contains(" FINISHED") && screen.contains("=> => naming to"), "{screen}");

    context.write("a", "b");
    let terminal = open("cancelled");
    terminal.shows("=> => # it waits");
    terminal.keys(&["C-c", "C-c"]).unwrap();
    // The keys end the harness's own client around ours as well: that number says nothing.
    let screen = terminal.shows("davit: the build was cancelled");
    assert!(screen.contains("=> CANCELED [3/3] RUN"), "{screen}");
    nothing_left(&engine, &before, "Ctrl-C");
}

#[test]
fn lines_and_objects() {
    let engine = Engine::start().unwrap();
    let context = folder(
        &engine,
        "context",
        &[("Dockerfile", "FROM busybox\nCOPY a /a\nRUN echo hello\n"), ("a", "12345")],
    );
    let plain = context.build(&["--progress", "plain", "-t", "plain"]);
    assert_eq!((plain.code, plain.stdout.as_str()), (0, ""), "{plain:?}");
    for line in [
        "#1 [internal] load build context\n",
        "#1 transferring context: ",
        "#2 [1/3] FROM busybox\n#2 CACHED\n",
        "#3 [2/3] COPY a /a\n#3 DONE ",
        "#4 [3/3] RUN echo hello\n",
        " hello\n#4 DONE ",
        "#5 exporting to image\n#5 writing image sha256:",
        "#5 naming to plain",
    ] {
        assert!(plain.stderr.contains(line), "{line:?} is not in {}", plain.stderr);
    }

    let flagged = context.build(&["--progress", "json", "--no-cache", "-t", "plain"]);
    let folder_name = context.path.display().to_string();
    let by_name =
        engine.davit_in(&[("DAVIT_PROGRESS", "rawjson")], &["build", "-t", "plain", &folder_name], "");
    for answer in [&flagged, &by_name] {
        assert_eq!(answer.code, 0, "{answer:?}");
        let objects: Vec<Value> =
            answer.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let last = objects.last().unwrap();
        assert_eq!((&last["type"], &last["names"][0]), (&"built".into(), &"plain".into()), "{last}");
        assert_eq!(objects[0]["name"], "[internal] load build context");
        assert!(objects.iter().any(|o| o["type"] == "step" && o["state"] != "running" && o["step"] == 4));
    }
    assert!(flagged.stderr.contains(r#""stream":"stdout","text":"hello","type":"output""#), "{flagged:?}");
    assert!(by_name.stderr.contains(r#""state":"cached""#), "{by_name:?}");

    // Only the id, only nothing; and every name that the verb has.
    let id = engine.ok(["inspect", "--format", "{{.Id}}", "plain"]).stdout;
    for words in [["image", "build"], ["builder", "build"], ["buildx", "build"]] {
        let answer = engine.ok(words.into_iter().chain(["-q", &folder_name]));
        assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), (id.as_str(), ""));
    }
    let none = context.build(&["--progress=none"]);
    assert_eq!((none.code, none.stdout + &none.stderr), (0, String::new()));
    // Steps of one stage anew, those of the others as they were.
    let anew = context.build(&["--no-cache-filter", "0"]);
    assert_eq!(anew.stderr.matches(" CACHED").count(), 1, "{anew:?}");
    for (flags, code, said) in [
        (["-q", "--progress=plain"], 1, "exclude each other"),
        (["-q", "--progress=often"], 125, "invalid value \"often\""),
        (["-q", "--progres=plain"], 125, "--progres"),
        (["-q", "--squash"], 1, "--squash is not served"),
    ] {
        let answer = context.build(&flags);
        assert_eq!(answer.code, code, "{answer:?}");
        assert!(answer.stderr.contains(said), "{answer:?}");
    }
    assert!(context.build(&["--progress=tty"]).stderr.contains("needs a terminal"));
}

#[test]
fn a_failure_says_what_was_last_and_where() {
    let engine = Engine::start().unwrap();
    let wrong = "FROM busybox\nRUN echo before; echo why >&2; exit 7\n";
    let context = folder(
        &engine,
        "context",
        &[("Dockerfile", wrong), ("secret", "x"), ("d/e", "x"), (".dockerignore", "secret\nd\n")],
    );
    let wanted = [
        "------\n > [2/2] RUN echo before",
        "before\nwhy\n------\n",
        "Dockerfile:2\n--------------------\n",
        "   2 | >>> RUN",
    ];
    for flags in [&["--progress=plain"][..], &["-q"], &["--progress=none"]] {
        let answer = context.build(flags);
        assert_eq!((answer.code, answer.stdout.as_str()), (1, ""), "{answer:?}");
        for text in wanted {
            assert!(answer.stderr.contains(text), "{flags:?}: {text:?} is not in {}", answer.stderr);
        }
        let last = answer.stderr.lines().last().unwrap();
        assert!(last.starts_with("davit: Dockerfile:2: RUN ") && last.ends_with("exit code: 7"), "{last}");
    }
    let answer = context.build(&["--progress=plain"]);
    assert!(answer.stderr.contains(" ERROR: process \"/bin/sh -c echo before"), "{answer:?}");
    let answer = context.build(&["--progress=json"]);
    let last: Value = serde_json::from_str(answer.stderr.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["type"], &last["line"], &last["step"]),
        (&"error".into(), &2.into(), &3.into()),
        "{last}"
    );

    for (dockerfile, said) in [
        ("FROM busybox\nCOPY nothing /x\n", "\"nothing\": not found in the context\n"),
        ("FROM busybox\nCOPY secret /x\n", "it is there, but the ignore file leaves it out"),
        ("FROM busybox\nCOPY d/e /x\n", "it is there, but the ignore file leaves it out"),
        ("FROM busybox\nRUN --mout=x true\n", "line 2, column 5: RUN has no flag"),
        ("FROM busybox\nCOPY --from=7 a /\n", "line 2, column "),
    ] {
        context.write("Dockerfile", dockerfile);
        let answer = context.build(&[]);
        assert_eq!(answer.code, 1, "{dockerfile}: {answer:?}");
        assert!(answer.stderr.contains(said), "{dockerfile}: {answer:?}");
        assert!(answer.stderr.contains("2 | >>> "), "{dockerfile}: {answer:?}");
    }
    checks(&context);
}

/// What is allowed and probably not meant is told behind a build, and is all that --check is about.
fn checks(context: &Context<'_>) {
    context.write("Dockerfile", "from busybox AS Base\nCMD true\n");
    let answer = context.build(&["--build-arg", "NOBODY=1"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(answer.stderr.contains("warnings found:\n - "), "{answer:?}");
    assert!(
        answer.stderr.contains(" - StageNameCasing: ") && answer.stderr.contains("(line 1)\n"),
        "{answer:?}"
    );
    assert!(answer.stderr.contains(" - UnusedBuildArg: "), "{answer:?}");
    let answer = context.build(&["--check", "-t", "checked"]);
    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(
        answer.stderr.contains("WARNING: StageNameCasing\n") && answer.stderr.contains("1 | >>> "),
        "{answer:?}"
    );
    assert_eq!(context.engine.davit(["inspect", "checked"]).code, 1, "a check builds nothing");
    context.write("Dockerfile", "FROM busybox\n");
    let answer = context.build(&["--check"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(answer.stderr.contains("no warnings found"), "{answer:?}");
}

#[test]
fn what_ends_a_build_leaves_nothing() {
    let engine = Engine::start().unwrap();
    let before = left::nothing(&engine);
    // Steps of two stages, with processes of their own in the background.
    let dockerfile = format!(
        "FROM busybox AS one\nRUN sleep 1000 & {WAITS}\nFROM busybox AS two\nRUN sleep 1001 & {WAITS}\n\
        FROM busybox\nCOPY --from=one /a /a\nCOPY --from=two /b /b\n"
    );
    let context = folder(&engine, "stages", &[("Dockerfile", &dockerfile)]);
    for (signal_name, code) in [("-INT", 130), ("-TERM", 143), ("-KILL", 137)] {
        let mut client = begin(&context, &["--progress=plain"]);
        waiting(&engine, 2);
        signal(&context, signal_name);
        let ended = client.wait().unwrap();
        let number = std::os::unix::process::ExitStatusExt::signal(&ended).map(|signal| 128 + signal);
        assert_eq!(ended.code().or(number), Some(code), "{signal_name}");
        nothing_left(&engine, &before, signal_name);
    }

    // A reader that is gone, of what is written and of what is not.
    let mut command = engine.command(["build", context.path.to_str().unwrap()]);
    let mut client =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    waiting(&engine, 2);
    drop(client.stderr.take());
    assert_eq!(client.wait().unwrap().code(), Some(141));
    nothing_left(&engine, &before, "a closed pipe");

    // A context that is on its way. It is as large as files can be that take no room.
    let context = folder(&engine, "large", &[("Dockerfile", "FROM busybox\nCOPY . /\n")]);
    fs::File::create(context.path.join("large")).unwrap().set_len(64 << 30).unwrap();
    let mut client = begin(&context, &[]);
    until_true("some of it is there", || !halves(&engine).is_empty());
    signal(&context, "-INT");
    client.wait().unwrap();
    nothing_left(&engine, &before, "half a context");

    // A commit: what the step wrote takes a while.
    let dockerfile = "FROM busybox\nRUN dd if=/dev/zero of=/zeros bs=1M count=128\n";
    let committed = folder(&engine, "commit", &[("Dockerfile", dockerfile)]);
    let mut client = begin(&committed, &[]);
    until_true("the command has ended", || {
        let ended = engine.ok(["ps", "-a", "--format", "{{.Status}}"]).stdout;
        ended.contains("Exited") || client.try_wait().unwrap().is_some()
    });
    if client.try_wait().unwrap().is_none() {
        signal(&committed, "-KILL");
    }
    client.wait().unwrap();
    nothing_left(&engine, &before, "half a commit");
    // Whatever was whole by then is used, and nothing that was not.
    let answer = committed.build(&["-t", "whole"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(engine.ok(["run", "--rm", "whole", "stat", "-c", "%s", "/zeros"]).line(), "134217728");
}

#[test]
fn a_pull_that_is_given_up() {
    let engine = Engine::start().unwrap();
    let before = left::nothing(&engine);
    let registry = Registry::start(engine.host()).unwrap();
    let archive = davit_tests::image::busybox().unwrap();
    registry.push(engine.host(), &format!("docker-archive:{}", archive.display()), "base:1").unwrap();
    let dockerfile = format!("FROM {}/base:1\nRUN true\n", registry.address());
    let context = folder(&engine, "context", &[("Dockerfile", &dockerfile)]);
    let registry_signal = |name: &str| {
        let pid = registry.pid().to_string();
        std::process::Command::new("kill").args([name, &pid]).status().unwrap()
    };
    // It takes connections and does not answer.
    registry_signal("-STOP");
    let log = engine.host().folder().join("client.log");
    let mut command = engine.command(["build", "--progress=plain", context.path.to_str().unwrap()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
    let mut client = command.spawn().unwrap();
    until_true("the pull began", || fs::read_to_string(&log).unwrap().contains("#2 [1/2] FROM 127.0.0.1"));
    signal(&context, "-INT");
    assert_eq!(client.wait().unwrap().code(), Some(130));
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("#2 CANCELED\n"), "{said}");
    registry_signal("-CONT");
    nothing_left(&engine, &before, "half a pull");
    let answer = context.build(&["--progress=plain"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(answer.stderr.contains("#2 sha256:") && answer.stderr.contains(" done\n#2 DONE "), "{answer:?}");
}

#[test]
fn commands_have_their_limits() {
    let engine = Engine::start().unwrap();
    let dockerfile = format!(
        "FROM busybox\nRUN [ \"$(ulimit -n)\" = 77 ] && df -k /dev/shm | grep -q ' 8192 ' && grep -q 10.1.2.3 /etc/hosts\n\
        RUN {WAITS}\n"
    );
    let context = folder(&engine, "context", &[("Dockerfile", &dockerfile)]);
    let flags = [
        "--ulimit=nofile=77",
        "--shm-size=8m",
        "--add-host=up:10.1.2.3",
        "-m",
        "64m",
        "--memory-swap=-1",
        "-c",
        "99",
        "--cpu-period=50000",
        "--cpu-quota=25000",
        "--cpuset-cpus=0",
        "--security-opt=no-new-privileges",
        "--rm",
        "--force-rm=false",
        "--compress",
        "--isolation=default",
    ];
    let mut client = begin(&context, &flags);
    let step = waiting(&engine, 1).remove(0);
    let of = |field: &str| engine.field(&step, &format!("{{{{.HostConfig.{field}}}}}"));
    assert_eq!(
        (of("Memory"), of("CpuShares"), of("CpuQuota")),
        ("67108864".into(), "99".into(), "25000".into())
    );
    assert_eq!((of("CpuPeriod"), of("CpusetCpus")), ("50000".into(), "0".into()));
    assert!(of("SecurityOpt").contains("no-new-privileges"));
    go_on(&engine, &step);
    assert!(client.wait().unwrap().success());
    // More memory is no other step, another limit of its processes is.
    let mut more = flags.to_vec();
    more[4] = "65m";
    let cached = |flags: &[&str]| context.build(flags).stderr.matches(" CACHED").count();
    assert_eq!(cached(&more), 3);
    for wrong in [["--ulimit", "nofile"], ["-m", "much"], ["--isolation", "hyperv"], ["--add-host", "x"]] {
        assert_eq!(context.build(&wrong).code, 1, "{wrong:?}");
    }
}
