//! Checks a wish for a container before anything is done for it: every field, one sentence each. What
//! this version does not serve is refused by name, never passed over.

use std::collections::HashSet;

use davit_proto::container::{ContainerSpec, CreateRequest, EndpointSpec, PortSpec, RestartMode};
use davit_proto::id::Name;
use davit_proto::port::each;
use prost::Message as _;

use super::spec::{Error, ImageConfig, OUR_PREFIX};
use super::spec::{
    capability, device, health, hosts, limit, mounts, path, port, process, resource, security,
};
use super::{join, links, shape, signal, volumes_from};

/// Most bytes of an encoded spec, so that a record stays bounded whatever is asked for: ten thousand ports, each by
/// itself and not in a row, take 150 KiB of it, and as much again in the status.
const SPEC_LIMIT: usize = 256 << 10;
/// Longest request key.
const KEY_LIMIT: usize = 256;
/// Longest name of a host, which is the kernel's limit.
const HOST_NAME_LIMIT: usize = 64;
/// Most bytes of a log file that may be asked for.
const LOG_SIZE_LIMIT: u64 = 1 << 40;
/// Most files of a log.
const LOG_FILES_LIMIT: u32 = 1000;

type Checked = Result<(), Error>;

/// Checks a request to make a container.
///
/// # Errors
/// With the first thing that is wrong.
pub fn create(request: &CreateRequest) -> Checked {
    if !request.name.is_empty() {
        request.name.parse::<Name>().map_err(|error| Error::invalid("name", &request.name, error.rule))?;
    }
    if request.request_key.len() > KEY_LIMIT || request.request_key.chars().any(char::is_control) {
        let rule = format!("at most {KEY_LIMIT} bytes without control characters");
        return Err(Error::invalid("request_key", &request.request_key, rule));
    }
    match &request.spec {
        Some(spec) => self::spec(spec),
        None => Err(Error::invalid("spec", "", "must be given")),
    }
}

/// Checks what is wanted of a container.
///
/// # Errors
/// With the first thing that is wrong.
pub fn spec(spec: &ContainerSpec) -> Checked {
    let size = spec.encoded_len();
    if size > SPEC_LIMIT {
        return Err(Error::invalid("spec", &format!("{size} bytes"), format!("at most {SPEC_LIMIT} bytes")));
    }
    restart(spec)?;
    command(spec)?;
    identity(spec)?;
    confinement(spec)?;
    network(spec)?;
    end(spec)?;
    volumes_from::check(spec)?;
    // The image is not known yet; what it adds is checked when it is.
    mounts::plan(spec, &ImageConfig::default())?;
    shape::of(spec).map(|_| ())
}

/// Whether a restart policy is one, and fits the rest of the wish.
///
/// # Errors
/// When it is not, in docker's words.
pub fn restart(spec: &ContainerSpec) -> Checked {
    let Some(policy) = &spec.restart else { return Ok(()) };
    let mode = RestartMode::try_from(policy.mode)
        .map_err(|_| Error::invalid("restart.mode", &policy.mode.to_string(), "no such mode"))?;
    let restarts = !matches!(mode, RestartMode::Unspecified | RestartMode::No);
    if policy.max_retries > 0 && mode != RestartMode::OnFailure {
        let rule = "maximum retry count can only be used with 'on-failure'".to_owned();
        return Err(Error::Conflict(format!("invalid restart policy: {rule}")));
    }
    if restarts && spec.auto_remove {
        return Err(Error::Conflict("conflicting options: --restart and --rm".to_owned()));
    }
    Ok(())
}

fn command(spec: &ContainerSpec) -> Checked {
    let odd = |c: char| c.is_control() || c.is_whitespace();
    if spec.image.is_empty() || spec.image.len() > 1024 || spec.image.chars().any(odd) {
        return Err(Error::invalid("image", &spec.image, "must be a reference or id of an image"));
    }
    for (field, list) in [
        ("command", &spec.command),
        ("entrypoint", &spec.entrypoint),
        ("env", &spec.env),
        ("env_defaults", &spec.env_defaults),
    ] {
        if let Some(text) = list.iter().find(|text| text.contains('\0')) {
            return Err(Error::invalid(field, text, "must not hold a NUL byte"));
        }
    }
    for entry in &spec.env {
        let key = entry.split_once('=').map_or(entry.as_str(), |(key, _)| key);
        if key.is_empty() || key.chars().any(char::is_control) {
            return Err(Error::invalid("env", entry, "must be KEY=value, or KEY to remove one"));
        }
    }
    for entry in &spec.env_defaults {
        if entry.split_once('=').is_none_or(|(key, _)| key.is_empty() || key.chars().any(char::is_control)) {
            return Err(Error::invalid("env_defaults", entry, "must be KEY=value"));
        }
    }
    for file in &spec.env_files {
        if file.name.is_empty() || file.name.chars().any(|c| c.is_control() || c == '=') {
            return Err(Error::invalid("env_files.name", &file.name, "must be the name of a variable"));
        }
        path::clean("env_files.path", &file.path)?;
    }
    if !spec.working_dir.is_empty() {
        process::check_working_dir(&spec.working_dir)?;
    }
    if let Some(umask) = spec.umask.filter(|umask| *umask > 0o777) {
        return Err(Error::invalid("umask", &format!("{umask:04o}"), "from 0 to 0777"));
    }
    for text in [&spec.stop_signal].into_iter().filter(|text| !text.is_empty()) {
        if signal::parse(text).is_none() {
            return Err(Error::invalid("stop_signal", text, "no such signal"));
        }
    }
    Ok(())
}

fn identity(spec: &ContainerSpec) -> Checked {
    process::check_user("user", &spec.user)?;
    for group in &spec.group_add {
        process::check_account("group_add", group, group)?;
    }
    host_name("hostname", &spec.hostname)?;
    host_name("domainname", &spec.domainname)?;
    if shape::shares_name(spec) && !(spec.hostname.is_empty() && spec.domainname.is_empty()) {
        return Err(Error::Conflict("a host name cannot be set in a namespace that is shared".to_owned()));
    }
    pairs("labels", spec.labels.iter())?;
    pairs("annotations", spec.annotations.iter())?;
    if let Some(key) = spec.annotations.keys().find(|key| key.starts_with(OUR_PREFIX)) {
        return Err(Error::invalid("annotations", key, format!("{OUR_PREFIX} is the engine's own")));
    }
    if spec.platform.len() > 64 || spec.platform.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Error::invalid("platform", &spec.platform, "must be like linux/arm64"));
    }
    Ok(())
}

fn pairs<'a>(field: &'static str, pairs: impl Iterator<Item = (&'a String, &'a String)>) -> Checked {
    for (key, value) in pairs {
        if key.is_empty() || key.contains(['\0', '\n', '=']) || value.contains('\0') {
            return Err(Error::invalid(
                field,
                key,
                "must be a key without '=' or newline, and a value without NUL",
            ));
        }
    }
    Ok(())
}

fn host_name(field: &'static str, text: &str) -> Checked {
    let part = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && !part.starts_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if text.is_empty() || (text.len() <= HOST_NAME_LIMIT && text.split('.').all(part)) {
        return Ok(());
    }
    Err(Error::invalid(field, text, "must be letters, digits and dashes, with dots between, at most 64"))
}

fn confinement(spec: &ContainerSpec) -> Checked {
    capability::check(&spec.cap_add, &spec.cap_drop)?;
    security::parse(&spec.security_opt)?;
    limit::check(spec)?;
    cgroup_parent(&spec.cgroup_parent)?;
    device::check(spec)?;
    if let Some(resources) = &spec.resources {
        resource::check(resources)?;
    }
    if i64::try_from(spec.shm_size).is_err() {
        return Err(Error::invalid("shm_size", &spec.shm_size.to_string(), "more than any host has"));
    }
    if !(-1000..=1000).contains(&spec.oom_score_adj) {
        return Err(Error::invalid("oom_score_adj", &spec.oom_score_adj.to_string(), "from -1000 to 1000"));
    }
    if let Some(log) = &spec.log {
        if log.max_size > LOG_SIZE_LIMIT || (1..4096).contains(&log.max_size) {
            return Err(Error::invalid("log.max_size", &log.max_size.to_string(), "from 4 KiB to 1 TiB"));
        }
        if log.max_files > LOG_FILES_LIMIT {
            let rule = format!("at most {LOG_FILES_LIMIT}");
            return Err(Error::invalid("log.max_files", &log.max_files.to_string(), rule));
        }
    }
    Ok(())
}

fn network(spec: &ContainerSpec) -> Checked {
    ports(spec)?;
    for text in &spec.expose {
        port::parse_exposed(text)?;
    }
    if spec.unconnected {
        return Err(Error::invalid("unconnected", "true", "is the engine's to say: use the network none"));
    }
    joins(spec)?;
    for server in &spec.dns {
        if server.parse::<std::net::IpAddr>().is_err() {
            return Err(Error::invalid("dns", server, "must be an address"));
        }
    }
    for (field, list) in [("dns_search", &spec.dns_search), ("dns_options", &spec.dns_options)] {
        let odd = |c: char| c.is_control() || c.is_whitespace();
        if let Some(text) = list.iter().find(|t| t.is_empty() || t.len() > 253 || t.chars().any(odd)) {
            return Err(Error::invalid(field, text, "must be one word"));
        }
    }
    spec.extra_hosts.iter().try_for_each(|line| hosts::extra_host(line).map(|_| ()))
}

/// Published ports.
pub fn ports(spec: &ContainerSpec) -> Checked {
    for row in &spec.ports {
        let beyond = |port: u32| port.saturating_add(row.count.saturating_sub(1)) > 65535;
        let chosen = row.host_port == 0 || row.host_port_last != 0;
        if row.count > 1 && (chosen || beyond(row.host_port) || beyond(row.container_port)) {
            let rule = "a row of ports wants a first one on the host, and as many after it";
            return Err(Error::invalid("ports.count", &row.count.to_string(), rule));
        }
    }
    let each = each(&spec.ports);
    if each.len() > port::LIMIT {
        let rule = format!("at most {}", port::LIMIT);
        return Err(Error::invalid("ports", &each.len().to_string(), rule));
    }
    let mut places = HashSet::new();
    for one in &each {
        published(one)?;
        let place = (one.host_ip.as_str(), one.host_port, port::protocol(one));
        let chosen = one.host_port == 0 || one.host_port_last != 0;
        if !chosen && !places.insert(place) {
            let value = format!("{}/{}", one.host_port, port::protocol(one));
            return Err(Error::invalid("ports", &value, "a port of the host can be published once only"));
        }
    }
    Ok(())
}

/// Checks the networks and links that are asked for.
///
/// # Errors
/// With the first thing that is wrong.
pub fn joins(spec: &ContainerSpec) -> Checked {
    let network = shape::network(spec)?;
    if matches!(network, shape::Network::Container(_)) {
        owned_by_another(spec)?;
    }
    let wired = !network.endpoints().is_empty();
    for one in &spec.networks {
        endpoint(one)?;
        let fixed = [&one.ipv4, &one.ipv6, &one.mac].iter().any(|text| !text.is_empty());
        if !wired && (fixed || !one.aliases.is_empty()) {
            return Err(Error::Conflict(format!(
                "the network {:?} gives neither addresses nor names",
                one.network
            )));
        }
    }
    links::check(spec)
}

/// What belongs to a network namespace cannot be said by one who shares another's.
fn owned_by_another(spec: &ContainerSpec) -> Checked {
    for (there, what) in [
        (!spec.hostname.is_empty() || !spec.domainname.is_empty(), "a host name"),
        (!spec.ports.is_empty() || spec.publish_all, "publishing ports"),
        (!spec.expose.is_empty(), "exposing ports"),
        (!(spec.dns.is_empty() && spec.dns_search.is_empty() && spec.dns_options.is_empty()), "name servers"),
        (!spec.extra_hosts.is_empty(), "lines for the hosts file"),
    ] {
        if there {
            return Err(Error::Conflict(format!(
                "conflicting options: {what} and the network of another container, which has its own"
            )));
        }
    }
    Ok(())
}

/// A cgroup of one container: below the root of the hierarchies, or below the engine's own.
fn cgroup_parent(text: &str) -> Checked {
    let plain = |part: &str| {
        !part.is_empty() && part != "." && part != ".." && !part.contains(['\0', '\n', ':', ','])
    };
    let path = text.strip_prefix('/').unwrap_or(text);
    if text.is_empty() || (text.len() <= 200 && path.split('/').all(plain)) {
        return Ok(());
    }
    Err(Error::invalid("cgroup_parent", text, "must be a path of plain names, without . and .."))
}

fn published(port: &PortSpec) -> Checked {
    if !(1..=65535).contains(&port.container_port) {
        return Err(Error::invalid(
            "ports.container_port",
            &port.container_port.to_string(),
            "from 1 to 65535",
        ));
    }
    if port.host_port > 65535 {
        return Err(Error::invalid("ports.host_port", &port.host_port.to_string(), "from 0 to 65535"));
    }
    let last = port.host_port_last;
    if last != 0 && (port.host_port == 0 || last < port.host_port || last > 65535) {
        return Err(Error::invalid(
            "ports.host_port_last",
            &last.to_string(),
            "from the first port of its range to 65535",
        ));
    }
    if !port::PROTOCOLS.contains(&port::protocol(port)) {
        return Err(Error::invalid("ports.protocol", &port.protocol, "must be tcp, udp or sctp"));
    }
    if !port.host_ip.is_empty() && port.host_ip.parse::<std::net::IpAddr>().is_err() {
        return Err(Error::invalid("ports.host_ip", &port.host_ip, "must be an address"));
    }
    Ok(())
}

/// Checks a place on a network that is asked for.
///
/// # Errors
/// With the first thing that is wrong.
pub fn endpoint(endpoint: &EndpointSpec) -> Checked {
    let name = |field, text: &str| {
        text.parse::<Name>().map(|_| ()).map_err(|error| Error::invalid(field, text, error.rule))
    };
    let network = join::other(&endpoint.network).unwrap_or(&endpoint.network);
    if !network.is_empty() {
        name("networks.network", network)?;
    }
    endpoint.aliases.iter().try_for_each(|alias| name("networks.aliases", alias))?;
    if endpoint.aliases.len() > 64 {
        return Err(Error::invalid("networks.aliases", &endpoint.aliases.len().to_string(), "at most 64"));
    }
    if !endpoint.ipv4.is_empty() && endpoint.ipv4.parse::<std::net::Ipv4Addr>().is_err() {
        return Err(Error::invalid("networks.ipv4", &endpoint.ipv4, "must be an IPv4 address"));
    }
    if !endpoint.ipv6.is_empty() && endpoint.ipv6.parse::<std::net::Ipv6Addr>().is_err() {
        return Err(Error::invalid("networks.ipv6", &endpoint.ipv6, "must be an IPv6 address"));
    }
    if !endpoint.mac.is_empty() && !is_hardware_address(&endpoint.mac) {
        return Err(Error::invalid(
            "networks.mac",
            &endpoint.mac,
            "must be like 02:42:ac:11:00:02, for one host",
        ));
    }
    Ok(())
}

/// Six bytes, of a single interface: the lowest bit of the first one marks a group.
fn is_hardware_address(text: &str) -> bool {
    let byte = |part: &str| {
        if part.len() == 2 && !part.starts_with('+') { u8::from_str_radix(part, 16).ok() } else { None }
    };
    let bytes: Option<Vec<u8>> = text.split(':').map(byte).collect();
    bytes.is_some_and(|bytes| {
        bytes.len() == 6 && bytes.first().is_some_and(|first| first & 1 == 0) && bytes.iter().any(|b| *b != 0)
    })
}

fn end(spec: &ContainerSpec) -> Checked {
    if let Some(timeout) = &spec.stop_timeout
        && !((0..=i64::from(i32::MAX)).contains(&timeout.seconds)
            && (0..1_000_000_000).contains(&timeout.nanos))
    {
        return Err(Error::invalid(
            "stop_timeout",
            &timeout.seconds.to_string(),
            "from 0 to 2147483647 seconds",
        ));
    }
    if let Some(health) = &spec.health {
        health::check(health)?;
    }
    if spec.stdin_once && !spec.open_stdin {
        return Err(Error::Conflict("stdin_once needs open_stdin".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
