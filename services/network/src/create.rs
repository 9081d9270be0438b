//! `Create`, `Remove`, `Prune`: networks that people make. A bridge comes with the first container.

use std::collections::BTreeMap;

use davit_proto::id::Name;
use ipnet::Ipv4Net;

use crate::error::Error;
use crate::filter::Filter;
use crate::ground::{bridge_name, host_ranges, user_of};
use crate::ipam::{self, Range};
use crate::link;
use crate::network::{Bridge, Driver, Network};
use crate::networks::{Networks, Populated};

/// What a network is to be.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its name.
    pub name: Name,
    /// Its range; none for one from the pool.
    pub range: Option<Range>,
    /// No way out.
    pub internal: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

impl Networks {
    /// Makes a network with a bridge.
    pub fn create(&self, wanted: Wanted) -> Result<Populated, Error> {
        let connection = link::open().map_err(Error::kernel("open a connection for links"))?;
        let host = host_ranges(&connection)?;
        let mut books = self.books();
        if books.named(wanted.name.as_str()).is_some() {
            return Err(Error::Exists(wanted.name.to_string()));
        }
        let taken = [host, books.ranges(None)].concat();
        let range = choose(&wanted, &taken)?;
        let mut network = Network::new(wanted.name, Driver::Bridge, None)?;
        let link = bridge_name(&network.id)?;
        network.bridge = Some(Bridge { link, range, internal: wanted.internal });
        network.labels = wanted.labels;
        books.put(network.clone())?;
        Ok(Populated { network, endpoints: Vec::new() })
    }

    /// Removes a network that nobody is on.
    pub fn remove(&self, text: &str) -> Result<(), Error> {
        let mut ground = self.ground();
        let network = {
            let books = self.books();
            let network = books.find(text)?;
            if network.is_built_in() {
                return Err(Error::BuiltIn(network.name.to_string()));
            }
            let holders: Vec<String> = books.members(&network.id).iter().map(ToString::to_string).collect();
            if !holders.is_empty() {
                return Err(Error::InUse { name: network.name.to_string(), holders });
            }
            network.clone()
        };
        ground.remove(&network)?;
        // Looked at again: somebody may have joined meanwhile, who finds or makes the bridge anew.
        self.books().strike(&network.name)
    }

    /// Removes the networks that nobody is on and the filter admits.
    pub fn prune(&self, filter: &Filter) -> Result<Vec<Name>, Error> {
        let unused = self.list().into_iter().filter(|populated| {
            !populated.network.is_built_in() && populated.endpoints.is_empty() && filter.admits(populated)
        });
        let mut removed = Vec::new();
        for Populated { network, .. } in unused {
            match self.remove(network.id.as_str()) {
                Ok(()) => removed.push(network.name),
                // Somebody joined or removed it since it was listed.
                Err(Error::InUse { .. } | Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }
}

fn choose(wanted: &Wanted, taken: &[(Ipv4Net, String)]) -> Result<Range, Error> {
    let refused = |range: String, by: &str| Error::RangeTaken {
        range,
        network: wanted.name.to_string(),
        by: by.to_owned(),
    };
    let Some(range) = wanted.range else {
        let nets: Vec<Ipv4Net> = taken.iter().map(|(net, _)| *net).collect();
        let free = ipam::free_subnet(&nets).ok_or_else(|| refused("of the pool".to_owned(), "others"))?;
        return Range::new(free).map_err(|error| Error::invalid("subnet", free, error));
    };
    match user_of(&range.subnet, taken) {
        Some(by) => Err(refused(range.subnet.to_string(), by)),
        None => Ok(range),
    }
}
