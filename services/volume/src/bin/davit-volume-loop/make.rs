//! A file gets a file system: by `mkfs`, with a deadline, for a file that nobody else sees yet.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::store::Record;

/// How long making a file system may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How much of what the program says is told.
const WORDS: u64 = 1000;

/// Makes the image of a volume: as large as it is to be, and sparse.
pub fn image(path: &Path, record: &Record) -> Result<(), Error> {
    let file =
        File::options().write(true).create_new(true).open(path).map_err(Error::file("create", path))?;
    file.set_len(record.size).map_err(Error::file("give its size to", path))?;
    let (program, flags): (_, &[&str]) = match record.kind.as_str() {
        "xfs" => ("mkfs.xfs", &["-q", "-f"]),
        _ => ("mkfs.ext4", &["-q", "-F", "-m", "0"]),
    };
    run(program, flags, path)?;
    file.sync_all().map_err(Error::file("sync", path))
}

fn run(program: &str, flags: &[&str], image: &Path) -> Result<(), Error> {
    let failed = |why: String| Error::Make { program: program.to_owned(), why };
    let search = std::env::var("PATH").unwrap_or_default();
    let mut child = Command::new(program)
        .args(flags)
        .arg(image)
        .env("PATH", format!("{search}:/usr/sbin:/sbin"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let words = child.stderr.take().map(|stderr| {
        std::thread::spawn(move || {
            let mut words = Vec::new();
            // Read to the end, so that it never waits for us; what is too long is not kept.
            let mut stderr = stderr;
            let _ = stderr.by_ref().take(WORDS).read_to_end(&mut words);
            let _ = std::io::copy(&mut stderr, &mut std::io::sink());
            String::from_utf8_lossy(&words).trim().to_owned()
        })
    });
    let deadline = Instant::now() + PATIENCE;
    let ended = loop {
        match child.try_wait().map_err(|error| failed(error.to_string()))? {
            Some(ended) => break ended,
            None if Instant::now() > deadline => {
                // It is ours; a failure means that it has just ended.
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("not done after {} s", PATIENCE.as_secs())));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let words = words.and_then(|words| words.join().ok()).unwrap_or_default();
    if ended.success() {
        Ok(())
    } else {
        Err(failed(if words.is_empty() { ended.to_string() } else { words }))
    }
}
