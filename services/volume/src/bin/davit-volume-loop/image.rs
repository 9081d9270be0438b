//! An image is mounted and unmounted.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use davit_sys::loop_device::LoopDevice;
use davit_sys::mount::{self, Attributes, FileSystem, Propagation, TreeDepth};

/// Mounts an image on a folder. Until it is attached only this function holds the loop device: cut off before, nothing
/// is left of it.
pub fn mount(image: &Path, kind: &str, folder: &Path) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(image)?;
    // One that a container's copy of the mount still has is taken again: two devices would be two file systems.
    let device = LoopDevice::of(&file, false)?;
    let attributes = Attributes::NO_SUID.with(Attributes::NO_DEV);
    let tree = FileSystem::open_from(kind, &device.path())?.mount(attributes)?;
    mount::set_attributes(&tree, TreeDepth::Single, Attributes::NONE, Some(Propagation::Private))?;
    mount::attach(tree, davit_sys::file::open_dir(folder)?)?;
    // Programs that want an empty folder for their data find one.
    let _ = std::fs::remove_dir(folder.join("lost+found"));
    Ok(())
}

/// Takes all mounts from a folder. Whoever has a copy keeps it, and with it the device.
pub fn unmount(folder: &Path) -> io::Result<()> {
    for _ in 0..16 {
        if !is_mounted(folder)? {
            return Ok(());
        }
        mount::detach(folder)?;
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// Whether something is mounted on a folder.
pub fn is_mounted(folder: &Path) -> io::Result<bool> {
    let real: PathBuf = std::fs::canonicalize(folder)?;
    Ok(mount::mount_table()?.iter().any(|entry| entry.target == real))
}
