//! What is mounted at a path of a container that lives is taken off: that one mount, found below the container's root and
//! known again by its number. What somebody uses stays, and whoever uses it is told.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use davit_proto::copy::{Answer, FailureKind};
use davit_sys::file;
use davit_sys::mount::{self, MountEntry};

use super::attach::inside;
use super::failure::Failure;
use super::place::Place;
use super::users;

/// File systems that show the kernel: nobody mounted them by a wish.
const KERNEL: [&str; 7] = ["proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "overlay"];

/// Takes it off; nothing there is no error.
pub fn detach(place: &Place, target: &str, others: &[String]) -> Result<Answer, Failure> {
    let Some(found) = find(place, target)? else { return Ok(Answer::Done { entries: 0, bytes: 0 }) };
    let hidden = others.iter().find(|other| *other != target && Path::new(other).starts_with(target));
    if let Some(other) = hidden {
        let why = format!("unmount {target}: {other} is mounted below it; take that off first");
        return Err(Failure::new(FailureKind::Refused, why));
    }
    match take_off(place, &found, false) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
        other => return done(target, other),
    }
    // What came along with a folder of the host goes along, unless somebody is in it.
    let users = users::of(&found.mounts).map_err(Failure::io("look who uses it"))?;
    if users.is_empty() && found.mounts.len() > 1 {
        return done(target, take_off(place, &found, true));
    }
    let who = match users.is_empty() {
        true => "somebody uses it".to_owned(),
        false => format!("used by {}", users.join(", ")),
    };
    Err(Failure::new(FailureKind::Refused, format!("unmount {target}: target is busy: {who}")))
}

fn done(target: &str, result: io::Result<()>) -> Result<Answer, Failure> {
    match result {
        Ok(()) => Ok(Answer::Done { entries: 1, bytes: 0 }),
        Err(error) => Err(Failure::new(FailureKind::Internal, format!("unmount {target}: {error}"))),
    }
}

/// A mount of the container.
#[derive(Debug)]
struct Found {
    id: u64,
    /// Where it is, without links.
    path: PathBuf,
    /// It and all that is mounted below.
    mounts: BTreeSet<u64>,
}

fn find(place: &Place, target: &str) -> Result<Option<Found>, Failure> {
    let looked = || -> io::Result<Option<u64>> {
        let handle = match place.root.open_path(Path::new(target)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let found = file::mount_of(&handle)?;
        Ok(found.is_root.then_some(found.id))
    };
    let Some(id) = looked().map_err(Failure::io("find what is mounted"))? else { return Ok(None) };
    let table = place.guardian_pid().and_then(mount::mount_table_of);
    let table = table.map_err(Failure::io("read the container's mounts"))?;
    let Some(entry) = table.iter().find(|entry| entry.id == id) else { return Ok(None) };
    // A link of the container may lead to what hides something from it.
    let moved = entry.target != Path::new(target);
    let hides = ["/proc", "/sys", "/dev"].iter().any(|kernel| entry.target.starts_with(kernel));
    if moved && (hides || KERNEL.contains(&entry.kind.as_str())) || entry.target == Path::new("/") {
        let why = format!("unmount {target}: it leads to {}", entry.target.display());
        return Err(Failure::new(FailureKind::Refused, why));
    }
    Ok(Some(Found { id, path: entry.target.clone(), mounts: with_all_below(&table, id) }))
}

fn with_all_below(table: &[MountEntry], top: u64) -> BTreeSet<u64> {
    let mut mounts = BTreeSet::from([top]);
    // In the order of mounting, so whatever is below comes after; moved ones may not.
    loop {
        let before = mounts.len();
        let below = table.iter().filter(|entry| mounts.contains(&entry.parent)).map(|entry| entry.id);
        let below: Vec<u64> = below.collect();
        mounts.extend(below);
        if mounts.len() == before {
            return mounts;
        }
    }
}

fn take_off(place: &Place, found: &Found, lazily: bool) -> io::Result<()> {
    inside(place, || {
        let (Some(parent), Some(name)) = (found.path.parent(), found.path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let parent = place.root.open_dir_no_symlinks(parent)?;
        // A container that moved folders meanwhile has moved it out of the way.
        if file::mount_of_entry(&parent, name)?.id != found.id {
            return Err(io::ErrorKind::NotFound.into());
        }
        mount::unmount_at(parent, name, lazily)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_mounted_below_is_found_in_any_order() {
        let entry = |id, parent| MountEntry {
            id,
            parent,
            root: "/".into(),
            target: "/".into(),
            kind: "tmpfs".to_owned(),
            options: Vec::new(),
        };
        let table = [entry(1, 1), entry(7, 5), entry(5, 2), entry(2, 1), entry(3, 1)];
        assert_eq!(with_all_below(&table, 2), BTreeSet::from([2, 5, 7]));
        assert_eq!(with_all_below(&table, 3), BTreeSet::from([3]));
    }
}
