//! What a Dockerfile says is what is built, also where it says it across images, stages, flags and a terminal.

use davit_tests::context::{Context, cached};
use davit_tests::engine::{Answer, Engine};
use davit_tests::person::Person;
use davit_tests::registry::Registry;
use serde_json::{Value, json};

/// What a shell says in a container of an image.
fn says(engine: &Engine, image: &str, line: &str) -> String {
    engine.ok(["run", "--rm", "--network=none", "--entrypoint=sh", image, "-c", line]).stdout
}

fn config(engine: &Engine, image: &str) -> Value {
    let mut said: Value = serde_json::from_str(&engine.ok(["inspect", image]).stdout).unwrap();
    said[0]["Config"].take()
}

#[test]
fn what_an_image_wants_of_its_children_is_done_once() {
    let engine = Engine::start().unwrap();
    let folder = Context::new(&engine, "context");
    folder.write(
        "Dockerfile",
        "FROM busybox\nENV WHO=base\nWORKDIR /app\nONBUILD ARG WORD=unsaid\nONBUILD COPY *.txt ./\n\
        ONBUILD RUN echo \"$WHO $WORD $(ls *.txt | xargs)\" > made\nONBUILD LABEL from=base\n",
    );
    folder.built(&["-t", "parent"]);
    let wanted = [
        "ARG WORD=unsaid",
        "COPY *.txt ./",
        "RUN echo \"$WHO $WORD $(ls *.txt | xargs)\" > made",
        "LABEL from=base",
    ];
    assert_eq!(config(&engine, "parent")["OnBuild"], json!(wanted));
    assert_eq!(says(&engine, "parent", "ls"), "", "nothing of it is done for the image itself");

    folder
        .write("Dockerfile", "FROM parent\nRUN echo \"$WORD\" > word\n")
        .write("a.txt", "a")
        .write("b.txt", "b");
    let answer = folder.built(&["-t", "child", "--build-arg", "WORD=said"]);
    assert!(answer.stderr.contains("COPY *.txt ./"), "{answer:?}");
    assert_eq!(says(&engine, "child", "cat made word"), "base said a.txt b.txt\nsaid\n");
    let child = config(&engine, "child");
    assert_eq!(child["Labels"], json!({"from": "base"}));
    assert!(child["OnBuild"].as_array().is_none_or(Vec::is_empty), "{child}");

    folder.write("Dockerfile", "FROM child\nRUN cp made again\n").write("c.txt", "c");
    folder.built(&["-t", "grandchild"]);
    assert_eq!(says(&engine, "grandchild", "cat again"), "base said a.txt b.txt\n");

    // What cannot be done for a child is refused where it is written.
    for (dockerfile, said) in [
        ("FROM busybox\nONBUILD FROM busybox\n", "line 2, column 9"),
        ("FROM busybox\nONBUILD ONBUILD RUN true\n", "line 2, column 9"),
        ("FROM busybox\nONBUILD RNU true\n", "line 2, column 9: unknown instruction \"RNU\""),
    ] {
        folder.write("Dockerfile", dockerfile);
        let answer = folder.build(&[]);
        assert!(answer.code == 1 && answer.stderr.contains(said), "{dockerfile}: {answer:?}");
    }
}

#[test]
fn files_come_from_images_with_all_that_they_are() {
    let engine = Engine::start().unwrap();
    let folder = Context::new(&engine, "context");
    folder.write(
        "Dockerfile",
        "FROM busybox\nRUN mkdir -p /out/sub /gone && echo file > /out/file && ln /out/file /out/sub/hard \
        && ln -s ../file /out/sub/link && mknod /out/null c 1 3 && mkfifo /out/pipe && chown -h 3:4 /out/sub/link /out/file \
        && chmod 4751 /out/file && chmod 2750 /out/sub && echo x > /gone/x && echo y > /gone/y\n\
        RUN rm /gone/x && rm -r /out/pipe && mkfifo -m 600 /out/pipe\nCMD [\"never\"]\n",
    );
    folder.built(&["-t", "source:1"]);
    folder.write(
        "Dockerfile",
        "FROM busybox\nCOPY --from=source:1 /out /copied\nCOPY --from=source:1 /out/file /out/sub/hard /apart/\n\
        COPY --from=source:1 /gone /gone\nCOPY --from=source:1 --chown=9:9 --chmod=0600 /out/file /own\n\
        COPY --from=busybox /etc/group /etc/pass* /names/\n",
    );
    folder.built(&["-t", "copied"]);
    let stat = |paths: &str| says(&engine, "copied", &format!("stat -c '%n %F %a %u:%g %h' {paths}"));
    assert_eq!(
        stat("/copied /copied/* /copied/sub/* /own /apart/*"),
        "/copied directory 755 0:0 3\n/copied/file regular file 4751 3:4 2\n\
        /copied/null character special file 644 0:0 1\n/copied/pipe fifo 600 0:0 1\n\
        /copied/sub directory 2750 0:0 2\n/copied/sub/hard regular file 4751 3:4 2\n\
        /copied/sub/link symbolic link 777 3:4 1\n/own regular file 600 9:9 1\n\
        /apart/file regular file 4751 3:4 1\n/apart/hard regular file 4751 3:4 1\n"
    );
    assert_eq!(says(&engine, "copied", "ls /gone; ls /names"), "y\ngroup\npasswd\n");
    assert_eq!(config(&engine, "copied")["Cmd"], json!(["sh"]), "only files come");

    for (source, said) in [
        ("--from=nothing-here:1 /a", "nothing-here:1"),
        ("--from=source:1 /nothing", "\"/nothing\": not found"),
        ("--from=7 /a", "7"),
        ("../outside", "\"../outside\": not found"),
    ] {
        folder.write("Dockerfile", format!("FROM busybox\nCOPY {source} /x\n"));
        let answer = folder.build(&[]);
        assert!(answer.code == 1 && answer.stderr.contains(said), "{source}: {answer:?}");
    }
}

#[test]
fn parents_go_along_and_what_is_excluded_stays() {
    let engine = Engine::start().unwrap();
    let folder = Context::new(&engine, "context");
    for name in ["src/a.c", "src/a.h", "src/deep/b.c", "src/deep/er/c.c", "src/deep/er/c.h", "doc/a.md"] {
        folder.write(name, name);
    }
    folder.write(
        "Dockerfile",
        "FROM busybox\nCOPY --parents src/deep/b.c doc/a.md /plain/\nCOPY --parents src/**/*.c /deep/\n\
        COPY --parents src/./deep/*/*.h /pivot/\nCOPY --parents doc /folder/\n\
        COPY --exclude=**/*.c --exclude=deep/er src /without/\nCOPY --exclude=* --exclude=!a.c src /only/\n\
        COPY --parents --exclude=**/er src/deep /both/\n",
    );
    folder.built(&["-t", "parents"]);
    let found =
        says(&engine, "parents", "cd /; find plain deep pivot folder without only both -type f | sort");
    let wanted = "both/src/deep/b.c deep/src/a.c deep/src/deep/b.c deep/src/deep/er/c.c folder/doc/a.md only/a.c \
        pivot/deep/er/c.h plain/doc/a.md plain/src/deep/b.c without/a.h";
    assert_eq!(found.split_whitespace().collect::<Vec<_>>().join(" "), wanted);
    assert_eq!(says(&engine, "parents", "ls /without"), "a.h\ndeep\n");
}

#[test]
fn arguments_are_seen_where_they_are_declared_and_nowhere_else() {
    let engine = Engine::start().unwrap();
    let folder = Context::new(&engine, "context");
    folder.write(
        "Dockerfile",
        "ARG TAG=latest\nARG WORD=global\nFROM busybox:$TAG AS one\nRUN echo \"[$WORD]\" > /a\nARG WORD\nRUN echo \"[$WORD]\" >> /a\n\
        ARG WORD=local\nRUN echo \"[$WORD]\" >> /a\nENV WORD=env\nRUN echo \"[$WORD]\" >> /a\n\
        FROM one\nRUN echo \"[$WORD]\" >> /a\nFROM busybox\nARG FROM_HERE\nARG UNUSED\nCOPY --from=one /a /a\nRUN echo \"[$WORD] [$FROM_HERE] [$http_proxy]\" >> /a\n\
        CMD [\"cat\", \"/a\"]\n",
    );
    let run = || engine.ok(["run", "--rm", "args"]).stdout;
    folder.built(&["-t", "args"]);
    assert_eq!(run(), "[]\n[global]\n[local]\n[env]\n[] [] []\n");
    let path = folder.path.display().to_string();
    let mut command = engine.command(["build", "-q", "-t", "args", "--build-arg", "WORD=given"]);
    command.args(["--build-arg", "FROM_HERE", "--build-arg", "NOWHERE", "--build-arg", "http_proxy=p:1"]);
    let answer: Answer = command.arg(&path).env("FROM_HERE", "of the shell").output().unwrap().into();
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(run(), "[]\n[given]\n[given]\n[env]\n[] [of the shell] [p:1]\n");
    let history = engine.ok(["history", "--no-trunc", "args"]).stdout;
    assert!(!history.contains("p:1"), "a proxy may hold a password: {history}");
    assert!(config(&engine, "args")["Env"].as_array().unwrap().iter().all(|env| env != "http_proxy=p:1"));

    // What an argument changes is done again, and only from where it is declared on.
    let answer = folder.built(&["-t", "args", "--build-arg", "FROM_HERE=else"]);
    assert!(answer.stderr.contains("RUN echo \"[$WORD] [$FROM_HERE]"), "{answer:?}");
    assert_eq!(cached(&answer), 7, "{answer:?}");
    let answer = folder.built(&["--build-arg", "NOBODY=wants it"]);
    assert!(answer.stderr.contains("NOBODY"), "{answer:?}");
    let answer = folder.build(&["--build-arg", "=x"]);
    assert!(answer.code != 0 && answer.stderr.contains("--build-arg"), "{answer:?}");
    let answer = folder.build(&["--label", "=x"]);
    assert!(answer.code != 0 && answer.stderr.contains("--label"), "{answer:?}");
    let answer = folder.build(&["-t", "Upper"]);
    assert!(answer.code == 1 && answer.stderr.contains("must be lowercase"), "{answer:?}");
    assert!(!answer.stderr.contains("RUN"), "nothing is done before: {answer:?}");
    let answer = folder.build(&["--build-arg", "TAG=no-such-tag"]);
    assert!(answer.code == 1 && answer.stderr.contains("no-such-tag"), "{answer:?}");
}

#[test]
fn a_target_is_built_and_what_it_does_not_need_is_not() {
    let engine = Engine::start().unwrap();
    let folder = Context::new(&engine, "context");
    folder.write(
        "Dockerfile",
        "FROM busybox AS first\nRUN echo first > /first\nFROM busybox AS broken\nRUN exit 3\n\
        FROM first AS Second\nCOPY --from=first /first /second\nFROM broken\nCOPY nothing /\n",
    );
    for (target, path) in [("first", "/first"), ("second", "/second"), ("0", "/first"), ("2", "/second")] {
        let answer = folder.built(&["-t", "target", "--target", target]);
        assert_eq!(says(&engine, "target", &format!("cat {path}")), "first\n", "{target}");
        assert!(!answer.stderr.contains("exit 3"), "{answer:?}");
    }
    let answer = folder.build(&["--target", "third"]);
    assert!(answer.code == 1 && answer.stderr.contains("\"third\""), "{answer:?}");
    let answer = folder.build(&[]);
    assert!(answer.code == 1 && !answer.stderr.contains("DONE 0.0s\n\n#3"), "{answer:?}");
}

#[test]
fn labels_and_history_tell_what_was_said() {
    let engine = Engine::start().unwrap();
    let folder = Context::new(&engine, "context");
    folder.write("file", "file").write(
        "Dockerfile",
        "FROM busybox AS base\nLABEL a=base b=base\nFROM base\nARG V=1\nENV v=$V\nLABEL a=\"child $v\"\nCOPY file /\n\
        RUN [\"touch\", \"/made\"]\nSTOPSIGNAL USR1\nUSER 1\nVOLUME /data\nEXPOSE 53/udp\nENTRYPOINT cat /file\nMAINTAINER me\n",
    );
    let flags = ["-t", "told", "--label", "b=flag", "--label", "c=with = and 'quotes'", "--label", "d"];
    folder.built(&flags);
    let labels = json!({"a": "child 1", "b": "flag", "c": "with = and 'quotes'", "d": ""});
    assert_eq!(config(&engine, "told")["Labels"], labels);
    let history = engine.ok(["history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Size}}", "told"]).stdout;
    let lines: Vec<&str> = history.lines().collect();
    let at = |text: &str| {
        let found = lines.iter().position(|line| line.starts_with(text));
        found.unwrap_or_else(|| panic!("{text} is not in {history}"))
    };
    let order = [
        "MAINTAINER",
        "ENTRYPOINT",
        "EXPOSE",
        "VOLUME",
        "USER",
        "STOPSIGNAL",
        "RUN",
        "COPY",
        "LABEL a=",
        "ENV",
        "ARG",
    ];
    let places: Vec<usize> = order.iter().map(|text| at(text)).collect();
    assert!(places.is_sorted(), "{places:?}: {history}");
    assert!(lines[at("USER")].ends_with("|0B") && !lines[at("COPY")].ends_with("|0B"), "{history}");
    // Other labels are another image, and no step is done again for them.
    let other = folder.built(&["-t", "other", "--label", "b=else"]);
    assert_eq!(cached(&other), 3, "{other:?}");
    assert_eq!(config(&engine, "other")["Labels"]["b"], "else");
}

#[test]
fn what_is_here_is_used_unless_it_is_asked_not_to_be() {
    let engine = Engine::start().unwrap();
    let registry = Registry::start(engine.host()).unwrap();
    let folder = Context::new(&engine, "context");
    let base = format!("{}/base:1", registry.address());
    let push = |text: &str| {
        folder.write("Dockerfile", format!("FROM busybox\nRUN echo {text} > /text\n"));
        folder.built(&["-t", &base]);
        engine.ok(["push", "-q", &base]);
    };
    push("old");
    let old = engine.ok(["inspect", "--format", "{{.Id}}", &base]).stdout;
    push("new");
    engine.ok(["tag", old.trim(), &base]);
    folder.write(
        "Dockerfile",
        format!("FROM {base}\nRUN cat /text > /seen && head -c 16 /dev/urandom | md5sum > /chance\n"),
    );
    let chance = || says(&engine, "pulled", "cat /seen /chance");
    folder.built(&["-t", "pulled"]);
    let first = chance();
    assert!(first.starts_with("old\n"), "{first}");
    let again = folder.built(&["-t", "pulled"]);
    assert_eq!((cached(&again), chance()), (2, first.clone()));
    folder.built(&["-t", "pulled", "--no-cache"]);
    let anew = chance();
    assert!(anew != first && anew.starts_with("old\n"), "{anew}");
    // What was done anew is what is known from then on.
    folder.built(&["-t", "pulled"]);
    assert_eq!(chance(), anew);
    folder.built(&["-t", "pulled", "--pull"]);
    assert!(chance().starts_with("new\n"), "{}", chance());
    folder.write("Dockerfile", format!("FROM {}/nothing:1\n", registry.address()));
    let answer = folder.build(&[]);
    assert!(answer.code == 1 && answer.stderr.contains("nothing:1"), "{answer:?}");
    assert!(answer.stderr.contains("1 | >>> FROM"), "{answer:?}");
}

#[test]
fn the_notes_build_in_a_terminal() {
    let engine = Engine::start().unwrap();
    let folder = Context::new(&engine, "pacman");
    folder.write(
        "Dockerfile",
        "FROM busybox\nCOPY . /usr/share/pacman\nRUN echo ghosts > /usr/share/pacman/made\nEXPOSE 80\n\
        CMD [\"httpd\", \"-f\", \"-p\", \"80\", \"-h\", \"/usr/share/pacman\"]\n",
    );
    folder.write("index.html", "<h1>pacman</h1>\n");
    let mut person = Person::at(&engine);
    person.types(&format!("cd {}", folder.path.display()), 0);
    let shown = person.types("davit build --tag my_pacman:2.0 .", 0);
    assert!(shown.contains("my_pacman:2.0"), "{shown}");
    let shown = person.types("davit images", 0);
    assert!(shown.contains("my_pacman"), "{shown}");
    let shown = person.types("davit history my_pacman:2.0", 0);
    assert!(shown.contains("COPY . /usr") && shown.contains("EXPOSE 80/tcp"), "{shown}");
    person.types("davit run -d --name pacman -p 8080:80 my_pacman:2.0", 0);
    let asked = "until wget -q -O - http://127.0.0.1:8080/made; do sleep 0.1; done";
    assert!(person.types(asked, 0).contains("ghosts"));
    let shown = person.types("davit build -q -t my_pacman:2.0 .", 0);
    assert!(shown.contains("sha256:"), "{shown}");
    person.types("echo 'RUN false' >> Dockerfile", 0);
    let shown = person.types("davit build -t my_pacman:2.1 .", 1);
    assert!(shown.contains("exit code: 1") && shown.contains(">>> RUN false"), "{shown}");
    person.types("davit build .. -f nowhere", 1);
}

#[test]
fn what_is_malformed_is_told_with_line_and_column() {
    let engine = Engine::start().unwrap();
    let folder = Context::new(&engine, "context");
    for (dockerfile, said) in [
        ("", "Dockerfile: line 1, column 1: there is no FROM"),
        (
            "FROM busybox\nRUN a && \\\n\nb\nc && d\n",
            "Dockerfile: line 5, column 1: unknown instruction \"c\"",
        ),
        ("FROM busybox AS a b\n", "Dockerfile: line 1, column 19: FROM takes"),
        (
            "FROM --platfrom=linux/arm64 x\n",
            "column 6: FROM has no flag \"--platfrom\": did you mean platform?",
        ),
        ("FROM busybox\nRUN --mount=type=bnid,target=/a b\n", "line 2, column 13: type of a mount \"bnid\""),
        ("FROM busybox\nCOPY a\n", "line 2, column "),
        ("FROM busybox\nCOPY a b c\n", "line 2, column "),
        ("FROM busybox\nENV a\n", "line 2, column "),
        ("FROM busybox\nENV a=${b\n", "line 2, column "),
        ("FROM busybox\nLABEL x=\"y\n", "line 2, column "),
        ("FROM busybox\nEXPOSE many\n", "line 2, column "),
        ("FROM busybox\nEXPOSE 70000\n", "line 2, column "),
        ("FROM busybox\nRUN <<EOF\nnever ends\n", "line 2, column "),
        ("FROM busybox\nHEALTHCHECK --interval=often CMD x\n", "line 2, column "),
        ("FROM busybox\nSTOPSIGNAL SIGNONE\n", "line 2, column "),
        ("FROM busybox\nONBUILD FROM x\n", "line 2, column 9"),
        ("FROM busybox\nCMD [\"a\", 1]\n", "line 2, column 5"),
        ("FROM busybox\nSHELL sh\n", "line 2, column "),
        ("FROM a\nCOPY --from=b c d\nFROM b\nCOPY --from=1 x y\n", "line 4, column "),
        ("ARG X\nFROM $X\n", "line 2, column "),
        ("FROM busybox\n\u{0}\u{1}\n", "line 2, column 1"),
    ] {
        folder.write("Dockerfile", dockerfile);
        let answer = folder.build(&[]);
        assert_eq!(answer.code, 1, "{dockerfile:?}: {answer:?}");
        assert!(answer.stderr.contains(said), "{dockerfile:?}: {answer:?}");
        assert_eq!(answer.stderr.matches("davit: ").count(), 1, "{dockerfile:?}: {answer:?}");
    }
    folder.write("Dockerfile", b"FROM busybox\nRUN echo \xff\xfe\n");
    let answer = folder.build(&[]);
    assert!(answer.code == 1 && answer.stderr.contains("line 2, column "), "{answer:?}");
    folder.write("Dockerfile", "FROM busybox\n").write(".dockerignore", "ok\n[never\n");
    let answer = folder.build(&[]);
    assert!(answer.code == 1 && answer.stderr.contains(".dockerignore: line 2, column 1"), "{answer:?}");
    assert_eq!(engine.ok(["ps", "-aq"]).stdout, "");
}
