//! Who uses a mount: processes that stand in it, run from it, or have something of it open.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use davit_sys::file;

/// As many are told.
const TOLD: usize = 5;

/// Processes that use one of these mounts, as `7 (name)` with the host's numbers.
pub fn of(mounts: &BTreeSet<u64>) -> io::Result<Vec<String>> {
    let proc = file::open_dir(Path::new("/proc"))?;
    let mut users = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        let uses = |link: &str| {
            // A process that has just ended uses nothing.
            file::mount_of_link(&proc, Path::new(link)).is_ok_and(|found| mounts.contains(&found.id))
        };
        let own = ["cwd", "root", "exe"].iter().any(|link| uses(&format!("{pid}/{link}")));
        if own || has_open(pid, &uses) {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            users.push(format!("process {pid} ({})", name.trim_end()));
            if users.len() == TOLD {
                break;
            }
        }
    }
    Ok(users)
}

fn has_open(pid: &str, uses: &impl Fn(&str) -> bool) -> bool {
    ["fd", "map_files"].iter().any(|folder| {
        let listed = fs::read_dir(format!("/proc/{pid}/{folder}")).into_iter().flatten().flatten();
        let mut names = listed.filter_map(|entry| entry.file_name().into_string().ok());
        names.any(|name| uses(&format!("{pid}/{folder}/{name}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_a_file_open_is_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let on = file::mount_of(file.as_file()).unwrap().id;
        // Others may use it too, and only so many are told.
        assert!(!of(&BTreeSet::from([on])).unwrap().is_empty());
        assert!(of(&BTreeSet::from([u64::MAX])).unwrap().is_empty());
    }
}
