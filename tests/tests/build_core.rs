//! What of a build is done again and what is not, and what is done at the same time.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use davit_tests::context::Context;
use davit_tests::engine::{Answer, Engine};

fn inspect(engine: &Engine, image: &str, format: &str) -> String {
    engine.ok(["inspect", "--format", format, image]).line().to_owned()
}

/// The instructions that were done, and not known from before.
fn done(answer: &Answer) -> Vec<String> {
    let lines: Vec<&str> = answer.stderr.lines().collect();
    let numbers = lines.iter().filter_map(|line| line.split_once(" DONE ").map(|(number, _)| number));
    let names = numbers.filter_map(|number| {
        let name = lines.iter().find_map(|line| line.strip_prefix(&format!("{number} [")))?;
        name.split_once("] ").map(|(_, instruction)| instruction.to_owned())
    });
    names.filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase())).collect()
}

/// Gives everything in a folder another time.
fn touch(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            touch(&entry.path());
        }
        let at = SystemTime::now() + Duration::from_secs(100);
        fs::File::open(entry.path()).unwrap().set_modified(at).unwrap();
    }
}

#[test]
fn a_step_is_known_by_what_goes_into_it() {
    let engine = Engine::start().unwrap();
    let folder = Context::new(&engine, "context");
    let dockerfile = |version: &str| {
        let text = format!(
            "FROM busybox AS made\nCOPY src /src\nRUN grep -v '#' /src/in > /out\nFROM busybox\n\
            LABEL version={version}\nCOPY --from=made /out /srv/in\nWORKDIR /made/here\nRUN cat /srv/in > copied\n\
            CMD [\"cat\", \"copied\"]\n"
        );
        folder.write("Dockerfile", &text);
    };
    dockerfile("1");
    folder.write("src/in", "# a word\ntext\n");
    assert_eq!(done(&folder.built(&["-t", "one"])).len(), 5);
    assert_eq!(engine.ok(["run", "--rm", "one"]).stdout, "text\n");
    let id = inspect(&engine, "one", "{{.Id}}");

    touch(&folder.path);
    assert_eq!(done(&folder.built(&["-t", "touched"])), [""; 0], "times do not count");
    assert_eq!(inspect(&engine, "touched", "{{.Id}}"), id, "and it is the same image");

    // The stage is another one, what is taken from it is not.
    folder.write("src/in", "# another word\ntext\n");
    let answer = folder.built(&["-t", "same"]);
    assert_eq!(done(&answer), ["COPY src /src", "RUN grep -v '#' /src/in > /out"], "{answer:?}");
    assert_eq!(inspect(&engine, "same", "{{.Id}}"), id);

    // A label is for who has the image: no step sees it.
    dockerfile("2");
    assert_eq!(done(&folder.built(&["-t", "two"])), [""; 0]);
    assert_eq!(inspect(&engine, "two", "{{.Config.Labels.version}}"), "2");
    assert_eq!(inspect(&engine, "one", "{{.Config.Labels.version}}"), "1");
    let history = engine.ok(["history", "--no-trunc", "--format", "{{.CreatedBy}}", "two"]).stdout;
    let steps: Vec<&str> = history.lines().take(5).collect();
    let wanted = [
        "CMD [\"cat\",\"copied\"]",
        "RUN /bin/sh -c cat /srv/in > copied",
        "WORKDIR /made/here",
        "COPY --from=made /out /srv/in",
        "LABEL version=2",
    ];
    assert_eq!(steps, wanted);

    // A variable is seen by all that run.
    folder.write("Dockerfile", "FROM busybox\nENV A=1\nWORKDIR /a/b\nCOPY src /src\n");
    folder.built(&["-t", "first"]);
    folder.built(&["-t", "again", "--no-cache"]);
    let layers = |image: &str| inspect(&engine, image, "{{json .RootFS.Layers}}");
    assert_eq!(layers("first"), layers("again"), "the same files are the same layer");
    folder.write("Dockerfile", "FROM busybox\nENV A=2\nWORKDIR /a/b\nCOPY src /src\n");
    assert_eq!(done(&folder.built(&["-t", "other"])).len(), 2);
}

#[test]
fn one_file_of_ten_thousand_is_sent_alone_and_its_steps_are_done_again() {
    let engine = Engine::start().unwrap();
    let folder = Context::new(&engine, "context");
    for number in 0..10_000 {
        let (part, text) = (if number % 2 == 0 { "lib" } else { "app" }, number.to_string());
        folder.write(&format!("{part}/{}/{number}", number / 500), &text);
    }
    folder.write(
        "Dockerfile",
        "FROM busybox\nRUN echo first > /first\nCOPY lib /lib\nRUN find /lib -type f | wc -l > /libs\n\
        COPY app /app\nRUN find /app -type f | wc -l > /apps\nCMD [\"cat\", \"/libs\", \"/apps\", \"/app/0/1\"]\n",
    );
    folder.built(&["-t", "files"]);
    assert_eq!(engine.ok(["run", "--rm", "files"]).stdout, "5000\n5000\n1");

    let blobs = || -> Vec<(String, u64)> {
        let listed = fs::read_dir(engine.root().join("build/blobs")).unwrap();
        let told = listed.map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().to_string_lossy().into_owned(), entry.metadata().unwrap().ino())
        });
        told.collect()
    };
    let before = blobs();
    assert_eq!(before.len(), 10_001);
    assert_eq!(done(&folder.built(&["-t", "files"])), [""; 0]);
    assert!(blobs().iter().all(|blob| before.contains(blob)), "nothing was sent again");

    folder.write("app/0/1", "edited");
    let answer = folder.built(&["-t", "files"]);
    assert_eq!(done(&answer), ["COPY app /app", "RUN find /app -type f | wc -l > /apps"], "{answer:?}");
    assert_eq!(engine.ok(["run", "--rm", "files"]).stdout, "5000\n5000\nedited");
    let fresh: Vec<_> = blobs().into_iter().filter(|blob| !before.contains(blob)).collect();
    assert_eq!(fresh.len(), 1, "one file was sent: {fresh:?}");
}

/// Waits for a file on a mount that stages share, and not for ever.
fn waits_for(file: &str) -> String {
    format!("for n in $(seq 1200); do [ -e /meet/{file} ] && exit 0; sleep 0.05; done; exit 9")
}

#[test]
fn stages_that_do_not_need_each_other_are_built_at_the_same_time() {
    let engine = Engine::start().unwrap();
    let folder = Context::new(&engine, "context");
    let mount = "--mount=type=cache,target=/meet";
    // Each waits for what the other says: one after the other they would wait for ever.
    let stage = |own: &str, other: &str| {
        let waits = waits_for(other);
        format!(
            "FROM busybox AS {own}\nRUN {mount} touch /meet/{own} && echo {own} > /{own} && sh -c '{waits}'\n"
        )
    };
    let text = format!(
        "{}{}FROM busybox AS unneeded\nRUN false\n\
        FROM busybox\nCOPY --from=one /one /\nCOPY --from=two /two /\nCMD [\"cat\", \"/one\", \"/two\"]\n",
        stage("one", "two"),
        stage("two", "one")
    );
    folder.write("Dockerfile", &text);
    folder.built(&["-t", "met"]);
    assert_eq!(engine.ok(["run", "--rm", "met"]).stdout, "one\ntwo\n");

    // One that fails ends the other, which would go on for long.
    let text = format!(
        "FROM busybox AS long\nRUN {mount} touch /meet/long && sleep 100000\n\
        FROM busybox AS wrong\nRUN {mount} sh -c '{}' && exit 3\n\
        FROM busybox\nCOPY --from=long /x /\nCOPY --from=wrong /y /\n",
        waits_for("long")
    );
    folder.write("Dockerfile", &text);
    let answer = folder.build(&["-t", "never"]);
    assert!(answer.stderr.contains("exit code: 3"), "{answer:?}");
    davit_tests::wait::until_true("no step's container is left", || {
        engine.ok(["ps", "-aq"]).stdout.is_empty()
    });
}
