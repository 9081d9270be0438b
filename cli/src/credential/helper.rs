//! `docker-credential-*`: programs that keep what we are known by. One question a run, on standard input; one answer, on
//! standard output.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use davit_proto::image::Credential;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Longest answer.
const LIMIT: u64 = 1 << 20;
/// A helper may ask a person for a password of its own.
const PATIENCE: Duration = Duration::from_secs(60);
/// The name that stands for an identity token.
const TOKEN: &str = "<token>";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// What a helper knows for a registry.
pub fn get(helper: &str, key: &str) -> Result<Option<Credential>, Error> {
    let answer = match ask(helper, "get", key.as_bytes(), PATIENCE)? {
        Answer::Well(answer) => answer,
        Answer::Badly(words) if words.contains("not found") => return Ok(None),
        Answer::Badly(words) => return Err(failed(helper, "get", &words)),
    };
    let entry: Entry =
        serde_json::from_slice(&answer).map_err(|_| failed(helper, "get", "its answer is no JSON object"))?;
    if entry.username == TOKEN {
        return Ok(Some(Credential { identity_token: entry.secret, ..Credential::default() }));
    }
    let known = !entry.username.is_empty() || !entry.secret.is_empty();
    Ok(known.then(|| Credential {
        username: entry.username,
        password: entry.secret,
        ..Credential::default()
    }))
}

/// Has a helper keep what is known for a registry.
pub fn store(helper: &str, key: &str, credential: &Credential) -> Result<(), Error> {
    let token = &credential.identity_token;
    let (username, secret) = if token.is_empty() {
        (credential.username.clone(), credential.password.clone())
    } else {
        (TOKEN.to_owned(), token.clone())
    };
    let entry = Entry { server_url: key.to_owned(), username, secret };
    let json = serde_json::to_vec(&entry).expect("strings are JSON");
    match ask(helper, "store", &json, PATIENCE)? {
        Answer::Well(_) => Ok(()),
        Answer::Badly(words) => Err(failed(helper, "store", &words)),
    }
}

/// Has a helper forget what is known for a registry.
pub fn erase(helper: &str, key: &str) -> Result<(), Error> {
    match ask(helper, "erase", key.as_bytes(), PATIENCE)? {
        Answer::Well(_) => Ok(()),
        Answer::Badly(words) if words.contains("not found") => Ok(()),
        Answer::Badly(words) => Err(failed(helper, "erase", &words)),
    }
}

fn failed(helper: &str, what: &str, words: &str) -> Error {
    let words: String = words.trim().chars().take(200).collect();
    Error::Usage(format!("credential helper docker-credential-{helper} failed to {what}: {words}"))
}

enum Answer {
    Well(Vec<u8>),
    /// What it said.
    Badly(String),
}

fn ask(helper: &str, what: &'static str, question: &[u8], patience: Duration) -> Result<Answer, Error> {
    let wrong = |words: &str| failed(helper, what, words);
    if helper.contains('/') {
        return Err(wrong("its name is a path"));
    }
    let mut child = Command::new(format!("docker-credential-{helper}"))
        .arg(what)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| wrong(&error.to_string()))?;
    let deadline = Instant::now() + patience;
    let answer = talk(&mut child, question, deadline);
    let ended = answer.is_some().then(|| wait(&mut child, deadline)).flatten();
    let (Some(answer), Some(well)) = (answer, ended) else {
        // It may have ended this very moment, and then there is nothing left to do.
        let _ = child.kill();
        let _ = child.wait();
        return Err(wrong(&format!("no answer within {} s", patience.as_secs())));
    };
    Ok(if well { Answer::Well(answer) } else { Answer::Badly(String::from_utf8_lossy(&answer).into_owned()) })
}

/// Says the question and takes the answer. Neither a helper that does not listen nor one that says nothing holds us up.
fn talk(child: &mut Child, question: &[u8], deadline: Instant) -> Option<Vec<u8>> {
    let (mut stdin, stdout) = (child.stdin.take()?, child.stdout.take()?);
    let question = question.to_owned();
    // One that knows without having asked closes its end, which is no failure of ours.
    thread::spawn(move || stdin.write_all(&question).is_ok());
    let (answer, from_helper) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.take(LIMIT).read_to_end(&mut bytes);
        // Nobody waits any more when the helper was too slow.
        let _ = answer.send(read.map(|_| bytes));
    });
    from_helper.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()?.ok()
}

/// Whether it ended well; `None` when it did not end.
fn wait(child: &mut Child, deadline: Instant) -> Option<bool> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.success()),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
            Ok(None) | Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_not_there_is_named() {
        let error = get("davit-test-missing", "localhost:1").unwrap_err().to_string();
        assert!(error.contains("docker-credential-davit-test-missing failed to get"), "{error}");
        assert!(get("../x", "localhost:1").unwrap_err().to_string().contains("its name is a path"));
    }

    #[test]
    fn one_that_hangs_or_runs_on_is_ended() {
        let patience = Duration::from_millis(100);
        let mut hangs =
            Command::new("sleep").arg("1000").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        assert!(talk(&mut hangs, b"x", Instant::now() + patience).is_none());
        assert!(wait(&mut hangs, Instant::now()).is_none());
        hangs.kill().unwrap();
        hangs.wait().unwrap();
        let mut runs = Command::new("yes").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let answer = talk(&mut runs, b"x", Instant::now() + Duration::from_secs(60)).unwrap();
        assert_eq!(answer.len() as u64, LIMIT);
        assert_eq!(
            wait(&mut runs, Instant::now() + Duration::from_secs(60)),
            Some(false),
            "its reader has gone"
        );
    }
}
