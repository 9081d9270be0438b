//! How much disk a tree takes that others change meanwhile: every step goes by descriptor, no link is followed, no other
//! file system is entered, and depth, memory and time are bounded.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Instant;

use rustix::fs::{FileType, OFlags, RawDir, Stat};
use rustix::io::Errno;

use super::entry;

/// Directories deeper than this count themselves, not their content: each level holds a descriptor.
const MAX_DEPTH: usize = 128;
/// Files with several names that are remembered; of further ones each name counts its share.
const MAX_LINKED: usize = 1 << 20;
/// Entries between two looks at the clock.
const STRIDE: u64 = 1024;
/// Bytes of a block as `stat` counts.
const BLOCK: u64 = 512;

/// What a tree takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all files and symbolic links, as their lengths say; each file once.
    pub bytes: u64,
    /// Bytes of disk, directories included.
    pub disk: u64,
    /// Entries.
    pub entries: u64,
    /// Something was left out: time was up, or a directory could not be read.
    pub partial: bool,
}

impl Usage {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            disk: self.disk.saturating_add(other.disk),
            entries: self.entries.saturating_add(other.entries),
            partial: self.partial || other.partial,
        }
    }
}

/// Bytes of disk of one file or directory itself.
#[must_use]
pub fn disk_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(BLOCK)
}

/// Measures the entry `name` of `dir` and everything below it until the given moment. What is not there, or vanishes
/// meanwhile, counts nothing.
pub fn usage(dir: impl AsFd, name: &OsStr, until: Instant) -> io::Result<Usage> {
    let mut walk = Walk { until, device: 0, linked: HashSet::new(), found: Usage::default() };
    let Some(stat) = look(dir.as_fd(), name)? else { return Ok(walk.found) };
    walk.device = stat.st_dev;
    walk.count(&stat);
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        walk.enter(dir.as_fd(), name, 0)?;
    }
    Ok(walk.found)
}

/// As [`usage`], of everything below an open directory without the directory itself.
pub fn usage_below(dir: impl AsFd, until: Instant) -> io::Result<Usage> {
    let dir = dir.as_fd();
    let device = entry::stat(dir)?.st_dev;
    let mut walk = Walk { until, device, linked: HashSet::new(), found: Usage::default() };
    // A descriptor of its own: whoever lent this one may stand somewhere in its list of names.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fresh = rustix::fs::openat(dir, c".", flags, rustix::fs::Mode::empty())?;
    walk.children(fresh.as_fd(), 0)?;
    Ok(walk.found)
}

fn look(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<Stat>> {
    match entry::stat_at(dir, name) {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

struct Walk {
    until: Instant,
    device: u64,
    linked: HashSet<u64>,
    found: Usage,
}

impl Walk {
    fn count(&mut self, stat: &Stat) {
        self.found.entries += 1;
        let mut disk = disk_of(stat);
        let mut bytes = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Symlink => u64::try_from(stat.st_size).unwrap_or(0),
            _ => 0,
        };
        let links = u128::from(stat.st_nlink);
        let share = |all: u64| u64::try_from(u128::from(all) / links).unwrap_or(all);
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory && links > 1 {
            if self.linked.contains(&stat.st_ino) {
                return;
            }
            if self.linked.len() < MAX_LINKED {
                self.linked.insert(stat.st_ino);
            } else {
                (disk, bytes) = (share(disk), share(bytes));
            }
        }
        self.found.disk = self.found.disk.saturating_add(disk);
        self.found.bytes = self.found.bytes.saturating_add(bytes);
    }

    fn enter(&mut self, dir: BorrowedFd<'_>, name: &OsStr, depth: usize) -> io::Result<()> {
        match entry::open_dir_at(dir, name) {
            Ok(below) => self.children(below.as_fd(), depth),
            // Removed or exchanged since it was looked at.
            Err(error)
                if matches!(
                    Errno::from_io_error(&error),
                    Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn children(&mut self, dir: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
        if depth >= MAX_DEPTH {
            self.found.partial = true;
            return Ok(());
        }
        let mut buffer: Vec<MaybeUninit<u8>> = vec![MaybeUninit::uninit(); 4096];
        let mut entries = RawDir::new(dir, &mut buffer);
        while let Some(found) = entries.next() {
            let found = match found {
                Ok(found) => found,
                // The directory itself was removed.
                Err(Errno::NOENT) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let name = found.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if self.found.partial && self.is_late() {
                return Ok(());
            }
            if self.found.entries % STRIDE == STRIDE - 1 && self.is_late() {
                self.found.partial = true;
                return Ok(());
            }
            let name = OsStr::from_bytes(name.to_bytes());
            let Some(stat) = look(dir, name)? else { continue };
            if stat.st_dev != self.device {
                continue;
            }
            self.count(&stat);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                self.enter(dir, name, depth + 1)?;
            }
        }
        Ok(())
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};
    use std::time::Duration;

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(600)
    }

    #[test]
    fn files_count_once_and_links_are_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("big"), vec![1; 1_000_000]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join("t").join(name);
        fs::create_dir_all(path("a/b")).unwrap();
        fs::write(path("a/b/file"), vec![1; 100_000]).unwrap();
        fs::hard_link(path("a/b/file"), path("again")).unwrap();
        symlink(outside.path(), path("link")).unwrap();
        fs::File::create(path("sparse")).unwrap().set_len(1 << 30).unwrap();
        let dir = entry::open_dir(folder.path()).unwrap();
        let found = usage(&dir, "t".as_ref(), later()).unwrap();
        let link = outside.path().as_os_str().len() as u64;
        assert_eq!(found.bytes, 100_000 + link + (1 << 30));
        let of = |name: &str| fs::symlink_metadata(path(name)).unwrap().blocks() * BLOCK;
        let disk = ["", "a", "a/b", "a/b/file", "link", "sparse"].map(of).iter().sum::<u64>();
        assert_eq!((found.disk, found.entries, found.partial), (disk, 7, false));
        let below = usage_below(entry::open_dir(&folder.path().join("t")).unwrap(), later()).unwrap();
        assert_eq!(below.disk, disk - of(""));
        assert_eq!(usage(&dir, "missing".as_ref(), later()).unwrap(), Usage::default());
    }

    #[test]
    fn time_that_is_up_ends_the_walk_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..3000 {
            fs::write(folder.path().join(n.to_string()), "").unwrap();
        }
        let dir = entry::open_dir(folder.path()).unwrap();
        let found = usage_below(&dir, Instant::now()).unwrap();
        assert!(found.partial && found.entries < 3000, "{found:?}");
        assert_eq!(usage_below(&dir, later()).unwrap().entries, 3000);
    }

    #[test]
    fn a_tree_that_changes_does_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().to_owned();
        let ended = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..400 {
                    let dir = top.join(format!("d{}", n % 7));
                    let _ = fs::create_dir_all(dir.join("x/y"));
                    let _ = fs::write(dir.join("x/y/f"), "1");
                    let _ = fs::rename(dir.join("x"), top.join("moved"));
                    let _ = fs::remove_dir_all(top.join("moved"));
                    let _ = fs::remove_dir_all(&dir);
                    let _ = symlink("/", &dir);
                    let _ = fs::remove_file(&dir);
                }
                ended.store(true, std::sync::atomic::Ordering::SeqCst);
            });
            while !ended.load(std::sync::atomic::Ordering::SeqCst) {
                usage_below(entry::open_dir(&top).unwrap(), later()).unwrap();
            }
        });
    }
}
