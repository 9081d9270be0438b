//! Cgroup folders are the one thing in the kernel that does not go with its processes. A shim takes its container's
//! away; of a shim that was killed they are swept here, by the container's id.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a folder may stay busy with processes that are being taken apart.
const PATIENCE: Duration = Duration::from_secs(2);
/// How deep folders of our making are nested: container, execs.
const DEPTH: usize = 4;

/// Removes the cgroup `path` (from the root of a hierarchy) from every hierarchy that the host mounts. What still
/// runs in it is killed: it belongs to a container whose shim is gone.
///
/// # Errors
/// When a folder is there and stays.
pub async fn sweep(path: &str) -> io::Result<()> {
    let relative = path.trim_start_matches('/').to_owned();
    let found = tokio::task::spawn_blocking(move || find(&relative)).await.map_err(io::Error::other)??;
    for folder in found {
        remove(&folder).await?;
    }
    Ok(())
}

fn find(relative: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in davit_sys::mount::mount_table()? {
        let folder = entry.target.join(relative);
        let is_new = matches!(entry.kind.as_str(), "cgroup" | "cgroup2") && !found.contains(&folder);
        // One that cannot be looked at may well be there.
        if is_new && folder.try_exists()? {
            found.push(folder);
        }
    }
    Ok(found)
}

async fn remove(folder: &Path) -> io::Result<()> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    // Only in v2, and only there it is needed: no such file is no error.
    let _ = std::fs::write(folder.join("cgroup.kill"), "1");
    let mut pause = Duration::from_millis(1);
    loop {
        match remove_tree(folder, DEPTH) {
            Err(error) if is_busy(&error) && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => return other,
        }
    }
}

fn is_busy(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::DirectoryNotEmpty)
}

/// The files of a cgroup are the kernel's; only folders are removed, lowest first.
fn remove_tree(folder: &Path, depth: usize) -> io::Result<()> {
    if depth > 0 {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                remove_tree(&entry.path(), depth - 1)?;
            }
        }
    }
    std::fs::remove_dir(folder)
}
