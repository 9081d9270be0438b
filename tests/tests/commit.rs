//! `diff`, `commit`, `export` and `import`: what a container's writable layer becomes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use davit_tests::engine::{Answer, Engine};
use davit_tests::host::Host;
use davit_tests::wait::until_true;

const SLEEP: [&str; 2] = ["sleep", "8003"];

fn running(engine: &Engine, flags: &[&str], name: &str) {
    staged(engine);
    engine.ok([&["run", "-d", "--name", name], flags, &["stage"], &SLEEP].concat());
}

/// An image with folders for a container to change.
fn staged(engine: &Engine) {
    let script = "mkdir -p /var/spool/old; touch /var/spool/old/x /var/spool/y";
    engine.ok(["run", "--name", "stage", "busybox", "sh", "-c", script]);
    engine.ok(["commit", "-c", "CMD [\"sh\"]", "stage", "stage"]);
    engine.ok(["rm", "stage"]);
}

fn at(engine: &Engine, name: &str) -> PathBuf {
    engine.host().folder().join(name)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn sh(engine: &Engine, container: &str, script: &str) -> String {
    engine.ok(["exec", container, "sh", "-ec", script]).stdout
}

fn refused(engine: &Engine, words: &[&str], sentence: &str) -> Answer {
    let answer = engine.davit(words);
    assert_eq!(answer.code, 1, "{words:?}: {answer:?}");
    assert!(answer.stderr.contains(sentence), "{words:?}: {answer:?}");
    answer
}

/// A little of everything that a container may do to its image's files.
const CHANGES: &str = "
    mkdir -p /new/deep /etc/emptied; echo text > /new/file; chown 12:34 /new/file; chmod 4751 /new/file
    ln /new/file /new/second; ln -s ../etc /new/link; mkfifo -m 600 /new/pipe; mknod /new/node c 1 7
    touch -d '2001-02-03 04:05:06' /new/deep; dd if=/dev/zero of=/new/sparse bs=1 count=1 seek=40000000 2>/dev/null
    echo more >> /etc/passwd; rm /etc/group; rm -r /var/spool; mkdir /var/spool; echo kept > /var/spool/own
    chmod 700 /root; printf 'odd' > \"$(printf '/new/a b\\nc')\"
";

/// What shows of that, in any container of an image that has it.
const SHOW: &str = "
    cd /new; stat -c '%n %F %a %u:%g %h %s %t,%T' file second link pipe node sparse deep
    stat -c %Y deep; cat file; readlink link; tail -n 1 /etc/passwd; test ! -e /etc/group; ls /var/spool
    stat -c %a /root; cat /new/a*; test $(du -k sparse | cut -f 1) -lt 1000 && echo sparse
    test $(stat -c %i file) = $(stat -c %i second) && echo linked
";

#[test]
fn what_a_container_wrote_is_in_its_image_whatever_it_does_meanwhile() {
    let engine = Engine::start().unwrap();
    running(&engine, &[], "c");
    sh(&engine, "c", CHANGES);
    let wanted = sh(&engine, "c", SHOW);
    assert!(wanted.ends_with("sparse\nlinked\n"), "{wanted}");
    let id = engine.ok(["commit", "-a", "Ada", "-m", "by hand", "c", "made:running"]).stdout;
    assert!(id.starts_with("sha256:") && id.len() == 72, "{id}");
    assert_eq!(engine.field("c", "{{.State.Status}}"), "running");
    engine.ok(["pause", "c"]);
    engine.ok(["commit", "c", "made:paused"]);
    assert_eq!(engine.field("c", "{{.State.Status}}"), "paused", "somebody else's pause stays");
    engine.ok(["unpause", "c"]);
    engine.ok(["commit", "--pause=false", "c", "made:moving"]);
    engine.ok(["stop", "-t", "0", "c"]);
    engine.ok(["commit", "c", "made:stopped"]);
    engine.ok(["rm", "c"]);
    for tag in ["running", "paused", "moving", "stopped"] {
        let image = format!("made:{tag}");
        let shown = engine.ok(["run", "--rm", &image, "sh", "-ec", SHOW]).stdout;
        assert_eq!(shown, wanted, "{tag}");
    }
    // All four have the same layer, which is there once.
    let layers = |tag: &str| {
        let answer = engine.ok(["image", "inspect", "-f", "{{json .RootFS.Layers}}", &format!("made:{tag}")]);
        serde_json::from_str::<Vec<String>>(&answer.stdout).unwrap()
    };
    assert_eq!(layers("running").len(), 3);
    assert_eq!(layers("running"), layers("stopped"));
    let told =
        engine.ok(["image", "inspect", "-f", "{{.Author}}|{{.Comment}}|{{.Id}}|{{.Os}}", "made:running"]);
    assert_eq!(told.stdout, format!("Ada|by hand|{}|linux\n", id.trim()));
    let history = engine.ok([
        "history",
        "--no-trunc",
        "--format",
        "{{.CreatedBy}}|{{.Size}}|{{.Comment}}",
        "made:running",
    ]);
    let newest = history.stdout.lines().next().unwrap();
    assert!(newest.starts_with("sleep 8003|40") && newest.ends_with("MB|by hand"), "{history:?}");
    // Where its files are no volume of memory and no engine's.
    assert_eq!(engine.processes_with("^davit-shim copy").len(), 0);
}

#[test]
fn changes_are_told_as_docker_tells_them() {
    let engine = Engine::start().unwrap();
    running(&engine, &["-v", "/mounted/here", "--tmpfs", "/memory"], "c");
    assert_eq!(engine.ok(["diff", "c"]).stdout, "", "what the engine made is no change");
    sh(&engine, "c", "echo x >> /etc/passwd; touch /mounted/here/inside /memory/inside");
    assert_eq!(engine.ok(["diff", "c"]).stdout, "C /etc/passwd\n");
    sh(
        &engine,
        "c",
        "touch /etc/new; rm /etc/group; mkdir -p /a/b; touch /a/b/c; rm -r /var/spool; mkdir /var/spool",
    );
    let wanted =
        "A /a\nA /a/b\nA /a/b/c\nC /etc\nD /etc/group\nA /etc/new\nC /etc/passwd\nC /var\nC /var/spool\n";
    let told = engine.ok(["container", "diff", "c"]).stdout;
    let without: String =
        told.lines().filter(|l| !l.starts_with("D /var/spool/")).map(|l| format!("{l}\n")).collect();
    assert_eq!(without, wanted);
    engine.ok(["stop", "-t", "0", "c"]);
    assert_eq!(engine.ok(["diff", "c"]).stdout, told, "a stopped container changed as much");
    engine.ok(["create", "--name", "fresh", "busybox", "true"]);
    assert_eq!(engine.ok(["diff", "fresh"]).stdout, "");
    refused(&engine, &["diff", "nobody"], "nobody");
}

/// A container `c` with something said of each setting.
fn with_settings(engine: &Engine) {
    let words = "create --name c -e A=1 -l x=y -w /tmp -u 7 --expose 80 -v /data --stop-signal SIGINT \
        --hostname never --entrypoint /bin/echo busybox hello";
    engine.ok(words.split_whitespace());
}

fn config_of(engine: &Engine, image: &str) -> serde_json::Value {
    serde_json::from_str(&engine.ok(["image", "inspect", "-f", "{{json .Config}}", image]).stdout).unwrap()
}

#[test]
fn settings_come_from_the_container() {
    let engine = Engine::start().unwrap();
    with_settings(&engine);
    engine.ok(["commit", "c", "plain"]);
    let config = config_of(&engine, "plain");
    assert_eq!(config["Cmd"], serde_json::json!(["hello"]), "{config}");
    assert_eq!(config["Entrypoint"], serde_json::json!(["/bin/echo"]), "{config}");
    assert_eq!((&config["User"], &config["WorkingDir"]), (&"7".into(), &"/tmp".into()), "{config}");
    assert_eq!((&config["Labels"]["x"], &config["StopSignal"]), (&"y".into(), &"SIGINT".into()), "{config}");
    assert!(
        config["ExposedPorts"]["80/tcp"].is_object() && config["Volumes"]["/data"].is_object(),
        "{config}"
    );
    assert!(config["Env"].as_array().unwrap().contains(&"A=1".into()), "{config}");
    assert!(!config.to_string().contains("never"), "{config}");
    assert_eq!(engine.ok(["run", "--rm", "plain"]).stdout, "hello\n");
}

#[test]
fn instructions_change_settings_or_are_refused() {
    let engine = Engine::start().unwrap();
    with_settings(&engine);
    let changes = [
        "CMD [\"sh\", \"-c\", \"echo $B\"]",
        "ENTRYPOINT []",
        "ENV B=two C=\"3 4\"",
        "EXPOSE 53/udp",
        "LABEL l=m",
        "ONBUILD RUN true",
        "USER 0:0",
        "VOLUME /more",
        "WORKDIR sub",
        "STOPSIGNAL 9",
        "SHELL [\"/bin/ash\", \"-c\"]",
        "HEALTHCHECK --interval=5s CMD true",
    ];
    let words: Vec<&str> = changes.iter().flat_map(|change| ["-c", change]).collect();
    engine.ok([&["commit"], &words[..], &["c", "changed"]].concat());
    let config = config_of(&engine, "changed");
    let expect = |key: &str, value: serde_json::Value| assert_eq!(config[key], value, "{key}: {config}");
    expect("User", "0:0".into());
    expect("WorkingDir", "/tmp/sub".into());
    expect("StopSignal", "9".into());
    expect("OnBuild", serde_json::json!(["RUN true"]));
    expect("Shell", serde_json::json!(["/bin/ash", "-c"]));
    expect("Cmd", serde_json::json!(["sh", "-c", "echo $B"]));
    expect(
        "Healthcheck",
        serde_json::json!({ "Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000_i64 }),
    );
    assert!(config["Env"].as_array().unwrap().contains(&"C=3 4".into()), "{config}");
    assert!(
        config["Volumes"]["/more"].is_object() && config["ExposedPorts"]["53/udp"].is_object(),
        "{config}"
    );
    assert_eq!(config["Labels"], serde_json::json!({ "x": "y", "l": "m" }));
    assert_eq!(engine.ok(["run", "--rm", "changed"]).stdout, "two\n");

    let before = engine.ok(["images", "-aq"]).stdout;
    refused(&engine, &["commit", "-c", "RUN true", "c", "no"], "RUN");
    refused(&engine, &["commit", "-c", "EXPOSE nowhere", "c", "no"], "nowhere");
    refused(&engine, &["commit", "c", "UPPER CASE"], "UPPER CASE");
    refused(&engine, &["commit", "c", &format!("a@sha256:{}", "0".repeat(64))], "digest");
    refused(&engine, &["commit", "nobody"], "nobody");
    assert_eq!(engine.ok(["images", "-aq"]).stdout, before);
}

#[test]
fn an_untagged_base_is_no_hindrance_and_a_container_without_changes_adds_no_layer() {
    let engine = Engine::start().unwrap();
    engine.ok(["create", "--name", "c", "busybox", "true"]);
    engine.ok(["rmi", "-f", "busybox"]);
    let id = engine.ok(["commit", "c"]).stdout;
    let layers = engine.ok(["image", "inspect", "-f", "{{len .RootFS.Layers}}", id.trim()]).stdout;
    assert_eq!(layers, "1\n");
    assert_eq!(engine.ok(["history", "--format", "{{.Size}}", id.trim()]).stdout.lines().next(), Some("0B"));
    engine.ok(["rm", "c"]);
    assert_eq!(engine.ok(["run", "--rm", id.trim(), "echo", "lives"]).stdout, "lives\n");
}

#[test]
fn a_container_with_users_of_its_own_gives_its_own_numbers() {
    let engine = Engine::start().unwrap();
    let answer =
        engine.davit(["run", "-d", "--name", "c", "--userns", "private", "busybox", "sleep", "8003"]);
    if answer.code != 0 {
        eprintln!("skipped: no user namespaces here: {}", answer.stderr);
        return;
    }
    sh(&engine, "c", "touch /root/mine; mkdir /d; chown 5:6 /d; echo x > /d/f; chown 7:8 /d/f");
    engine.ok(["commit", "c", "own"]);
    let look = ["stat", "-c", "%u:%g", "/root/mine", "/d", "/d/f"];
    assert_eq!(engine.ok([&["run", "--rm", "own"][..], &look].concat()).stdout, "0:0\n5:6\n7:8\n");
    let tar = at(&engine, "c.tar");
    engine.ok(["export", "-o", &text(&tar), "c"]);
    engine.ok(["import", &text(&tar), "exported"]);
    assert_eq!(engine.ok([&["run", "--rm", "exported"][..], &look].concat()).stdout, "0:0\n5:6\n7:8\n");
}

/// Each entry of an archive, with all that can be said of it.
fn listed(tar: &Path) -> BTreeMap<String, String> {
    let script = "import tarfile, hashlib, sys, json
seen = {}
with tarfile.open(sys.argv[1]) as tar:
    for m in tar:
        data = hashlib.sha256(tar.extractfile(m).read()).hexdigest() if m.isreg() else ''
        about = [m.type.decode(), oct(m.mode), m.uid, m.gid, m.size, m.linkname, m.devmajor, m.devminor,
                 m.pax_headers.get('mtime', str(m.mtime)), data]
        # The root's own time is that of the container's making.
        if m.name != '.': seen[m.name] = ' '.join(str(a) for a in about)
print(json.dumps(seen))";
    let output = Command::new("python3").args(["-c", script]).arg(tar).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn what_is_exported_and_imported_is_the_same() {
    let engine = Engine::start().unwrap();
    running(&engine, &["-v", "/vol", "--tmpfs", "/memory"], "c");
    sh(&engine, "c", CHANGES);
    sh(&engine, "c", "touch /vol/secret /memory/secret /dev/secret");
    let (first, second) = (at(&engine, "first.tar"), at(&engine, "second.tar"));
    engine.ok(["export", "-o", &text(&first), "c"]);
    let seen = listed(&first);
    for there in ["bin/busybox", "new/file", "vol", "memory", "dev", "proc", "etc/hosts"] {
        assert!(seen.contains_key(there), "{there}: {:?}", seen.keys());
    }
    assert!(
        !seen.keys().any(|name| name.contains("secret") || name.starts_with("proc/")),
        "{:?}",
        seen.keys()
    );
    assert!(seen["etc/hosts"].contains(" 0 "), "{}", seen["etc/hosts"]);
    engine.ok(["stop", "-t", "0", "c"]);
    let piped = engine.command(["export", "c"]).output().unwrap();
    assert!(piped.status.success());
    fs::write(&second, piped.stdout).unwrap();
    assert!(listed(&second) == seen, "a stopped container has the same files");

    let import = |words: &[&str]| engine.ok([&["import"], words].concat()).stdout;
    import(&["-m", "from afar", "-c", "CMD [\"sh\"]", "-c", "ENV A=b", &text(&first), "imported:1"]);
    let told =
        engine.ok(["image", "inspect", "-f", "{{.Comment}} {{.Config.Cmd}} {{.Config.Env}}", "imported:1"]);
    assert_eq!(told.stdout, "from afar [sh] [A=b]\n");
    engine.ok(["create", "--name", "again", "imported:1"]);
    let third = at(&engine, "third.tar");
    engine.ok(["export", "-o", &text(&third), "again"]);
    assert!(listed(&third) == seen, "nothing was lost on the way");

    // Compressed it is the same layer, from a pipe too.
    let packed = at(&engine, "first.tar.gz");
    let gzip = Command::new("gzip").arg("-c").arg(&first).output().unwrap();
    fs::write(&packed, &gzip.stdout).unwrap();
    let layers = |image: &str| engine.ok(["image", "inspect", "-f", "{{.RootFS.Layers}}", image]).stdout;
    import(&[&text(&packed), "imported:2"]);
    assert_eq!(layers("imported:2"), layers("imported:1"));
    let answer =
        engine.davit_with_input(["import", "--platform", "linux/arm64", "-", "imported:3"], &gzip.stdout);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(layers("imported:3"), layers("imported:1"));
    let told = engine.ok(["image", "inspect", "-f", "{{.Architecture}} {{.Comment}}", "imported:3"]).stdout;
    assert_eq!(told, "arm64 Imported from -\n");

    let before = engine.ok(["images", "-aq"]).stdout;
    refused(&engine, &["import", "https://example.org/x.tar"], "curl");
    refused(&engine, &["import", &text(&at(&engine, "missing"))], "missing");
    fs::write(at(&engine, "nonsense"), "this is no archive, whatever its name says").unwrap();
    refused(&engine, &["import", &text(&at(&engine, "nonsense")), "no"], "layer");
    fs::write(at(&engine, "cut"), &gzip.stdout[..gzip.stdout.len() / 2]).unwrap();
    refused(&engine, &["import", &text(&at(&engine, "cut")), "no"], "layer");
    assert_eq!(engine.ok(["images", "-aq"]).stdout, before);
    refused(&engine, &["export", "nobody"], "nobody");
}

#[test]
fn other_tools_read_what_was_committed() {
    let engine = Engine::start().unwrap();
    running(&engine, &[], "c");
    sh(&engine, "c", CHANGES);
    engine.ok(["commit", "c", "made:1"]);
    let (archive, layout) = (at(&engine, "made.tar"), at(&engine, "layout"));
    engine.ok(["save", "-o", &text(&archive), "made:1"]);
    let copied = Command::new("skopeo")
        .args(["--insecure-policy", "copy"])
        .arg(format!("docker-archive:{}", archive.display()))
        .arg(format!("oci:{}:made", layout.display()))
        .output()
        .unwrap();
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    // What it wrote in its own way is loaded again, and is the same.
    let tar = Command::new("tar").arg("-C").arg(&layout).args(["-cf", "-", "."]).output().unwrap();
    let answer = engine.davit_with_input(["load"], &tar.stdout);
    assert_eq!(answer.code, 0, "{answer:?}");
    let wanted = sh(&engine, "c", SHOW);
    let loaded = answer.stdout.trim().rsplit(' ').next().unwrap().to_owned();
    assert_eq!(engine.ok(["run", "--rm", &loaded, "sh", "-ec", SHOW]).stdout, wanted);
}

#[test]
fn a_freeze_ends_with_its_reader_whatever_ends_that() {
    let mut engine = Engine::start().unwrap();
    running(&engine, &[], "c");
    sh(&engine, "c", "echo x > /file");
    let state = |engine: &Engine| engine.field("c", "{{.State.Status}}");
    engine.kill_controller().unwrap();
    for point in ["commit.marked", "commit.frozen", "commit.read", "commit.made"] {
        for action in ["error", "abort"] {
            engine.start_controller_at(&format!("{point}={action}")).unwrap();
            assert_ne!(engine.davit(["commit", "c", "made"]).code, 0, "{point}={action}");
            engine.end_controller().unwrap();
            engine.start_controller().unwrap();
            until_true(&format!("the container runs on after {point}={action}"), || {
                state(&engine) == "running"
            });
            assert!(
                !engine.root().join("containers").join(engine.field("c", "{{.Id}}")).join("frozen").exists()
            );
            // A pause of a person's own is nothing of theirs.
            engine.ok(["commit", "c", "made"]);
            engine.kill_controller().unwrap();
        }
    }
    // The client goes while its container is frozen.
    engine.start_controller_at("commit.frozen=delay:60000").unwrap();
    let mut client = engine.command(["commit", "c", "gone"]).spawn().unwrap();
    until_true("the container is frozen", || state(&engine) == "paused");
    let pid = Host::inner_pid(&client).to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    client.wait().unwrap();
    until_true("the container runs on", || state(&engine) == "running");
    engine.kill_controller().unwrap();
    engine.start_controller().unwrap();
    engine.ok(["pause", "c"]);
    engine.kill_controller().unwrap();
    engine.start_controller().unwrap();
    until_true("the engine knows the container", || state(&engine) != "unknown");
    assert_eq!(state(&engine), "paused", "who paused it is who thaws it");
    engine.ok(["rm", "-f", "c"]);
}
