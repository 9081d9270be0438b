//! Dockerfiles become images: what they hold, how they came to be, and what is not done twice.

use std::fs;
use std::process::Stdio;

use davit_tests::context::{Context, cached};
use davit_tests::engine::Engine;
use davit_tests::wait::until_true;

#[test]
fn a_dockerfile_becomes_an_image_that_runs() {
    let engine = Engine::start().unwrap();
    let folder = Context::new(&engine, "context");
    folder.write(
        "Dockerfile",
        "FROM busybox\nCOPY pacman /srv/pacman\nRUN echo made > /srv/made && chmod 600 /srv/made\n\
        EXPOSE 8080\nENV GAME=pacman\nCMD [\"cat\", \"/srv/pacman/index.html\", \"/srv/made\"]\n",
    );
    folder.write("pacman/index.html", "<h1>pacman</h1>\n");
    let iidfile = folder.path.with_extension("iid");
    let answer = folder.built(&["--tag", "my_pacman:2.0", "--iidfile", &iidfile.display().to_string()]);
    assert!(answer.stderr.contains("RUN echo made"), "{answer:?}");
    let ran = engine.ok(["run", "--rm", "my_pacman:2.0"]);
    assert_eq!(ran.stdout, "<h1>pacman</h1>\nmade\n");
    assert_eq!(
        engine.ok(["run", "--rm", "my_pacman:2.0", "stat", "-c", "%a %u", "/srv/made"]).line(),
        "600 0"
    );

    let history = engine.ok(["history", "--no-trunc", "--format", "{{.CreatedBy}}", "my_pacman:2.0"]).stdout;
    let steps: Vec<&str> = history.lines().collect();
    let wanted = [
        "CMD [\"cat\",\"/srv/pacman/index.html\",\"/srv/made\"]",
        "ENV GAME=pacman",
        "EXPOSE 8080/tcp",
        "RUN /bin/sh -c echo made > /srv/made && chmod 600 /srv/made",
        "COPY pacman /srv/pacman",
    ];
    assert_eq!(steps[..wanted.len()], wanted, "{history}");
    let config: serde_json::Value =
        serde_json::from_str(&engine.ok(["inspect", "my_pacman:2.0"]).stdout).unwrap();
    assert_eq!(config[0]["Config"]["ExposedPorts"], serde_json::json!({"8080/tcp": {}}));
    assert_eq!(config[0]["RepoTags"], serde_json::json!(["my_pacman:2.0"]));
    let images = engine.ok(["images", "--format", "{{.Repository}}:{{.Tag}}"]).stdout;
    assert!(!images.contains("build.invalid"), "steps are not shown: {images}");

    // Nothing changed: nothing is done, and it is the same image.
    let id = engine.ok(["inspect", "--format", "{{.Id}}", "my_pacman:2.0"]).stdout;
    assert_eq!(fs::read_to_string(&iidfile).unwrap(), id.trim_end());
    let again = folder.built(&["-t", "my_pacman:2.0"]);
    assert_eq!(cached(&again), 3, "{again:?}");
    assert_eq!(engine.ok(["inspect", "--format", "{{.Id}}", "my_pacman:2.0"]).stdout, id);
    // Another file: what is behind it is done again, and nothing else.
    folder.write("pacman/index.html", "<h1>ghosts</h1>\n");
    let changed = folder.built(&["-q", "-t", "my_pacman:2.1"]);
    assert!(changed.stdout.starts_with("sha256:"), "{changed:?}");
    assert_eq!(engine.ok(["run", "--rm", "my_pacman:2.1"]).stdout, "<h1>ghosts</h1>\nmade\n");
    assert_eq!(engine.ok(["ps", "-aq"]).stdout, "", "no container of a step is left");

    // What builds keep goes, what has a name stays.
    let kept = || engine.ok(["images", "-a"]).stdout.matches("build.invalid").count();
    assert_eq!(kept(), 4);
    let pruned = engine.ok(["builder", "prune", "-af"]).stdout;
    assert!(pruned.starts_with("ID ") && pruned.contains("\nTotal:\t"), "{pruned}");
    assert_eq!(kept(), 0);
    assert_eq!(engine.ok(["run", "--rm", "my_pacman:2.0"]).stdout, "<h1>pacman</h1>\nmade\n");
}

#[test]
fn stages_arguments_and_owners() {
    let engine = Engine::start().unwrap();
    let folder = Context::new(&engine, "context");
    folder.write("Dockerfile", "ARG BASE=busybox\nFROM $BASE AS build\nARG WHO=nobody\nWORKDIR /out/bin\n\
        RUN echo \"made by $WHO\" > who && ln -s who link && mkdir empty && chmod 711 empty\n\
        FROM busybox AS unused\nRUN false\n\
        FROM busybox\nWORKDIR /app\nCOPY --from=build --chown=7:8 /out /app/\n\
        COPY --chmod=0640 <<EOF <<\"raw\" docs/\nhello $HOME\nEOF\n$HOME\nraw\n\
        RUN <<EOF\necho one > /one\ncat docs/raw >> /one\nEOF\nENTRYPOINT [\"cat\"]\nCMD [\"/app/bin/who\"]\n");
    folder.built(&["-t", "stages", "--build-arg", "WHO=me", "--label", "a=b c"]);
    assert_eq!(engine.ok(["run", "--rm", "stages"]).stdout, "made by me\n");
    let run = |words: &[&str]| {
        let words =
            ["run", "--rm", "--entrypoint", words[0], "stages"].into_iter().chain(words[1..].iter().copied());
        engine.ok(words).stdout
    };
    assert_eq!(
        run(&["stat", "-c", "%u:%g %a", "/app/bin", "/app/bin/empty", "/app/bin/who"]),
        "7:8 755\n7:8 711\n7:8 644\n"
    );
    assert_eq!(run(&["readlink", "/app/bin/link"]), "who\n");
    assert_eq!(run(&["cat", "/app/docs/EOF", "/app/docs/raw", "/one"]), "hello \n$HOME\none\n$HOME\n");
    assert_eq!(run(&["stat", "-c", "%a", "/app/docs/raw"]), "640\n");
    assert_eq!(engine.ok(["inspect", "--format", "{{.Config.Labels.a}}", "stages"]).line(), "b c");
    // Only what is needed of it is built.
    folder.built(&["-t", "first", "--target", "BUILD"]);
    assert_eq!(engine.ok(["run", "--rm", "first", "cat", "who"]).stdout, "made by nobody\n");
}

#[test]
fn ignored_files_stay_behind_and_folders_of_the_base_stay_as_they_are() {
    let engine = Engine::start().unwrap();
    let folder = Context::new(&engine, "context");
    folder.write("Dockerfile", "FROM busybox AS base\nRUN mkdir -p /real /keep && ln -s real /linked && chmod 700 /keep && chown 5:6 /keep\n\
        VOLUME /data\nRUN mkdir /data && echo kept > /data/file\n\
        FROM base\nCOPY . /linked/\nCOPY a.txt /keep/\nCOPY *.txt /keep/new/\n");
    folder.write(".dockerignore", "*.log\nsecret\n!keep.log\n");
    for name in ["a.txt", "b.txt", "x.log", "keep.log", "secret/key", "dir/deep/c.txt"] {
        folder.write(name, name);
    }
    folder.built(&["-t", "ignored"]);
    let run = |line: &str| engine.ok(["run", "--rm", "ignored", "sh", "-c", line]).stdout;
    assert_eq!(
        run("cd /real && find . -type f | sort"),
        "./.dockerignore\n./Dockerfile\n./a.txt\n./b.txt\n./dir/deep/c.txt\n./keep.log\n"
    );
    assert_eq!(run("readlink /linked"), "real\n");
    assert_eq!(run("stat -c '%a %u:%g' /keep /keep/new; ls /keep/new"), "700 5:6\n755 0:0\na.txt\nb.txt\n");
    assert_eq!(run("cat /data/file"), "kept\n");
}

#[test]
fn what_fails_says_where_and_leaves_nothing_running() {
    let engine = Engine::start().unwrap();
    let folder = Context::new(&engine, "context");
    for (dockerfile, said) in [
        ("FROM busybox\nRUN echo before; exit 7\n", "exit code: 7"),
        ("FROM busybox\nCOPY nothing /x\n", "\"nothing\": not found"),
        ("FROM busybox\nRNU x\n", "line 2, column 1: unknown instruction \"RNU\""),
        ("FROM busybox\nCOPY --chown=who Dockerfile /x\n", "no user \"who\""),
        ("FROM busybox\nRUN --mount=type=ssh,required true\n", "is required and was not given"),
        ("FROM busybox\nUSER ${x:?say who}\n", "say who"),
    ] {
        folder.write("Dockerfile", dockerfile);
        let answer = folder.build(&["-t", "never"]);
        assert_eq!(answer.code, 1, "{dockerfile}: {answer:?}");
        assert!(answer.stderr.contains(said), "{dockerfile}: {answer:?}");
        assert!(answer.stderr.contains("2 | >>> "), "{dockerfile}: {answer:?}");
    }
    assert_eq!(engine.davit(["inspect", "never"]).code, 1);
    assert_eq!(engine.ok(["ps", "-aq"]).stdout, "");
}

/// A build that waits in its second RUN until `/go` is there, which never comes.
fn waiting(folder: &Context<'_>) {
    folder.write(
        "Dockerfile",
        "FROM busybox\nRUN echo first > /first\nRUN echo waits; until [ -e /go ]; do sleep 0.1; done\n",
    );
}

#[test]
fn a_client_that_goes_away_ends_its_step() {
    let engine = Engine::start().unwrap();
    let folder = Context::new(&engine, "context");
    waiting(&folder);
    let path = folder.path.display().to_string();
    let mut client =
        engine.command(["build", &path]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until_true("the step runs", || {
        engine.davit(["logs", "-n", "1", &newest(&engine)]).stdout.contains("waits")
    });
    for pid in engine.processes_with(&format!("davit.* build {path}$")) {
        engine.kill_on_host(&pid.to_string()).unwrap();
    }
    client.wait().unwrap();
    until_true("its container is gone", || engine.ok(["ps", "-aq"]).stdout.is_empty());
}

#[test]
fn a_killed_engine_goes_on_from_the_last_whole_step() {
    let mut engine = Engine::start().unwrap();
    let path = {
        let folder = Context::new(&engine, "context");
        waiting(&folder);
        folder.path.display().to_string()
    };
    let mut client =
        engine.command(["build", &path]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until_true("the step runs", || {
        engine.davit(["logs", "-n", "1", &newest(&engine)]).stdout.contains("waits")
    });
    engine.kill_controller().unwrap();
    client.wait().unwrap();
    engine.start_controller().unwrap();
    until_true("what was left is removed", || engine.ok(["ps", "-aq"]).stdout.is_empty());
    let folder = Context { engine: &engine, path: path.into() };
    folder.write("Dockerfile", "FROM busybox\nRUN echo first > /first\nRUN cat /first > /second\n");
    let answer = folder.built(&["-t", "whole"]);
    assert_eq!(cached(&answer), 2, "FROM and the first RUN: {answer:?}");
    assert_eq!(engine.ok(["run", "--rm", "whole", "cat", "/second"]).stdout, "first\n");
}

/// The newest container, or a name that no container has.
fn newest(engine: &Engine) -> String {
    let id = engine.ok(["ps", "-q"]).stdout.lines().next().unwrap_or_default().to_owned();
    if id.is_empty() { "none".to_owned() } else { id }
}
