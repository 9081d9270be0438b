//! The service's folder: network records and where the next address of each is looked for.
//!
//! ```text
//! <root>/network/
//!   .lock                       held while the service runs
//!   .lease/<container id>.json  what a container holds
//!   .next/<name>                where the next address is looked for
//!   .next6/<name>               the same for IPv6
//!   .closed                     boot id of the host whose forwarding we switched on
//!   <name>.json                 a network
//! ```

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};

use davit_proto::id::Name;
use davit_sys::file::{self, Durability, Flock, OFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::network::Network;

/// Largest record that is read.
const MAX_RECORD: usize = 1 << 20;
/// Folders of cursors, by family.
const NEXT: &str = ".next";
const NEXT6: &str = ".next6";
/// Bytes of a cursor: an address, padded, so that one write replaces it whole.
const CURSOR: usize = 40;

/// The folder.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    dir: OwnedFd,
    next: OwnedFd,
    next6: OwnedFd,
    _lock: Flock,
}

impl Store {
    /// Opens the folder, making it when it is not there, and takes its lock.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let dir = make_dir(path)?;
        let lock = Flock::try_lock_at(&dir, ".lock".as_ref()).map_err(Error::file("lock", path))?;
        let lock = lock.ok_or_else(|| Error::Locked(path.to_owned()))?;
        let (next, next6) = (make_dir(&path.join(NEXT))?, make_dir(&path.join(NEXT6))?);
        Ok(Self { path: path.to_owned(), dir, next, next6, _lock: lock })
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads all records. One that cannot be read is told of and left alone.
    pub fn load(&self) -> Result<Vec<Network>, Error> {
        let mut networks = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(Error::file("list", &self.path))? {
            let entry = entry.map_err(Error::file("list", &self.path))?;
            let name = entry.file_name().into_string().unwrap_or_default();
            let Some(Ok(name)) = name.strip_suffix(".json").map(str::parse::<Name>) else { continue };
            match read_json::<Network>(&entry.path(), MAX_RECORD) {
                Ok(network) if network.name == name => networks.push(network),
                Ok(_) => tracing::warn!(path = %entry.path().display(), "left out a network of another name"),
                Err(error) => {
                    let error = davit_proto::status::chain(&error);
                    tracing::warn!(network = %name, error, "left out a network whose record cannot be read");
                }
            }
        }
        Ok(networks)
    }

    /// Makes sure that there is no record of a name, readable or not.
    pub fn require_absent(&self, name: &Name) -> Result<(), Error> {
        let path = self.path.join(format!("{name}.json"));
        match path.try_exists() {
            Ok(false) => Ok(()),
            Ok(true) => Err(Error::Unreadable(path)),
            Err(error) => Err(Error::file("look at", &path)(error)),
        }
    }

    /// Writes a record; it survives a power cut when this returns.
    pub fn write(&self, network: &Network) -> Result<(), Error> {
        let name = format!("{}.json", network.name);
        write_json(&self.dir, &self.path, &name, network, Durability::Synced)
    }

    /// Removes a record and its cursors, durably.
    pub fn remove(&self, network: &Network) -> Result<(), Error> {
        let name = format!("{}.json", network.name);
        file::remove_file_at(&self.dir, name.as_ref())
            .and_then(|()| file::sync_dir(&self.dir))
            .map_err(Error::file("remove", &self.path.join(&name)))?;
        for (folder, fd) in [(NEXT, &self.next), (NEXT6, &self.next6)] {
            match file::remove_file_at(fd, network.name.as_str().as_ref()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    let path = self.path.join(folder).join(network.name.as_str());
                    return Err(Error::file("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Where the next address of a network is looked for, of one family, and the file that keeps it.
    pub fn cursor(&self, network: &Name, ipv4: bool) -> Result<Cursor, Error> {
        let (folder, dir) = if ipv4 { (NEXT, &self.next) } else { (NEXT6, &self.next6) };
        let path = self.path.join(folder).join(network.as_str());
        let fd = file::open_at(dir, network.as_str().as_ref(), OFlags::RDWR | OFlags::CREATE, 0o600);
        let file = File::from(fd.map_err(Error::file("open", &path))?);
        let mut bytes = [0; CURSOR];
        let read = file.read_at(&mut bytes, 0).map_err(Error::file("read", &path))?;
        // A file that a power cut emptied says nothing: the search then begins at the beginning.
        let text = bytes.get(..read).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
        let at = text.trim().parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Ok(Cursor { path, file, at })
    }
}

/// Where the next address of a network is looked for. Kept by one small write in place: the order of addresses
/// survives our process, and after a power cut any order will do.
#[derive(Debug)]
pub struct Cursor {
    path: PathBuf,
    file: File,
    at: IpAddr,
}

impl Cursor {
    /// Where.
    pub fn at(&self) -> IpAddr {
        self.at
    }

    /// Moves it.
    pub fn set(&mut self, at: IpAddr) -> Result<(), Error> {
        let text = format!("{:<39}\n", at.to_string());
        self.file.write_all_at(text.as_bytes(), 0).map_err(Error::file("write", &self.path))?;
        self.at = at;
        Ok(())
    }
}

/// Makes a folder of mode 0700, and those above it, and opens it.
pub fn make_dir(path: &Path) -> Result<OwnedFd, Error> {
    let mut private = fs::DirBuilder::new();
    private.recursive(true).mode(0o700).create(path).map_err(Error::file("create", path))?;
    file::open_dir(path).map_err(Error::file("open", path))
}

/// Reads a JSON file.
pub fn read_json<T: DeserializeOwned>(path: &Path, limit: usize) -> Result<T, Error> {
    let bytes = file::read_bounded(path, limit).map_err(Error::file("read", path))?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Record { path: path.to_owned(), source })
}

/// Replaces a JSON file.
pub fn write_json(
    dir: &OwnedFd,
    path: &Path,
    name: &str,
    value: &impl Serialize,
    durability: Durability,
) -> Result<(), Error> {
    let path = path.join(name);
    let bytes = serde_json::to_vec(value).map_err(|source| Error::Record { path: path.clone(), source })?;
    file::write_atomic(dir, name, &bytes, durability).map_err(Error::file("write", &path))
}
