//! What containers hold: addresses and published ports. One file a container, `.lease/<container id>.json`, written
//! before the kernel is asked for anything and removed after it was told to forget.
//!
//! The files are in the page cache and not synced: they survive every process, and after a power cut there is no
//! namespace left that an address could be wired to. A file that the power cut tore therefore says nothing, and is
//! forgotten as soon as the kernel has no link of its container; see [`crate::lost`].

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use davit_proto::id::{ContainerId, Name};
use davit_sys::file::{self, Durability};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::mac::Mac;
use crate::network::NetworkId;
use crate::port::Publication;

/// Largest file that is read.
const MAX_RECORD: usize = 16 << 20;

/// A container's place on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The network.
    pub network_id: NetworkId,
    /// Its address there; none on networks without addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wired: Option<Wired>,
    /// Further names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
}

/// The link of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wired {
    /// Address.
    pub ipv4: Ipv4Addr,
    /// Address of the other family; none on networks without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Addr>,
    /// Hardware address.
    pub mac: Mac,
    /// Name of the link inside the container.
    pub interface: String,
}

/// A name that one container alone finds another one by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The name.
    pub name: Name,
    /// The container that it stands for.
    pub container_id: ContainerId,
}

impl Wired {
    /// Its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        [Some(self.ipv4.into()), self.ipv6.map(IpAddr::from)].into_iter().flatten()
    }
}

/// A network namespace by number; good for telling two apart while the holder of one lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetnsId {
    /// Process that holds it.
    pub pid: u32,
    /// Its inode.
    pub inode: u64,
}

/// All that one container holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// Form of this file; 1.
    pub version: u32,
    /// The namespace that was wired last; none for the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<NetnsId>,
    /// Its name, by which others find it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Names that it alone finds others by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// Its networks, in the order that it joined them: the first one with a way out is its way out.
    pub leases: Vec<Lease>,
    /// Its ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Publication>,
}

impl Holding {
    /// Nothing, in this namespace.
    pub fn none(netns: Option<NetnsId>) -> Self {
        Self { version: 1, netns, name: None, links: Vec::new(), leases: Vec::new(), ports: Vec::new() }
    }

    /// Its lease on a network.
    pub fn on(&self, network: &NetworkId) -> Option<&Lease> {
        self.leases.iter().find(|lease| lease.network_id == *network)
    }

    /// The first name `eth<n>` that no lease has.
    pub fn free_interface(&self) -> String {
        let used =
            |name: &str| self.leases.iter().any(|l| l.wired.as_ref().is_some_and(|w| w.interface == name));
        let mut names = (0_usize..).map(|n| format!("eth{n}"));
        names.find(|name| !used(name)).expect("there are more numbers than leases")
    }
}

/// What was read of each container: its holding, or why it cannot be read.
pub type Read = BTreeMap<ContainerId, Result<Holding, Error>>;

/// The files of all holdings.
#[derive(Debug)]
pub struct Files {
    path: PathBuf,
    dir: OwnedFd,
}

impl Files {
    /// Opens the folder and reads what is there.
    pub fn open(path: &Path) -> Result<(Self, Read), Error> {
        let dir = crate::store::make_dir(path)?;
        let mut holdings = BTreeMap::new();
        for entry in fs::read_dir(path).map_err(Error::file("list", path))? {
            let entry = entry.map_err(Error::file("list", path))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.starts_with('.') {
                // What a crash left of a write; the file itself is whole.
                file::remove_file_at(&dir, name.as_ref()).map_err(Error::file("remove", &entry.path()))?;
            } else if let Some(Ok(container_id)) = name.strip_suffix(".json").map(str::parse) {
                holdings.insert(container_id, crate::store::read_json(&entry.path(), MAX_RECORD));
            }
        }
        Ok((Self { path: path.to_owned(), dir }, holdings))
    }

    /// Writes a holding.
    pub fn write(&self, container_id: &ContainerId, holding: &Holding) -> Result<(), Error> {
        let name = file_name(container_id);
        crate::store::write_json(&self.dir, &self.path, &name, holding, Durability::Cached)
    }

    /// Removes a holding; one that is not there is no error.
    pub fn remove(&self, container_id: &ContainerId) -> Result<(), Error> {
        let name = file_name(container_id);
        match file::remove_file_at(&self.dir, name.as_ref()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::file("remove", &self.path.join(name))(error))
            }
            _ => Ok(()),
        }
    }
}

fn file_name(container_id: &ContainerId) -> String {
    format!("{container_id}.json")
}
