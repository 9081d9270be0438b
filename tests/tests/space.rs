//! Disk space: what is shown of it, what removal and prunes give back, and what is collected by itself.

use std::path::Path;

use davit_tests::engine::{Engine, Services};
use davit_tests::image::{Compression, Layout, busybox_layer, many_files};
use davit_tests::wait::{until, until_true};
use serde_json::{Value, json};

/// Loads an image of busybox and a layer of its own.
fn load(engine: &Engine, name: &str, seed: u64, bytes: usize) {
    let folder = engine.host().folder().join(format!("layout-{seed}"));
    let mut layout = Layout::new(folder.clone()).unwrap();
    layout.layer(&busybox_layer().unwrap(), Compression::Gzip).unwrap();
    layout.layer(&many_files(seed, 20, bytes).unwrap(), Compression::Gzip).unwrap();
    layout.finish(name, &json!({"Cmd": ["sh"], "Labels": {"seed": seed.to_string()}})).unwrap();
    let archive = engine.host().folder().join(format!("archive-{seed}.tar"));
    let tar =
        std::process::Command::new("tar").arg("-C").arg(&folder).arg("-cf").arg(&archive).arg(".").status();
    assert!(tar.unwrap().success());
    engine.ok(["load", "-q", "-i", &archive.display().to_string()]);
    std::fs::remove_file(archive).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}

/// Bytes as docker writes them: "16.43MB".
fn bytes(text: &str) -> f64 {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap();
    let unit = match &text[end..] {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        other => panic!("{text}: unit {other}"),
    };
    text[..end].parse::<f64>().unwrap() * unit
}

fn du(path: &Path) -> f64 {
    let output = std::process::Command::new("du").arg("-sB1").arg(path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

fn is_near(a: f64, b: f64) -> bool {
    (a - b).abs() <= b * 0.01 + 10_000.0
}

/// One row of `system df`.
fn row(engine: &Engine, kind: &str) -> Value {
    let text = engine.ok(["system", "df", "--format", "json"]).stdout;
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.into_iter().find(|row| row["Type"] == kind).unwrap_or_else(|| panic!("no {kind} in {text}"))
}

fn reclaimed(text: &str) -> f64 {
    let line = text.lines().next_back().unwrap();
    bytes(line.strip_prefix("Total reclaimed space: ").unwrap_or_else(|| panic!("{text}")))
}

#[test]
fn disk_space_is_what_the_disk_says_and_what_is_shared_counts_once() {
    let engine = Engine::start_empty().unwrap();
    load(&engine, "a:1", 1, 3_000_000);
    load(&engine, "b:1", 2, 2_000_000);
    let store = engine.root().join("image");
    let images = row(&engine, "Images");
    assert_eq!((&images["TotalCount"], &images["Active"]), (&json!("2"), &json!("0")));
    let size = bytes(images["Size"].as_str().unwrap());
    assert!(is_near(size, du(&store)), "{images} and {}", du(&store));

    let text = engine.ok(["system", "df", "-v", "--format", "json"]).stdout;
    let verbose: Value = serde_json::from_str(&text).unwrap();
    let of = |name: &str| {
        let found = verbose["Images"].as_array().unwrap().iter().find(|row| row["Repository"] == name);
        let field = |field: &str| bytes(found.unwrap()[field].as_str().unwrap());
        (field("Size"), field("SharedSize"), field("UniqueSize"))
    };
    let (a, b) = (of("a"), of("b"));
    assert!(is_near(a.1, b.1) && a.1 > 500_000.0, "{text}");
    assert!(is_near(a.1 + a.2, a.0) && a.2 > 3_000_000.0 && b.2 > 2_000_000.0 && b.2 < a.2, "{text}");
    assert!(is_near(a.1 + a.2 + b.2, size), "{text} and {images}");

    engine.ok([
        "run",
        "--name",
        "c",
        "-v",
        "v:/v",
        "a:1",
        "sh",
        "-c",
        "yes | head -c 5000000 | tee /v/f > /f",
    ]);
    let images = row(&engine, "Images");
    assert_eq!(images["Active"], "1");
    let reclaimable = images["Reclaimable"].as_str().unwrap().split(' ').next().unwrap().to_owned();
    assert!(is_near(bytes(&reclaimable), b.2), "{images}: what only b has; {text}");
    let containers = row(&engine, "Containers");
    assert!(containers["Reclaimable"].as_str().unwrap().ends_with("(100%)"), "{containers}");
    assert!(is_near(bytes(containers["Size"].as_str().unwrap()), 5_000_000.0), "{containers}");
    let volumes = row(&engine, "Local Volumes");
    assert_eq!((&volumes["TotalCount"], &volumes["Active"]), (&json!("1"), &json!("1")));
    assert!(is_near(bytes(volumes["Size"].as_str().unwrap()), 5_000_000.0), "{volumes}");
    assert!(volumes["Reclaimable"].as_str().unwrap().starts_with("0B "), "{volumes}");

    let listed = engine.ok(["ps", "-a", "-s", "--format", "{{.Size}}"]).line().to_owned();
    assert!(listed.starts_with("5MB (virtual "), "{listed}");
    let tables = engine.ok(["system", "df", "-v"]).stdout;
    for head in [
        "Images space usage:",
        "Containers space usage:",
        "Local Volumes space usage:",
        "Build cache usage: 0B",
    ] {
        assert!(tables.lines().any(|line| line == head), "{head} in {tables}");
    }
    let table = engine.ok(["system", "df"]).stdout;
    assert!(table.starts_with("TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE\n"), "{table}");
    prunes_give_back_what_they_say(&engine, a.0);
}

/// `of_a` is what the image takes that the container uses.
fn prunes_give_back_what_they_say(engine: &Engine, of_a: f64) {
    let store = engine.root().join("image");
    let before = du(&store);
    let pruned = engine.ok(["image", "prune", "-a", "-f"]).stdout;
    assert!(pruned.starts_with("Deleted Images:\nuntagged: b:1\ndeleted: sha256:"), "{pruned}");
    assert!(is_near(reclaimed(&pruned), before - du(&store)), "{pruned}: {before} {}", du(&store));
    let pruned = engine.ok(["container", "prune", "-f"]).stdout;
    assert!(is_near(reclaimed(&pruned), 5_000_000.0), "{pruned}");
    let pruned = engine.ok(["system", "prune", "-a", "-f", "--volumes"]).stdout;
    assert!(is_near(reclaimed(&pruned), of_a), "{pruned}: the named volume stays");
    assert_eq!(row(engine, "Local Volumes")["TotalCount"], "1");
    let pruned = engine.ok(["volume", "prune", "-a", "-f"]).stdout;
    assert!(is_near(reclaimed(&pruned), 5_000_000.0), "{pruned}");
    assert!(du(&store) < 200_000.0, "nothing is left but folders and records");
}

#[test]
fn a_container_that_changes_its_files_meanwhile_does_no_harm() {
    let engine = Engine::start().unwrap();
    let churn =
        "while :; do mkdir -p /d/e/f; echo x > /d/e/f/g; mv /d/e /x; rm -rf /x /d; ln -s / /d; rm /d; done";
    engine.ok(["run", "-d", "--name", "c", "busybox", "sh", "-c", churn]);
    for _ in 0..20 {
        engine.ok(["ps", "-s"]);
        assert_eq!(row(&engine, "Containers")["Active"], "1");
    }
    engine.ok(["rm", "-f", "c"]);
}

#[test]
fn removal_says_what_docker_says() {
    let engine = Engine::start().unwrap();
    engine.ok(["tag", "busybox", "other/app:2"]);
    let id = engine.ok(["images", "-q", "--no-trunc", "busybox"]).line().to_owned();
    let hex = id.strip_prefix("sha256:").unwrap();
    let refused = engine.davit(["rmi", hex]);
    assert_eq!(refused.code, 1);
    let several = format!(
        "unable to delete {} (must be forced) - image is referenced in multiple repositories",
        &hex[..12]
    );
    assert!(refused.stderr.contains(&several), "{refused:?}");
    assert_eq!(engine.ok(["rmi", "--no-prune", "other/app:2"]).stdout, "Untagged: other/app:2\n");

    let user = engine.ok(["run", "-d", "busybox", "sleep", "1000"]).line().to_owned();
    let refused = engine.davit(["rmi", "busybox", "no-such-image"]);
    assert_eq!(refused.code, 1);
    let wanted = format!(
        "conflict: unable to remove repository reference \"busybox\" (must force) - container {} is using its \
         referenced image {}",
        &user[..12],
        &hex[..12]
    );
    assert!(refused.stderr.contains(&wanted) && refused.stderr.contains("no-such-image"), "{refused:?}");
    let refused = engine.davit(["rmi", "-f", hex]);
    let wanted = format!("(cannot be forced) - image is being used by running container {}", &user[..12]);
    assert!(refused.code == 1 && refused.stderr.contains(&wanted), "{refused:?}");
    engine.ok(["stop", "-t", "0", &user]);
    let refused = engine.davit(["rmi", hex]);
    let wanted = format!("(must be forced) - image is being used by stopped container {}", &user[..12]);
    assert!(refused.code == 1 && refused.stderr.contains(&wanted), "{refused:?}");

    let removed = engine.davit(["rmi", "-f", "busybox", "no-such-image"]);
    assert_eq!(removed.code, 0, "what is not there is no failure with force: {removed:?}");
    assert_eq!(removed.stdout, format!("Untagged: busybox:latest\nDeleted: {id}\n"), "the layer is in use");
    engine.ok(["start", &user]);
    engine.ok(["rm", "-f", &user]);
    until_true("its layers go with its last container", || {
        std::fs::read_dir(engine.root().join("image/blobs/sha256")).unwrap().count() == 0
    });

    engine.load_busybox().unwrap();
    let removed = engine.davit(["rmi", "no-such-image", "busybox"]);
    assert_eq!(removed.code, 1, "one failed");
    let lines: Vec<&str> = removed.stdout.lines().collect();
    assert_eq!(lines[0], "Untagged: busybox:latest");
    assert!(
        lines.len() >= 3 && lines[1..].iter().all(|line| line.starts_with("Deleted: sha256:")),
        "{removed:?}"
    );
}

#[test]
fn prunes_ask_and_filter() {
    let engine = Engine::start().unwrap();
    load(&engine, "labelled:1", 7, 10_000);
    engine.ok(["create", "--name", "keep", "--label", "keep=1", "busybox"]);
    engine.ok(["create", "--name", "go", "busybox"]);
    engine.ok(["network", "create", "net"]);
    let asked = engine.davit_with_input(["system", "prune", "--filter", "label!=keep"], b"n\n");
    assert_eq!(asked.code, 0, "{asked:?}");
    assert_eq!(
        asked.stdout,
        "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n  \
         - all dangling images\n\n  Items to be pruned will be filtered with:\n  - label!=keep\n\n\
         Are you sure you want to continue? [y/N] "
    );
    let refused = engine.davit(["system", "prune", "-f", "--volumes", "--filter", "until=1h"]);
    assert!(refused.code != 0 && refused.stderr.contains("not supported with \"--volumes\""), "{refused:?}");
    let kept = engine.ok(["system", "prune", "-f", "--filter", "until=24h"]).stdout;
    assert_eq!(kept, "Total reclaimed space: 0B\n", "all is younger");
    let went = engine.ok(["system", "prune", "-f", "--filter", "label!=keep"]).stdout;
    assert!(
        went.starts_with("Deleted Containers:\n") && went.contains("\nDeleted Networks:\nnet\n\n"),
        "{went}"
    );
    assert_eq!(engine.ok(["ps", "-a", "--format", "{{.Names}}"]).stdout, "keep\n");
    let images = engine.ok(["image", "prune", "-a", "-f", "--filter", "label=seed=7"]).stdout;
    assert!(images.contains("untagged: labelled:1\n"), "{images}");
    let none = engine.ok(["image", "prune", "-f"]).stdout;
    assert_eq!(none, "Total reclaimed space: 0B\n");
    let refused = engine.davit(["image", "prune", "-f", "--filter", "colour=red"]);
    assert!(refused.code != 0 && refused.stderr.contains("colour"), "{refused:?}");
}

#[test]
fn images_are_collected_by_a_policy_and_what_is_used_or_kept_stays() {
    let flags = [
        "--gc-interval",
        "300ms",
        "--gc-grace",
        "0",
        "--gc-min-age",
        "0",
        "--gc-budget",
        "1k",
        "--gc-keep",
        "reference=kept",
    ];
    let engine = Engine::start_with(Services::Embedded, &flags).unwrap();
    load(&engine, "kept:1", 1, 10_000);
    load(&engine, "second:1", 2, 10_000);
    let left = || engine.ok(["images", "--format", "{{.Repository}}"]).stdout;
    until("the image that nobody keeps goes", || (left() == "kept\n").then_some(()));
    // Kept until a container uses it, and then no more.
    load(&engine, "kept:2", 3, 10_000);
    let user = engine.ok(["run", "-d", "kept:2", "sleep", "1000"]).line().to_owned();
    engine.ok(["tag", "kept:2", "used:1"]);
    engine.ok(["rmi", "kept:2"]);
    let last = || engine.ok(["info", "--format", "{{.ImageCollection.LastRun.At}}"]).line().to_owned();
    let seen = last();
    until_true("it ran once more", || last() != seen);
    assert!(left().contains("used"), "a container uses it");
    engine.ok(["exec", &user, "ls", "/data3/0/0"]);
    let info = engine.ok(["info"]).stdout;
    assert!(
        info.contains(" Image Collection:\n") && info.contains("images with reference=kept stay"),
        "{info}"
    );
    assert!(info.contains("beyond 1024 bytes of images"), "{info}");
    let log = std::fs::read_to_string(engine.log("davitd")).unwrap();
    assert!(log.contains("removed an image by policy"), "each decision is in the log");
    engine.ok(["rm", "-f", &user]);
    until("and goes after its last container", || (left() == "kept\n").then_some(()));
    engine.ok(["run", "--rm", "kept:1", "true"]);
}
