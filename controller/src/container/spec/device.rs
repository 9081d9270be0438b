//! Devices of the host that a container may use, found once so that building a spec stays pure.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use davit_proto::confinement::DEVICES;
use davit_proto::container::{BlockThrottle, ContainerSpec};
use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
};

use super::path::clean;
use super::{Error, path};

/// Most device nodes of one container.
const LIMIT: usize = 1024;
/// Deepest folder below a device path that is looked into.
const DEPTH: usize = 8;
/// What of the host's `/dev` a privileged container does not get, because it has its own.
const OWN: [&str; 7] =
    ["/dev/pts", "/dev/shm", "/dev/fd", "/dev/mqueue", "/dev/console", "/dev/ptmx", "/dev/hugepages"];

/// The devices of one container.
#[derive(Debug, Clone, Default)]
pub struct Devices {
    /// Nodes to make in its `/dev`.
    pub nodes: Vec<LinuxDevice>,
    /// Rules for its cgroup, all denied first.
    pub rules: Vec<LinuxDeviceCgroup>,
    /// Limits of block devices, by the devices' numbers.
    pub throttles: Vec<((i64, i64), BlockThrottle)>,
    /// Weights of block devices, by the devices' numbers.
    pub weights: Vec<((i64, i64), u16)>,
}

/// One `--device`, understood.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    host: String,
    inside: String,
    access: String,
}

fn parse(text: &str) -> Result<Wish, Error> {
    let fail = || Error::invalid("devices", text, "must be /dev/x[:/dev/y[:rwm]]");
    let mut parts = text.split(':');
    let host = parts.next().unwrap_or_default();
    let (mut inside, mut access) = (host, "rwm");
    match (parts.next(), parts.next(), parts.next()) {
        (None, ..) => {}
        (Some(one), None, _) if one.starts_with('/') => inside = one,
        (Some(one), None, _) => access = one,
        (Some(one), Some(two), None) => (inside, access) = (one, two),
        _ => return Err(fail()),
    }
    if !is_access(access) {
        return Err(fail());
    }
    let inside = clean("devices", inside)?;
    if ["/proc", "/sys"].iter().any(|engine| path::is_below(&inside, engine)) || inside == "/" {
        return Err(fail());
    }
    Ok(Wish { host: clean("devices", host)?, inside, access: access.to_owned() })
}

fn is_access(text: &str) -> bool {
    let once = |letter| text.matches(letter).count() <= 1;
    !text.is_empty()
        && text.chars().all(|c| matches!(c, 'r' | 'w' | 'm'))
        && ['r', 'w', 'm'].into_iter().all(once)
}

/// One rule as the cgroup takes it: `c 1:3 rwm`, `b *:* m`.
fn parse_rule(text: &str) -> Result<LinuxDeviceCgroup, Error> {
    let fail = || Error::invalid("device_cgroup_rules", text, "must be like 'c 1:3 rwm'");
    let parts: Vec<&str> = text.split(' ').collect();
    let [kind, numbers, access] = parts.as_slice() else { return Err(fail()) };
    let kind = match *kind {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return Err(fail()),
    };
    let number = |text: &str| match text {
        "*" => Ok(None),
        digits => digits.parse::<u32>().map(|n| Some(i64::from(n))).map_err(|_| fail()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(fail)?;
    if !is_access(access) {
        return Err(fail());
    }
    Ok(rule(kind, number(major)?, number(minor)?, access))
}

/// Checks the texts of devices, rules and limits of block devices.
///
/// # Errors
/// When one cannot be right.
pub fn check(spec: &ContainerSpec) -> Result<(), Error> {
    if spec.devices.len() > LIMIT || spec.device_cgroup_rules.len() > LIMIT {
        return Err(Error::invalid("devices", &spec.devices.len().to_string(), format!("at most {LIMIT}")));
    }
    for text in &spec.devices {
        parse(text)?;
    }
    for text in &spec.device_cgroup_rules {
        parse_rule(text)?;
    }
    for throttle in spec.resources.iter().flat_map(|resources| &resources.throttles) {
        clean("throttles.device", &throttle.device)?;
    }
    for weight in spec.resources.iter().flat_map(|resources| &resources.blkio_weight_devices) {
        clean("blkio_weight_devices.device", &weight.device)?;
    }
    Ok(())
}

fn rule(kind: LinuxDeviceType, major: Option<i64>, minor: Option<i64>, access: &str) -> LinuxDeviceCgroup {
    let mut builder = LinuxDeviceCgroupBuilder::default().allow(true).typ(kind).access(access);
    if let Some(major) = major {
        builder = builder.major(major);
    }
    if let Some(minor) = minor {
        builder = builder.minor(minor);
    }
    builder.build().expect("every field has a default")
}

impl Devices {
    /// Looks at the host for the devices of a request.
    ///
    /// # Errors
    /// When one does not exist, or is no device.
    pub fn find(spec: &ContainerSpec) -> Result<Self, Error> {
        let mut devices = Self { rules: base_rules(spec.privileged), ..Self::default() };
        if spec.privileged {
            let whole = Wish { host: "/dev".into(), inside: "/dev".into(), access: "rwm".into() };
            devices.walk(&whole, Path::new("/dev"), 0)?;
        }
        for text in &spec.devices {
            let wish = parse(text)?;
            let before = devices.nodes.len();
            devices.walk(&wish, Path::new(&wish.host), 0)?;
            if devices.nodes.len() == before {
                return Err(Error::invalid("devices", text, "neither a device nor a folder with one"));
            }
        }
        for text in &spec.device_cgroup_rules {
            devices.rules.push(parse_rule(text)?);
        }
        for throttle in spec.resources.iter().flat_map(|resources| &resources.throttles) {
            let device = block_device("throttles.device", &throttle.device)?;
            devices.throttles.push((device, throttle.clone()));
        }
        for weight in spec.resources.iter().flat_map(|resources| &resources.blkio_weight_devices) {
            let device = block_device("blkio_weight_devices.device", &weight.device)?;
            devices.weights.push((device, u16::try_from(weight.weight).unwrap_or(u16::MAX)));
        }
        Ok(devices)
    }

    /// Takes a node, or all nodes of a folder.
    fn walk(&mut self, wish: &Wish, host: &Path, depth: usize) -> Result<(), Error> {
        let found = stat(host)?;
        if found.is_dir() {
            let unreadable = |source| Error::File { action: "read the folder", path: host.into(), source };
            if depth >= DEPTH {
                return Ok(());
            }
            for entry in fs::read_dir(host).map_err(unreadable)? {
                let path = entry.map_err(unreadable)?.path();
                let own = wish.host == "/dev" && OWN.iter().any(|own| path == Path::new(own));
                // A link in `/dev` leads to a node that is found by itself.
                let kind = fs::symlink_metadata(&path).map(|found| found.file_type());
                let wanted = kind.is_ok_and(|k| k.is_dir() || k.is_block_device() || k.is_char_device());
                if !own && wanted {
                    self.walk(wish, &path, depth + 1)?;
                }
            }
            return Ok(());
        }
        let kind = if found.file_type().is_block_device() {
            LinuxDeviceType::B
        } else if found.file_type().is_char_device() {
            LinuxDeviceType::C
        } else {
            return Ok(());
        };
        let inside = match host.strip_prefix(&wish.host) {
            Ok(rest) if rest.as_os_str().is_empty() => PathBuf::from(&wish.inside),
            Ok(rest) => Path::new(&wish.inside).join(rest),
            Err(_) => PathBuf::from(&wish.inside),
        };
        self.add(inside, kind, &found, &wish.access)
    }

    fn add(
        &mut self,
        inside: PathBuf,
        kind: LinuxDeviceType,
        found: &fs::Metadata,
        access: &str,
    ) -> Result<(), Error> {
        if self.nodes.len() >= LIMIT {
            return Err(Error::Host(format!("the devices asked for are more than {LIMIT}")));
        }
        let (major, minor) = numbers(found);
        let node = LinuxDeviceBuilder::default()
            .path(inside)
            .typ(kind)
            .major(major)
            .minor(minor)
            .file_mode(found.mode() & 0o7777)
            .uid(found.uid())
            .gid(found.gid())
            .build()
            .expect("every field has a value");
        self.nodes.retain(|other| other.path() != node.path());
        self.nodes.push(node);
        self.rules.push(rule(kind, Some(major), Some(minor), access));
        Ok(())
    }
}

/// The numbers of a block device of the host.
fn block_device(field: &'static str, path: &str) -> Result<(i64, i64), Error> {
    let found = stat(Path::new(path))?;
    if !found.file_type().is_block_device() {
        return Err(Error::invalid(field, path, "no block device"));
    }
    Ok(numbers(&found))
}

fn stat(path: &Path) -> Result<fs::Metadata, Error> {
    fs::metadata(path).map_err(|source| Error::File { action: "find the device", path: path.into(), source })
}

fn numbers(found: &fs::Metadata) -> (i64, i64) {
    let device = found.rdev();
    (i64::from(rustix::fs::major(device)), i64::from(rustix::fs::minor(device)))
}

/// Nothing, then what every container needs. Making a node is allowed, opening it is not.
fn base_rules(privileged: bool) -> Vec<LinuxDeviceCgroup> {
    if privileged {
        return vec![rule(LinuxDeviceType::A, None, None, "rwm")];
    }
    let mut deny = rule(LinuxDeviceType::A, None, None, "rwm");
    deny.set_allow(false);
    let mut rules =
        vec![deny, rule(LinuxDeviceType::C, None, None, "m"), rule(LinuxDeviceType::B, None, None, "m")];
    let all = |(major, minor): (u32, Option<u32>)| {
        rule(LinuxDeviceType::C, Some(major.into()), minor.map(i64::from), "rwm")
    };
    rules.extend(DEVICES.map(all));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_device_texts_are_understood() {
        let shown = |text: &str| parse(text).map(|w| format!("{} {} {}", w.host, w.inside, w.access));
        assert_eq!(shown("/dev/fuse").unwrap(), "/dev/fuse /dev/fuse rwm");
        assert_eq!(shown("/dev/fuse:r").unwrap(), "/dev/fuse /dev/fuse r");
        assert_eq!(shown("/dev/a:/dev/b").unwrap(), "/dev/a /dev/b rwm");
        assert_eq!(shown("/dev/a:/dev/b:rw").unwrap(), "/dev/a /dev/b rw");
        for bad in [
            "",
            "fuse",
            "/dev/a:b",
            "/dev/a:/dev/b:x",
            "/dev/a:/dev/b:rr",
            "/dev/a:/b:r:w",
            "/dev/a:/proc/x",
            "/dev/a:/",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        parse_rule("c 1:3 rwm").unwrap();
        parse_rule("b *:* m").unwrap();
        for bad in ["", "c 1:3", "x 1:3 r", "c 1 r", "c 1:3 q", "c -1:3 r", "c 1:3 r x", "c 1:3  r"] {
            assert!(parse_rule(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nodes_are_found_on_the_host() {
        let spec = ContainerSpec { devices: vec!["/dev/null:/dev/x/y:r".into()], ..Default::default() };
        let found = Devices::find(&spec).unwrap();
        let node = found.nodes.first().unwrap();
        assert_eq!((node.major(), node.minor(), node.path()), (1, 3, &PathBuf::from("/dev/x/y")));
        assert_eq!(found.rules.last().unwrap().access(), &Some("r".to_owned()));
        for bad in ["/dev/does-not-exist", "/etc/passwd"] {
            let spec = ContainerSpec { devices: vec![bad.into()], ..Default::default() };
            assert!(Devices::find(&spec).is_err(), "{bad}");
        }
        let all = Devices::find(&ContainerSpec { privileged: true, ..Default::default() }).unwrap();
        assert!(all.nodes.iter().any(|node| node.path() == Path::new("/dev/null")));
        assert!(all.nodes.iter().all(|node| !node.path().starts_with("/dev/pts")));
    }
}
