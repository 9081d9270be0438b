//! The `nft` program: loads whole transactions, which is rare. Single elements do not come this way.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::runtime::Handle;

/// Longer than any transaction of ours takes on a loaded host.
const PATIENCE: Duration = Duration::from_secs(20);
/// Characters of its complaint that are passed on.
const COMPLAINT: usize = 1000;

/// Why a transaction did not take place.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The program is not there or cannot be run.
    #[error("run nft (from the package nftables)")]
    Run(#[source] std::io::Error),
    /// It did not end.
    #[error("nft did not end within 20 s")]
    Late,
    /// It refused.
    #[error("nft refused: {0}")]
    Refused(String),
}

/// Loads a transaction into the calling thread's network namespace: all of it or nothing.
///
/// To be called from a thread that may wait, inside a runtime.
pub fn load(text: &str) -> Result<(), LoadError> {
    Handle::current()
        .block_on(async { tokio::time::timeout(PATIENCE, run(text)).await.unwrap_or(Err(LoadError::Late)) })
}

async fn run(text: &str) -> Result<(), LoadError> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .env_clear()
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(LoadError::Run)?;
    let mut input = child.stdin.take().expect("its standard input was asked for");
    let written = async {
        let result = input.write_all(text.as_bytes()).await;
        drop(input);
        result
    };
    let (written, output) = tokio::join!(written, child.wait_with_output());
    let output = output.map_err(LoadError::Run)?;
    if output.status.success() {
        return written.map_err(LoadError::Run);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(LoadError::Refused(complaint.trim().chars().take(COMPLAINT).collect()))
}
