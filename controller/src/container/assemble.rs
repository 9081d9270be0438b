//! From a record and a bundle to an init that waits at its gate: what a container that is made and one that is started
//! again have in common.

use std::sync::Arc;
use std::time::{Duration, Instant};

use davit_proto::container::{Container, ContainerStatus, Phase};
use davit_proto::id::ContainerId;
use davit_proto::port::in_rows;
use davit_proto::store::ContainerRecord;
use davit_proto::task::{ConfigureRequest, HealthCheck, LogLimits, Shape};
use davit_proto::time::proto_duration;
use davit_proto::types::TerminalSize;
use prost::Message as _;

use super::bundle::Bundle;
use super::content::{self, Content};
use super::launch::{self, Prepared};
use super::wire::{self, Plan, Wired};
use super::{hosts, join, links, network, signal, spec, stop};
use crate::actor::Actor;
use crate::engine::Engine;
use crate::error::Error;
use crate::failpoint::{self, pass};
use crate::shim::{LONG, Shim, within};
use crate::store::{self, Change};
use crate::{events, supervise};

/// A container at its gate.
#[derive(Debug)]
pub struct Assembled {
    /// The connection to its shim.
    pub shim: Shim,
    shim_pid: i32,
    netns_path: String,
    content: Content,
    wired: Wired,
    /// How long each step took.
    steps: Vec<(&'static str, Duration)>,
}

/// Why a container was brought to its gate.
#[derive(Debug)]
pub enum Made<'a> {
    /// It is new.
    New(&'a Actor),
    /// It is to be started again.
    Again(&'a Actor),
}

impl Assembled {
    /// Who asked, and which step took how long.
    fn cause(&self, actor: &Actor) -> String {
        let times = self.steps.iter().map(|(step, time)| format!("{step} {} ms", time.as_millis()));
        format!("{actor}; {}", times.collect::<Vec<_>>().join(", "))
    }

    /// What a person should know.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.content.resolved.warnings.iter().chain(&self.wired.warnings).cloned().collect()
    }
}

/// Steps 2 to 5: from a record and a bundle to an init that waits at the gate. A stopped container is started again
/// through the same steps, over the same writable layer. `prepared` is a shim whose first half is done already.
///
/// # Errors
/// When a step fails. What the steps before it made is the caller's to release.
pub async fn assemble(
    engine: &Arc<Engine>,
    record: &ContainerRecord,
    size: Option<TerminalSize>,
    prepared: Option<Prepared>,
) -> Result<Assembled, Error> {
    let id = store::record_id(record)?;
    let container = record.container.clone().unwrap_or_default();
    let wish = container.spec.clone().unwrap_or_default();
    let mut shape = Shape::decode(record.shape.as_slice()).unwrap_or_default();
    let ids = shape.ids;
    let mut joined = join::find(engine, &wish, &mut shape).await?;
    joined.variables = links::env(engine, &container)?;
    if !wish.cgroup_parent.is_empty() {
        shape.cgroup_parent = engine.config.cgroup_parent_of(&wish.cgroup_parent);
    }

    // 2: the shim's first half, and what the container is made of. Not try_join: a launch is not dropped midway.
    let (prepared, content) = tokio::join!(
        timed(launch::first_half(engine, &id, shape, prepared)),
        timed(content::hold(engine, &id, &container))
    );
    let mut steps = vec![("image and volumes", content.1), ("shim", prepared.1)];
    let (mut content, prepared) = (content.0?, prepared.0?);
    if let Some(hostname) = &joined.hostname {
        content.resolved.hostname.clone_from(hostname);
    }

    // 3: ports and networks.
    let plan =
        Plan { id: &id, name: &container.name, spec: &wish, resolved: &content.resolved, joined: &joined };
    let (wired, time) = timed(wire::wire(engine, &prepared, plan)).await;
    let wired = wired?;
    steps.push(("network", time));

    // 4: what the container's own half is told.
    let bundle = Bundle::new(engine.config.bundle(&id));
    let runtime = spec::build(&spec::Input {
        spec: &wish,
        resolved: &content.resolved,
        rootfs: &content.rootfs,
        wanted: &content.wanted,
        held: &content.held,
        devices: &content.devices,
        bundle: bundle.path(),
        cgroup_path: &engine.config.cgroup_path(&id, &wish.cgroup_parent),
        host: &engine.facts.host,
        linked: &joined.variables,
        ids,
    })?;
    bundle.write_config(&runtime).map_err(Error::io("write config.json"))?;
    pass(failpoint::CREATE_SPEC).await?;

    // 5: the second half.
    let request =
        ConfigureRequest { names: wired.names.clone(), ..configuration(&container, &content, size) };
    let mut tasks = prepared.shim.tasks();
    let (configured, time) = timed(within(LONG, "configure the container", tasks.configure(request))).await;
    content.resolved.warnings.extend(configured?.warnings);
    steps.push(("mounts and limits", time));
    drop(prepared.hold);
    pass(failpoint::CREATE_CONFIGURED).await?;
    supervise::follow(engine, prepared.shim.clone());

    let netns = prepared.made.network_namespace;
    let netns_path = netns.map(|n| format!("/proc/{}/fd/{}", n.pid, n.fd)).unwrap_or_default();
    Ok(Assembled { shim: prepared.shim, shim_pid: prepared.made.shim_pid, netns_path, content, wired, steps })
}

/// What the shim is told for its second half.
fn configuration(container: &Container, content: &Content, size: Option<TerminalSize>) -> ConfigureRequest {
    let wish = container.spec.clone().unwrap_or_default();
    let log = wish.log.unwrap_or_default();
    ConfigureRequest {
        open_stdin: wish.open_stdin,
        stdin_once: wish.stdin_once,
        log: Some(LogLimits { max_size: log.max_size, max_files: log.max_files }),
        size,
        health: content.resolved.health.clone().map(|check| HealthCheck {
            // Of the image too: the record has it only once the container is made.
            stop_signal: signal::parse(&content.resolved.stop_signal).unwrap_or_default(),
            stop_timeout: Some(proto_duration(stop::own_timeout(container))),
            ..check
        }),
        names: None,
    }
}

/// The outcome of a step, and how long it took.
async fn timed<T>(step: impl Future<Output = T>) -> (T, Duration) {
    let begun = Instant::now();
    let outcome = step.await;
    (outcome, begun.elapsed())
}

/// Enters what the steps found out into record and bundle.
///
/// # Errors
/// When the container is gone, or its bundle cannot be written.
pub fn enter(
    engine: &Arc<Engine>,
    id: &ContainerId,
    assembled: &Assembled,
    made: &Made<'_>,
) -> Result<Arc<ContainerRecord>, Error> {
    let entered = engine.store.update(id, |record| {
        let container = record.container.as_mut()?;
        resolve(container, assembled);
        record.rewiring = false;
        fill(container.status.get_or_insert_default(), engine, id, assembled);
        match made {
            Made::Again(actor) => {
                let change = Change { events: connected(container), ..Change::default() };
                Some(change.explained("was prepared for its start", assembled.cause(actor)))
            }
            Made::New(actor) => {
                container.status.get_or_insert_default().set_phase(Phase::Created);
                let mut events = vec![events::of_container(container, "create", [])];
                events.extend(connected(container));
                let change = Change { events, ..Change::default() };
                Some(change.explained("was created", assembled.cause(actor)))
            }
        }
    });
    let record = entered.ok_or_else(|| store::Unresolved::NotFound(id.to_string()))?;
    let bundle = Bundle::new(engine.config.bundle(id));
    bundle.write_spec(&record).map_err(Error::io("write spec.json"))?;
    hosts::follow_links(engine, id)?;
    Ok(record)
}

/// What the world is told of the networks that a container was wired to.
fn connected(container: &Container) -> Vec<store::Draft> {
    let status = container.status.clone().unwrap_or_default();
    network::events("connect", &container.id, &status.networks).collect()
}

fn resolve(container: &mut Container, assembled: &Assembled) {
    let (content, resolved) = (&assembled.content, &assembled.content.resolved);
    container.image_id.clone_from(&content.image_id);
    container.args.clone_from(&resolved.args);
    container.env.clone_from(&resolved.env);
    container.working_dir.clone_from(&resolved.working_dir);
    container.user.clone_from(&resolved.user);
    container.stop_signal.clone_from(&resolved.stop_signal);
    container.exposed_ports.clone_from(&resolved.exposed_ports);
    container.labels = resolved.labels.clone().into_iter().collect();
}

fn fill(status: &mut ContainerStatus, engine: &Engine, id: &ContainerId, assembled: &Assembled) {
    let bundle = Bundle::new(engine.config.bundle(id));
    let path = |name: &str| bundle.file(name).display().to_string();
    status.shim_pid = assembled.shim_pid;
    status.netns_path.clone_from(&assembled.netns_path);
    status.networks.clone_from(&assembled.wired.networks);
    status.ports = in_rows(&assembled.wired.ports);
    status.mounts.clone_from(&assembled.content.mounts);
    status.hosts_path = path("hosts");
    status.resolv_conf_path = path("resolv.conf");
    status.hostname_path = path("hostname");
}
