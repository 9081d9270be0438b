//! `RUN --mount`, secrets, agents, scripts, and what a command is allowed: what it sees, what stays, and what must not.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use davit_tests::context::Context;
use davit_tests::engine::{Answer, Engine};
use davit_tests::wait::{until, until_true};

/// `davit build flags folder` of a Dockerfile.
fn build(folder: &Context<'_>, dockerfile: &str, flags: &[&str]) -> Answer {
    folder.write("Dockerfile", dockerfile).build(&[&["--progress", "plain"], flags].concat())
}

fn built(folder: &Context<'_>, dockerfile: &str, flags: &[&str]) -> Answer {
    let answer = build(folder, dockerfile, flags);
    assert_eq!(answer.code, 0, "{dockerfile}\n{answer:?}\n{}", folder.engine.end_of_log());
    answer
}

fn refused(folder: &Context<'_>, dockerfile: &str, flags: &[&str], said: &str) {
    let answer = build(folder, dockerfile, flags);
    assert_eq!(answer.code, 1, "{dockerfile}\n{answer:?}");
    assert!(answer.stderr.contains(said), "{dockerfile}\n{said}\n{answer:?}");
}

/// What is left of mounts of steps: names in the two folders, and mounts of the host.
fn left(engine: &Engine) -> Vec<String> {
    let mut found = Vec::new();
    for folder in [engine.root().join("build/work"), engine.run_dir().join("build")] {
        let folder = engine.host().seen_at(&folder.display().to_string());
        let names = fs::read_dir(folder).unwrap();
        found.extend(names.map(|entry| entry.unwrap().path().display().to_string()));
    }
    let table = engine.host().command("cat").arg("/proc/self/mounts").output().unwrap();
    let below = engine.run_dir().join("build").display().to_string();
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    found.extend(table.lines().filter(|line| line.contains(&below)).map(str::to_owned));
    found
}

#[test]
fn binds_show_what_they_are_of_and_leave_nothing() {
    let engine = Engine::start().unwrap();
    let folder = Context::new(&engine, "context");
    folder.write(".dockerignore", "**/*.log\n");
    for name in ["src/a.txt", "src/deep/b.txt", "src/x.log", "one"] {
        folder.write(name, name);
    }
    fs::set_permissions(folder.path.join("one"), fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("a.txt", folder.path.join("src/link")).unwrap();
    let dockerfile = "FROM busybox AS made\nRUN mkdir -p /out/sub && echo made > /out/sub/file && ln -s /out /way\n\
        FROM busybox\nWORKDIR /work\nRUN mkdir /real && ln -s /real /linked\n\
        RUN --mount=target=here --mount=type=bind,source=src,target=/src --mount=source=one,target=/etc/new/one \
            find here /src -type f | sort > /seen && stat -c '%a %u' /etc/new/one >> /seen && readlink /src/link >> /seen && \
            ! touch /src/no 2>/dev/null && ! sh -c 'echo x > /etc/new/one' 2>/dev/null\n\
        RUN --mount=from=made,source=/way/sub,target=/m --mount=from=busybox,source=/bin,target=/b/in \
            cat /m/file >> /seen && test -x /b/in/busybox && ! touch /m/no 2>/dev/null\n\
        RUN --mount=source=src,target=/rw,rw --mount=from=made,source=out,target=/rw2,rw --mount=source=one,target=/rw3,rw \
            echo lost > /rw/a.txt && rm -r /rw/deep && echo lost > /rw2/sub/file && echo lost > /rw3 && \
            cat /rw/a.txt /rw2/sub/file /rw3 >> /seen\n\
        RUN --mount=source=src,target=/rw,rw --mount=type=tmpfs,target=/rw/new/t,size=1m --mount=type=tmpfs,target=/t,size=64k --mount=type=tmpfs,target=/linked/new \
            cat /rw/a.txt >> /seen && touch /rw/new/t/x && ! dd if=/dev/zero of=/t/big bs=1k count=100 2>/dev/null\n";
    built(&folder, dockerfile, &["-t", "binds"]);
    let seen = engine.ok(["run", "--rm", "binds", "cat", "/seen"]).stdout;
    assert_eq!(
        seen,
        "/src/a.txt\n/src/deep/b.txt\nhere/.dockerignore\nhere/Dockerfile\nhere/one\nhere/src/a.txt\n\
        here/src/deep/b.txt\n640 0\na.txt\nmade\nlost\nlost\nlost\nsrc/a.txt"
    );
    // Nothing of it is in the image, not even a place to mount on.
    let listed = engine.davit([
        "run",
        "--rm",
        "binds",
        "ls",
        "-d",
        "/src",
        "/m",
        "/b",
        "/rw",
        "/t",
        "/etc/new",
        "/real/new",
        "/work/here",
    ]);
    assert_eq!(listed.stdout, "");
    assert_eq!(left(&engine), [""; 0]);
    // What was stored is as it was, and is what the next build has.
    built(&folder, "FROM busybox\nCOPY src one /copied/\n", &["-t", "copied"]);
    let copied =
        engine.ok(["run", "--rm", "copied", "cat", "/copied/a.txt", "/copied/deep/b.txt", "/copied/one"]);
    assert_eq!(copied.stdout, "src/a.txtsrc/deep/b.txtone");

    // The key is the content: the same again is known, another file is not, and one beside it is nothing.
    let cached = |answer: &Answer| answer.stderr.matches("CACHED").count();
    let one = "FROM busybox\nRUN --mount=source=src,target=/s cat /s/a.txt > /a\n";
    built(&folder, one, &[]);
    folder.write("beside", "x");
    assert_eq!(cached(&built(&folder, one, &[])), 2);
    folder.write("src/a.txt", "changed");
    assert_eq!(cached(&built(&folder, one, &["-t", "one"])), 1);
    assert_eq!(engine.ok(["run", "--rm", "one", "cat", "/a"]).stdout, "changed");
    refused(&folder, "FROM busybox\n\nRUN --mount=source=none,target=/s true\n", &[], "\"none\": not found");
    refused(
        &folder,
        "FROM busybox\n\nRUN --mount=from=busybox,source=/none,target=/s true\n",
        &[],
        "3 | >>> RUN",
    );
}

#[test]
fn caches_are_shared_locked_or_private_and_go_when_they_are_pruned() {
    let engine = Engine::start().unwrap();
    let folder = Context::new(&engine, "context");
    built(
        &folder,
        "FROM busybox\nRUN --mount=type=cache,target=/c,id=x,mode=0750,uid=3,gid=4 stat -c '%a %u:%g' /c > /seen && echo kept > /c/file\n",
        &["-t", "one"],
    );
    let seen = engine.davit(["run", "--rm", "one", "sh", "-c", "cat /seen; ls -d /c"]);
    assert_eq!((seen.code, seen.stdout.as_str()), (1, "750 3:4\n"), "{seen:?}");
    // Another build has it, one with another owner has not, and ro is ro.
    built(
        &folder,
        "FROM busybox\nRUN --mount=type=cache,target=/d,id=x,mode=0750,uid=3,gid=4,ro cat /d/file > /seen && ! touch /d/x 2>/dev/null\n\
        RUN --mount=type=cache,target=/d,id=x ls /d >> /seen && echo other > /d/other\n\
        RUN --mount=type=cache,target=/e,id=from,from=one,source=/etc cat /e/passwd | head -n 1 | cut -d: -f1 >> /seen\n",
        &["-t", "two"],
    );
    assert_eq!(engine.ok(["run", "--rm", "two", "cat", "/seen"]).stdout, "kept\nroot\n");
    assert_eq!(engine.ok(["volume", "ls", "-q"]).stdout, "", "caches are no volumes");

    // Three stages at the same time: those who lock count one after the other, those alone never see each other.
    let count = "n=$(cat /l/n 2>/dev/null || echo 0); sleep 0.2; echo $((n+1)) > /l/n";
    let alone = "! [ -e /p/taken ] && touch /p/taken && sleep 0.3 && rm /p/taken";
    let stage = |name: &str| {
        format!(
            "FROM busybox AS {name}\nRUN --mount=type=cache,target=/l,sharing=locked \
            --mount=type=cache,target=/again,id=/l,sharing=locked {count}; test -e /again/n; touch /{name}\n\
            RUN --mount=type=cache,target=/p,sharing=private {alone}\n"
        )
    };
    let all = format!(
        "{}{}{}FROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\nCOPY --from=c /c /\n\
        RUN --mount=type=cache,target=/l,sharing=locked cat /l/n > /n\n",
        stage("a"),
        stage("b"),
        stage("c")
    );
    built(&folder, &all, &["-t", "three"]);
    assert_eq!(engine.ok(["run", "--rm", "three", "cat", "/n"]).stdout, "3\n");

    let kept = || fs::read_dir(engine.root().join("build/caches")).unwrap().count();
    assert!(kept() >= 5, "{}", kept());
    engine.ok(["volume", "prune", "-a", "-f"]);
    assert!(kept() >= 5, "a cache is no volume");
    engine.ok(["builder", "prune", "-a", "-f"]);
    assert_eq!(kept(), 0);
    assert_eq!(left(&engine), [""; 0]);
}

/// Everything below a folder that has these bytes.
fn with_bytes(engine: &Engine, folder: &Path, bytes: &str) -> String {
    let words = ["-rlaF", "-D", "skip", "--", bytes, &folder.display().to_string()];
    let found = engine.host().command("grep").args(words).output().unwrap();
    String::from_utf8_lossy(&found.stdout).into_owned()
}

const SECRET: &str = "hush-4711-nobody-may-know";

/// The client or the engine is killed while a step has a secret.
fn kill_midway(engine: &mut Engine, flag: &str, path: &str) {
    for victim in ["client", "engine"] {
        let words = ["build", "--secret", flag, path];
        let mut client = engine.command(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let id = until("the step runs", || {
            let id = engine.ok(["ps", "-q"]).line().to_owned();
            let waits = !id.is_empty() && engine.davit(["logs", &id]).stdout.contains("waits");
            waits.then_some(id)
        });
        let told = engine.ok(["inspect", &id]).stdout;
        assert!(!told.contains(SECRET) && told.contains("/run/secrets/token"), "{told}");
        if victim == "engine" {
            engine.kill_controller().unwrap();
            client.wait().unwrap();
            engine.start_controller().unwrap();
        } else {
            for pid in engine.processes_with(&format!("davit.* build .*{path}$")) {
                engine.kill_on_host(&pid.to_string()).unwrap();
            }
            client.wait().unwrap();
        }
        until_true("what was left is removed", || engine.ok(["ps", "-aq"]).stdout.is_empty());
        until_true("nothing is mounted", || left(engine).is_empty());
    }
}

#[test]
fn secrets_are_seen_by_their_step_and_written_nowhere() {
    let mut engine = Engine::start().unwrap();
    // The client's own file is where nobody searches.
    let own = tempfile::tempdir().unwrap();
    let file = own.path().join("token");
    fs::write(&file, SECRET).unwrap();
    let flag = format!("id=token,src={}", file.display());
    let path = {
        let folder = Context::new(&engine, "context");
        built(
            &folder,
            "FROM busybox\nUSER 7\n\
            RUN --mount=type=secret,id=token,uid=7,mode=0440 --mount=type=secret,id=token,uid=7,target=/etc/deep/t \
                --mount=type=secret,id=token,env=TOKEN --mount=type=secret,id=missing \
                cat /run/secrets/token > /dev/null && sha256sum < /etc/deep/t > /tmp/sum && \
                [ \"$TOKEN\" = \"$(cat /run/secrets/token)\" ] && \
                stat -c '%a %u' /run/secrets/token /etc/deep/t > /tmp/seen && ! [ -e /run/secrets/missing ] && \
                echo \"$(echo $TOKEN | cut -c 1-4)\" > /tmp/use\n\
            RUN [ -z \"$TOKEN\" ] && ! [ -e /run/secrets ] && ! [ -e /etc/deep ]\n",
            &["-t", "secrets", "--secret", &flag],
        );
        let seen = engine.ok(["run", "--rm", "secrets", "cat", "/tmp/seen", "/tmp/use"]).stdout;
        assert_eq!(seen, "440 7\n400 7\nhush\n");
        assert_eq!(left(&engine), [""; 0]);
        // Another secret is the same step: its value is no part of the key.
        fs::write(&file, "other").unwrap();
        let line = "FROM busybox\nRUN --mount=type=secret,id=token cat /run/secrets/token > /dev/null\n";
        built(&folder, line, &["--secret", &flag]);
        fs::write(&file, SECRET).unwrap();
        assert_eq!(built(&folder, line, &["--secret", &flag]).stderr.matches("CACHED").count(), 2);
        let required = "FROM busybox\n\nRUN --mount=type=secret,id=gone,required true\n";
        refused(&folder, required, &[], "secret \"gone\" is required and was not given");
        refused(&folder, required, &[], "3 | >>> RUN");
        refused(&folder, "FROM busybox\n", &["--secret", "id=a,src=/none"], "/none");
        // A command that fails while it has one.
        let fails =
            "FROM busybox\nRUN --mount=type=secret,id=token,env=TOKEN --mount=type=secret,id=token false\n";
        refused(&folder, fails, &["--secret", &flag], "exit code: 1");
        folder.write(
            "Dockerfile",
            "FROM busybox\nRUN --mount=type=secret,id=token,env=T --mount=type=secret,id=token \
            cat /run/secrets/token > /dev/null; echo waits; until [ -e /go ]; do sleep 0.1; done\n",
        );
        folder.path.display().to_string()
    };
    kill_midway(&mut engine, &flag, &path);
    for folder in [engine.root(), engine.run_dir(), engine.host().folder().to_owned()] {
        assert_eq!(with_bytes(&engine, &folder, SECRET), "");
    }
    assert!(!engine.ok(["events", "--since", "1h", "--until", "0s"]).stdout.contains(SECRET));
    let history = engine.ok(["history", "--no-trunc", "secrets"]).stdout;
    assert!(history.contains("RUN") && !history.contains(SECRET), "{history}");
}

/// Copies a program of the host with its libraries into a folder.
fn with_libraries(program: &str, folder: &Path) {
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let libraries = text.split_whitespace().filter(|word| word.starts_with('/'));
    for file in libraries.chain([program]) {
        let to = folder.join(file.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, to).unwrap();
    }
}

#[test]
fn a_command_reaches_the_agent_of_the_client() {
    let engine = Engine::start().unwrap();
    let folder = Context::new(&engine, "context");
    let nc = fs::canonicalize("/bin/nc").unwrap().display().to_string();
    with_libraries(&nc, &folder.path.join("nc"));
    let socket = engine.host().folder().join("agent");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            // More than one frame.
            stream.write_all(format!("{}{}", "x".repeat(200_000), said.to_uppercase()).as_bytes()).unwrap();
        }
    });
    let flag = format!("default={}", socket.display());
    let dockerfile = format!(
        "FROM busybox\nCOPY nc /\nRUN --mount=type=ssh --mount=type=ssh,id=none \
        echo $SSH_AUTH_SOCK > /seen && stat -c '%a %F' $SSH_AUTH_SOCK >> /seen && \
        for i in 1 2; do echo hello | {nc} -N -U $SSH_AUTH_SOCK > /got && wc -c < /got >> /seen && tail -c 6 /got >> /seen; done\n\
        RUN [ -z \"$SSH_AUTH_SOCK\" ] && ! [ -e /run/buildkit ]\n"
    );
    built(&folder, &dockerfile, &["-t", "agent", "--ssh", &flag]);
    let seen = engine.ok(["run", "--rm", "agent", "cat", "/seen"]).stdout;
    assert_eq!(seen, "/run/buildkit/ssh_agent.0\n600 socket\n200006\nHELLO\n200006\nHELLO\n");
    assert_eq!(left(&engine), [""; 0]);
    let required = "FROM busybox\nRUN --mount=type=ssh,required true\n";
    refused(&folder, required, &[], "agent \"default\" is required and was not given");
    folder.write("id_rsa", "no key");
    let key = folder.path.join("id_rsa");
    refused(&folder, required, &["--ssh", &format!("default={}", key.display())], "ssh-add");
}

#[test]
fn scripts_run_with_their_interpreter_and_more_than_usual_must_be_allowed() {
    let engine = Engine::start().unwrap();
    let folder = Context::new(&engine, "context");
    built(
        &folder,
        "FROM busybox\nRUN <<EOF\n#!/bin/sh -e\necho \"$0 $(cat /proc/$$/comm)\" > /seen\nEOF\n\
        RUN <<two\n#!/bin/awk -f\nBEGIN { print \"awk\" >> \"/seen\" }\ntwo\n\
        RUN --network=none ls /sys/class/net >> /seen\n\
        RUN ! [ -e /dev/pipes ]\n",
        &["-t", "scripts"],
    );
    let seen = engine.ok(["run", "--rm", "scripts", "cat", "/seen"]).stdout;
    assert_eq!(seen, "/dev/pipes/EOF EOF\nawk\nlo\n");
    let history = engine.ok(["history", "--no-trunc", "--format", "{{.CreatedBy}}", "scripts"]).stdout;
    assert!(history.contains("RUN <<two"), "{history}");
    let host = "FROM busybox\nRUN --network=host true\n";
    refused(&folder, host, &[], "RUN --network=host is not allowed: build with --allow network.host");
    refused(&folder, host, &[], "2 | >>> RUN");
    built(&folder, host, &["--allow", "network.host"]);
    built(&folder, host, &["--network", "host"]);
    let bounding = "FROM busybox\nRUN --security=insecure grep CapBnd /proc/self/status > /caps\n";
    refused(&folder, bounding, &["--allow", "network.host"], "--allow security.insecure");
    refused(&folder, bounding, &["--allow", "everything"], "there is no such entitlement");
    built(&folder, bounding, &["--allow", "security.insecure", "-t", "caps"]);
    let caps = engine.ok(["run", "--rm", "caps", "cat", "/caps"]).stdout;
    let usual = engine.ok(["run", "--rm", "caps", "grep", "CapBnd", "/proc/self/status"]).stdout;
    assert_ne!(caps, usual);
}
