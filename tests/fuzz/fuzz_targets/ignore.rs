//! What a `.dockerignore` and a path say of each other: a folder that need not be looked into holds nothing that is
//! kept, a last line has the last word, and no pattern takes longer than its length deserves.
#![no_main]

use davit_dockerfile::Ignore;
use libfuzzer_sys::fuzz_target;

// The patterns, and behind a NUL byte the path.
fuzz_target!(|input: &str| {
    let (text, path) = input.split_once('\0').unwrap_or((input, "a/b.c"));
    let path = path.trim_matches('/');
    let Ok(ignore) = Ignore::parse(text) else { return };
    let above: Vec<&str> = path.match_indices('/').map(|(at, _)| &path[..at]).collect();
    if above.iter().any(|folder| ignore.ignores_all_below(folder)) {
        assert!(ignore.ignores(path), "what is in an ignored folder is ignored");
    }
    if ignore.ignores_all_below(path) {
        assert!(ignore.ignores(path) && ignore.ignores(&format!("{path}/x")), "and so is all below it");
    }
    if ignore.is_empty() {
        assert!(!ignore.ignores(path), "nothing stays behind");
    }
    if path.is_empty() {
        return;
    }
    let all = |line: &str| Ignore::parse(&format!("{text}\n{line}")).expect("one more line can be read");
    assert!(all("**").ignores(path));
    assert!(!all("!**").ignores(path));
});
