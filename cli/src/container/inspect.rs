//! `davit container inspect`: a container in docker's fields.

mod host;
mod network;

use davit_proto::container::{
    Container, ContainerSpec, ContainerStatus, InspectRequest, InspectResponse, MountKind, Phase,
};
use davit_proto::status::RemoteError;
use davit_proto::types::{Exec, Probe};

use super::row::state;
use crate::args::container::InspectArgs;
use crate::client::Engine;
use crate::document::{Document, list, map, texts};
use crate::error::Error;
use crate::system::inspect::{self, Found};
use crate::{time, usage};

/// Shows all of some containers.
pub async fn run(engine: Engine, args: InspectArgs) -> Result<u8, Error> {
    let (engine, size) = (&engine, args.size);
    inspect::show(args.target.containers, args.format.as_deref(), async move |name| {
        find(engine, &name, size).await
    })
    .await
}

/// One container as a document; `None` when there is none by that name.
pub async fn find(engine: &Engine, name: &str, size: bool) -> Result<Found, Error> {
    usage::check_target(name)?;
    let request = InspectRequest { container: name.to_owned(), size };
    let mut answer = engine.containers().await?.inspect(request).await.map_err(RemoteError::from);
    if let Some(container) = answer.as_mut().ok().and_then(|answer| answer.get_mut().container.as_mut()) {
        name_links(engine, container).await?;
    }
    Found::or_missing(answer, davit_proto::reason::CONTAINER_NOT_FOUND, |answer| {
        let InspectResponse { container, execs } = answer.into_inner();
        container.map(|container| document(&container, &execs, size))
    })
}

/// Links name containers by their ids, and are shown with their names, as docker shows them.
async fn name_links(engine: &Engine, container: &mut Container) -> Result<(), Error> {
    let own = container.name.clone();
    for link in container.spec.iter_mut().flat_map(|spec| &mut spec.links) {
        let Some((id, alias)) = link.split_once(':') else { continue };
        let request = InspectRequest { container: id.to_owned(), size: false };
        // One that was removed has no name any more.
        if let Ok(answer) = engine.containers().await?.inspect(request).await {
            let name = answer.into_inner().container.unwrap_or_default().name;
            *link = format!("/{name}:/{own}/{alias}");
        }
    }
    Ok(())
}

/// The whole document.
pub fn document(container: &Container, execs: &[Exec], size: bool) -> Document {
    let (no_spec, no_status) = (ContainerSpec::default(), ContainerStatus::default());
    let spec = container.spec.as_ref().unwrap_or(&no_spec);
    let status = container.status.as_ref().unwrap_or(&no_status);
    let (path, args) = container.args.split_first().map_or(("", &[][..]), |(path, args)| (path, args));
    let mut fields: Vec<(&str, Document)> = vec![
        ("Id", container.id.as_str().into()),
        ("Created", time::exact(container.created_at.as_ref()).into()),
        ("Path", path.into()),
        ("Args", list(args)),
        ("State", state_of(status)),
        ("Image", container.image_id.as_str().into()),
        ("ResolvConfPath", status.resolv_conf_path.as_str().into()),
        ("HostnamePath", status.hostname_path.as_str().into()),
        ("HostsPath", status.hosts_path.as_str().into()),
        ("LogPath", status.log_path.as_str().into()),
        ("Name", format!("/{}", container.name).into()),
        ("RestartCount", status.restart_count.into()),
        ("Driver", "overlay".into()),
        ("Platform", "linux".into()),
        ("MountLabel", "".into()),
        ("ProcessLabel", "".into()),
        ("AppArmorProfile", "".into()),
        ("ExecIDs", exec_ids(execs)),
        ("HostConfig", host::config(spec, status)),
        ("GraphDriver", graph(status)),
    ];
    if size {
        fields.push(("SizeRw", status.size_rw.into()));
        fields.push(("SizeRootFs", status.size_root.into()));
    }
    fields.push(("Mounts", mounts(status)));
    fields.push(("Config", config(container, spec)));
    fields.push(("NetworkSettings", network::settings(container, status)));
    map(fields)
}

/// Ids of the processes that were added and run; as with docker, nothing where there are none.
fn exec_ids(execs: &[Exec]) -> Document {
    match execs {
        [] => Document::Null,
        execs => list(execs.iter().map(|exec| &exec.id)),
    }
}

fn state_of(status: &ContainerStatus) -> Document {
    let phase = status.phase();
    let exit = status.exit.as_ref();
    let is = |wanted: Phase| Document::Bool(phase == wanted);
    let over = !matches!(phase, Phase::Running | Phase::Paused);
    let error = match exit {
        Some(exit) if over && status.error.is_empty() => exit.reason.as_str(),
        _ => status.error.as_str(),
    };
    let mut fields = vec![
        ("Status", state(phase).into()),
        ("Running", matches!(phase, Phase::Running | Phase::Paused | Phase::Restarting).into()),
        ("Paused", is(Phase::Paused)),
        ("Restarting", is(Phase::Restarting)),
        ("OOMKilled", exit.is_some_and(|exit| over && exit.oom_killed).into()),
        ("Dead", false.into()),
        ("Pid", status.pid.into()),
        ("ExitCode", exit.filter(|_| over).map_or(0, |exit| exit.exit_code).into()),
        ("Error", error.into()),
        ("StartedAt", time::exact(status.started_at.as_ref()).into()),
        ("FinishedAt", time::exact(exit.and_then(|exit| exit.finished_at.as_ref())).into()),
    ];
    if !status.health.is_empty() {
        fields.push(("Health", health(status)));
    }
    // Fields of davit's own.
    fields.push(("ShimPid", status.shim_pid.into()));
    fields.push(("Life", status.life.into()));
    map(fields)
}

fn health(status: &ContainerStatus) -> Document {
    let log = status.health_log.clone().unwrap_or_default();
    let probe = |probe: &Probe| {
        map([
            ("Start", time::exact(probe.started_at.as_ref()).into()),
            ("End", time::exact(probe.finished_at.as_ref()).into()),
            ("ExitCode", probe.exit_code.into()),
            ("Output", probe.output.as_str().into()),
        ])
    };
    map([
        ("Status", status.health.as_str().into()),
        ("FailingStreak", log.failing_streak.into()),
        ("Log", Document::List(log.probes.iter().map(probe).collect())),
    ])
}

fn graph(status: &ContainerStatus) -> Document {
    let path = |name: &str| {
        if status.bundle_path.is_empty() { String::new() } else { format!("{}/{name}", status.bundle_path) }
    };
    map([
        ("Data", map([("UpperDir", path("upper").into()), ("WorkDir", path("work").into())])),
        ("Name", "overlay".into()),
    ])
}

/// Docker's word for a kind of mount.
pub fn mount_type(kind: MountKind) -> &'static str {
    match kind {
        MountKind::Bind => "bind",
        MountKind::Volume => "volume",
        MountKind::Tmpfs => "tmpfs",
        MountKind::Image => "image",
        MountKind::Unspecified => "",
    }
}

fn mounts(status: &ContainerStatus) -> Document {
    Document::List(
        status
            .mounts
            .iter()
            .map(|mount| {
                let mut fields: Vec<(&str, Document)> = vec![("Type", mount_type(mount.kind()).into())];
                if !mount.name.is_empty() {
                    fields.push(("Name", mount.name.as_str().into()));
                }
                fields.push(("Source", mount.source.as_str().into()));
                fields.push(("Destination", mount.target.as_str().into()));
                if !mount.driver.is_empty() {
                    fields.push(("Driver", mount.driver.as_str().into()));
                }
                fields.push(("Mode", if mount.read_only { "ro" } else { "" }.into()));
                fields.push(("RW", (!mount.read_only).into()));
                fields.push(("Propagation", mount.propagation.as_str().into()));
                map(fields)
            })
            .collect(),
    )
}

fn config(container: &Container, spec: &ContainerSpec) -> Document {
    let hostname =
        if spec.hostname.is_empty() { crate::output::short_id(&container.id) } else { &spec.hostname };
    let exposed = container.exposed_ports.iter().map(|port| (port.as_str(), map::<&str>([])));
    let anonymous =
        spec.mounts.iter().filter(|mount| mount.kind() == MountKind::Volume && mount.source.is_empty());
    let entrypoint: &[String] = if spec.entrypoint == [""] { &[] } else { &spec.entrypoint };
    let mut fields: Vec<(&str, Document)> = vec![
        ("Hostname", hostname.into()),
        ("Domainname", spec.domainname.as_str().into()),
        ("User", container.user.as_str().into()),
        ("AttachStdin", spec.stdin_once.into()),
    ];
    if !container.exposed_ports.is_empty() {
        fields.push(("ExposedPorts", map(exposed)));
    }
    fields.extend([
        ("Tty", spec.terminal.into()),
        ("OpenStdin", spec.open_stdin.into()),
        ("StdinOnce", spec.stdin_once.into()),
        ("Env", list(&container.env)),
        ("Cmd", command(container, spec)),
        ("Image", spec.image.as_str().into()),
        ("Volumes", or_null(map(anonymous.map(|mount| (mount.target.as_str(), map::<&str>([])))))),
        ("WorkingDir", container.working_dir.as_str().into()),
        ("Entrypoint", or_null(list(entrypoint))),
        ("OnBuild", Document::Null),
        ("Labels", texts(&container.labels)),
    ]);
    if !container.stop_signal.is_empty() {
        fields.push(("StopSignal", container.stop_signal.as_str().into()));
    }
    if let Some(timeout) = &spec.stop_timeout {
        fields.push(("StopTimeout", timeout.seconds.into()));
    }
    if let Some(health) = &spec.health {
        fields.push(("Healthcheck", host::health(health)));
    }
    map(fields)
}

/// What follows the entrypoint. The engine tells the whole resolved command; what the request replaced is
/// taken from its front.
fn command(container: &Container, spec: &ContainerSpec) -> Document {
    if !spec.command.is_empty() {
        return list(&spec.command);
    }
    let entrypoint: &[String] = if spec.entrypoint == [""] { &[] } else { &spec.entrypoint };
    or_null(list(container.args.strip_prefix(entrypoint).unwrap_or(&container.args)))
}

/// Docker's null for what is empty.
fn or_null(document: Document) -> Document {
    match &document {
        Document::List(items) if items.is_empty() => Document::Null,
        Document::Map(fields) if fields.is_empty() => Document::Null,
        _ => document,
    }
}

#[cfg(test)]
mod tests;
