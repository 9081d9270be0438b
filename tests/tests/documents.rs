//! The documents say what is there: tests that they name exist, links lead somewhere, and every flag of the engine is
//! explained.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// README and what else stands beside it, and all below docs.
fn documents() -> Vec<PathBuf> {
    let mut found = vec![];
    for folder in ["", "docs", "docs/decisions"] {
        let entries = fs::read_dir(workspace().join(folder)).unwrap();
        found.extend(
            entries
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|extension| extension == "md")),
        );
    }
    assert!(found.len() > 15, "{found:?}");
    found
}

#[test]
fn every_test_that_features_name_is_there() {
    let text = fs::read_to_string(workspace().join("docs/features.md")).unwrap();
    let mut seen = 0;
    for (file, name) in text.split('`').filter_map(|word| word.split_once("::")) {
        let path = if file.contains('/') { file.to_owned() } else { format!("tests/tests/{file}") };
        let source =
            fs::read_to_string(workspace().join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(source.contains(&format!("fn {name}(")), "{path} has no test {name}");
        seen += 1;
    }
    assert!(seen > 150, "{seen} tests are named");
}

/// Where the links of a document lead, without those to other sites and within a page.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let paths = targets.map(|target| target.split('#').next().unwrap_or_default());
    paths.filter(|path| !path.is_empty() && !path.contains("://") && !path.contains(' ')).collect()
}

#[test]
fn links_lead_somewhere() {
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for link in links(&text) {
            let target = document.parent().unwrap().join(link);
            assert!(target.exists(), "{}: {link} is not there", document.display());
        }
    }
}

#[test]
fn the_readme_leads_to_every_document() {
    let readme = fs::read_to_string(workspace().join("README.md")).unwrap();
    let entries = fs::read_dir(workspace().join("docs")).unwrap().flatten();
    for entry in entries.filter(|entry| entry.path().is_file()) {
        let name = entry.file_name().into_string().unwrap();
        assert!(readme.contains(&format!("](docs/{name})")), "docs/{name} is not linked");
    }
}

#[test]
fn the_architecture_leads_to_every_decision() {
    let architecture = fs::read_to_string(workspace().join("docs/architecture.md")).unwrap();
    for entry in fs::read_dir(workspace().join("docs/decisions")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        assert!(architecture.contains(&format!("](decisions/{name})")), "decisions/{name} is not linked");
    }
}

/// The long flags of a program, by its own help.
fn flags(program: &str) -> Vec<String> {
    let output = Command::new(davit_tests::engine::binaries().join(program)).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let lines = help.lines().filter_map(|line| line.trim_start().split_once("--"));
    let flags = lines.filter(|(before, _)| before.is_empty() || before.ends_with(", "));
    flags.filter_map(|(_, rest)| rest.split_whitespace().next()).map(|flag| format!("--{flag}")).collect()
}

#[test]
fn every_flag_of_the_engine_is_explained() {
    let text = fs::read_to_string(workspace().join("docs/configure.md")).unwrap();
    let flags = flags("davitd");
    assert!(flags.len() > 20, "{flags:?}");
    for flag in flags.iter().filter(|flag| *flag != "--help" && *flag != "--version") {
        assert!(
            text.contains(&format!("`{flag}`")) || text.contains(&format!("`{flag} ")),
            "{flag} is not in docs/configure.md"
        );
    }
}

/// The page is what its store of measurements makes it, each goal has its row, and those not met have their reason.
#[test]
fn the_benchmarks_are_what_was_measured() {
    let output =
        Command::new("tests/bench/run").arg("--check").current_dir(workspace()).output().expect("run it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
