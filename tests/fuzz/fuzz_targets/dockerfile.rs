//! A Dockerfile never panics, and takes no longer than its length deserves: the input is one, or a list of patterns.
#![no_main]

use std::collections::BTreeMap;

use davit_dockerfile::change::Config;
use davit_dockerfile::graph::Graph;
use davit_dockerfile::instruction::Kind;
use davit_dockerfile::scope::{Args, Given, Global, Platform};
use davit_dockerfile::{Dockerfile, Ignore, Stage};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((kind, input)) = input.split_first() else { return };
    if *kind == b'!' {
        patterns(&String::from_utf8_lossy(input));
        return;
    }
    // Most inputs are refused, which is as good as being read.
    let Ok(file) = Dockerfile::parse_bytes(input) else { return };
    let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: String::new() };
    let args = BTreeMap::from([("A".to_owned(), "1 2".to_owned())]);
    let given = Given { args, build: platform.clone(), target: platform, stage: String::new() };
    let Ok(global) = Global::new(&file.args, &given) else { return };
    if let Ok(graph) = Graph::new(&file, &global, None) {
        assert_eq!(graph.order.last(), Some(&graph.target));
    }
    for stage in &file.stages {
        follow(stage, &global);
    }
});

/// Goes through a stage as a builder does.
fn follow(stage: &Stage, global: &Global) {
    let (mut config, mut args) = (Config::default(), Args::default());
    for instruction in &stage.instructions {
        let before = args.clone();
        let lookup = |name: &str| config.variable(name).or_else(|| before.variable(name));
        match &instruction.kind {
            Kind::Arg(list) => list.iter().for_each(|arg| drop(args.declare(arg, global, &lookup))),
            Kind::Run(run) => drop(run.mounts(&lookup)),
            Kind::Transfer(transfer) => drop(transfer.expand(&lookup)),
            Kind::Change(change) => {
                if let Ok(setting) = change.expand(&lookup) {
                    let _ = config.apply(&setting);
                }
            }
            Kind::From(_) | Kind::Maintainer(_) => {}
        }
    }
    assert!(serde_json::to_vec(config.map()).is_ok());
}

fn patterns(text: &str) {
    let (text, path) = text.split_once('\0').unwrap_or((text, "a/b.c"));
    if let Ok(ignore) = Ignore::parse(text) {
        if ignore.ignores_all_below(path) {
            assert!(ignore.ignores(&format!("{path}/x")), "what is in an ignored folder is ignored");
        }
    }
}
