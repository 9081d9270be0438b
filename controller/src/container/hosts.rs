//! The hosts file of a container that is shown already: written again in place, so that what is mounted follows. Lines
//! that its programs wrote stay.

use std::sync::Arc;

use davit_proto::container::Container;
use davit_proto::id::ContainerId;

use super::bundle::Bundle;
use super::live::status_of;
use super::spec::hosts::{self, Line};
use super::{join, links};
use crate::engine::Engine;
use crate::error::Error;

/// The file, in the bundle as in the container.
pub const NAME: &str = "hosts";
/// Longest file that is written again.
const LIMIT: usize = 1 << 20;

/// The lines of a container's own addresses follow its networks, also where others share its network.
///
/// # Errors
/// When the file cannot be read or written.
pub fn follow_networks(engine: &Arc<Engine>, id: &ContainerId) -> Result<(), Error> {
    if !engine.has_shim(id) {
        return Ok(());
    }
    let _writing = engine.writing_hosts();
    let container = engine.container(id)?;
    let spec = container.spec.clone().unwrap_or_default();
    let bundle = Bundle::new(engine.config.bundle(id));
    let hostname = bundle.read_shown("hostname", LIMIT).map_err(Error::io("read the host name"))?;
    let hostname = hostname.trim_end();
    let networks = status_of(&container).networks;
    let lines = hosts::following(&spec, hostname, &networks);
    let text = replace(&bundle, &hosts::keys_of_networks(&spec, hostname), &lines)?;
    for sharer in sharers(engine, id) {
        let bundle = Bundle::new(engine.config.bundle(&sharer));
        bundle.rewrite_shown(NAME, &text).map_err(Error::io(format!("write the hosts of {sharer}")))?;
    }
    relink(engine, id)
}

/// The lines of links follow where they lead: a container has another address or name, or new links of its own.
///
/// # Errors
/// When a file cannot be read or written.
pub fn follow_links(engine: &Arc<Engine>, id: &ContainerId) -> Result<(), Error> {
    let _writing = engine.writing_hosts();
    relink(engine, id)
}

fn relink(engine: &Engine, target: &ContainerId) -> Result<(), Error> {
    let listing = engine.store.all();
    for container in listing.records.iter().filter_map(|record| record.container.as_ref()) {
        let Some(spec) = container.spec.as_ref().filter(|spec| !spec.links.is_empty()) else { continue };
        let Ok(id) = container.id.parse::<ContainerId>() else { continue };
        if (id == *target || links::leads_to(spec, target)) && engine.has_shim(&id) {
            let bundle = Bundle::new(engine.config.bundle(&id));
            let (keys, lines) = links::lines(engine, spec);
            replace(&bundle, &keys, &lines)?;
        }
    }
    Ok(())
}

fn replace(bundle: &Bundle, keys: &[String], lines: &[Line]) -> Result<String, Error> {
    let failed = || Error::io(format!("write {}", bundle.file(NAME).display()));
    let present = bundle.read_shown(NAME, LIMIT).map_err(failed())?;
    let text = hosts::replaced(&present, keys, lines);
    if text != present {
        bundle.rewrite_shown(NAME, &text).map_err(failed())?;
    }
    Ok(text)
}

/// Containers that live and share a container's network.
fn sharers(engine: &Engine, id: &ContainerId) -> Vec<ContainerId> {
    let shares = |container: &Container| {
        let first = container.spec.as_ref().and_then(|spec| spec.networks.first());
        first.and_then(|first| join::other(&first.network)) == Some(id.as_str())
    };
    let listing = engine.store.all();
    let containers = listing.records.iter().filter_map(|record| record.container.as_ref());
    let ids = containers.filter(|container| shares(container)).filter_map(|c| c.id.parse().ok());
    ids.filter(|id| engine.has_shim(id)).collect()
}
