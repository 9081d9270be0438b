//! The mounts of a container in the order in which they are made: its root, the kernel's file systems,
//! the engine's files, then what was asked for.

use std::path::{Path, PathBuf};

use davit_proto::types;
use oci_spec::runtime::{Mount, MountBuilder};

use super::super::join;
use super::held::IDMAP;
use super::{Error, Input, held, security};

/// Bytes of `/dev/shm` where nothing is said.
const SHM: u64 = 64 << 20;
/// Files of the engine in a container's `/etc`: name in the bundle, path inside.
const FILES: [(&str, &str); 3] =
    [("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname"), ("hosts", "/etc/hosts")];

/// All mounts of a container.
///
/// # Errors
/// When the image service answered with something else than layers, or a volume is missing.
pub fn mounts(input: &Input<'_>, options: &security::Options) -> Result<Vec<Mount>, Error> {
    let wanted = held::resolved(input.wanted, input.held)?;
    let taken = |target: &str| wanted.iter().any(|mount| mount.target == target);
    let mut all = vec![root(input)?];
    all.extend(kernel(input, options).into_iter().filter(|mount| {
        // A folder of the host's or a larger tmpfs goes over it afterwards.
        mount.destination() != Path::new("/dev/shm") || !taken("/dev/shm")
    }));
    for (file, target) in FILES.iter().filter(|(_, target)| !taken(target)) {
        let mut options = vec!["rbind", "rprivate"];
        if input.spec.read_only {
            options.push("ro");
        }
        if input.ids.is_some() {
            options.push(IDMAP);
        }
        let source = input.bundle.join(file).display().to_string();
        all.push(mount("bind", &source, target, &options));
    }
    all.extend(wanted.iter().map(|mount| converted(mount, input.ids.is_some())));
    Ok(all)
}

/// The overlay of the image's layers below the container's own.
fn root(input: &Input<'_>) -> Result<Mount, Error> {
    let layers = input.rootfs;
    let is_layer =
        |option: &String| option.strip_prefix("lowerdir=").is_some_and(|path| path.starts_with('/'));
    if layers.r#type != "overlay" || !layers.options.iter().all(is_layer) || layers.options.is_empty() {
        return Err(Error::Host(
            "the image service answered with a root that is no overlay of layers".to_owned(),
        ));
    }
    let own = |name: &str| format!("{name}dir={}", input.bundle.join(name).display());
    let mut options: Vec<String> = layers.options.clone();
    options.extend([own("upper"), own("work")]);
    // What is removed at its end needs not survive a power cut, and flushing it costs at every exit.
    if input.spec.auto_remove {
        options.push("volatile".to_owned());
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    Ok(mount("overlay", "overlay", "/", &options))
}

fn kernel(input: &Input<'_>, options: &security::Options) -> Vec<Mount> {
    let spec = input.spec;
    let named = spec.namespaces.clone().unwrap_or_default();
    let access = if spec.privileged { "rw" } else { "ro" };
    let shm = format!("size={}", if spec.shm_size == 0 { SHM } else { spec.shm_size });
    let safe = ["nosuid", "noexec", "nodev"];
    let with = |more: &[&'static str]| -> Vec<&'static str> { [&safe[..], more].concat() };
    let mut all = vec![
        mount("proc", "proc", "/proc", &safe),
        mount("tmpfs", "tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "devpts",
            "devpts",
            "/dev/pts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("sysfs", "sysfs", "/sys", &with(&[access])),
        mount(
            "cgroup",
            "cgroup",
            "/sys/fs/cgroup",
            &with(&[if options.writable_cgroups() { "rw" } else { access }]),
        ),
    ];
    if named.ipc == "host" {
        let bound = ["rbind", "rprivate", "nosuid", "noexec", "nodev"];
        if input.host.mqueue {
            all.push(mount("bind", "/dev/mqueue", "/dev/mqueue", &bound));
        }
        all.push(mount("bind", "/dev/shm", "/dev/shm", &bound));
    } else if join::other(&named.ipc).is_some() {
        // The other container's shared memory is there already, with the namespace.
        all.push(mount("mqueue", "mqueue", "/dev/mqueue", &safe));
    } else {
        all.push(mount("mqueue", "mqueue", "/dev/mqueue", &safe));
        all.push(mount("tmpfs", "shm", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", &shm]));
    }
    all
}

/// A mount in the words of the runtime specification. `own_users`: the container has a user namespace.
pub fn converted(from: &types::Mount, own_users: bool) -> Mount {
    let fits = |option: &&str| own_users || *option != IDMAP;
    let options: Vec<&str> = from.options.iter().map(String::as_str).filter(fits).collect();
    mount(&from.r#type, &from.source, &from.target, &options)
}

fn mount(kind: &str, source: &str, target: &str, options: &[&str]) -> Mount {
    MountBuilder::default()
        .typ(kind)
        .source(PathBuf::from(source))
        .destination(PathBuf::from(target))
        .options(options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
        .build()
        .expect("every field has a value")
}
