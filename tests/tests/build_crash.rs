//! The engine dies at every numbered step that a build passes: the next build goes on from the last whole step, makes
//! the right image, and nothing is left behind.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use davit_tests::engine::{Engine, Services, binaries};
use davit_tests::left;
use davit_tests::store::Store;
use davit_tests::wait::until_true;

/// The points that a build's containers and commits pass.
const PASSED: [&str; 7] = ["create.", "start.", "commit.", "exit.", "release.", "remove.", "build."];
/// From here on the image of the step has its name.
const NAMED: [&str; 7] = [
    "commit.made",
    "remove.marked",
    "release.shim",
    "release.trash",
    "release.services",
    "release.cgroup",
    "release.record",
];

fn failpoints() -> Vec<String> {
    let listed = Command::new(binaries().join("davitd")).arg("--list-failpoints").output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    let passed = |name: &&str| PASSED.iter().any(|part| name.starts_with(part));
    let points: Vec<String> = text.lines().filter(passed).map(str::to_owned).collect();
    assert!(points.len() >= 20, "{points:?}");
    points
}

fn cached(stderr: &str) -> usize {
    stderr.lines().filter(|line| line.ends_with(" CACHED")).count()
}

/// Builds with an engine that dies at `point` in the second RUN, and looks what the next one makes of it.
fn cut_at(engine: &mut Engine, nothing: &BTreeSet<String>, context: &str, point: &str) {
    let turn = format!("POINT={point}");
    let words = ["build", "--progress", "plain", "--build-arg", &turn, "-t", "built", context];
    engine.start_controller_at(&format!("{point}=abort")).unwrap();
    engine.davit(words);
    engine.end_controller().unwrap();
    engine.start_controller().unwrap();
    until_true("what the build left is gone", || {
        engine.ok(["ps", "-aq", "--filter", "label=invalid.build.step"]).stdout.is_empty()
    });
    let answer = engine.ok(words);
    // FROM, the first RUN and COPY were done before any of this.
    let whole = 3 + usize::from(NAMED.contains(&point));
    assert!(cached(&answer.stderr) >= whole, "{point}: {answer:?}");
    let made = engine.ok(["run", "--rm", "built"]).stdout;
    assert_eq!(made, format!("one\ntwo\n{point}\n"), "{point}");
    left::settle(engine, nothing, point);
    let image = Store::at(engine.host().seen_at(&engine.root().display().to_string()).join("image"));
    until_true("nothing is half done", || image.under_way().unwrap().is_empty());
    engine.kill_controller().unwrap();
}

fn sweep(points: &[String]) {
    // What is put to death here is davitd with everything in it.
    let mut engine = Engine::start_with(Services::Embedded, &[]).unwrap();
    engine.load_busybox().unwrap();
    let folder = engine.host().folder().join("context");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), "two\n").unwrap();
    let dockerfile = "FROM busybox AS before\nRUN echo one > /one\nCOPY file /two\n\
        FROM before\nARG POINT\nRUN cat /one /two > /three; echo $POINT >> /three\nCMD [\"cat\", \"/three\"]\n";
    fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
    let context = folder.display().to_string();
    engine.ok(["build", "-q", "--target", "before", &context]);
    let nothing = left::nothing(&engine);
    engine.kill_controller().unwrap();
    for point in points {
        cut_at(&mut engine, &nothing, &context, point);
    }
    engine.start_controller().unwrap();
    engine.ok(["builder", "prune", "-f"]);
    let image = Store::at(engine.root().join("image"));
    image.verify().unwrap();
}

#[test]
fn an_engine_that_dies_in_the_first_half_of_a_step() {
    let points = failpoints();
    sweep(&points[..points.len() / 2]);
}

#[test]
fn an_engine_that_dies_in_the_second_half_of_a_step() {
    let points = failpoints();
    sweep(&points[points.len() / 2..]);
}
