//! What builds keep for the next one: told, forgotten, and carried to other machines.

use std::fs;
use std::path::{Path, PathBuf};

use davit_tests::engine::{Answer, Engine, Services};
use davit_tests::host::Host;
use davit_tests::registry::Registry;

fn folder(engine: &Engine, dockerfile: &str) -> PathBuf {
    let path = engine.host().folder().join("context");
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("Dockerfile"), dockerfile).unwrap();
    fs::write(path.join("file"), "x".repeat(100_000)).unwrap();
    path
}

fn build(engine: &Engine, folder: &Path, flags: &[&str]) -> Answer {
    let path = folder.display().to_string();
    engine.davit(["build"].into_iter().chain(flags.iter().copied()).chain([path.as_str()]))
}

fn built(engine: &Engine, folder: &Path, flags: &[&str]) -> Answer {
    let answer = build(engine, folder, flags);
    assert_eq!(answer.code, 0, "{answer:?}\n{}", engine.end_of_log());
    answer
}

/// Which of the steps that have this in their name were done before.
fn cached(answer: &Answer, part: &str) -> bool {
    let named = |line: &&str| line.starts_with('#') && line.contains(part);
    let number = answer.stderr.lines().find(named).and_then(|line| line.split(' ').next());
    let number = number.unwrap_or_else(|| panic!("no step has {part:?} in its name: {answer:?}"));
    answer.stderr.lines().any(|line| line == format!("{number} CACHED"))
}

const DOCKERFILE: &str = "FROM busybox AS make\nCOPY file /made\nRUN echo heavy; head -c 200000 /dev/zero > /heavy\n\
    FROM busybox\nCOPY --from=make /made /made\nRUN echo light > /light\nENV A=b\n";

#[test]
fn what_builds_keep_is_told_and_forgotten() {
    let engine = Engine::start().unwrap();
    let context = folder(&engine, DOCKERFILE);
    built(&engine, &context, &["-t", "app"]);
    let records = |filters: &[&str]| {
        let words = ["builder", "du", "--format", "{{.Type}} {{.Shared}} {{.Reclaimable}} {{.Description}}"];
        let filters = filters.iter().flat_map(|filter| ["--filter", filter]);
        let told = engine.ok(words.into_iter().chain(filters)).stdout;
        let mut lines: Vec<String> = told.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let all = records(&[]);
    assert_eq!(all.len(), 4 + 1, "four steps and a context: {all:?}");
    assert_eq!(records(&["type=source.local"]), ["source.local false true files of a build context"]);
    let only = records(&["private", "type=regular"]);
    assert_eq!(only.len(), 2, "those of the stage that is in no image: {only:?}");
    assert!(only.iter().all(|line| line.contains(" false true ")), "{only:?}");
    let long = engine.ok(["builder", "du", "--verbose"]).stdout;
    assert!(long.contains("Type:\t\tregular\n") && long.contains("Reclaimable:\t"), "{long}");

    let df = |field: &str| {
        let told = engine.ok(["system", "df", "--format", &format!("{{{{.Type}}}}|{{{{.{field}}}}}")]).stdout;
        let line = told.lines().find_map(|line| line.strip_prefix("Build Cache|"));
        line.unwrap_or_else(|| panic!("{told}")).to_owned()
    };
    assert_eq!(df("TotalCount"), "5");
    assert_ne!(df("Size"), "0B");
    let listed = engine.ok(["system", "df", "-v"]).stdout;
    assert_eq!(listed.matches("  regular").count(), 4, "{listed}");

    // Without -a what images share stays; a build of them is still quick.
    let pruned = engine.ok(["builder", "prune", "-f"]).stdout;
    assert!(pruned.lines().count() == 1 + 3 + 1, "two steps and a context: {pruned}");
    assert!(!pruned.contains("Total:\t0B"), "{pruned}");
    assert_eq!(records(&[]).len(), 2);
    assert_eq!(engine.ok(["builder", "prune", "-f"]).stdout, "Total:\t0B\n");
    engine.ok(["rmi", "app"]);
    assert_eq!(records(&["private"]).len(), 2, "now nothing else has them");
    // By age, by id, down to a size.
    assert_eq!(engine.ok(["builder", "prune", "-af", "--filter", "until=1h"]).stdout, "Total:\t0B\n");
    engine.ok(["builder", "prune", "-af", "--max-used-space", "1g"]);
    assert_eq!(records(&[]).len(), 2);
    let id = engine.ok(["builder", "du", "--format", "{{.ID}}"]).stdout.lines().next().unwrap().to_owned();
    engine.ok(["builder", "prune", "-af", "--filter", &format!("id={id}")]);
    assert_eq!(records(&[]).len(), 1);
    let wrong = engine.davit(["builder", "prune", "-f", "--filter", "colour=red"]);
    assert!(wrong.code != 0 && wrong.stderr.contains("the keys are id, until"), "{wrong:?}");
    let told = engine.ok(["system", "prune", "-af"]).stdout;
    assert!(told.contains("Deleted build cache objects:\n"), "{told}");
    assert_eq!((records(&[]).len(), df("Size").as_str()), (0, "0B"));
}
