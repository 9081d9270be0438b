//! Options of the local driver, in docker's words: `type`, `device`, `o`, `size`. Pure: nothing is asked of the kernel.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use davit_sys::mount::{Attributes, TreeDepth};

use crate::error::Error;

/// Options by name, as the user gave them.
pub type Options = BTreeMap<String, String>;

/// Bytes that all options of a volume may have together.
const MAX_OPTIONS: usize = 64 << 10;
/// Longest name of a kind of file system.
const MAX_TYPE: usize = 64;
/// Longest path.
const MAX_PATH: usize = 4095;
/// Words of `/etc/fstab` that mean nothing to the kernel.
const IDLE: [&str; 11] = [
    "defaults",
    "rw",
    "suid",
    "dev",
    "exec",
    "auto",
    "noauto",
    "nofail",
    "_netdev",
    "norelatime",
    "relatime",
];
/// Words that would do something else than mount.
const FOREIGN: [&str; 12] = [
    "remount",
    "move",
    "shared",
    "slave",
    "private",
    "unbindable",
    "rshared",
    "rslave",
    "rprivate",
    "runbindable",
    "loop",
    "user",
];

/// What a local volume lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Medium {
    /// Its own folder, of at most so many bytes.
    Folder(Option<u64>),
    /// A file system that is mounted on its folder while somebody uses it.
    Mount(Plan),
}

/// How a volume is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What.
    pub what: What,
    /// How.
    pub attributes: Attributes,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A directory of the host.
    Bind {
        /// Its path.
        device: PathBuf,
        /// With what is mounted below it.
        depth: TreeDepth,
    },
    /// A file system of its own.
    FileSystem {
        /// Its kind, as the kernel calls it.
        kind: String,
        /// What it is on: a block device, a server's directory.
        source: String,
        /// Its options, with a value or without.
        options: Vec<(String, Option<String>)>,
    },
}

impl Medium {
    /// Reads the options of a volume.
    pub fn parse(options: &Options) -> Result<Self, Error> {
        let bytes: usize = options.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > MAX_OPTIONS {
            return Err(wrong("opt", &format!("{bytes} bytes"), "all options together may have 64 KiB"));
        }
        if let Some(unknown) = options.keys().find(|key| !["type", "device", "o", "size"].contains(&&***key))
        {
            let value = &options[unknown];
            return Err(wrong(unknown, value, "the local driver has the options type, device, o and size"));
        }
        if let Some((key, value)) = options.iter().find(|(_, value)| value.contains(['\0', '\n'])) {
            return Err(wrong(key, value, "may not hold NUL or newline"));
        }
        let get = |key| options.get(key).map(String::as_str).filter(|value: &&str| !value.is_empty());
        let size = get("size").map(size).transpose()?;
        let (kind, device, words) = (get("type"), get("device"), get("o").unwrap_or_default());
        if kind.is_none() && device.is_none() && words.is_empty() {
            return Ok(Self::Folder(size));
        }
        if let Some(text) = options.get("size").filter(|_| size.is_some()) {
            let rule = "limits a folder of this host; the size of a file system is said in o, as o=size=…";
            return Err(wrong("size", text, rule));
        }
        let words = Words::parse(words)?;
        match words.bind {
            Some(depth) => bind(kind, device, depth, words).map(Self::Mount),
            None => filesystem(kind, device, words).map(Self::Mount),
        }
    }
}

fn bind(kind: Option<&str>, device: Option<&str>, depth: TreeDepth, words: Words) -> Result<Plan, Error> {
    if let Some(kind) = kind.filter(|kind| !["none", "bind"].contains(kind)) {
        return Err(wrong("type", kind, "must be none with o=bind"));
    }
    if let Some((key, _)) = words.options.first() {
        let rule = "with bind there are only ro, nosuid, nodev, noexec, noatime and nodiratime";
        return Err(wrong("o", key, rule));
    }
    let device = device.ok_or_else(|| wrong("device", "", "must name the folder that o=bind shows"))?;
    let path = Path::new(device);
    let plain = path.components().all(|part| part != Component::ParentDir);
    if !path.is_absolute() || !plain || device.len() > MAX_PATH {
        return Err(wrong("device", device, "must be an absolute path without '..'"));
    }
    let what = What::Bind { device: path.to_owned(), depth };
    Ok(Plan { what, attributes: words.attributes })
}

fn filesystem(kind: Option<&str>, device: Option<&str>, words: Words) -> Result<Plan, Error> {
    let kind = kind.ok_or_else(|| {
        let given = device.map_or(("o", ""), |device| ("device", device));
        wrong(given.0, given.1, "needs the type of the file system, as type=ext4, or o=bind")
    })?;
    if kind == "none" || kind == "bind" {
        return Err(wrong("type", kind, "needs o=bind or o=rbind"));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if kind.len() > MAX_TYPE || !kind.bytes().all(plain) {
        return Err(wrong("type", kind, "must be the kernel's name of a file system: tmpfs, nfs, ext4, …"));
    }
    let source = match device {
        Some(device) if device.len() <= MAX_PATH => device,
        Some(device) => return Err(wrong("device", device, "may have 4095 bytes")),
        None if kind == "tmpfs" || kind == "ramfs" => kind,
        None => return Err(wrong("device", "", "must say what a file system of this type is on")),
    };
    let what = What::FileSystem { kind: kind.to_owned(), source: source.to_owned(), options: words.options };
    Ok(Plan { what, attributes: words.attributes })
}

/// What `o` says, sorted by whom it is for.
struct Words {
    bind: Option<TreeDepth>,
    attributes: Attributes,
    options: Vec<(String, Option<String>)>,
}

impl Words {
    fn parse(text: &str) -> Result<Self, Error> {
        let mut words = Self { bind: None, attributes: Attributes::NONE, options: Vec::new() };
        for word in split(text) {
            let attribute = match word {
                "" => continue,
                "bind" => {
                    words.bind = Some(TreeDepth::Single);
                    continue;
                }
                "rbind" => {
                    words.bind = Some(TreeDepth::Recursive);
                    continue;
                }
                "ro" => Attributes::READ_ONLY,
                "nosuid" => Attributes::NO_SUID,
                "nodev" => Attributes::NO_DEV,
                "noexec" => Attributes::NO_EXEC,
                "noatime" => Attributes::NO_ATIME,
                "nodiratime" => Attributes::NO_DIR_ATIME,
                idle if IDLE.contains(&idle) => continue,
                foreign if FOREIGN.contains(&foreign) => {
                    return Err(wrong("o", foreign, "is no option of a file system"));
                }
                other => {
                    let (key, value) = match other.split_once('=') {
                        Some((key, value)) => (key, Some(value.trim_matches('"').to_owned())),
                        None => (other, None),
                    };
                    if key.is_empty() {
                        return Err(wrong("o", other, "must be words and words with a value, as a,b=c"));
                    }
                    words.options.push((key.to_owned(), value));
                    continue;
                }
            };
            words.attributes = words.attributes.with(attribute);
        }
        Ok(words)
    }
}

/// At commas, but not at those within quotation marks, as in a security context.
fn split(text: &str) -> Vec<&str> {
    let mut quoted = false;
    let inside = |c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    };
    text.split(inside).map(str::trim).collect()
}

/// A number of bytes as docker reads it: 10g, 10G, 10GB and 10GiB are all 10 · 2^30.
pub fn size(text: &str) -> Result<u64, Error> {
    let refused = || wrong("size", text, "must be a number of bytes of at least 4096, as 512m or 10g");
    let digits = text.trim().trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.trim()[digits.len()..].to_ascii_lowercase();
    let factor: u64 = match unit.trim_end_matches("ib").trim_end_matches('b') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        "p" => 1 << 50,
        _ => return Err(refused()),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let digits_only = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits_only(whole) || !digits_only(part) || part.len() > 9 {
        return Err(refused());
    }
    let scale = 10_u64.pow(u32::try_from(part.len()).unwrap_or(9));
    let part: u64 = part.parse().map_err(|_| refused())?;
    let part = u64::try_from(u128::from(part) * u128::from(factor) / u128::from(scale)).unwrap_or(u64::MAX);
    let whole: u64 = whole.parse().map_err(|_| refused())?;
    let bytes = whole.checked_mul(factor).and_then(|whole| whole.checked_add(part)).ok_or_else(refused)?;
    if (4096..=1 << 60).contains(&bytes) { Ok(bytes) } else { Err(refused()) }
}

/// An option that cannot be.
pub fn wrong(option: &str, value: &str, rule: &str) -> Error {
    let cut = |text: &str| text.chars().take(200).collect();
    Error::Option { option: cut(option), value: cut(value), rule: rule.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Medium, Error> {
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Medium::parse(&pairs.collect())
    }

    #[test]
    fn dockers_examples_are_understood() {
        assert_eq!(parse(&[]).unwrap(), Medium::Folder(None));
        assert_eq!(parse(&[("size", "10g")]).unwrap(), Medium::Folder(Some(10 << 30)));
        let memory = [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=100m,uid=1000,nosuid")];
        let Medium::Mount(plan) = parse(&memory).unwrap() else { panic!("a mount") };
        assert_eq!(plan.attributes, Attributes::NO_SUID);
        let options =
            vec![("size".to_owned(), Some("100m".to_owned())), ("uid".to_owned(), Some("1000".to_owned()))];
        let what = What::FileSystem { kind: "tmpfs".into(), source: "tmpfs".into(), options };
        assert_eq!(plan.what, what);
        let bound = [("type", "none"), ("o", "bind,ro"), ("device", "/srv/data")];
        let Medium::Mount(plan) = parse(&bound).unwrap() else { panic!("a mount") };
        assert_eq!(plan.what, What::Bind { device: "/srv/data".into(), depth: TreeDepth::Single });
        assert_eq!(plan.attributes, Attributes::READ_ONLY);
        assert!(
            parse(&[("type", "nfs"), ("o", "addr=10.0.0.1,rw,nfsvers=4"), ("device", ":/export")]).is_ok()
        );
        assert!(parse(&[("type", "btrfs"), ("device", "/dev/sda2")]).is_ok());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases: [(&[(&str, &str)], &str); 12] = [
            (&[("colour", "red")], "colour"),
            (&[("size", "ten")], "size"),
            (&[("size", "10x")], "size"),
            (&[("size", "1")], "size"),
            (&[("size", "1g"), ("type", "tmpfs")], "size"),
            (&[("device", "/dev/sda")], "device"),
            (&[("type", "ext4")], "device"),
            (&[("type", "none"), ("device", "/x")], "type"),
            (&[("type", "ext4"), ("o", "bind"), ("device", "/x")], "type"),
            (&[("o", "bind"), ("device", "x/y")], "device"),
            (&[("o", "bind,size=3"), ("device", "/x")], "o"),
            (&[("type", "tmpfs"), ("o", "remount")], "o"),
        ];
        for (options, named) in cases {
            match parse(options) {
                Err(Error::Option { option, .. }) => assert_eq!(option, named, "{options:?}"),
                other => panic!("{options:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn sizes_are_dockers() {
        let sizes =
            [("4096", 4096), ("10k", 10 << 10), ("1.5MiB", 3 << 19), ("2GB", 2 << 30), ("1T", 1 << 40)];
        for (text, bytes) in sizes {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "g", "-1g", "1e9", "1.g", "99999999p", "1 g", "0"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(split("a,b=\"c,d\",e"), ["a", "b=\"c,d\"", "e"]);
    }
}
