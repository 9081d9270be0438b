//! What is known without asking anybody: the names of the container's networks, its links, and what every host knows
//! of itself.
//!
//! The files are read for each question: some ten short system calls, and nothing to be kept.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use davit_proto::names::{NamesError, Reader, View};
use davit_sys::file;

use super::message::{Kind, Query, Record, reverse};

/// What is known of a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Known {
    /// It is here, and this is what was asked for; nothing of it, perhaps.
    Here(Vec<Record>),
    /// It could only be here, and is not.
    Absent,
    /// Somebody outside may know it.
    Elsewhere,
}

/// Looks a name up by a view and the zones beside it.
///
/// # Errors
/// When the files cannot be read.
pub fn look_up(view: &Path, query: &Query<'_>) -> Result<Known, NamesError> {
    let kind = query.kind();
    let Some(name) = query.name() else { return Ok(outside(&read_view(view)?)) };
    if name == "localhost" || name.ends_with(".localhost") {
        return Ok(addresses(kind, vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]));
    }
    if let Some(known) = reverse(name).and_then(|address| of_itself(address, kind)) {
        return Ok(known);
    }
    let seen = read_view(view)?;
    let zones = Zones { folder: view.parent().unwrap_or(Path::new("/")), view: &seen };
    if let Some(address) = reverse(name) {
        return Ok(zones.called(address, kind)?.unwrap_or_else(|| outside(&seen)));
    }
    if let Some(link) = seen.links.iter().find(|link| link.name.as_str() == name) {
        let mut found = Vec::new();
        zones.each(|zone| {
            found.extend(zone.container(&link.container)?.unwrap_or_default());
            Ok(false)
        })?;
        return Ok(if found.is_empty() { Known::Absent } else { addresses(kind, found) });
    }
    Ok(zones.named(name)?.map_or_else(|| outside(&seen), |found| addresses(kind, found)))
}

/// An address of the loopback, which no zone and nobody outside has.
fn of_itself(address: IpAddr, kind: Kind) -> Option<Known> {
    if !address.is_loopback() {
        return None;
    }
    let named = address == Ipv4Addr::LOCALHOST || address == Ipv6Addr::LOCALHOST;
    Some(match kind {
        _ if !named => Known::Absent,
        Kind::Ptr => Known::Here(vec![Record::Called("localhost".to_owned())]),
        _ => Known::Here(Vec::new()),
    })
}

fn outside(view: &View) -> Known {
    if view.forward { Known::Elsewhere } else { Known::Absent }
}

fn addresses(kind: Kind, found: Vec<IpAddr>) -> Known {
    let wanted = |address: &IpAddr| match kind {
        Kind::A => address.is_ipv4(),
        Kind::Aaaa => address.is_ipv6(),
        Kind::Ptr | Kind::Other => false,
    };
    let mut records: Vec<Record> = found.into_iter().filter(wanted).map(Record::Address).collect();
    shuffle(&mut records);
    Known::Here(records)
}

/// Whoever takes the first of several is led to each of them in turn.
fn shuffle(records: &mut [Record]) {
    if records.len() < 2 {
        return;
    }
    // Without random numbers the order is what it is.
    let mut random = getrandom::u64().unwrap_or_default();
    for n in (1..records.len()).rev() {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let other = usize::try_from(random >> 33).unwrap_or_default() % (n + 1);
        records.swap(n, other);
    }
}

fn read_view(path: &Path) -> Result<View, NamesError> {
    let bytes = file::read_bounded(path, View::MAX)?;
    View::parse(&String::from_utf8_lossy(&bytes))
}

/// The zones of a view.
struct Zones<'a> {
    folder: &'a Path,
    view: &'a View,
}

impl Zones<'_> {
    /// Visits each zone until one is enough. A zone that is not there has nobody in it.
    fn each(
        &self,
        mut visit: impl FnMut(&Reader<'_, File>) -> Result<bool, NamesError>,
    ) -> Result<(), NamesError> {
        for id in &self.view.zones {
            let file = match File::open(self.folder.join(id.file())) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            if visit(&Reader::open(&file)?)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The addresses of a name, which may end with its network's.
    fn named(&self, name: &str) -> Result<Option<Vec<IpAddr>>, NamesError> {
        let mut found = None;
        self.each(|zone| {
            found = zone.name(name)?;
            Ok(found.is_some())
        })?;
        if found.is_some() || !name.contains('.') {
            return Ok(found);
        }
        self.each(|zone| {
            let network = zone.header().network.as_str().to_ascii_lowercase();
            let first = name.strip_suffix(&network).and_then(|rest| rest.strip_suffix('.'));
            found = first.map(|first| zone.name(first)).transpose()?.flatten();
            Ok(found.is_some())
        })?;
        Ok(found)
    }

    /// What an address is called; nothing when it is none of these networks'.
    fn called(&self, address: IpAddr, kind: Kind) -> Result<Option<Known>, NamesError> {
        let mut known = None;
        self.each(|zone| {
            if let Some(name) = zone.called(address)? {
                let called = format!("{name}.{}", zone.header().network);
                let records = if kind == Kind::Ptr { vec![Record::Called(called)] } else { Vec::new() };
                known = Some(Known::Here(records));
                return Ok(true);
            }
            if zone.header().subnets.iter().any(|subnet| subnet.contains(address)) {
                known = Some(Known::Absent);
            }
            Ok(false)
        })?;
        Ok(known)
    }
}

#[cfg(test)]
#[path = "known_tests.rs"]
mod tests;
