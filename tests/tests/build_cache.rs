//! What builds keep for the next one: told, forgotten, and carried to other machines.

use std::path::Path;

use davit_tests::context::Context;
use davit_tests::engine::{Answer, Engine, Services};
use davit_tests::host::Host;
use davit_tests::registry::Registry;

fn folder<'a>(engine: &'a Engine, dockerfile: &str) -> Context<'a> {
    let context = Context::new(engine, "context");
    context.write("Dockerfile", dockerfile).write("file", "x".repeat(100_000));
    context
}

/// Which of the steps that have this in their name were done before.
fn cached(answer: &Answer, part: &str) -> bool {
    let named = |line: &&str| line.starts_with('#') && line.contains(part);
    let number = answer.stderr.lines().find(named).and_then(|line| line.split(' ').next());
    let number = number.unwrap_or_else(|| panic!("no step has {part:?} in its name: {answer:?}"));
    answer.stderr.lines().any(|line| line == format!("{number} CACHED"))
}

/// What is done again comes to the same then.
const EPOCH: [&str; 2] = ["--build-arg", "SOURCE_DATE_EPOCH=1500000000"];
const DOCKERFILE: &str = "FROM busybox AS make\nCOPY file /made\nRUN echo heavy; head -c 200000 /dev/zero > /heavy\n\
    FROM busybox\nCOPY --from=make /made /made\nRUN echo light > /light\nENV A=b\n";

#[test]
fn what_builds_keep_is_told_and_forgotten() {
    let engine = Engine::start().unwrap();
    let context = folder(&engine, DOCKERFILE);
    context.built(&["-t", "app"]);
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

/// Builds, and takes the steps to the registry and into a folder, whose path it answers with.
fn carry(engine: &Engine, context: &Context<'_>, app: &str, at: impl Fn(&str) -> String) -> String {
    context.built(&[
        EPOCH[0],
        EPOCH[1],
        "-t",
        app,
        "--push",
        "--cache-to",
        &format!("type=registry,ref={},mode=max", at("all")),
        "--cache-to",
        &format!("type=registry,ref={}", at("few")),
        "--cache-to",
        "type=inline",
    ]);
    let local = engine.host().folder().join("kept").display().to_string();
    context.built(&[EPOCH[0], EPOCH[1], "--cache-to", &format!("type=local,dest={local},mode=max")]);
    assert!(Path::new(&local).join("oci-layout").is_file());
    local
}

#[test]
fn steps_go_to_a_registry_and_come_back_on_another_engine() {
    let host = Host::new().unwrap();
    let registry = Registry::start(&host).unwrap();
    let flags = ["--insecure-registry", "127.0.0.1:5000"];
    let engine = Engine::start_on(host, Services::of_this_run(), &flags).unwrap();
    engine.load_busybox().unwrap();
    let context = folder(&engine, DOCKERFILE);
    let at = |name: &str| format!("{}/cache:{name}", registry.address());
    let app = format!("{}/app:1", registry.address());
    let local = carry(&engine, &context, &app, at);

    // As another machine would have it: nothing is here but the base.
    let forget = || {
        engine.davit(["rmi", &app]);
        engine.ok(["image", "prune", "-f"]);
        engine.ok(["builder", "prune", "-af"]);
        assert!(!engine.ok(["images", "-a"]).stdout.contains("build.invalid"));
    };
    forget();
    let all = context.built(&[EPOCH[0], EPOCH[1], "-t", "app", "--cache-from", &at("all")]);
    assert!(cached(&all, "echo heavy") && cached(&all, "echo light"), "{all:?}");
    assert_eq!(engine.ok(["run", "--rm", "app", "cat", "/light"]).stdout, "light\n");
    assert!(!engine.ok(["images"]).stdout.contains("cache"), "what is fetched is a step and no image");

    engine.ok(["rmi", "app"]);
    forget();
    let few = context.built(&[
        EPOCH[0],
        EPOCH[1],
        "-t",
        "app",
        "--cache-from",
        &format!("type=registry,ref={}", at("few")),
    ]);
    assert!(!cached(&few, "echo heavy") && cached(&few, "echo light"), "{few:?}");

    engine.ok(["rmi", "app"]);
    forget();
    let inline = context.built(&[EPOCH[0], EPOCH[1], "-t", "app", "--cache-from", &app]);
    assert!(cached(&inline, "echo light"), "{inline:?}");

    engine.ok(["rmi", "app"]);
    forget();
    let folder =
        context.built(&[EPOCH[0], EPOCH[1], "-t", "app", "--cache-from", &format!("type=local,src={local}")]);
    assert!(cached(&folder, "echo heavy") && cached(&folder, "echo light"), "{folder:?}");

    // What is not there is warned of, and the build goes on.
    let none = context.built(&[
        EPOCH[0],
        EPOCH[1],
        "--cache-from",
        &at("none"),
        "--cache-from",
        "type=local,src=/none",
    ]);
    assert!(none.stderr.contains("is not used"), "{none:?}");
    assert!(cached(&none, "echo light"), "{none:?}");
    // From elsewhere a name of a step is no name.
    let step = format!("build.invalid/step:{}", "a".repeat(64));
    let refused = engine.davit(["tag", "app", &step]);
    assert!(refused.code != 0 && refused.stderr.contains("for the steps of builds alone"), "{refused:?}");
    let wrong = context.build(&["--cache-to", "type=gha"]);
    assert!(wrong.stderr.contains("type must be registry, local or inline"), "{wrong:?}");
}
