//! What the command line and the configuration file say, and the names that follow from it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Parser;
use davit_proto::id::ContainerId;
use davit_proto::transport::Address;
use davit_volume::DriverAddress;
use ipnet::Ipv4Net;
use serde::Deserialize;
use sha2::Digest as _;

/// Where the state lies by default.
pub const ROOT: &str = "/var/lib/davit";
/// Where sockets and other things of this boot lie by default.
pub const RUN: &str = "/run/davit";
/// The longest name the kernel takes for a network interface.
const INTERFACE: usize = 15;
/// Shims of each kind that are prepared ahead by default.
const POOL: usize = 4;
/// Each costs memory, and its addresses are nobody else's.
const MOST_POOL: usize = 64;
/// The longest configuration file that is read.
const FILE: usize = 1 << 20;

/// davitd, the controller of davit: runs containers and serves the API.
#[derive(Debug, Default, Parser, Deserialize)]
#[command(name = "davitd", version)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Flags {
    /// Directory of everything that lasts
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Directory of sockets and all else that ends with this boot
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Socket of the API [default: unix://<run>/davitd.sock]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Group whose members may use the API's socket
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// TOML file with the same names as these flags; flags win
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Name of the default bridge
    #[arg(long, value_name = "NAME")]
    pub bridge: Option<String>,
    /// Address range of the default bridge [default: 172.17.0.0/16, or the next free one]
    #[arg(long, value_name = "CIDR")]
    pub bridge_subnet: Option<Ipv4Net>,
    /// Registry to speak to without TLS (may be repeated)
    #[arg(long, value_name = "HOST[:PORT]")]
    pub insecure_registry: Vec<String>,
    /// Mirror of the default registry (may be repeated)
    #[arg(long, value_name = "URL")]
    pub registry_mirror: Vec<String>,
    /// What to call this engine in `info` (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Cgroup above the containers' own
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
    /// Most shims of each kind to prepare before anybody asks for a container; 0 for none [default: 4]
    #[arg(long, value_name = "N")]
    pub pool: Option<usize>,
    /// What to log: error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Use the image service that listens here instead of the own one
    #[arg(long, value_name = "ADDRESS")]
    pub image_service: Option<String>,
    /// Use the volume service that listens here instead of the own one
    #[arg(long, value_name = "ADDRESS")]
    pub volume_service: Option<String>,
    /// Driver of volumes beside the local one (may be repeated)
    #[arg(long, value_name = "NAME=ADDRESS")]
    pub volume_driver: Vec<String>,
    /// Use the network service that listens here instead of the own one
    #[arg(long, value_name = "ADDRESS")]
    pub network_service: Option<String>,
    /// Pass builds on to the build service that listens here instead of the own one
    #[arg(long, value_name = "ADDRESS")]
    pub build_service: Option<String>,
    /// What the embedded image service collects by itself
    #[command(flatten)]
    #[serde(flatten)]
    pub gc: davit_image::gc::policy::Settings,
    /// Print the names of all failpoints and end
    #[arg(long)]
    #[serde(skip)]
    pub list_failpoints: bool,
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration file cannot be read.
    #[error("read configuration file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The configuration file cannot be understood.
    #[error("parse configuration file {path}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<toml::de::Error>,
    },
    /// One value is wrong.
    #[error("invalid {flag} {value:?}: {rule}")]
    Value {
        /// Name of the flag.
        flag: &'static str,
        /// Its value.
        value: String,
        /// What it would have to be.
        rule: String,
    },
}

/// The settings of one engine, checked, with every name that derives from them.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory of everything that lasts.
    pub root: PathBuf,
    /// Directory of everything that ends with this boot.
    pub run: PathBuf,
    /// Path of the API's socket.
    pub listen: PathBuf,
    /// Group whose members may use the API's socket.
    pub group: Option<String>,
    /// Name of this engine on this host: "davit" for the default directories, else with a hash of them.
    pub instance: String,
    /// Name of the default bridge.
    pub bridge: String,
    /// Address range of the default bridge; the usual one, or the next free one, when not said.
    pub bridge_subnet: Option<Ipv4Net>,
    /// Registries to speak to without TLS.
    pub insecure_registry: Vec<String>,
    /// Mirrors of the default registry.
    pub registry_mirror: Vec<String>,
    /// What its administrator calls this engine: `key=value`.
    pub labels: Vec<String>,
    /// Cgroup above the containers' own, absolute within each hierarchy.
    pub cgroup_parent: String,
    /// Most shims of each kind that are prepared ahead.
    pub pool: usize,
    /// What to log.
    pub log_level: String,
    /// What the embedded image service collects by itself.
    pub gc: davit_image::gc::policy::Settings,
    /// An image service of its own, instead of the embedded one.
    pub image_service: Option<Address>,
    /// A volume service of its own.
    pub volume_service: Option<Address>,
    /// Drivers of the embedded volume service.
    pub volume_drivers: Vec<DriverAddress>,
    /// A network service of its own.
    pub network_service: Option<Address>,
    /// A build service of its own.
    pub build_service: Option<Address>,
}

impl Config {
    /// Settings from the command line, completed by the configuration file that it names.
    ///
    /// # Errors
    /// When the file cannot be read or a value is wrong.
    pub fn load(flags: Flags) -> Result<Self, Error> {
        let file = match &flags.config {
            None => Flags::default(),
            Some(path) => read_file(path)?,
        };
        Self::new(flags.or(file))
    }

    fn new(flags: Flags) -> Result<Self, Error> {
        let root = absolute("root", flags.root, ROOT)?;
        let run = absolute("run", flags.run, RUN)?;
        let instance = instance(&root, &run);
        let listen = match flags.listen {
            None => run.join("davitd.sock"),
            Some(text) => socket("listen", &text)?,
        };
        let bridge = flags.bridge.unwrap_or_else(|| match instance.strip_prefix("davit-") {
            None => "davit0".to_owned(),
            Some(hash) => format!("dv{hash}"),
        });
        check_interface(&bridge)?;
        let optional =
            |flag, text: Option<String>| text.map(|text| socket(flag, &text).map(Address::Unix)).transpose();
        let volume_service = optional("volume-service", flags.volume_service)?;
        Ok(Self {
            bridge,
            volume_drivers: volume_drivers(&flags.volume_driver, volume_service.is_some())?,
            bridge_subnet: flags.bridge_subnet,
            cgroup_parent: cgroup_parent(flags.cgroup_parent, &instance)?,
            pool: pool(flags.pool)?,
            log_level: flags.log_level.unwrap_or_else(|| "info".to_owned()),
            image_service: optional("image-service", flags.image_service)?,
            volume_service,
            network_service: optional("network-service", flags.network_service)?,
            build_service: optional("build-service", flags.build_service)?,
            insecure_registry: flags.insecure_registry,
            registry_mirror: flags.registry_mirror,
            labels: labels(flags.label)?,
            group: flags.group,
            gc: flags.gc,
            root,
            run,
            listen,
            instance,
        })
    }

    /// The lasting folder of all bundles.
    #[must_use]
    pub fn bundles(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// The lasting folder of one container.
    #[must_use]
    pub fn bundle(&self, id: &ContainerId) -> PathBuf {
        self.bundles().join(id.as_str())
    }

    /// Where bundles go to be deleted.
    #[must_use]
    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// The folder of all shims' sockets.
    #[must_use]
    pub fn shims(&self) -> PathBuf {
        self.run.join("shim")
    }

    /// The folder of one shim's socket.
    #[must_use]
    pub fn shim_dir(&self, id: &ContainerId) -> PathBuf {
        self.shims().join(id.as_str())
    }

    /// Path of a container's cgroup below each hierarchy's root.
    #[must_use]
    pub fn cgroup_path(&self, id: &ContainerId, parent: &str) -> String {
        format!("{}/{id}", self.cgroup_parent_of(parent))
    }

    /// Cgroup that a container's is made below, from the root of each hierarchy: what was asked for, a relative path
    /// below the engine's.
    #[must_use]
    pub fn cgroup_parent_of(&self, asked: &str) -> String {
        match asked {
            "" => self.cgroup_parent.clone(),
            absolute if absolute.starts_with('/') => absolute.to_owned(),
            relative => format!("{}/{relative}", self.cgroup_parent),
        }
    }
}

impl Flags {
    /// These flags, with `file`'s where they are silent.
    fn or(self, file: Self) -> Self {
        let list = |ours: Vec<String>, theirs: Vec<String>| if ours.is_empty() { theirs } else { ours };
        Self {
            root: self.root.or(file.root),
            run: self.run.or(file.run),
            listen: self.listen.or(file.listen),
            group: self.group.or(file.group),
            config: self.config,
            bridge: self.bridge.or(file.bridge),
            bridge_subnet: self.bridge_subnet.or(file.bridge_subnet),
            insecure_registry: list(self.insecure_registry, file.insecure_registry),
            registry_mirror: list(self.registry_mirror, file.registry_mirror),
            label: list(self.label, file.label),
            cgroup_parent: self.cgroup_parent.or(file.cgroup_parent),
            pool: self.pool.or(file.pool),
            log_level: self.log_level.or(file.log_level),
            image_service: self.image_service.or(file.image_service),
            volume_service: self.volume_service.or(file.volume_service),
            volume_driver: list(self.volume_driver, file.volume_driver),
            network_service: self.network_service.or(file.network_service),
            build_service: self.build_service.or(file.build_service),
            gc: self.gc.or(file.gc),
            list_failpoints: self.list_failpoints,
        }
    }
}

fn read_file(path: &Path) -> Result<Flags, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let bytes = davit_sys::file::read_bounded(path, FILE).map_err(failed)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| failed(std::io::Error::new(std::io::ErrorKind::InvalidData, "not UTF-8")))?;
    toml::from_str(&text).map_err(|source| Error::Parse { path: path.to_owned(), source: Box::new(source) })
}

fn value(flag: &'static str, value: &str, rule: impl Into<String>) -> Error {
    Error::Value { flag, value: value.to_owned(), rule: rule.into() }
}

fn absolute(flag: &'static str, path: Option<PathBuf>, default: &str) -> Result<PathBuf, Error> {
    let path = path.unwrap_or_else(|| default.into());
    let text = path.to_string_lossy();
    if !path.is_absolute() {
        return Err(value(flag, &text, "must be an absolute path"));
    }
    // It becomes part of mount options, where these would begin the next one.
    if path.to_str().is_none() || text.contains([',', ':', '\\', '\n', '\0']) {
        return Err(value(flag, &text, "must be UTF-8 without comma, colon, backslash or newline"));
    }
    // Components, so that a trailing slash does not make another engine.
    Ok(path.components().collect())
}

fn socket(flag: &'static str, text: &str) -> Result<PathBuf, Error> {
    if text.starts_with("tcp://") {
        return Err(value(flag, text, "TCP is not served by this version of davit"));
    }
    let path = text.strip_prefix("unix://").filter(|path| path.starts_with('/'));
    path.map(PathBuf::from).ok_or_else(|| value(flag, text, "must be unix:///absolute/path"))
}

/// Drivers are the volume service's own business; one of its own has to be told itself.
fn volume_drivers(given: &[String], elsewhere: bool) -> Result<Vec<DriverAddress>, Error> {
    let flag = "volume-driver";
    if let Some(first) = given.first().filter(|_| elsewhere) {
        return Err(value(flag, first, "goes to davit-volume, which --volume-service names"));
    }
    let rule = "must be NAME=unix:///absolute/path, and the name another one than local";
    given.iter().map(|text| text.parse().map_err(|_| value(flag, text, rule))).collect()
}

fn labels(given: Vec<String>) -> Result<Vec<String>, Error> {
    let good = |text: &str| text.split_once('=').is_some_and(|(key, _)| !key.is_empty());
    match given.iter().find(|text| !good(text)) {
        Some(wrong) => Err(value("label", wrong, "must be KEY=VALUE")),
        None => Ok(given),
    }
}

fn instance(root: &Path, run: &Path) -> String {
    if root == Path::new(ROOT) && run == Path::new(RUN) {
        return "davit".to_owned();
    }
    let mut hash = sha2::Sha256::new();
    hash.update(root.as_os_str().as_encoded_bytes());
    hash.update([0]);
    hash.update(run.as_os_str().as_encoded_bytes());
    hash.finalize().iter().take(4).fold(String::from("davit-"), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

fn check_interface(name: &str) -> Result<(), Error> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if name.is_empty() || name.len() > INTERFACE || name.starts_with('.') || !name.bytes().all(good) {
        return Err(value("bridge", name, "must be 1 to 15 of [a-zA-Z0-9_.-]"));
    }
    Ok(())
}

fn cgroup_parent(given: Option<String>, instance: &str) -> Result<String, Error> {
    let path = given.unwrap_or_else(|| format!("/{instance}"));
    let plain = path.split('/').skip(1).all(|part| {
        !part.is_empty() && part != "." && part != ".." && !part.contains(['\0', '\n', ':', ','])
    });
    if !path.starts_with('/') || !plain || path.len() > 200 {
        return Err(value(
            "cgroup-parent",
            &path,
            "must be an absolute path below the root, without . and ..",
        ));
    }
    Ok(path)
}

fn pool(given: Option<usize>) -> Result<usize, Error> {
    match given.unwrap_or(POOL) {
        many if many > MOST_POOL => {
            Err(value("pool", &many.to_string(), format!("must be at most {MOST_POOL}")))
        }
        some => Ok(some),
    }
}

/// Mirrors by registry, as the image service wants them: all of ours are of the default registry.
#[must_use]
pub fn mirrors(config: &Config, registry: &str) -> BTreeMap<String, Vec<String>> {
    if config.registry_mirror.is_empty() {
        return BTreeMap::new();
    }
    BTreeMap::from([(registry.to_owned(), config.registry_mirror.clone())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Config, Error> {
        let flags = Flags::try_parse_from(std::iter::once("davitd").chain(args.iter().copied())).unwrap();
        Config::load(flags)
    }

    #[test]
    fn the_default_engine_has_plain_names() {
        let config = parse(&[]).unwrap();
        assert_eq!(config.instance, "davit");
        assert_eq!(config.bridge, "davit0");
        assert_eq!(config.cgroup_parent, "/davit");
        assert_eq!(config.listen, Path::new("/run/davit/davitd.sock"));
    }

    #[test]
    fn another_engine_shares_no_name() {
        let one = parse(&["--root", "/tmp/a", "--run", "/tmp/b"]).unwrap();
        let two = parse(&["--root", "/tmp/a", "--run", "/tmp/c"]).unwrap();
        let same = parse(&["--root", "/tmp/a/", "--run", "/tmp//b"]).unwrap();
        assert_eq!(one.instance, same.instance);
        assert_ne!(one.instance, two.instance);
        assert_ne!(one.bridge, two.bridge);
        assert_ne!(one.cgroup_parent, two.cgroup_parent);
        assert!(one.bridge.len() <= INTERFACE);
    }

    #[test]
    fn flags_win_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("davitd.toml");
        std::fs::write(&path, "bridge = \"filebr\"\nlog-level = \"debug\"\ninsecure-registry = [\"a:1\"]\n")
            .unwrap();
        let config = parse(&["--config", path.to_str().unwrap(), "--bridge", "flagbr"]).unwrap();
        assert_eq!(config.bridge, "flagbr");
        assert_eq!(config.log_level, "debug");
        assert_eq!(config.insecure_registry, ["a:1"]);

        let gc = "gc-high = 90\ngc-budget = \"20g\"\ngc-keep = [\"label=keep\"]\n";
        std::fs::write(&path, gc).unwrap();
        let config = parse(&["--config", path.to_str().unwrap(), "--gc-high", "80"]).unwrap();
        assert_eq!((config.gc.gc_high, config.gc.gc_budget.as_deref()), (Some(80), Some("20g")));
        assert_eq!(config.gc.gc_keep, ["label=keep"]);

        std::fs::write(&path, "brigde = \"x\"\n").unwrap();
        assert!(matches!(parse(&["--config", path.to_str().unwrap()]), Err(Error::Parse { .. })));
    }

    #[test]
    fn wrong_values_are_named() {
        for (args, flag) in [
            (["--root", "relative"], "root"),
            (["--root", "/a,b"], "root"),
            (["--pool", "65"], "pool"),
            (["--bridge", "a-name-that-is-too-long"], "bridge"),
            (["--cgroup-parent", "/../x"], "cgroup-parent"),
            (["--cgroup-parent", "x"], "cgroup-parent"),
            (["--listen", "tcp://0.0.0.0:1"], "listen"),
            (["--label", "=x"], "label"),
            (["--image-service", "image.sock"], "image-service"),
            (["--volume-driver", "loop"], "volume-driver"),
            (["--volume-driver", "local=unix:///run/x.sock"], "volume-driver"),
        ] {
            match parse(&args) {
                Err(Error::Value { flag: named, .. }) => assert_eq!(named, flag),
                other => panic!("{args:?}: {other:?}"),
            }
        }
    }
}
