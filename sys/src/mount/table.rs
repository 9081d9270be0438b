//! The mount table of this thread, parsed.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One line of `/proc/thread-self/mountinfo`, as far as anyone here needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// Number of the mount, as [`crate::file::mount_of`] tells it.
    pub id: u64,
    /// Number of the mount that it is mounted on.
    pub parent: u64,
    /// The directory of the file system that is shown.
    pub root: PathBuf,
    /// Where it is mounted.
    pub target: PathBuf,
    /// Type of the file system.
    pub kind: String,
    /// Options of the file system (not of the mount).
    pub options: Vec<String>,
}

/// Reads this thread's mount table, in the order of mounting.
pub fn mount_table() -> io::Result<Vec<MountEntry>> {
    Ok(parse(&std::fs::read("/proc/thread-self/mountinfo")?))
}

/// Reads the mount table of another process, with targets as it sees them.
pub fn mount_table_of(pid: u32) -> io::Result<Vec<MountEntry>> {
    Ok(parse(&std::fs::read(format!("/proc/{pid}/mountinfo"))?))
}

/// Paths may be any bytes; only blank, tab, newline and backslash are written otherwise.
fn parse(text: &[u8]) -> Vec<MountEntry> {
    text.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let dash = line.windows(3).position(|part| part == b" - ")?;
    let (mount, filesystem) = (&line[..dash], String::from_utf8_lossy(&line[dash + 3..]));
    let mut mount = mount.split(|&byte| byte == b' ');
    let mut number = || std::str::from_utf8(mount.next()?).ok()?.parse().ok();
    let (id, parent) = (number()?, number()?);
    let mut mount = mount.skip(1);
    let root = unescape(mount.next()?);
    let target = unescape(mount.next()?);
    let mut filesystem = filesystem.split(' ');
    let kind = filesystem.next()?.to_owned();
    let options = filesystem.nth(1)?.split(',').map(str::to_owned).collect();
    Some(MountEntry { id, parent, root, target, kind, options })
}

/// The kernel writes blank, tab, newline and backslash as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|d| byte == b'\\' && d.iter().all(|c| (b'0'..b'8').contains(c)));
        match octal {
            Some(digits) => {
                let value = digits.iter().fold(0u32, |n, d| n * 8 + u32::from(d - b'0'));
                bytes.push((value & 0xff) as u8);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_and_without_tags() {
        let text = "36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices\n\
                    41 31 0:38 /a\\040b /x\\134y rw shared:3 master:1 - cgroup2 cgroup2 rw\n\
                    nonsense\n";
        let entries = parse(text.as_bytes());
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[0].id, entries[0].parent), (36, 31));
        assert_eq!(entries[0].kind, "cgroup");
        assert_eq!(entries[0].options, ["rw", "devices"]);
        assert_eq!(entries[1].root, PathBuf::from("/a b"));
        assert_eq!(entries[1].target, PathBuf::from("/x\\y"));
    }

    #[test]
    fn our_own_table_has_a_root() {
        assert!(mount_table().unwrap().iter().any(|m| m.target.as_os_str() == "/"));
    }
}
