//! What becomes of what was built: files, archives, images at registries; and that it is the same wherever it is built.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use davit_tests::context::Context;
use davit_tests::engine::{Engine, Services};
use davit_tests::host::Host;
use davit_tests::registry::Registry;

/// A folder with files, and the Dockerfile that is given.
fn folder<'a>(engine: &'a Engine, dockerfile: &str) -> Context<'a> {
    let context = Context::new(engine, "context");
    context.write("Dockerfile", dockerfile).write("files/one", "1\n").write("files/deep/two", "2\n");
    context
}

const FILES: &str = "FROM busybox AS make\nWORKDIR /out\nCOPY --chown=5:6 files/ ./\n\
    RUN chmod 640 one && ln -s deep/two link && touch -d '2001-02-03 04:05:06' one && rm -r deep && mkdir -m 711 deep \
    && echo new > deep/two\n\
    FROM scratch\nCOPY --from=make /out /\n";

#[test]
fn files_of_a_result_become_folders_and_archives() {
    let engine = Engine::start().unwrap();
    let context = folder(&engine, FILES);
    let before = engine.ok(["images", "-q"]).stdout;
    let at = |name: &str| engine.host().folder().join(name);
    let (out, tar) = (at("new/out"), at("files.tar"));
    fs::create_dir_all(&out).unwrap();
    fs::write(out.join("stays"), "").unwrap();
    context.built(&["-o", &out.display().to_string(), "-o", &format!("type=tar,dest={}", tar.display())]);
    let one = fs::symlink_metadata(out.join("one")).unwrap();
    assert_eq!((one.mode() & 0o7777, one.uid(), one.gid(), one.mtime()), (0o640, 5, 6, 981_173_106));
    assert_eq!(fs::read_to_string(out.join("link")).unwrap(), "new\n");
    assert_eq!(fs::metadata(out.join("deep")).unwrap().mode() & 0o7777, 0o711);
    assert!(out.join("stays").exists(), "what was there stays");
    let listed = engine.host().command("tar").args(["-tf", &tar.display().to_string()]).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert_eq!(listed.lines().collect::<Vec<_>>(), ["./", "deep/", "deep/two", "link", "one"]);
    assert_eq!(engine.ok(["images", "-q"]).stdout, before, "no image is made of it");

    // A link that somebody put in the way is not followed.
    let elsewhere = at("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::remove_dir_all(out.join("deep")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, out.join("deep")).unwrap();
    let refused = context.build(&["-o", &out.display().to_string()]);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);

    // To standard output, and nothing else there.
    let refused = context.build(&["-q", "-o", "-"]);
    assert!(refused.stderr.contains("only one thing can be written to standard output"), "{refused:?}");
    let piped = context.built(&["-o", "-"]);
    assert!(piped.stdout.contains("ustar") && piped.stdout.contains("deep/two"));
    let wrong = context.build(&["-o", "type=cloud"]);
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert!(wrong.stderr.contains("type must be local, tar, oci"), "{wrong:?}");
}

#[test]
fn images_become_archives_and_go_to_registries() {
    let host = Host::new().unwrap();
    let registry = Registry::start(&host).unwrap();
    let engine =
        Engine::start_on(host, Services::of_this_run(), &["--insecure-registry", "127.0.0.1:5000"]).unwrap();
    engine.load_busybox().unwrap();
    let context = folder(&engine, "FROM busybox\nCOPY files /files\nCMD [\"cat\", \"/files/one\"]\n");
    let at = |name: &str| engine.host().folder().join(name).display().to_string();

    // An archive alone leaves no image among the others.
    let oci = at("oci.tar");
    context.built(&["-o", &format!("type=oci,dest={oci}")]);
    assert_eq!(engine.ok(["images", "-q"]).stdout.lines().count(), 1);
    let names = engine.host().command("tar").args(["-tf", &oci]).output().unwrap();
    assert!(String::from_utf8_lossy(&names.stdout).lines().any(|name| name == "index.json"));

    let (docker, iid, metadata) = (at("docker.tar"), at("iid"), at("metadata.json"));
    let pushed = format!("{}/app:1", registry.address());
    context.built(&[
        "-t",
        &pushed,
        "--push",
        "--iidfile",
        &iid,
        "--metadata-file",
        &metadata,
        "-o",
        &format!("type=docker,dest={docker},name=app"),
    ]);
    let id = engine.ok(["inspect", "--format", "{{.Id}}", "app"]).line().to_owned();
    assert_eq!(fs::read_to_string(&iid).unwrap(), id);
    let told: serde_json::Value = serde_json::from_str(&fs::read_to_string(&metadata).unwrap()).unwrap();
    assert_eq!(told["containerimage.config.digest"], id.as_str());
    assert_eq!(told["image.name"], format!("{pushed},docker.io/library/app:latest"));
    let digest = told["containerimage.digest"].as_str().unwrap().to_owned();
    assert!(registry.blob(&digest).is_file(), "the registry knows it by the digest that was told");
    engine.ok(["rmi", "app", &pushed]);
    assert!(!engine.ok(["images", "-a"]).stdout.contains("app"));
    engine.ok(["load", "-i", &docker]);
    assert_eq!(engine.ok(["run", "--rm", "app"]).stdout, "1\n");
    assert_eq!(engine.ok(["run", "--rm", &format!("{}/app@{digest}", registry.address())]).stdout, "1\n");

    let nameless = context.build(&["--push"]);
    assert!(nameless.stderr.contains("tag is needed when pushing to registry"), "{nameless:?}");
}

#[test]
fn an_image_without_a_name_is_listed_and_goes_alone() {
    let engine = Engine::start().unwrap();
    let context = folder(&engine, "FROM busybox\nCOPY files /files\n");
    let id = context.built(&["-q"]).line().to_owned();
    let dangling = || engine.ok(["images", "-q", "--no-trunc", "--filter", "dangling=true"]).stdout;
    assert_eq!(dangling(), format!("{id}\n"));
    // A name makes it one among the others; another build takes that name, and it is dangling again.
    context.built(&["-t", "named"]);
    assert_eq!(dangling(), "");
    context.write("files/one", "other\n");
    context.built(&["-t", "named"]);
    assert_eq!(dangling(), format!("{id}\n"));
    // Done again with the same result, steps leave nothing behind.
    context.built(&["--no-cache", "-t", "named"]);
    let removed = engine.ok(["image", "prune", "-f"]).stdout;
    assert!(removed.contains(&id), "{removed}");
    assert_eq!(dangling(), "");
    let removed = engine.ok(["rmi", "named"]).stdout;
    assert!(removed.starts_with("Untagged: named:latest\nDeleted: sha256:"), "{removed}");
    // Its steps are there all the same.
    let again = context.built(&["-t", "named"]);
    assert!(again.stderr.contains("CACHED"), "{again:?}");
    engine.ok(["image", "prune", "-af"]);
    let left = engine.ok(["images", "-a"]).stdout;
    assert!(left.contains("build.invalid/step") && !left.contains("named"), "steps are no images: {left}");
}

const REPRODUCIBLE: &str = "FROM busybox AS make\nWORKDIR /out/bin\nCOPY files ./files\n\
    RUN hostname > host; date > /dev/null; ls /etc > etc; mkdir -p /var/empty/x; rm -r /home; ln one two 2>/dev/null; \
    cat /etc/hosts /etc/resolv.conf > /dev/null; echo made > made\n\
    FROM busybox\nENV A=b\nWORKDIR /app\nCOPY --from=make /out /app/\nCOPY <<EOF /doc\ntext\nEOF\n\
    RUN echo last >> /app/last && rm -f /app/bin/etc\nCMD [\"cat\", \"/doc\"]\n";

#[test]
fn the_same_inputs_and_epoch_give_the_same_digest_on_two_engines() {
    let one = Engine::start().unwrap();
    let other = Engine::start().unwrap();
    let digest = |engine: &Engine, epoch: &str, flags: &[&str]| {
        let context = folder(engine, REPRODUCIBLE);
        let metadata = engine.host().folder().join("metadata.json").display().to_string();
        let path = context.path.display().to_string();
        let words: Vec<&str> = ["build", "--no-cache", "-t", "same", "--metadata-file", &metadata]
            .into_iter()
            .chain(flags.iter().copied())
            .chain([path.as_str()])
            .collect();
        let environment = [("SOURCE_DATE_EPOCH", epoch)];
        let answer = engine.davit_in(if epoch.is_empty() { &[] } else { &environment }, &words, "");
        assert_eq!(answer.code, 0, "{answer:?}\n{}", engine.end_of_log());
        let told: serde_json::Value = serde_json::from_str(&fs::read_to_string(&metadata).unwrap()).unwrap();
        told["containerimage.digest"].as_str().unwrap().to_owned()
    };
    let first = digest(&one, "1500000000", &[]);
    // An argument goes before the environment.
    let second = digest(&other, "1", &["--build-arg", "SOURCE_DATE_EPOCH=1500000000"]);
    assert_eq!(first, second, "{}", differences(&one, &other));
    assert_eq!(other.ok(["inspect", "--format", "{{.Created}}", "same"]).line(), "2017-07-14T02:40:00Z");
    let times =
        other.ok(["run", "--rm", "same", "stat", "-c", "%Y", "/app/last", "/app/bin/made", "/doc", "/app"]);
    assert_eq!(times.stdout, "1500000000\n".repeat(4));
    assert_eq!(digest(&one, "1500000000", &[]), first, "once more, on the same engine");
    assert_ne!(digest(&one, "1500000001", &[]), first);
    // The epoch is part of what a step is known by.
    let cached = one.davit_in(
        &[("SOURCE_DATE_EPOCH", "7")],
        &["build", &folder(&one, REPRODUCIBLE).path.display().to_string()],
        "",
    );
    assert!(cached.code == 0 && !cached.stderr.contains("CACHED\n\n#6"), "{cached:?}");
    let wrong = one.davit_in(
        &[("SOURCE_DATE_EPOCH", "soon")],
        &["build", &folder(&one, REPRODUCIBLE).path.display().to_string()],
        "",
    );
    assert!(wrong.stderr.contains("must be a number of seconds since 1970"), "{wrong:?}");
}

/// What two engines have of an image, for who looks for the difference.
fn differences(one: &Engine, other: &Engine) -> String {
    let told = |engine: &Engine| {
        let config = engine.ok(["inspect", "same"]).stdout;
        let history = engine.ok(["history", "--no-trunc", "--format", "{{json .}}", "same"]).stdout;
        format!("{config}\n{history}")
    };
    let (one, other) = (told(one), told(other));
    let lines = one.lines().zip(other.lines()).filter(|(a, b)| a != b);
    lines.map(|(a, b)| format!("- {a}\n+ {b}\n")).collect()
}
