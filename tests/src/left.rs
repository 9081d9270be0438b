//! What containers and networks leave when they are gone: nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::engine::Engine;
use crate::wait::until;

fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path().display().to_string()).collect()
}

/// What an engine has that had a container and has none any more: the default bridge, with its place in the firewall.
///
/// # Panics
/// When the engine does not answer, or does not forget the container.
#[must_use]
pub fn nothing(engine: &Engine) -> BTreeSet<String> {
    engine.ok(["run", "--rm", "busybox", "true"]);
    until("the container is gone", || {
        let left = of(engine);
        let gone = |left: &&String| left.starts_with("namespace ") || left.contains("/.lease/");
        // The host's own namespace stays.
        (left.iter().filter(gone).count() == 1).then_some(left)
    })
}

/// Everything on an engine's host that a container or a network may have left, by where it is.
///
/// # Panics
/// When the engine does not answer.
#[must_use]
pub fn of(engine: &Engine) -> BTreeSet<String> {
    let mut left = BTreeSet::new();
    for folder in ["containers", "trash", "volume/.use", "network/.lease"] {
        // By names that stay the same when the host is rebooted.
        let seen = engine.seen_root().display().to_string();
        let here = engine.root().display().to_string();
        let names = names_in(&engine.seen_root().join(folder));
        left.extend(names.into_iter().map(|name| name.replace(&seen, &here)));
    }
    for folder in ["shim", davit_proto::names::FOLDER] {
        left.extend(names_in(&engine.run_dir().join(folder)));
    }
    for hierarchy in names_in(Path::new("/sys/fs/cgroup")) {
        let parent = Path::new(&hierarchy).join(engine.host().name());
        let folders = names_in(&parent).into_iter().filter(|path| Path::new(path).is_dir());
        left.extend(folders.filter(|path| !path.ends_with("/shims")));
    }
    let shims = engine.processes_with("davit-shim serve");
    left.extend(shims.iter().map(|pid| format!("shim {pid}")));
    left.extend(engine.ok(["volume", "ls", "-q"]).stdout.lines().map(|name| format!("volume {name}")));
    left.extend(of_network(engine));
    left
}

fn of_network(engine: &Engine) -> Vec<String> {
    let said = |words: &[&str]| {
        let (program, words) = words.split_first().expect("a command has a name");
        let output = engine.host().command(program).args(words).output();
        output.map(|output| output.stdout).unwrap_or_default()
    };
    let mut left = Vec::new();
    let links: Value = serde_json::from_slice(&said(&["ip", "-j", "link"])).unwrap_or_default();
    for link in links.as_array().into_iter().flatten() {
        left.push(format!("link {}", link["ifname"]));
    }
    let namespaces = said(&["lsns", "-n", "-t", "net", "-o", "NS,COMMAND"]);
    for namespace in String::from_utf8_lossy(&namespaces).lines() {
        left.push(format!("namespace {}", namespace.trim()));
    }
    let ruleset: Value = serde_json::from_slice(&said(&["nft", "-j", "list", "ruleset"])).unwrap_or_default();
    for object in ruleset["nftables"].as_array().into_iter().flatten() {
        for kind in ["map", "set"] {
            for element in object[kind]["elem"].as_array().into_iter().flatten() {
                left.push(format!("element of {} {}: {element}", kind, object[kind]["name"]));
            }
        }
    }
    left
}

/// Waits until there is nothing but what there was before.
///
/// # Panics
/// When something stays, with what it is and who left it.
pub fn settle(engine: &Engine, before: &BTreeSet<String>, who: &str) {
    let mut last = BTreeSet::new();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until("nothing is left", || {
            last = of(engine).difference(before).cloned().collect();
            last.is_empty().then_some(())
        });
    }));
    assert!(outcome.is_ok(), "{who} left {last:#?}\n{}", engine.end_of_log());
}
