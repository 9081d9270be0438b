//! A container's way out: ports held on the host by its shim, addresses and rules from the network service, and the
//! files by which programs find names.

mod files;

use std::sync::Arc;

use davit_proto::container::{ContainerSpec, NetworkStatus, PortSpec};
use davit_proto::id::ContainerId;
use davit_proto::network::AttachRequest;
use davit_proto::task::Names;

use super::bundle::Bundle;
use super::join::Joined;
use super::launch::Prepared;
use super::port;
use super::spec::Resolved;
use super::{links, network};
use crate::engine::Engine;
use crate::error::Error;
use crate::failpoint;

/// A container that is wired.
#[derive(Debug, Default)]
pub struct Wired {
    /// Its places on networks.
    pub networks: Vec<NetworkStatus>,
    /// Its ports, with those that were chosen.
    pub ports: Vec<PortSpec>,
    /// What its resolver is told; none for a container without one.
    pub names: Option<Names>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// What to wire.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The container.
    pub id: &'a ContainerId,
    /// Its name.
    pub name: &'a str,
    /// What was asked for.
    pub spec: &'a ContainerSpec,
    /// What it came to.
    pub resolved: &'a Resolved,
    /// What it shares of other containers.
    pub joined: &'a Joined,
}

/// Holds the ports, joins the networks, writes the files.
///
/// # Errors
/// When a port is taken, or a network is missing or full.
pub async fn wire(engine: &Arc<Engine>, prepared: &Prepared, plan: Plan<'_>) -> Result<Wired, Error> {
    let ports = port::reserve(engine, &prepared.shim, &plan.resolved.ports, 0).await?;
    failpoint::pass(failpoint::CREATE_RESERVED).await?;
    let mut wired = Wired { ports, ..Wired::default() };
    let mut endpoints = Vec::new();
    let mut resolv_conf = None;
    if !plan.resolved.networks.is_empty() {
        let request = request(prepared, plan, &wired.ports);
        let attached = network::join(engine, request).await?;
        endpoints = attached.endpoints;
        resolv_conf = Some(attached.resolv_conf);
        wired.names = names(attached.names, plan.spec);
        wired.warnings = attached.warnings;
    }
    failpoint::pass(failpoint::CREATE_ATTACHED).await?;
    let bundle = Bundle::new(engine.config.bundle(plan.id));
    wired.networks = endpoints.into_iter().map(network::status).collect();
    if wired.ports.iter().any(port::is_on_loopback6) {
        wired.warnings.extend(port::relay(&prepared.shim, &wired.ports, &wired.networks).await?);
    }
    files::write(&bundle, plan, &wired, resolv_conf)?;
    Ok(wired)
}

/// With `--dns` it is the resolver that asks those servers.
fn names(view: String, spec: &ContainerSpec) -> Option<Names> {
    let servers = spec.dns.clone();
    Some(Names { view, servers }).filter(|names| !names.view.is_empty())
}

fn request(prepared: &Prepared, plan: Plan<'_>, ports: &[PortSpec]) -> AttachRequest {
    let netns = prepared.made.network_namespace.unwrap_or_default();
    AttachRequest {
        container_id: plan.id.to_string(),
        netns_pid: netns.pid,
        netns_fd: netns.fd,
        netns_inode: netns.inode,
        endpoints: plan.resolved.networks.iter().map(network::request).collect(),
        ports: ports.iter().map(port::published).collect(),
        hostname: plan.resolved.hostname.clone(),
        container_name: plan.name.to_owned(),
        links: links::names(Some(plan.spec)),
    }
}
