//! Environment variables and labels, from flags and from files.

use std::collections::HashMap;

use super::Invalid;
use crate::error::Error;

/// Largest file of variables or labels.
const LIMIT: u64 = 1 << 20;

/// The environment: files first, then flags. A name alone takes the value it has here; a name that has none
/// here is passed on alone when it came from a flag (it removes the image's), and left out from a file.
pub fn environment(files: &[String], flags: &[String]) -> Result<Vec<String>, Error> {
    environment_with(files, flags, |name| std::env::var(name).ok())
}

/// Variables with those of the image that are to go: before all others, so that what is said of one by a flag holds.
pub fn without(gone: &[String], env: Vec<String>) -> Result<Vec<String>, Invalid> {
    if let Some(wrong) = gone.iter().find(|name| name.is_empty() || name.contains('=')) {
        return Err(Invalid::new("--unsetenv", wrong, "the name of a variable is wanted"));
    }
    Ok(gone.iter().cloned().chain(env).collect())
}

/// Everything that the environment here says. What is no text stays here.
pub fn here() -> Vec<String> {
    let texts = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    texts.filter(|(name, _)| !name.is_empty()).map(|(name, value)| format!("{name}={value}")).collect()
}

fn environment_with(
    files: &[String],
    flags: &[String],
    here: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, Error> {
    let mut env = Vec::new();
    for file in files {
        for line in lines("--env-file", file)? {
            if line.contains('=') {
                env.push(line);
            } else if let Some(value) = here(&line) {
                env.push(format!("{line}={value}"));
            }
        }
    }
    for flag in flags {
        if flag.is_empty() || flag.starts_with('=') {
            return Err(Invalid::new("--env", flag, "a name must not be empty").into());
        }
        env.push(match (flag.contains('='), here(flag)) {
            (false, Some(value)) => format!("{flag}={value}"),
            _ => flag.clone(),
        });
    }
    Ok(env)
}

/// Labels: files first, then flags.
pub fn labels(files: &[String], flags: &[String]) -> Result<HashMap<String, String>, Error> {
    let mut labels = HashMap::new();
    for file in files {
        labels.extend(pairs(&lines("--label-file", file)?));
    }
    if let Some(empty) = flags.iter().find(|flag| flag.is_empty() || flag.starts_with('=')) {
        return Err(Invalid::new("--label", empty, "a name must not be empty").into());
    }
    labels.extend(pairs(flags));
    Ok(labels)
}

/// `key=value`, or `key` for an empty value.
pub fn pairs(texts: &[String]) -> HashMap<String, String> {
    texts
        .iter()
        .map(|text| match text.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (text.clone(), String::new()),
        })
        .collect()
}

/// `key=value`, and nothing else.
pub fn strict_pairs(flag: &str, texts: &[String]) -> Result<HashMap<String, String>, Invalid> {
    texts
        .iter()
        .map(|text| match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(Invalid::new(flag, text, "KEY=VALUE is wanted")),
        })
        .collect()
}

/// The lines of a file that say something, read as docker reads them: comments begin with `#`, space before
/// a name is dropped, everything after `=` is kept as it stands.
fn lines(flag: &str, path: &str) -> Result<Vec<String>, Error> {
    let failed = |source| Error::io(format!("read {flag} {path}"), source);
    let meta = std::fs::metadata(path).map_err(failed)?;
    if meta.is_file() && meta.len() > LIMIT {
        return Err(Invalid::new(flag, path, "the file is larger than 1 MiB").into());
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    parse_lines(flag, path, &text).map_err(Error::from)
}

fn parse_lines(flag: &str, path: &str, text: &str) -> Result<Vec<String>, Invalid> {
    let mut lines = Vec::new();
    for (at, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split_once('=').map_or(line, |(name, _)| name);
        let place = || format!("{path}:{}", at + 1);
        if name.is_empty() {
            return Err(Invalid::new(flag, place(), "no name before ="));
        }
        if name.contains(char::is_whitespace) {
            return Err(Invalid::new(flag, place(), format!("the name {name:?} contains white space")));
        }
        lines.push(line.to_owned());
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn here(name: &str) -> Option<String> {
        (name == "HERE").then(|| "v".to_owned())
    }

    #[test]
    fn flags() {
        let flags = ["A=1", "HERE", "GONE", "B=", "C=x=y"].map(String::from);
        let env = environment_with(&[], &flags, here).unwrap();
        assert_eq!(env, ["A=1", "HERE=v", "GONE", "B=", "C=x=y"]);
        assert!(environment_with(&[], &["=x".into()], here).is_err());
        assert!(environment_with(&[], &[String::new()], here).is_err());
    }

    #[test]
    fn what_is_said_of_a_variable_comes_after_its_removal() {
        let env = without(&["A".into(), "B".into()], vec!["A=1".into()]).unwrap();
        assert_eq!(env, ["A", "B", "A=1"]);
        assert!(without(&["A=1".into()], Vec::new()).is_err());
        assert!(super::here().iter().all(|entry| entry.contains('=')));
    }

    #[test]
    fn files() {
        let path = std::env::temp_dir().join(format!("davit-env-{}", std::process::id()));
        std::fs::write(&path, "\u{feff}# comment\n\n  A=1 \nB=\"quoted\"\r\nHERE\nGONE\nC=a#b\n").unwrap();
        let file = path.to_str().unwrap().to_owned();
        let env = environment_with(std::slice::from_ref(&file), &["A=2".into()], here).unwrap();
        assert_eq!(env, ["A=1 ", "B=\"quoted\"", "HERE=v", "C=a#b", "A=2"]);
        let labels = labels(&[file], &["A=z".into(), "flag".into()]).unwrap();
        assert_eq!((labels["A"].as_str(), labels["flag"].as_str(), labels["GONE"].as_str()), ("z", "", ""));
        std::fs::remove_file(path).unwrap();
        let error = environment(&["/nonexistent/env".into()], &[]).unwrap_err().to_string();
        assert!(error.contains("--env-file /nonexistent/env"), "{error}");
    }

    #[test]
    fn wrong_lines_name_their_place() {
        let error = parse_lines("--env-file", "f", "A=1\nB C=2").unwrap_err().to_string();
        assert!(error.contains("f:2") && error.contains("B C"), "{error}");
        assert!(parse_lines("--env-file", "f", "=x").is_err());
    }

    #[test]
    fn options_must_be_pairs() {
        assert!(strict_pairs("--opt", &["a".into()]).is_err());
        assert_eq!(strict_pairs("--opt", &["a=b=c".into()]).unwrap()["a"], "b=c");
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(text in any::<String>()) {
            let _ = parse_lines("--env-file", "f", &text);
        }
    }
}
