//! `DiskUsage`: what each volume takes.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use davit_sys::mount;

use crate::deadline;
use crate::filter::Filter;
use crate::local;
use crate::options::{Medium, Plan, What};
use crate::size::disk_usage;
use crate::store::DATA;
use crate::volume::{LOCAL, Volume};
use crate::volumes::Volumes;

/// How long a mounted file system may take to say how full it is.
const PATIENCE: Duration = Duration::from_secs(2);

impl Volumes {
    /// Volumes that a filter admits, with the bytes of disk that each takes.
    pub fn disk_usage(&self, filter: &Filter) -> Vec<(Volume, Option<u64>)> {
        // A driver that does not answer is asked once, and not for each of its volumes.
        let mut away = BTreeSet::new();
        let mut measure = |volume: &Volume| {
            let driver = &volume.record.driver;
            if away.contains(driver) {
                return None;
            }
            let size = self.measure(volume);
            if size.is_none() && driver != LOCAL && self.is_away(driver) {
                away.insert(driver.clone());
            }
            size
        };
        let volumes = self.list(filter).into_iter();
        volumes.map(|volume| (volume.clone(), measure(&volume))).collect()
    }

    fn is_away(&self, driver: &str) -> bool {
        self.drivers().get(driver).and_then(|driver| driver.is_global()).is_err()
    }

    /// Bytes that a volume takes of this host. What a server has, or a folder that was there before, is not the
    /// volume's own; and a driver is asked, for only it knows.
    pub fn measure(&self, volume: &Volume) -> Option<u64> {
        let record = &volume.record;
        if record.driver != LOCAL {
            let driver = self.drivers().get(&record.driver).ok()?;
            return driver.inspect(&record.name).ok()?.size_bytes;
        }
        let path = Path::new(&volume.mountpoint);
        match Medium::parse(&record.options).ok()? {
            Medium::Folder(_) => {
                let folder = davit_sys::file::open_dir(path.parent()?).ok()?;
                Some(disk_usage(folder, OsStr::new(DATA)))
            }
            Medium::Mount(Plan { what: What::FileSystem { kind, source, .. }, .. }) => {
                let ours = kind == "tmpfs" || kind == "ramfs" || source.starts_with("/dev/");
                if !ours {
                    return None;
                }
                match local::is_mounted(path) {
                    Ok(true) => used(path),
                    // Memory that nobody has is none.
                    Ok(false) if kind == "tmpfs" || kind == "ramfs" => Some(0),
                    _ => None,
                }
            }
            Medium::Mount(_) => None,
        }
    }
}

fn used(path: &Path) -> Option<u64> {
    let path = path.to_owned();
    let asked = deadline::within(PATIENCE, "ask how full a volume is", move || Ok(mount::used(&path).ok()));
    asked.ok().flatten()
}
