//! The six invariants of the architecture, each held by a check that fails when it is broken.
//!
//! 1 and 2: who depends on whom. 3: `unsafe` only in `sys`, fenced calls only in their homes (the fence
//! itself is `clippy.toml`; here: that every crate obeys the workspace's lints and nobody lifts them).
//! 4: `shim::init` runs before any runtime. 5: `tonic::Status` stays at the edge. 6: the pure functions
//! stay pure.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Direct dependencies of ours by package, without those for tests.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(workspace())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let package = |package: &serde_json::Value| {
        let depends = package["dependencies"].as_array().unwrap().iter();
        let depends = depends.filter(|d| d["kind"].as_str() != Some("dev")).map(|d| text(&d["name"]));
        (text(&package["name"]), depends.collect())
    };
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}

/// Every Rust source below a folder, with its text up to its tests.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![workspace().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target" && name != "tests") {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
                found.push((path, code));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has sources");
    found
}

/// Code without its comments.
fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

const OURS: [&str; 13] = [
    "proto",
    "sys",
    "archive",
    "dockerfile",
    "trust",
    "failpoint",
    "services/image",
    "services/volume",
    "services/network",
    "services/build",
    "shim",
    "controller",
    "cli",
];

#[test]
fn the_wire_knows_no_kernel_and_services_know_nobody() {
    let all = dependencies();
    let ours = |package: &str| -> Vec<&str> {
        all[package].iter().map(String::as_str).filter(|name| name.starts_with("davit-")).collect()
    };
    assert_eq!(ours("davit-proto"), [""; 0]);
    assert_eq!(ours("davit-sys"), [""; 0]);
    assert_eq!(ours("davit-archive"), ["davit-sys"]);
    assert_eq!(ours("davit-dockerfile"), [""; 0]);
    assert_eq!(ours("davit-trust"), [""; 0]);
    assert_eq!(ours("davit-failpoint"), [""; 0]);
    for (service, wanted) in [
        (
            "davit-image",
            &[
                "davit-archive",
                "davit-dockerfile",
                "davit-failpoint",
                "davit-proto",
                "davit-sys",
                "davit-trust",
            ][..],
        ),
        ("davit-volume", &["davit-archive", "davit-failpoint", "davit-proto", "davit-sys"]),
        ("davit-network", &["davit-failpoint", "davit-proto", "davit-sys"]),
        ("davit-shim", &["davit-archive", "davit-failpoint", "davit-proto", "davit-sys"]),
        ("davit-build", &["davit-archive", "davit-dockerfile", "davit-proto", "davit-sys", "davit-trust"]),
        ("davit-cli", &["davit-archive", "davit-dockerfile", "davit-proto", "davit-sys"]),
    ] {
        let mut depends = ours(service);
        depends.sort_unstable();
        depends.dedup();
        assert_eq!(depends, wanted, "{service}");
    }
    for package in all.keys().filter(|name| *name != "davit-controller" && *name != "davit-tests") {
        assert!(!all[package].iter().any(|d| d == "davit-controller"), "{package} depends on the controller");
    }
}

#[test]
fn the_controller_touches_the_kernel_only_to_launch_and_to_lock() {
    let allowed = ["memory", "process", "file", "fd", "mount", "resident"];
    for (path, text) in sources("controller/src") {
        for used in code(&text).split("davit_sys::").skip(1) {
            let used = used.trim_start_matches('{');
            let module: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(allowed.contains(&module.as_str()), "{} uses davit_sys::{module}", path.display());
        }
    }
}

#[test]
fn unsafe_and_libc_live_in_sys_alone() {
    for folder in OURS.iter().filter(|folder| **folder != "sys") {
        for (path, text) in sources(folder) {
            let code = code(&text);
            assert!(!code.contains("unsafe {") && !code.contains("unsafe fn"), "{}", path.display());
            assert!(
                !code.contains("allow(unsafe_code") && !code.contains("expect(unsafe_code"),
                "{}",
                path.display()
            );
            assert!(
                !code.contains("clippy::disallowed_methods") || is_home(&path),
                "{} lifts the fence",
                path.display()
            );
        }
        let manifest = fs::read_to_string(workspace().join(folder).join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{folder} obeys the workspace's lints");
        assert!(!manifest.contains("\nlibc"), "{folder} depends on libc");
    }
}

#[test]
fn archives_know_no_runtime_and_no_wire() {
    for (path, text) in sources("archive/src") {
        let code = code(&text);
        assert!(!code.contains("tokio") && !code.contains("serde"), "{}", path.display());
    }
}

#[test]
fn the_dockerfile_is_read_without_looking_around() {
    for (path, text) in sources("dockerfile/src") {
        let code = code(&text);
        for word in ["tokio", "std::fs", "std::env", "std::net", "std::process", "std::time", "async "] {
            assert!(!code.contains(word), "{} says {word}", path.display());
        }
    }
}

/// Homes outside `sys`: the netlink socket and the store.
fn is_home(path: &Path) -> bool {
    let text = path.to_string_lossy();
    text.contains("services/network/src/link") || text.contains("controller/src/store")
}

#[test]
fn the_init_process_knows_no_runtime() {
    for (path, text) in sources("shim/src/init") {
        let code = code(&text);
        assert!(!code.contains("tokio::") && !code.contains("tonic::"), "{}", path.display());
    }
}

#[test]
fn statuses_stay_at_the_edge() {
    for folder in OURS.iter().filter(|folder| **folder != "proto") {
        for (path, text) in sources(folder) {
            let edge = path.ends_with("api.rs") || path.components().any(|c| c.as_os_str() == "api");
            let names = ["tonic::Status", "use tonic::{Status", "Response, Status", "Status::new("];
            let named = names.iter().any(|name| code(&text).contains(name));
            assert!(edge || !named, "{} names tonic::Status", path.display());
        }
    }
}

#[test]
fn planning_does_no_io() {
    let pure = ["shim/src/task/state.rs", "controller/src/container/spec.rs", "services/network/src/ipam.rs"];
    for file in pure {
        let path = workspace().join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{file}: {e}"));
        let code = code(text.split("#[cfg(test)]").next().unwrap_or_default());
        for word in [
            "std::fs",
            "fs::",
            "tokio::",
            ".await",
            "davit_sys::",
            "Command::new",
            "SystemTime::now",
            "File::",
        ] {
            assert!(!code.contains(word), "{file} is pure and says {word}");
        }
    }
}

#[test]
fn every_file_begins_with_what_it_is_and_none_is_a_heap() {
    for folder in OURS {
        for (path, text) in sources(&format!("{folder}/src")) {
            assert!(text.starts_with("//!"), "{} has no module comment", path.display());
            let lines = code(&text).lines().count();
            assert!(lines <= 600, "{} has {lines} lines", path.display());
        }
    }
}
