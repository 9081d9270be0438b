//! What is put together for the mounts of one step, and goes with it.
//!
//! ```text
//! <root>/build/work/<name>/    files of the context, the writable layers of mounts whose changes are lost
//! <run>/build/<name>/          a memory file system of its own: secrets, scripts, sockets of agents; overlays are
//!                              mounted in it, so that what takes it off takes them off too
//! ```
//!
//! Names are the same on both sides. A step that ends takes both away; what a killed engine left is swept at the next
//! start, after the containers that used it are gone.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use davit_sys::file::{self, OFlags};
use davit_sys::mount::{self, Attributes, FileSystem, Overlay, Propagation, TreeDepth};

use crate::client::Permissions;
use crate::error::Error;

/// Most bytes of the memory file system: secrets are small, and a script is not longer than a Dockerfile.
const SIZE: &str = "64m";
/// So that a layer means the same as everywhere else.
const OPTIONS: [(&str, &str); 3] = [("redirect_dir", "off"), ("metacopy", "off"), ("index", "off")];

/// Where workspaces are made.
#[derive(Debug, Clone)]
pub struct Places {
    disk: PathBuf,
    memory: PathBuf,
}

impl Places {
    /// Below the folder of builds and the run directory.
    ///
    /// # Errors
    /// A folder cannot be made.
    pub fn open(builds: &Path, run: &Path) -> Result<Self, Error> {
        let places = Self { disk: builds.join("work"), memory: run.join("build") };
        for folder in [&places.disk, &places.memory] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(Error::io(format!("make the folder {}", folder.display())))?;
        }
        Ok(places)
    }

    /// Takes away what killed engines left. Only for when no build goes on.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn sweep(&self) -> Result<(), Error> {
        let names = |folder: &Path| -> Result<Vec<PathBuf>, Error> {
            let failed = || Error::io(format!("read {}", folder.display()));
            let entries = fs::read_dir(folder).map_err(failed())?;
            entries.map(|entry| Ok(entry.map_err(failed())?.path())).collect()
        };
        for folder in names(&self.memory)? {
            clear_memory(&folder).map_err(Error::io(format!("clear {}", folder.display())))?;
        }
        for folder in names(&self.disk)? {
            clear_disk(&folder).map_err(Error::io(format!("clear {}", folder.display())))?;
        }
        Ok(())
    }
}

/// Files go before the mount does: whoever else holds the mount does not hold them.
fn clear_memory(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            fs::remove_file(entry.path())?;
        }
    }
    // As often as something is mounted there.
    while mount::detach(folder).is_ok() {}
    file::remove_tree(
        file::open_dir(folder.parent().unwrap_or(folder))?,
        folder.file_name().unwrap_or_default(),
    )
}

fn clear_disk(folder: &Path) -> io::Result<()> {
    file::remove_tree(
        file::open_dir(folder.parent().unwrap_or(folder))?,
        folder.file_name().unwrap_or_default(),
    )
}

/// The workspace of one step.
#[derive(Debug)]
pub struct Workspace {
    disk: PathBuf,
    memory: PathBuf,
    mounted: Option<OwnedFd>,
    /// How many things were made in it, which name them.
    made: u32,
}

impl Workspace {
    /// Makes one.
    ///
    /// # Errors
    /// The disk fails.
    pub fn new(places: &Places) -> Result<Self, Error> {
        let failed = || Error::io("make a workspace");
        let folder = tempfile::Builder::new().prefix("s").tempdir_in(&places.disk).map_err(failed())?;
        let disk = folder.keep();
        let memory = places.memory.join(disk.file_name().unwrap_or_default());
        Ok(Self { disk, memory, mounted: None, made: 0 })
    }

    fn name(&mut self) -> String {
        self.made += 1;
        format!("m{}", self.made)
    }

    /// A path on the disk at which nothing is yet.
    pub fn place(&mut self) -> PathBuf {
        let name = self.name();
        self.disk.join(name)
    }

    /// The memory file system, which is mounted when it is needed first; and a free name in it.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub fn memory(&mut self) -> Result<(&OwnedFd, PathBuf, String), Error> {
        let name = self.name();
        let mounted = match self.mounted.take() {
            Some(mounted) => mounted,
            None => mount_memory(&self.memory)
                .map_err(Error::io(format!("mount memory on {}", self.memory.display())))?,
        };
        Ok((self.mounted.insert(mounted), self.memory.join(&name), name))
    }

    /// Puts a file into the memory, and answers with its path.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep(&mut self, bytes: &[u8], owner: Permissions) -> Result<PathBuf, Error> {
        let (folder, path, name) = self.memory()?;
        let write = || -> io::Result<()> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let mut file = File::from(file::open_at(folder, name.as_ref(), flags, 0o600)?);
            file.write_all(bytes)?;
            file::chown(&file, owner.uid, owner.gid)?;
            file::chmod(&file, owner.mode)
        };
        write().map_err(Error::io("write a file of the step into memory"))?;
        Ok(path)
    }

    /// Mounts an overlay over folders, the topmost first, whose changes are lost; and answers with its path.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub fn overlay(&mut self, lower: &[PathBuf]) -> Result<PathBuf, Error> {
        let own = self.place();
        let (folder, path, name) = self.memory()?;
        let mount = || -> io::Result<()> {
            let lower = lower.iter().map(|path| file::open_dir(path)).collect::<io::Result<Vec<_>>>()?;
            let (upper, work) = (own.join("upper"), own.join("work"));
            let mut private = DirBuilder::new();
            private.recursive(true).mode(0o700).create(&work)?;
            private.create(&upper)?;
            let (upper, work) = (file::open_dir(&upper)?, file::open_dir(&work)?);
            if let Some(top) = lower.first() {
                let seen = file::stat(top)?;
                file::chown(&upper, seen.st_uid, seen.st_gid)?;
                file::chmod(&upper, seen.st_mode & 0o7777)?;
            }
            let upper = Some((upper, work));
            let overlay =
                Overlay { lower: &lower, upper, trees: &[], owner: None, options: &OPTIONS, volatile: true };
            let tree = overlay.mount()?;
            file::make_dir_at(folder, name.as_ref(), 0o700)?;
            mount::attach(tree, file::open_dir_at(folder, name.as_ref())?)
        };
        mount().map_err(Error::io("mount a copy that can be written to"))?;
        Ok(path)
    }

    fn clear(&self) -> io::Result<()> {
        if self.memory.exists() {
            clear_memory(&self.memory)?;
        }
        clear_disk(&self.disk)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // Held open it would keep the file system busy for nobody.
        self.mounted = None;
        if let Err(error) = self.clear() {
            tracing::warn!(folder = %self.disk.display(), %error, "what a step mounted could not be removed");
        }
    }
}

/// Memory that is never written to a disk, where this kernel can promise that.
fn mount_memory(folder: &Path) -> io::Result<OwnedFd> {
    DirBuilder::new().mode(0o700).create(folder)?;
    let tree = match memory_file_system(true) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => memory_file_system(false)?,
        other => other?,
    };
    mount::set_attributes(&tree, TreeDepth::Single, Attributes::NONE, Some(Propagation::Private))?;
    mount::attach(&tree, file::open_dir(folder)?)?;
    file::open_dir(folder)
}

fn memory_file_system(never_swapped: bool) -> io::Result<OwnedFd> {
    let context = FileSystem::open("tmpfs")?;
    context.set("size", SIZE)?;
    context.set("mode", "0700")?;
    if never_swapped {
        context.flag("noswap")?;
    }
    context.mount(Attributes::NO_SUID.with(Attributes::NO_DEV))
}
