//! Mounts of local volumes: made detached, within a deadline, and then attached to the volume's folder in the engine's
//! mount namespace. The mount table is what remembers them: it is right after any crash.

use std::ffi::OsStr;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use davit_sys::mount::{self, FileSystem, MountEntry, Propagation, TreeDepth};

use crate::deadline;
use crate::error::Error;
use crate::options::{Medium, Plan, What, wrong};

/// Kinds of file systems whose server is named by an address among the options.
const SERVED: [&str; 4] = ["nfs", "nfs4", "cifs", "smb3"];

/// Has the kernel look at what can be looked at before anything is mounted: whether it has the file system, and
/// whether that knows the options.
pub fn check(medium: &Medium) -> Result<(), Error> {
    let Medium::Mount(Plan { what: What::FileSystem { kind, source, options }, .. }) = medium else {
        return Ok(());
    };
    configure(kind, source, &unresolved(options)).map(drop)
}

/// Addresses that are names are looked up when it is mounted, not when the volume is made.
fn unresolved(options: &[(String, Option<String>)]) -> Vec<(String, Option<String>)> {
    let named = |(key, value): &&(String, Option<String>)| {
        key != "addr" || value.as_ref().is_some_and(|value| value.parse::<IpAddr>().is_ok())
    };
    options.iter().filter(named).cloned().collect()
}

fn configure(kind: &str, source: &str, options: &[(String, Option<String>)]) -> Result<FileSystem, Error> {
    let context = FileSystem::open_from(kind, source).map_err(|error| match error.raw_os_error() {
        // ENODEV.
        Some(19) => wrong("type", kind, "this kernel has no such file system"),
        _ => wrong("device", source, &error.to_string()),
    })?;
    for (key, value) in options {
        let set = match value {
            Some(value) => context.set(key, value),
            None => context.flag(key),
        };
        set.map_err(|error| {
            let word = value.as_ref().map_or_else(|| key.clone(), |value| format!("{key}={value}"));
            wrong("o", &word, &error.to_string())
        })?;
    }
    Ok(context)
}

/// Mounts a volume onto its folder.
pub fn mount(name: &str, plan: &Plan, folder: &Path) -> Result<(), Error> {
    let (doing, plan, owned) = (format!("mount volume {name:?}"), plan.clone(), name.to_owned());
    let tree = deadline::within(deadline::MOUNT, &doing, move || detached(&owned, plan))?;
    let failed =
        |source| Error::Mount { name: name.to_owned(), device: folder.display().to_string(), source };
    let target = davit_sys::file::open_dir(folder).map_err(failed)?;
    mount::attach(tree, target).map_err(failed)
}

fn detached(name: &str, plan: Plan) -> Result<OwnedFd, Error> {
    let Plan { what, attributes } = plan;
    let (device, depth, tree) = match what {
        What::Bind { device, depth } => {
            // A folder: a volume that is a file would be a mount that no folder takes.
            let opened = davit_sys::file::open_dir(&device);
            let tree = opened.and_then(|dir| mount::open_tree(dir, Path::new(""), depth));
            (device.display().to_string(), depth, tree)
        }
        What::FileSystem { kind, source, options } => {
            let options = resolved(&kind, options)?;
            let context = configure(&kind, &source, &options)?;
            if attributes.has(mount::Attributes::READ_ONLY) {
                // For the file system as well: a device may be read-only.
                context.flag("ro").map_err(|error| wrong("o", "ro", &error.to_string()))?;
            }
            (source, TreeDepth::Single, context.mount(attributes))
        }
    };
    let failed = |source| Error::Mount { name: name.to_owned(), device: device.clone(), source };
    let tree = tree.map_err(failed)?;
    mount::set_attributes(&tree, depth, attributes, Some(Propagation::Private)).map_err(failed)?;
    Ok(tree)
}

/// The kernel wants a server's number; people know its name.
fn resolved(
    kind: &str,
    options: Vec<(String, Option<String>)>,
) -> Result<Vec<(String, Option<String>)>, Error> {
    if !SERVED.contains(&kind) {
        return Ok(options);
    }
    let resolve = |(key, value): (String, Option<String>)| match value {
        Some(host) if key == "addr" && host.parse::<IpAddr>().is_err() => {
            let refused = |why: String| wrong("o", &format!("addr={host}"), &why);
            let mut found =
                (host.as_str(), 0).to_socket_addrs().map_err(|error| refused(error.to_string()))?;
            let address = found.next().ok_or_else(|| refused("the name has no address".to_owned()))?;
            Ok((key, Some(address.ip().to_string())))
        }
        value => Ok((key, value)),
    };
    options.into_iter().map(resolve).collect()
}

/// Takes a volume's mounts away from its folder. Whoever has a copy of them keeps that.
pub fn unmount(folder: &Path) -> Result<(), Error> {
    // More than one lies there when somebody mounted there by hand.
    for _ in 0..16 {
        if !is_mounted(folder)? {
            return Ok(());
        }
        mount::detach(folder).map_err(Error::file("unmount", folder))?;
    }
    Err(Error::file("unmount", folder)(std::io::ErrorKind::ResourceBusy.into()))
}

/// Whether something is mounted on a folder. Nothing is asked of what is mounted, which may hang.
pub fn is_mounted(folder: &Path) -> Result<bool, Error> {
    let real = real(folder)?;
    Ok(table()?.iter().any(|entry| entry.target == real))
}

/// What is mounted on a folder or below it, the innermost last.
pub fn mounted_below(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let real = real(folder)?;
    let targets = table()?.into_iter().map(|entry| entry.target);
    Ok(targets.filter(|target| target.starts_with(&real)).collect())
}

fn table() -> Result<Vec<MountEntry>, Error> {
    mount::mount_table().map_err(Error::file("read", Path::new("/proc/self/mountinfo")))
}

/// The folder's path without links, as the mount table has it; the last part is not touched.
fn real(folder: &Path) -> Result<PathBuf, Error> {
    let parent = folder.parent().unwrap_or(folder);
    let parent = std::fs::canonicalize(parent).map_err(Error::file("resolve", parent))?;
    Ok(parent.join(folder.file_name().unwrap_or(OsStr::new(""))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    fn medium(pairs: &[(&str, &str)]) -> Medium {
        let options: Options = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Medium::parse(&options).unwrap()
    }

    #[test]
    fn the_kernel_is_asked_before_anything_is_mounted() {
        check(&medium(&[("type", "tmpfs"), ("o", "size=1m,mode=700,noexec")])).unwrap();
        for (options, named) in [
            (&[("type", "tmpfs"), ("o", "siez=1m")][..], "siez"),
            (&[("type", "tmpfs"), ("o", "size=lots")], "size=lots"),
            (&[("type", "no-such-fs"), ("device", "x")], "no-such-fs"),
        ] {
            let error = check(&medium(options)).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
