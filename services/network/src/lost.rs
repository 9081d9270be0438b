//! Leases that nobody gave back: looked for when the service starts and when a network has no address left.
//!
//! A holder that cannot be reached is not gone. Certain is only what the kernel says: none of its links is left on the
//! host, which go with its namespace and not before, and no process of its number holds that namespace. Whoever has
//! no link to be seen by, on the host's network or on none, is left to the controller, which knows.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

use davit_proto::id::ContainerId;

use crate::books::Books;
use crate::error::Error;
use crate::firewall::Firewall;
use crate::holding::{Holding, NetnsId};
use crate::link::{self, Link};
use crate::networks::Networks;
use crate::pair::{host_names, may_be_host_name};

impl Networks {
    /// Frees what is lost, but for the container that asks. Answers how many containers had it.
    pub fn free_lost(&self, but: &ContainerId) -> Result<usize, Error> {
        let links = links()?;
        let mut freed = 0;
        let lost = lost(&self.books(), &self.shared().instance, &links);
        for (container_id, holding) in lost {
            if container_id == *but {
                continue;
            }
            // Whoever has its turn right now is not lost.
            let Some(_turn) = self.try_turn(&container_id) else { continue };
            if self.books().holding(&container_id) == Some(&holding) {
                self.release_in_turn(&container_id)?;
                tracing::warn!(%container_id, "freed the addresses of a container whose namespace is gone");
                freed += 1;
            }
        }
        Ok(freed)
    }
}

/// At the start of the service: frees what is lost, and removes links that belong to no lease. The kernel forgets
/// before the record does, as with Release.
pub fn clear(books: &mut Books, firewall: &mut Firewall, instance: &str) -> Result<(), Error> {
    let links = links()?;
    for (container_id, holding) in lost(books, instance, &links) {
        firewall.withdraw(&holding.ports)?;
        books.forget(&container_id)?;
        tracing::warn!(%container_id, "freed the addresses of a container whose namespace is gone");
    }
    let known: HashSet<String> = books
        .holdings()
        .flat_map(|(container_id, holding)| {
            holding.leases.iter().flat_map(|lease| host_names(instance, container_id, &lease.network_id))
        })
        .collect();
    let mark = crate::ground::mark(instance);
    let bridges: HashSet<u32> = links
        .iter()
        .filter(|link| link.alias == mark && link.kind == "bridge")
        .map(|link| link.index)
        .collect();
    let host = link::open().map_err(Error::kernel("open a connection for links"))?;
    for link in links {
        let on_ours = link.master.is_some_and(|master| bridges.contains(&master));
        // A lease is written before its link is made, so this one was released.
        if on_ours && may_be_host_name(&link.name) && !known.contains(&link.name) {
            tracing::warn!(link = %link.name, "removing a link that belongs to no lease");
            link::remove_named(&host, &[link.name])
                .map_err(Error::kernel("remove a link that belongs to no lease"))?;
        }
    }
    Ok(())
}

/// At the start of the service: a holding that cannot be read is forgotten when no link of its container is there, as
/// after a power cut, which is what tears such files. Where one is, this fails: an address might be given twice.
pub fn forget_torn(books: &mut Books, instance: &str) -> Result<(), Error> {
    let torn = books.take_torn();
    if torn.is_empty() {
        return Ok(());
    }
    let links = links()?;
    let there: HashSet<&str> = links.iter().map(|link| link.name.as_str()).collect();
    for (container_id, error) in torn {
        let mut ends = books.networks().flat_map(|network| host_names(instance, &container_id, &network.id));
        if ends.any(|name| there.contains(name.as_str())) {
            return Err(error);
        }
        books.forget_torn(&container_id)?;
        let error = davit_proto::status::chain(&error);
        tracing::warn!(%container_id, error, "forgot the addresses of a container, which has no link and no readable record");
    }
    Ok(())
}

fn links() -> Result<Vec<Link>, Error> {
    link::open().and_then(|host| link::all(&host)).map_err(Error::kernel("list links"))
}

/// The containers that hold addresses of a namespace that is certainly gone.
fn lost(books: &Books, instance: &str, links: &[Link]) -> Vec<(ContainerId, Holding)> {
    let names: HashSet<&str> = links.iter().map(|link| link.name.as_str()).collect();
    let is_lost = |(container_id, holding): &(&ContainerId, &Holding)| {
        let wired: Vec<_> = holding.leases.iter().filter(|lease| lease.wired.is_some()).collect();
        let mut ends = wired.iter().flat_map(|lease| host_names(instance, container_id, &lease.network_id));
        let Some(netns) = holding.netns.filter(|_| !wired.is_empty()) else { return false };
        !ends.any(|name| names.contains(name.as_str())) && !is_held(netns)
    };
    let lost = books.holdings().filter(is_lost);
    lost.map(|(container_id, holding)| (container_id.clone(), holding.clone())).collect()
}

/// Whether a process holds a namespace, or may: what cannot be looked at may.
fn is_held(netns: NetnsId) -> bool {
    let process = Path::new("/proc").join(netns.pid.to_string());
    let text = format!("net:[{}]", netns.inode);
    let is_it = |path: &Path| fs::read_link(path).is_ok_and(|target| target.as_os_str() == text.as_str());
    match fs::read_dir(process.join("fd")) {
        Err(error) => error.kind() != io::ErrorKind::NotFound,
        Ok(entries) => {
            is_it(&process.join("ns/net"))
                || entries.into_iter().any(|entry| entry.is_ok_and(|entry| is_it(&entry.path())))
        }
    }
}
