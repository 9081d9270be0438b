//! A disk of a test's own: an ext4 with the options that everybody has, in a file. It can be small, and its power can
//! be cut.
//!
//! ```text
//! engine's root ── ext4 ── loop ──▶ a file of another ext4 ── loop ──▶ a file
//!              under test              the disk's write cache               what has reached the platter
//! ```
//!
//! A disk acknowledges writes that are in its cache only, and keeps for certain what was flushed. Here the page cache
//! of the file below is that cache: the loop device turns a flush of the upper file system into an `fsync` of its file.
//! Cutting the power shuts both file systems down where they stand (`FS_IOC_SHUTDOWN` without a flush of the log, so
//! nothing more is written), and takes of the blocks that were written but not flushed all, none or some at random.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::chance::Chance;
use crate::host::Host;
use crate::wait::until_true;

/// A unit in which a disk writes.
const BLOCK: usize = 4096;
/// Room for what the lower file system needs itself.
const OVERHEAD_MIB: u64 = 64;

/// What a disk that loses its power makes of writes that it was given and not told to flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unflushed {
    /// All of them reached the platter.
    Kept,
    /// None of them did.
    Lost,
    /// Each did or did not, by this seed.
    Some(u64),
}

/// The disk. It ends with the host that it is mounted on, its file when this is dropped.
#[derive(Debug)]
pub struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// Makes a disk with an empty file system on it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(mib: u64) -> Result<Self> {
        // In memory where there is room: a flush is then what it costs the engine, not the machine's real disk.
        let memory = Path::new("/dev/shm");
        let roomy =
            rustix::fs::statvfs(memory).is_ok_and(|space| space.f_bavail * space.f_frsize > mib << 22);
        let below = if roomy { memory } else { Path::new("/tmp") };
        let disk = Self { folder: tempfile::Builder::new().prefix("dvt-disk-").tempdir_in(below)? };
        fs::create_dir(disk.file("cache"))?;
        fs::create_dir(disk.file("new"))?;
        let image = disk.file("new").join(disk.image());
        File::create(&image)?.set_len(mib << 20)?;
        format(&[], &image)?;
        let below = disk.below();
        File::create(&below)?.set_len((mib + OVERHEAD_MIB) << 20)?;
        format(&["-d", &disk.file("new").display().to_string()], &below)?;
        fs::remove_file(image)?;
        Ok(disk)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Names that no other disk has: loop devices are told apart by them.
    fn image(&self) -> String {
        self.folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn below(&self) -> PathBuf {
        self.file(&format!("{}-cached", self.image()))
    }

    /// Waits until no loop device has a file of this disk: they end a moment after the last mount of theirs.
    fn wait_until_free(&self) {
        let name = self.image();
        let has = |device: &Path| {
            fs::read_to_string(device.join("loop/backing_file")).is_ok_and(|file| file.contains(&name))
        };
        until_true("the loop devices of a disk are free", || {
            let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
            !devices.map(|device| device.path()).any(|device| has(&device))
        });
    }

    /// Mounts it on a host. The journal of what was cut off is replayed.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn mount(&self, host: &Host, at: &Path) -> Result<()> {
        fs::create_dir_all(at)?;
        let cache = self.file("cache");
        run(host.command("mount").args(["-o", "loop"]).arg(self.below()).arg(&cache))?;
        run(host.command("mount").args(["-o", "loop"]).arg(cache.join(self.image())).arg(at))
    }

    /// Cuts the power of the disk that is mounted at `at`, reboots the host, and mounts what is left.
    ///
    /// # Errors
    /// When one of the steps fails.
    pub fn cut(&self, host: &mut Host, at: &Path, unflushed: Unflushed) -> Result<()> {
        shut_down(host, at)?;
        // What the upper file system had sent off has arrived in the cache.
        let (cache, written) = (self.file("cache"), self.file("written.img"));
        run(host.command("cp").arg("--sparse=always").arg(cache.join(self.image())).arg(&written))?;
        shut_down(host, &cache)?;
        host.reboot()?;
        self.wait_until_free();

        run(host.command("mount").args(["-o", "loop"]).arg(self.below()).arg(&cache))?;
        let platter = host.seen_at(&cache.join(self.image()).display().to_string());
        let chance = match unflushed {
            Unflushed::Lost => None,
            Unflushed::Kept => Some(None),
            Unflushed::Some(seed) => Some(Some(Chance::new(seed))),
        };
        if let Some(chance) = chance {
            add(&written, &platter, chance)?;
        }
        fs::remove_file(written)?;
        run(host.command("mount").args(["-o", "loop"]).arg(cache.join(self.image())).arg(at))
    }
}

/// A small disk without a cache, mounted at `at`: for what happens when it is full.
///
/// # Errors
/// When it cannot be made or mounted.
pub fn small(host: &Host, mib: u64, at: &Path) -> Result<()> {
    let image = host.folder().join("small.img");
    File::create(&image)?.set_len(mib << 20)?;
    format(&[], &image)?;
    fs::create_dir_all(at)?;
    run(host.command("mount").args(["-o", "loop"]).arg(&image).arg(at))
}

/// Nothing is kept back for root, and nothing initialized lazily, which would write at times of its own.
fn format(flags: &[&str], image: &Path) -> Result<()> {
    let lazy = ["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
    run(Command::new("mkfs.ext4").args(lazy).args(flags).arg(image))
}

/// Ends a file system where it stands: nothing more of it is written.
fn shut_down(host: &Host, at: &Path) -> Result<()> {
    // FS_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH.
    let program = "import fcntl,os,struct,sys\n\
        fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";
    run(host.command("python3").args(["-c", program]).arg(at))
}

fn run(command: &mut Command) -> Result<()> {
    let done = command.output().with_context(|| format!("start {command:?}"))?;
    anyhow::ensure!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

/// Adds blocks that were written and not flushed to what was: all, or every other one by chance.
fn add(written: &Path, platter: &Path, mut chance: Option<Chance>) -> Result<()> {
    let written = File::open(written)?;
    let platter = File::options().read(true).write(true).open(platter)?;
    let (mut new, mut old) = (vec![0; BLOCK << 8], vec![0; BLOCK << 8]);
    let (mut offset, size) = (0, platter.metadata()?.len());
    while offset < size {
        let length = usize::try_from(size - offset)?.min(new.len());
        written.read_exact_at(&mut new[..length], offset)?;
        platter.read_exact_at(&mut old[..length], offset)?;
        for (at, (new, old)) in new[..length].chunks(BLOCK).zip(old[..length].chunks(BLOCK)).enumerate() {
            if new != old && chance.as_mut().is_none_or(|chance| chance.below(2) == 0) {
                platter.write_all_at(new, offset + (at * BLOCK) as u64)?;
            }
        }
        offset += length as u64;
    }
    Ok(platter.sync_all()?)
}
