//! What an image holds at the path of a volume becomes the volume's, with owners, modes, times, attributes and links.
//!
//! ```text
//! <volume>/.davit-populate    files come in; a crash leaves it, and whoever is next removes it
//!    │  all of it is on the disk
//!    ▼  rename
//! <volume>/.davit-populated   whole; a crash leaves it, and whoever is next goes on
//!    │  each entry is renamed into the volume, then the folder's own owner, mode and times
//!    ▼  removed
//! <volume>/…
//! ```
//!
//! It is beside nothing but inside the volume, because that may be a file system of its own. The caller holds the
//! volume's lock; who has the volume mounted already sees files appear, as if a container had written them.

use std::ffi::OsStr;
use std::io::{self, BufReader, BufWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use davit_archive::extract::Limits;
use davit_archive::write::Writer;
use davit_archive::{Extracted, Owners, PackError, Source, extract, is_kept_xattr, pack};
use davit_proto::copy::{Answer, FailureKind, POPULATED, POPULATING, Populate};
use davit_proto::status::chain;
use davit_sys::fd;
use davit_sys::file::{self, Root, Stat, Times};

use super::BUFFER;
use super::failure::Failure;

/// Bytes of the names of one folder.
const NAMES: usize = 64 << 20;
/// Folder that a new file system has, and that is nobody's.
const LOST_FOUND: &str = "lost+found";

/// Fills the volumes that are empty.
pub fn populate(image: &Root, volumes: &[Populate]) -> Result<Answer, Failure> {
    let mut all = Extracted::default();
    for volume in volumes {
        let told = |doing: &'static str| {
            move |error: io::Error| Failure::of_volume(&error, &volume.folder, doing, &error)
        };
        let folder = file::open_dir(&volume.folder).map_err(told("open it"))?;
        clear_up(&folder).map_err(told("finish what was cut off"))?;
        let Some(path) = &volume.path else { continue };
        if !is_empty(&folder).map_err(told("list it"))? {
            continue;
        }
        let Some(source) = find(image, path).map_err(told("find its path in the image"))? else { continue };
        if is_empty(&source).map_err(told("list the image's folder"))? {
            take_over(&source, &folder).map_err(told("set its owner"))?;
            continue;
        }
        let copied = copy(&source, &folder, volume)?;
        all.entries += copied.entries;
        all.bytes += copied.bytes;
    }
    Ok(Answer::Done { entries: all.entries, bytes: all.bytes })
}

/// The folder of the image; none where it has no such, or something else there.
fn find(image: &Root, path: &str) -> io::Result<Option<OwnedFd>> {
    let path = path.trim_start_matches('/');
    match image.open_dir(Path::new(path)) {
        Ok(folder) => Ok(Some(folder)),
        Err(error) if leads_nowhere(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Nothing is in it but what is always there.
fn is_empty(folder: &OwnedFd) -> io::Result<bool> {
    let names = file::list_names(file::open_listing(folder)?, NAMES)?;
    Ok(names.iter().all(|name| name == LOST_FOUND))
}

/// Ends what a crash cut off: what is half is removed, what is whole is finished.
fn clear_up(folder: &OwnedFd) -> io::Result<()> {
    file::remove_tree(folder, POPULATING.as_ref())?;
    match file::open_dir_at(folder, POPULATED.as_ref()) {
        Ok(whole) => finish(&whole, folder),
        // What is no folder by that name is a container's own.
        Err(error) if leads_nowhere(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

fn leads_nowhere(error: &io::Error) -> bool {
    const ELOOP: i32 = 40;
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(ELOOP)
}

fn copy(source: &OwnedFd, folder: &OwnedFd, volume: &Populate) -> Result<Extracted, Failure> {
    let told = |doing: &'static str| {
        move |error: io::Error| Failure::of_volume(&error, &volume.folder, doing, &error)
    };
    file::make_dir_at(folder, POPULATING.as_ref(), 0o700).map_err(told("copy into it"))?;
    let half = file::open_dir_at(folder, POPULATING.as_ref()).map_err(told("copy into it"))?;
    let copied = through_pipe(source, &half, volume)?;
    let whole = || -> io::Result<()> {
        take_over(source, &half)?;
        // What has its name is whole, also after a power cut.
        file::sync_file_system(&half)?;
        file::rename_new_at(folder, POPULATING.as_ref(), folder, POPULATED.as_ref())?;
        finish(&half, folder)
    };
    whole().map_err(told("finish the copy"))?;
    Ok(copied)
}

/// The image's files as an archive into the folder, a stretch at a time.
fn through_pipe(source: &OwnedFd, half: &OwnedFd, volume: &Populate) -> Result<Extracted, Failure> {
    let told = |doing: &'static str| {
        move |error: io::Error| Failure::of_volume(&error, &volume.folder, doing, &error)
    };
    let (reader, writer) = fd::pipe(1 << 20).map_err(told("make a pipe"))?;
    let handle = source.try_clone().map_err(told("open the image's folder"))?;
    let target = half.try_clone().map_err(told("copy into it"))?;
    let (packed, extracted) = std::thread::scope(|scope| {
        let packer = scope.spawn(move || -> Result<(), PackError> {
            let mut writer = Writer::new(BufWriter::with_capacity(BUFFER, std::fs::File::from(writer)));
            let source = Source { handle, name: b".".to_vec(), skipped_dev: None };
            pack(source, None, &mut writer)?;
            writer.end().map_err(PackError::Write)
        });
        let input = BufReader::with_capacity(BUFFER, std::fs::File::from(reader));
        let extracted = extract(input, target, Owners::Kept(None), &Limits::default());
        (packer.join(), extracted)
    });
    let why = |error: &dyn std::error::Error, source: Option<&io::Error>| {
        let other = io::Error::other("");
        let text = io::Error::other(chain(error));
        Failure::of_volume(source.unwrap_or(&other), &volume.folder, "copy the image's files", &text)
    };
    // A full disk ends the reading side first, and the other one then writes for nobody.
    let extracted = extracted.map_err(|error| why(&error, error.io_error()));
    match packed {
        Ok(Ok(())) | Ok(Err(PackError::Write(_))) => extracted,
        Ok(Err(error)) => Err(why(&error, None)),
        Err(_) => Err(Failure::new(FailureKind::Internal, "the thread that reads the image ended early")),
    }
}

/// Brings what is whole to its place. Whatever somebody else has put there meanwhile stays.
fn finish(whole: &OwnedFd, folder: &OwnedFd) -> io::Result<()> {
    // Each entry that leaves changes the folder's time.
    let times = times(&file::stat(whole)?);
    for name in file::list_names(file::open_listing(whole)?, NAMES)? {
        match file::rename_new_at(whole, &name, folder, &name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
    }
    take_over(whole, folder)?;
    file::remove_tree(folder, POPULATED.as_ref())?;
    file::set_times(folder, times)?;
    file::sync_dir(folder)
}

/// Gives a folder the owner, mode, attributes and time of another.
fn take_over(from: impl AsFd, to: &OwnedFd) -> io::Result<()> {
    let from = file::open_listing(from)?;
    let seen = file::stat(&from)?;
    file::chown(to, seen.st_uid, seen.st_gid)?;
    file::chmod(to, seen.st_mode & 0o7777)?;
    for (name, value) in file::xattrs(&from, is_kept_xattr)? {
        match file::set_xattr(to, OsStr::from_bytes(&name), &value) {
            // Not every file system keeps a user's attributes.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            other => other?,
        }
    }
    file::set_times(to, times(&seen))
}

fn times(seen: &Stat) -> Times {
    let nanoseconds = |n| u32::try_from(n).unwrap_or(0);
    let modified = (seen.st_mtime, nanoseconds(seen.st_mtime_nsec));
    Times { accessed: (seen.st_atime, nanoseconds(seen.st_atime_nsec)), modified }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    fn image() -> (tempfile::TempDir, Root) {
        let image = tempfile::tempdir().unwrap();
        let folder = image.path().join("etc/app");
        fs::create_dir_all(folder.join("below")).unwrap();
        fs::write(folder.join("below/file"), "content").unwrap();
        fs::hard_link(folder.join("below/file"), folder.join("same")).unwrap();
        std::os::unix::fs::symlink("below/file", folder.join("link")).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o2751)).unwrap();
        fs::create_dir(image.path().join("empty")).unwrap();
        fs::set_permissions(image.path().join("empty"), fs::Permissions::from_mode(0o1777)).unwrap();
        std::os::unix::fs::symlink("/etc/app", image.path().join("app")).unwrap();
        let root = Root::open(image.path()).unwrap();
        (image, root)
    }

    fn wish(path: Option<&str>, folder: &Path) -> [Populate; 1] {
        [Populate { path: path.map(str::to_owned), folder: folder.to_owned() }]
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn an_empty_volume_becomes_the_images_folder() {
        let (_image, root) = image();
        let volume = tempfile::tempdir().unwrap();
        fs::create_dir(volume.path().join(LOST_FOUND)).unwrap();
        // A half copy that a crash left.
        fs::create_dir(volume.path().join(POPULATING)).unwrap();
        fs::write(volume.path().join(POPULATING).join("half"), "").unwrap();
        populate(&root, &wish(Some("/app"), volume.path())).unwrap();
        assert_eq!(names(volume.path()), ["below", "link", LOST_FOUND, "same"]);
        assert_eq!(fs::metadata(volume.path()).unwrap().mode() & 0o7777, 0o2751);
        let inode = |name: &str| fs::metadata(volume.path().join(name)).unwrap().ino();
        assert_eq!(inode("same"), inode("below/file"));
        assert_eq!(fs::read_to_string(volume.path().join("link")).unwrap(), "content");

        fs::remove_file(volume.path().join("link")).unwrap();
        populate(&root, &wish(Some("/app"), volume.path())).unwrap();
        assert_eq!(names(volume.path()), ["below", LOST_FOUND, "same"], "it is not empty any more");
    }

    #[test]
    fn what_was_cut_off_is_finished_without_the_image() {
        let (_image, root) = image();
        let volume = tempfile::tempdir().unwrap();
        let whole = volume.path().join(POPULATED);
        fs::create_dir(&whole).unwrap();
        fs::write(whole.join("a"), "image").unwrap();
        fs::write(whole.join("b"), "image").unwrap();
        fs::write(volume.path().join("b"), "container").unwrap();
        fs::set_permissions(&whole, fs::Permissions::from_mode(0o750)).unwrap();
        populate(&root, &wish(None, volume.path())).unwrap();
        assert_eq!(names(volume.path()), ["a", "b"]);
        assert_eq!(fs::read_to_string(volume.path().join("b")).unwrap(), "container");
        assert_eq!(fs::metadata(volume.path()).unwrap().mode() & 0o7777, 0o750);
    }

    #[test]
    fn paths_that_lead_nowhere_leave_a_volume_as_it_is() {
        let (image, root) = image();
        std::os::unix::fs::symlink("circle", image.path().join("circle")).unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(outside.path(), image.path().join("out")).unwrap();
        for path in ["/none", "/etc/app/same", "/circle", "/out", "/etc/app/same/x"] {
            let volume = tempfile::tempdir().unwrap();
            populate(&root, &wish(Some(path), volume.path())).unwrap();
            assert!(names(volume.path()).is_empty(), "{path}");
        }
        let volume = tempfile::tempdir().unwrap();
        populate(&root, &wish(Some("/empty"), volume.path())).unwrap();
        assert_eq!(fs::metadata(volume.path()).unwrap().mode() & 0o7777, 0o1777);
    }
}
