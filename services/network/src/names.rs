//! The files by which containers find each other: a zone for each network that somebody is on, a view for each
//! container. Shims read them whatever becomes of this service; they follow the books, which are the ground.
//!
//! A zone's lines are kept sorted, so that one more container costs its own lines and the writing of the file. Calls
//! that come together write it once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use davit_proto::id::{ContainerId, Name};
use davit_proto::names::{Entry, FOLDER, Header, Link, Subnet, View, ZoneId, render, view_file};
use davit_sys::file::{self, Durability};

use crate::books::Books;
use crate::error::Error;
use crate::holding::{Holding, Wired};
use crate::network::{Bridge, Network};
use crate::networks::Networks;

/// Largest zone that is compared before it is written.
const MAX_ZONE: usize = 64 << 20;

/// The files.
#[derive(Debug)]
pub struct Names {
    path: PathBuf,
    /// Who writes holds the folder.
    folder: Mutex<OwnedFd>,
    zones: Mutex<Zones>,
}

#[derive(Debug, Default)]
struct Zones {
    all: HashMap<ZoneId, Zone>,
    /// The zones that a container has lines in.
    of: HashMap<ContainerId, Vec<ZoneId>>,
    /// Those whose files do not say yet what they say: nobody has come to it, or the disk refused.
    unwritten: BTreeSet<ZoneId>,
}

#[derive(Debug)]
struct Zone {
    header: Header,
    /// Lines, and how many containers have each.
    lines: BTreeMap<String, usize>,
    of: HashMap<ContainerId, Vec<String>>,
}

/// What the files say of one container.
#[derive(Debug, Default)]
struct Told {
    entries: Vec<(ZoneId, Header, Entry)>,
    view: Option<View>,
}

impl Names {
    /// Opens the folder below a run directory, and makes the files as the books say.
    pub fn open(run: &Path, books: &Books) -> Result<Self, Error> {
        let run = std::path::absolute(run).map_err(Error::file("resolve", run))?;
        let path = run.join(FOLDER);
        let folder = Mutex::new(crate::store::make_dir(&path)?);
        let names = Self { path, folder, zones: Mutex::default() };
        names.restore(books)?;
        Ok(names)
    }

    /// A container's view, when it has one.
    fn view_path(&self, container_id: &ContainerId) -> String {
        self.path.join(view_file(container_id)).display().to_string()
    }

    /// Makes all files as the books say: those that differ are written, those of nobody are removed.
    fn restore(&self, books: &Books) -> Result<(), Error> {
        let folder = lock(&self.folder);
        let mut wanted: HashMap<String, String> = HashMap::new();
        let mut zones = Zones::default();
        for (container_id, holding) in books.holdings() {
            let Told { entries, view } = told(books, container_id, holding);
            zones.set(container_id, entries);
            wanted.extend(view.map(|view| (view_file(container_id), view.render())));
        }
        wanted.extend(zones.all.iter().map(|(id, zone)| (id.file(), zone.render())));
        let unwritten = std::mem::take(&mut zones.unwritten);
        *lock(&self.zones) = zones;
        let restored = self.write_all(&folder, wanted);
        if restored.is_err() {
            lock(&self.zones).unwritten.extend(unwritten);
        }
        restored
    }

    /// Makes the folder hold these files and no others.
    fn write_all(&self, folder: &OwnedFd, wanted: HashMap<String, String>) -> Result<(), Error> {
        for entry in fs::read_dir(&self.path).map_err(Error::file("list", &self.path))? {
            let entry = entry.map_err(Error::file("list", &self.path))?;
            if !entry.file_name().to_str().is_some_and(|name| wanted.contains_key(name)) {
                file::remove_file_at(folder, &entry.file_name())
                    .map_err(Error::file("remove", &entry.path()))?;
            }
        }
        for (name, text) in wanted {
            let had = file::read_bounded(&self.path.join(&name), MAX_ZONE);
            if !had.is_ok_and(|had| had == text.as_bytes()) {
                self.write(folder, &name, &text)?;
            }
        }
        Ok(())
    }

    /// Makes the files right again when somebody took their folder away.
    fn repair(&self, books: &Books) -> Result<bool, Error> {
        {
            let mut folder = lock(&self.folder);
            let here = rustix::fs::fstat(&*folder).map_err(io::Error::from);
            let here = here.map_err(Error::file("look at", &self.path))?;
            let same = |there: fs::Metadata| (there.dev(), there.ino()) == (here.st_dev, here.st_ino);
            if fs::metadata(&self.path).is_ok_and(same) {
                return Ok(false);
            }
            *folder = crate::store::make_dir(&self.path)?;
        }
        self.restore(books).map(|()| true)
    }

    /// Writes down what a container is called and sees from now on.
    fn set(&self, container_id: &ContainerId, told: Told) -> Result<(), Error> {
        let unwritten = {
            let mut zones = lock(&self.zones);
            zones.set(container_id, told.entries);
            zones.unwritten.clone()
        };
        for id in unwritten {
            self.write_zone(&id)?;
        }
        let folder = lock(&self.folder);
        let name = view_file(container_id);
        match told.view {
            Some(view) => self.write(&folder, &name, &view.render()),
            None => self.remove(&folder, &name),
        }
    }

    /// Writes a zone, unless somebody else has come to it before: whoever holds the folder writes for all who wait.
    fn write_zone(&self, id: &ZoneId) -> Result<(), Error> {
        let folder = lock(&self.folder);
        let text = {
            let mut zones = lock(&self.zones);
            if !zones.unwritten.remove(id) {
                return Ok(());
            }
            zones.all.get(id).map(Zone::render)
        };
        let written = match text {
            Some(text) => self.write(&folder, &id.file(), &text),
            None => self.remove(&folder, &id.file()),
        };
        if written.is_err() {
            lock(&self.zones).unwritten.insert(id.clone());
        }
        written
    }

    fn write(&self, folder: &OwnedFd, name: &str, text: &str) -> Result<(), Error> {
        let written = file::write_atomic(folder, name, text.as_bytes(), Durability::Cached);
        written.map_err(Error::file("write", &self.path.join(name)))
    }

    fn remove(&self, folder: &OwnedFd, name: &str) -> Result<(), Error> {
        match file::remove_file_at(folder, name.as_ref()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::file("remove", &self.path.join(name))(error))
            }
            _ => Ok(()),
        }
    }
}

impl Zones {
    /// Puts a container's entries in the place of those that it had, and notes which zones that changes.
    fn set(&mut self, container_id: &ContainerId, entries: Vec<(ZoneId, Header, Entry)>) {
        let had = self.of.remove(container_id).unwrap_or_default();
        for id in had.iter().filter(|id| !entries.iter().any(|(other, ..)| other == *id)) {
            let Some(zone) = self.all.get_mut(id) else { continue };
            zone.set(container_id, Vec::new());
            self.unwritten.insert(id.clone());
            if zone.of.is_empty() {
                self.all.remove(id);
            }
        }
        let mut has = Vec::with_capacity(entries.len());
        for (id, header, entry) in entries {
            let new = !self.all.contains_key(&id);
            let zone = self.all.entry(id.clone()).or_insert_with(|| Zone::new(header.clone()));
            let other = new || zone.header != header;
            zone.header = header;
            if zone.set(container_id, entry.lines()) || other {
                self.unwritten.insert(id.clone());
            }
            has.push(id);
        }
        if !has.is_empty() {
            self.of.insert(container_id.clone(), has);
        }
    }
}

impl Zone {
    fn new(header: Header) -> Self {
        Self { header, lines: BTreeMap::new(), of: HashMap::new() }
    }

    /// Whether that changes the zone.
    fn set(&mut self, container_id: &ContainerId, lines: Vec<String>) -> bool {
        if self.of.get(container_id).map_or(&[][..], Vec::as_slice) == lines {
            return false;
        }
        for line in self.of.remove(container_id).unwrap_or_default() {
            if let Some(count) = self.lines.get_mut(&line) {
                *count -= 1;
                if *count == 0 {
                    self.lines.remove(&line);
                }
            }
        }
        for line in &lines {
            *self.lines.entry(line.clone()).or_default() += 1;
        }
        if !lines.is_empty() {
            self.of.insert(container_id.clone(), lines);
        }
        true
    }

    fn render(&self) -> String {
        render(&self.header, self.lines.keys().map(String::as_str))
    }
}

impl Networks {
    /// Makes the files say of a container what the books say. Its turn is held by the caller.
    pub fn tell_names(&self, container_id: &ContainerId) -> Result<(), Error> {
        let told = {
            let books = self.books();
            books.holding(container_id).map(|holding| told(&books, container_id, holding)).unwrap_or_default()
        };
        self.shared().names.set(container_id, told)
    }

    /// The path of a container's view; empty for one that has none.
    pub fn names_path(&self, container_id: &ContainerId) -> String {
        let books = self.books();
        let wired = |holding: &Holding| holding.leases.iter().any(|lease| lease.wired.is_some());
        if books.holding(container_id).is_some_and(wired) {
            self.shared().names.view_path(container_id)
        } else {
            String::new()
        }
    }

    /// Gives a container another name. One that holds nothing has nothing to rename.
    pub fn rename(&self, container_id: &ContainerId, name: Name) -> Result<(), Error> {
        let _turn = self.turn(container_id);
        let Some(holding) = self.books().holding(container_id).cloned() else { return Ok(()) };
        self.books().hold(container_id, Holding { name: Some(name), ..holding })?;
        self.tell_names(container_id)
    }

    /// Looks whether the files are there, and makes them again when they are not.
    pub fn repair_names(&self) {
        match self.shared().names.repair(&self.books()) {
            Ok(false) => {}
            Ok(true) => tracing::warn!("somebody took the folder of names away; restored"),
            Err(error) => {
                let error = davit_proto::status::chain(&error);
                tracing::error!(error, "could not restore the files of names");
            }
        }
    }
}

/// What a container's holding comes to.
fn told(books: &Books, container_id: &ContainerId, holding: &Holding) -> Told {
    let mut told = Told::default();
    let mut forward = false;
    for lease in &holding.leases {
        let Some(network) = books.by_id(&lease.network_id) else { continue };
        let (Some(bridge), Some(wired)) = (&network.bridge, &lease.wired) else { continue };
        let Ok(id) = network.id.as_str().parse::<ZoneId>() else { continue };
        forward |= !bridge.internal;
        let aliases = lease.aliases.iter().filter_map(|alias| alias.parse().ok());
        let mut seen = HashSet::new();
        let names = holding.name.iter().cloned().chain(aliases).filter(|name| seen.insert(name.clone()));
        let entry =
            Entry { container: container_id.clone(), addresses: addresses(wired), names: names.collect() };
        told.entries.push((id, header(network, bridge), entry));
    }
    if !told.entries.is_empty() {
        let links = holding.links.iter();
        told.view = Some(View {
            forward,
            zones: told.entries.iter().map(|(id, ..)| id.clone()).collect(),
            links: links
                .map(|link| Link { name: link.name.clone(), container: link.container_id.clone() })
                .collect(),
        });
    }
    told
}

fn addresses(wired: &Wired) -> Vec<IpAddr> {
    wired.addresses().collect()
}

fn header(network: &Network, bridge: &Bridge) -> Header {
    let subnets = bridge.ranges.iter().map(|range| range.subnet);
    let subnets = subnets.map(|net| Subnet { address: net.network(), prefix: net.prefix_len() });
    Header { network: network.name.clone(), subnets: subnets.collect() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_that_could_not_be_written_is_written_by_whoever_comes_next() {
        let folder = tempfile::tempdir().unwrap();
        let books = Books::open(&folder.path().join("network"), "test").unwrap();
        let names = Names::open(folder.path(), &books).unwrap();
        let zone: ZoneId = "a".repeat(64).parse().unwrap();
        let file = folder.path().join(FOLDER).join(zone.file());
        let container = |digit: &str| digit.repeat(64).parse::<ContainerId>().unwrap();
        let told = |digit: &str, host: u8| {
            let header = Header { network: "net".parse().unwrap(), subnets: Vec::new() };
            let entry = Entry {
                container: container(digit),
                addresses: vec![IpAddr::from([10, 0, 0, host])],
                names: vec![digit.repeat(3).parse().unwrap()],
            };
            Told { entries: vec![(zone.clone(), header, entry)], view: None }
        };
        let text = || fs::read_to_string(&file).unwrap();
        names.set(&container("b"), told("b", 2)).unwrap();
        names.set(&container("c"), told("c", 3)).unwrap();
        assert!(text().contains("10.0.0.2") && text().contains("10.0.0.3"));

        // Nothing can be renamed over a folder.
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(names.set(&container("b"), Told::default()).is_err());
        fs::remove_dir(&file).unwrap();
        names.set(&container("b"), Told::default()).unwrap();
        assert!(!text().contains("10.0.0.2") && text().contains("10.0.0.3"), "{}", text());

        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(names.set(&container("c"), Told::default()).is_err(), "the last one takes the file along");
        fs::remove_dir(&file).unwrap();
        fs::write(&file, "stale").unwrap();
        names.set(&container("d"), Told::default()).unwrap();
        assert!(!file.exists());
    }
}
