//! A container as a row of `davit ps`, in docker's words.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::time::SystemTime;

use davit_proto::container::{Container, ContainerStatus, Phase, PortSpec};
use davit_proto::port::each;

use super::port::{bracketed, host_ips};
use crate::document::{Document, map};
use crate::format::Column;
use crate::{human, output, reference, time};

/// Longest command that is shown whole.
const COMMAND: usize = 20;
/// Longest name of a mount that is shown whole.
const MOUNT: usize = 15;

/// Docker's fields and heads.
pub const COLUMNS: &[Column] = &[
    Column { field: "ID", head: "CONTAINER ID" },
    Column { field: "Names", head: "NAMES" },
    Column { field: "Image", head: "IMAGE" },
    Column { field: "Command", head: "COMMAND" },
    Column { field: "CreatedAt", head: "CREATED AT" },
    Column { field: "RunningFor", head: "CREATED" },
    Column { field: "Ports", head: "PORTS" },
    Column { field: "State", head: "STATE" },
    Column { field: "Status", head: "STATUS" },
    Column { field: "Size", head: "SIZE" },
    Column { field: "Labels", head: "LABELS" },
    Column { field: "LocalVolumes", head: "LOCAL VOLUMES" },
    Column { field: "Mounts", head: "MOUNTS" },
    Column { field: "Networks", head: "NETWORKS" },
    Column { field: "Platform", head: "PLATFORM" },
];

/// All fields of a container.
pub fn of(container: &Container, now: SystemTime, no_trunc: bool) -> Document {
    let empty = ContainerStatus::default();
    let status = container.status.as_ref().unwrap_or(&empty);
    let spec = container.spec.as_ref();
    let id = if no_trunc { container.id.as_str() } else { output::short_id(&container.id) };
    let image = spec.map_or("", |spec| spec.image.as_str());
    let networks: Vec<&str> = status.networks.iter().map(|network| network.network.as_str()).collect();
    let volumes = status.mounts.iter().filter(|mount| !mount.name.is_empty()).count();
    map([
        ("Command", command(&container.args, no_trunc).into()),
        ("CreatedAt", time::local(container.created_at.as_ref()).into()),
        ("ID", id.into()),
        ("Image", image_name(image).into()),
        ("Labels", labels(container).into()),
        ("LocalVolumes", volumes.to_string().into()),
        ("Mounts", mounts(status, no_trunc).into()),
        ("Names", container.name.as_str().into()),
        ("Networks", networks.join(",").into()),
        ("Platform", spec.map_or("", |spec| spec.platform.as_str()).into()),
        ("Ports", ports(&each(&status.ports), &container.exposed_ports, status.phase()).into()),
        ("RunningFor", time::ago(container.created_at.as_ref(), now).into()),
        ("Size", size(status).into()),
        ("State", state(status.phase()).into()),
        ("Status", status_text(status, now).into()),
    ])
}

/// The name as it was typed; an id is cut.
fn image_name(image: &str) -> &str {
    if image.starts_with("sha256:") { output::short_id(image) } else { reference::familiar(image) }
}

fn command(args: &[String], no_trunc: bool) -> String {
    let whole = args.join(" ");
    let shown = if no_trunc { whole } else { output::ellipsis(&whole, COMMAND) };
    format!("\"{}\"", output::visible(&shown.replace('\\', "\\\\").replace('"', "\\\"")))
}

fn labels(container: &Container) -> String {
    let mut labels: Vec<String> =
        container.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    labels.sort();
    labels.join(",")
}

fn mounts(status: &ContainerStatus, no_trunc: bool) -> String {
    let names = status.mounts.iter().map(|mount| {
        let name = if mount.name.is_empty() { &mount.source } else { &mount.name };
        if no_trunc { name.clone() } else { output::ellipsis(name, MOUNT) }
    });
    names.collect::<Vec<_>>().join(",")
}

fn size(status: &ContainerStatus) -> String {
    let own = human::size(status.size_rw);
    if status.size_root == 0 { own } else { format!("{own} (virtual {})", human::size(status.size_root)) }
}

/// Docker's word for what a container does.
pub fn state(phase: Phase) -> &'static str {
    match phase {
        Phase::Creating | Phase::Created => "created",
        Phase::Running => "running",
        Phase::Paused => "paused",
        Phase::Restarting => "restarting",
        Phase::Exited => "exited",
        Phase::Removing => "removing",
        Phase::Unknown | Phase::Unspecified => "unknown",
    }
}

/// Docker's sentence on what a container does.
fn status_text(status: &ContainerStatus, now: SystemTime) -> String {
    let up = || {
        let length = status.started_at.as_ref().map(|at| human::duration(time::since(at, now)));
        format!("Up {}", length.unwrap_or_default())
    };
    let ended = |word: &str| {
        let exit = status.exit.as_ref();
        let code = exit.map_or(0, |exit| exit.exit_code);
        let ago = time::ago(exit.and_then(|exit| exit.finished_at.as_ref()), now);
        let mut text = format!("{word} ({code}) {ago}").trim_end().to_owned();
        let reason = exit.map_or("", |exit| exit.reason.as_str());
        if !reason.is_empty() {
            write!(text, " ({reason})").expect("writing to a string cannot fail");
        } else if exit.is_some_and(|exit| exit.oom_killed) {
            text.push_str(" (out of memory)");
        }
        text
    };
    match status.phase() {
        Phase::Creating | Phase::Created => "Created".into(),
        Phase::Running if status.health == "starting" => format!("{} (health: starting)", up()),
        Phase::Running if !status.health.is_empty() => format!("{} ({})", up(), status.health),
        Phase::Running => up(),
        Phase::Paused => format!("{} (Paused)", up()),
        Phase::Restarting => ended("Restarting"),
        Phase::Exited => ended("Exited"),
        Phase::Removing => "Removal In Progress".into(),
        Phase::Unknown | Phase::Unspecified => "Unknown (its shim cannot be reached)".into(),
    }
}

/// `0.0.0.0:8000-8002->80-82/tcp, 443/tcp`: runs of ports as ranges, what is only exposed behind. Where
/// nothing runs, nothing is published.
fn ports(published: &[PortSpec], exposed: &[String], phase: Phase) -> String {
    if !matches!(phase, Phase::Running | Phase::Paused | Phase::Restarting | Phase::Unknown) {
        return String::new();
    }
    // By protocol and address: container port → host port.
    let mut groups: BTreeMap<(String, String), BTreeMap<u32, u32>> = BTreeMap::new();
    for port in published {
        let protocol = if port.protocol.is_empty() { "tcp" } else { &port.protocol };
        for ip in host_ips(port) {
            let group = groups.entry((ip, protocol.to_owned())).or_default();
            group.insert(port.container_port, port.host_port);
        }
    }
    let names = published.iter().map(|port| {
        let protocol = if port.protocol.is_empty() { "tcp" } else { &port.protocol };
        (port.container_port, protocol)
    });
    let names: HashSet<(u32, &str)> = names.collect();
    for text in exposed {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let Ok(number) = number.parse::<u32>() else { continue };
        if !names.contains(&(number, protocol)) {
            groups.entry((String::new(), protocol.to_owned())).or_default().insert(number, 0);
        }
    }
    let mut texts: Vec<(u32, String)> = Vec::new();
    for ((ip, protocol), group) in &groups {
        for (first, last, host) in runs(group) {
            texts.push((first, run_text(ip, protocol, (first, last), host)));
        }
    }
    texts.sort_by_key(|(first, _)| *first);
    texts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(", ")
}

/// Runs of ports that follow each other on both sides: first, last, first on the host.
fn runs(group: &BTreeMap<u32, u32>) -> Vec<(u32, u32, u32)> {
    let mut runs: Vec<(u32, u32, u32)> = Vec::new();
    for (&container, &host) in group {
        match runs.last_mut() {
            Some((first, last, first_host))
                if *last + 1 == container
                    && (host == 0) == (*first_host == 0)
                    && (host == 0 || host.checked_sub(*first_host) == container.checked_sub(*first)) =>
            {
                *last = container;
            }
            _ => runs.push((container, container, host)),
        }
    }
    runs
}

fn run_text(ip: &str, protocol: &str, (first, last): (u32, u32), host: u32) -> String {
    let span = |first: u32, length: u32| {
        if length == 0 { first.to_string() } else { format!("{first}-{}", first + length) }
    };
    let length = last - first;
    let container = span(first, length);
    if ip.is_empty() {
        format!("{container}/{protocol}")
    } else {
        format!("{}:{}->{container}/{protocol}", bracketed(ip), span(host, length))
    }
}

#[cfg(test)]
mod tests;
