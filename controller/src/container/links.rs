//! `--link`: a container finds another one by an alias, whatever that one is called or has for an address later.
//!
//! On every network the alias is a name that the resolver knows. On the default bridge it is also a line of the hosts
//! file, which follows the other container, and variables of the environment, as programs of Docker's first years expect
//! them; there the other container must run, for they are its address.

use std::collections::HashSet;

use davit_proto::container::{Container, ContainerSpec, NetworkStatus};
use davit_proto::id::{ContainerId, Name};
use davit_proto::network::NameLink;

use super::join;
use super::live::{is_live, status_of};
use super::network::BRIDGE;
use super::shape::{self, Network};
use super::spec::Error as Wrong;
use super::spec::hosts::Line;
use super::spec::port;
use crate::engine::Engine;
use crate::error::Error;

/// Links of one container.
const LIMIT: usize = 64;
/// Variables of the other container that are its own business.
const PRIVATE: [&str; 2] = ["HOME", "PATH"];

/// One link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link<'a> {
    /// The other container: its id once it is recorded.
    pub container: &'a str,
    /// What it is found by.
    pub alias: &'a str,
}

/// Reads `CONTAINER[:ALIAS]`.
///
/// # Errors
/// When it is none.
pub fn parse(text: &str) -> Result<Link<'_>, Wrong> {
    let refuse = |rule: &str| Wrong::invalid("links", text, rule.to_owned());
    let text = text.strip_prefix('/').unwrap_or(text);
    let (container, alias) = text.split_once(':').unwrap_or((text, text));
    if container.is_empty() || alias.is_empty() {
        return Err(refuse("must be CONTAINER or CONTAINER:ALIAS"));
    }
    match alias.parse::<Name>() {
        Ok(_) => Ok(Link { container, alias }),
        Err(error) => Err(refuse(&format!("the alias: {}", error.rule))),
    }
}

/// Checks what is asked for, before any container is looked for.
///
/// # Errors
/// With the first thing that is wrong, in docker's words where it has any.
pub fn check(spec: &ContainerSpec) -> Result<(), Wrong> {
    if spec.links.is_empty() {
        return Ok(());
    }
    if spec.links.len() > LIMIT {
        return Err(Wrong::invalid("links", &spec.links.len().to_string(), format!("at most {LIMIT}")));
    }
    let links = spec.links.iter().map(|text| parse(text)).collect::<Result<Vec<_>, _>>()?;
    for (at, link) in links.iter().enumerate() {
        if links.iter().skip(at + 1).any(|other| other.alias == link.alias) {
            return Err(Wrong::Conflict(format!("the alias {:?} is given to two links", link.alias)));
        }
    }
    let mode = match shape::network(spec)? {
        Network::Wired(_) => return Ok(()),
        Network::Host => "host type networking",
        Network::Container(_) => "container type network",
        Network::None => "the network none",
    };
    Err(Wrong::Conflict(format!(
        "conflicting options: {mode} can't be used with links. This would result in undefined behavior"
    )))
}

/// Names other containers by their ids from now on, so that another name means the same ones.
///
/// # Errors
/// When one is not there.
pub fn name_by_id(engine: &Engine, spec: &mut ContainerSpec) -> Result<(), Error> {
    for text in &mut spec.links {
        let Link { container, alias } = parse(text)?;
        *text = format!("{}:{alias}", engine.find(container)?);
    }
    Ok(())
}

/// What the resolver is told.
#[must_use]
pub fn names(spec: Option<&ContainerSpec>) -> Vec<NameLink> {
    let links = spec.into_iter().flat_map(|spec| &spec.links).filter_map(|text| parse(text).ok());
    links
        .map(|link| NameLink { name: link.alias.to_owned(), container_id: link.container.to_owned() })
        .collect()
}

/// The variables of a container's links on the default bridge; none elsewhere. A container that was removed leaves no
/// link.
///
/// # Errors
/// When one of the others does not run, or is not on the default bridge.
pub fn env(engine: &Engine, container: &Container) -> Result<Vec<String>, Error> {
    let spec = container.spec.clone().unwrap_or_default();
    let mut env = Vec::new();
    if !is_default(&spec) {
        return Ok(env);
    }
    for (alias, other) in others(engine, &spec) {
        let status = status_of(&other);
        let path = format!("/{} AS /{}/{alias}", other.name, container.name);
        if !is_live(status.phase()) {
            let error = format!("cannot link to a non running container: {path}");
            return Err(Wrong::Conflict(error).into());
        }
        let Some(place) = on_default(&status.networks) else {
            let error =
                format!("cannot link to /{}, as it does not belong to the default network", other.name);
            return Err(Wrong::Conflict(error).into());
        };
        env.extend(variables(&container.name, alias, &other, place));
    }
    Ok(env)
}

/// The lines of a container's links, as they are now, and what such lines begin with.
#[must_use]
pub fn lines(engine: &Engine, spec: &ContainerSpec) -> (Vec<String>, Vec<Line>) {
    if !is_default(spec) {
        return (Vec::new(), Vec::new());
    }
    let keys = spec.links.iter().filter_map(|text| Some(parse(text).ok()?.alias.to_owned())).collect();
    let mut lines = Vec::new();
    for (alias, other) in others(engine, spec) {
        let status = status_of(&other);
        let Some(place) = on_default(&status.networks) else { continue };
        let mut names = vec![alias, hostname(&other)];
        if alias != other.name {
            names.push(&other.name);
        }
        let names = names.join(" ");
        let addresses = [&place.ipv4, &place.ipv6].into_iter().filter(|address| !address.is_empty());
        lines.extend(addresses.map(|address| Line { address: address.clone(), names: names.clone() }));
    }
    (keys, lines)
}

/// Checks that no link leads back to its own container, over however many others: none of them could be started first.
///
/// # Errors
/// When one does.
pub fn check_circle(engine: &Engine, own: &Container, links: &[String]) -> Result<(), Error> {
    let mut next: Vec<String> = links.to_vec();
    let mut seen = HashSet::new();
    while let Some(text) = next.pop() {
        let Ok(link) = parse(&text) else { continue };
        if link.container == own.id {
            let error = format!("container {:?} cannot be linked to itself, over others neither", own.name);
            return Err(Wrong::Conflict(error).into());
        }
        let Ok(id) = link.container.parse::<ContainerId>() else { continue };
        if seen.insert(link.container.to_owned()) {
            let other = engine.container(&id).ok().and_then(|other| other.spec);
            next.extend(other.map(|spec| spec.links).unwrap_or_default());
        }
    }
    Ok(())
}

/// Ids of the containers that must run before this one can be started: those that it is linked to, and those whose
/// namespaces it shares.
#[must_use]
pub fn needed(spec: Option<&ContainerSpec>) -> Vec<String> {
    let Some(spec) = spec else { return Vec::new() };
    let names = spec.namespaces.clone().unwrap_or_default();
    let linked = spec.links.iter().filter_map(|text| Some(parse(text).ok()?.container.to_owned()));
    let shared =
        spec.networks.iter().map(|endpoint| &endpoint.network).chain([&names.pid, &names.ipc, &names.uts]);
    linked.chain(shared.filter_map(|text| join::other(text).map(str::to_owned))).collect()
}

/// Whether a container is linked to another one.
#[must_use]
pub fn leads_to(spec: &ContainerSpec, other: &ContainerId) -> bool {
    spec.links.iter().any(|text| parse(text).is_ok_and(|link| link.container == other.as_str()))
}

fn is_default(spec: &ContainerSpec) -> bool {
    !spec.links.is_empty()
        && shape::network(spec)
            .is_ok_and(|network| network.endpoints().iter().any(|endpoint| endpoint.network == BRIDGE))
}

fn on_default(networks: &[NetworkStatus]) -> Option<&NetworkStatus> {
    networks.iter().find(|place| place.network == BRIDGE && !place.ipv4.is_empty())
}

fn others<'a>(
    engine: &'a Engine,
    spec: &'a ContainerSpec,
) -> impl Iterator<Item = (&'a str, Container)> + 'a {
    spec.links.iter().filter_map(|text| {
        let link = parse(text).ok()?;
        let id: ContainerId = link.container.parse().ok()?;
        Some((link.alias, engine.container(&id).ok()?))
    })
}

fn hostname(container: &Container) -> &str {
    let asked = container.spec.as_ref().map_or("", |spec| &spec.hostname);
    if asked.is_empty() { container.id.get(..12).unwrap_or_default() } else { asked }
}

/// docker's variables for one link.
fn variables(own: &str, alias: &str, other: &Container, place: &NetworkStatus) -> Vec<String> {
    let prefix = alias.to_uppercase().replace('-', "_");
    let ip = &place.ipv4;
    let mut ports: Vec<(u16, &str)> =
        other.exposed_ports.iter().filter_map(|text| port::parse_exposed(text).ok()).flatten().collect();
    ports.sort_unstable();
    let mut env = Vec::new();
    if let Some((port, protocol)) = ports.first() {
        env.push(format!("{prefix}_PORT={protocol}://{ip}:{port}"));
    }
    for (port, protocol) in &ports {
        let this = format!("{prefix}_PORT_{port}_{}", protocol.to_uppercase());
        env.push(format!("{this}={protocol}://{ip}:{port}"));
        env.push(format!("{this}_ADDR={ip}"));
        env.push(format!("{this}_PORT={port}"));
        env.push(format!("{this}_PROTO={protocol}"));
    }
    env.push(format!("{prefix}_NAME=/{own}/{alias}"));
    let known = other.env.iter().filter_map(|entry| entry.split_once('='));
    let told = known.filter(|(key, _)| !PRIVATE.contains(key));
    env.extend(told.map(|(key, value)| format!("{prefix}_ENV_{key}={value}")));
    env
}

#[cfg(test)]
mod tests {
    use super::*;
    use davit_proto::container::EndpointSpec;

    #[test]
    fn links_are_a_container_and_an_alias() {
        assert_eq!(parse("db").unwrap(), Link { container: "db", alias: "db" });
        assert_eq!(parse("mysql:db").unwrap(), Link { container: "mysql", alias: "db" });
        assert_eq!(parse("/mysql:db").unwrap(), Link { container: "mysql", alias: "db" });
        for wrong in ["", ":db", "db:", "a:b:c", "a:b c"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn links_need_networks_of_ones_own() {
        let on = |network: &str| ContainerSpec {
            links: vec!["db".into()],
            networks: vec![EndpointSpec { network: network.into(), ..Default::default() }],
            ..Default::default()
        };
        assert!(check(&on("bridge")).is_ok() && check(&on("mine")).is_ok());
        for alone in ["host", "none", "container:x"] {
            let said = check(&on(alone)).unwrap_err().to_string();
            assert!(said.contains("can't be used with links"), "{said}");
        }
        let twice = ContainerSpec { links: vec!["a:x".into(), "b:x".into()], ..Default::default() };
        assert!(check(&twice).is_err());
    }

    #[test]
    fn the_environment_is_dockers() {
        let other = Container {
            exposed_ports: vec!["33060/tcp".into(), "3306/tcp".into()],
            env: vec!["PATH=/bin".into(), "MYSQL_DATABASE=wp".into()],
            ..Default::default()
        };
        let place = NetworkStatus { ipv4: "172.17.0.2".into(), ..Default::default() };
        let env = variables("wordpress", "my-sql", &other, &place);
        assert_eq!(
            env,
            [
                "MY_SQL_PORT=tcp://172.17.0.2:3306",
                "MY_SQL_PORT_3306_TCP=tcp://172.17.0.2:3306",
                "MY_SQL_PORT_3306_TCP_ADDR=172.17.0.2",
                "MY_SQL_PORT_3306_TCP_PORT=3306",
                "MY_SQL_PORT_3306_TCP_PROTO=tcp",
                "MY_SQL_PORT_33060_TCP=tcp://172.17.0.2:33060",
                "MY_SQL_PORT_33060_TCP_ADDR=172.17.0.2",
                "MY_SQL_PORT_33060_TCP_PORT=33060",
                "MY_SQL_PORT_33060_TCP_PROTO=tcp",
                "MY_SQL_NAME=/wordpress/my-sql",
                "MY_SQL_ENV_MYSQL_DATABASE=wp",
            ]
        );
    }
}
