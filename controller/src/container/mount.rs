//! Mounts something more in a container, or takes it off, also while it runs.
//!
//! Order: the wish, in store and bundle; the volumes held and the sources found; `config.json`, from which a life that
//! begins meanwhile has it; the mounts themselves; the status. A step that fails puts back what was done before it, and
//! the wish. What a crash cuts off is finished by [`converge`] at the next start of the engine: as long as wish and
//! status are not the same there is something to do, and each mount is made or taken off only where it is not so already.

use std::path::Path;
use std::sync::Arc;

use davit_proto::container::{Container, ContainerSpec, MountKind, MountSpec, MountStatus, Phase};
use davit_proto::id::ContainerId;
use davit_proto::status::chain;
use davit_proto::{types, volume};
use oci_spec::runtime::{Mount, Spec};

use super::bundle::Bundle;
use super::copy;
use super::live::{self, status_of};
use super::spec::held::{self, Held};
use super::spec::mounts::{self, Wanted, What};
use super::spec::path::clean;
use super::spec::{self, ImageConfig, layout, source};
use super::userns;
use crate::engine::Engine;
use crate::error::Error;
use crate::failpoint::{self, pass};
use crate::shim::{LONG, within};
use crate::store::Change;

/// What the wishes come to when some change. Everything that can be known to be wrong is refused here.
///
/// # Errors
/// When a mount cannot be right, or there is none to be taken off.
pub fn check(container: &Container, add: &[MountSpec], remove: &[String]) -> Result<ContainerSpec, Error> {
    let mut spec = container.spec.clone().unwrap_or_default();
    for text in remove {
        let gone = clean("mount_remove", text)?;
        let before = spec.mounts.len();
        spec.mounts.retain(|mount| !is_at(mount, &gone));
        if spec.mounts.len() == before {
            let rule = "the container was not given a mount there".into();
            return Err(Error::Invalid { what: "mount_remove", value: text.clone(), rule });
        }
    }
    for mount in add {
        if mount.kind() == MountKind::Image {
            return Err(
                spec::Error::Unserved("adding an image to a container that is made is".to_owned()).into()
            );
        }
        if !mount.taken_from.is_empty() {
            let rule = "is the engine's to say".into();
            return Err(Error::Invalid { what: "mount_add", value: mount.taken_from.clone(), rule });
        }
    }
    spec.mounts.extend(add.iter().cloned());
    mounts::plan(&spec, &ImageConfig::default())?;
    let status = status_of(container);
    for mount in add {
        let target = clean("mount_add", &mount.target)?;
        let below = |other: &&MountStatus| {
            other.target != target
                && Path::new(&other.target).starts_with(&target)
                && !remove.contains(&other.target)
        };
        if let Some(hidden) = status.mounts.iter().find(below) {
            let rule = format!("would hide what is mounted at {}", hidden.target);
            return Err(Error::Invalid { what: "mount_add", value: target, rule });
        }
    }
    Ok(spec)
}

fn is_at(mount: &MountSpec, target: &str) -> bool {
    clean("mounts.target", &mount.target).is_ok_and(|clean| clean == target)
}

/// Makes wishes true that were checked. The caller holds the container's turn.
///
/// # Errors
/// When a step fails; then all is as before.
pub async fn change(engine: &Arc<Engine>, id: &ContainerId, wish: ContainerSpec) -> Result<(), Error> {
    let before = engine.container(id)?.spec.unwrap_or_default();
    record(engine, id, &wish.mounts)?;
    let done = async {
        pass(failpoint::MOUNT_WANTED).await?;
        apply(engine, id).await
    };
    if let Err(error) = done.await {
        record(engine, id, &before.mounts)?;
        return Err(error);
    }
    Ok(())
}

/// Writes down what is wanted.
fn record(engine: &Engine, id: &ContainerId, mounts: &[MountSpec]) -> Result<(), Error> {
    let entered = engine.store.update(id, |record| {
        record.container.as_mut()?.spec.get_or_insert_default().mounts = mounts.to_vec();
        Change::silent()
    });
    let Some(record) = entered else { return Ok(()) };
    let bundle = Bundle::new(engine.config.bundle(id));
    bundle.write_spec(&record).map_err(Error::io(format!("write {}", bundle.file("spec.json").display())))
}

/// What is to be done.
#[derive(Debug)]
struct Steps {
    /// Wishes that are not true yet, and what the volume service answered.
    fresh: Vec<Wanted>,
    held: Held,
    /// Mounts of the past.
    gone: Vec<MountStatus>,
}

/// Makes the mounts of a container that lives what its record wants. One that does not live gets them at its start.
async fn apply(engine: &Arc<Engine>, id: &ContainerId) -> Result<(), Error> {
    let container = engine.container(id)?;
    let status = status_of(&container);
    let (fresh, gone) = difference(&container)?;
    if fresh.is_empty() && gone.is_empty() {
        return Ok(());
    }
    let lives = live::is_live(status.phase()) || status.phase() == Phase::Created;
    if !lives || !engine.has_shim(id) {
        return Ok(());
    }
    let bundle = Bundle::new(engine.config.bundle(id));
    let failed = |doing: &str| Error::io(format!("{doing} {}", bundle.file("config.json").display()));
    let Some(before) = bundle.read_config().map_err(failed("read"))? else { return Ok(()) };
    let held = hold(engine, id, &container, &fresh, &before).await?;
    let own_users = userns::ids_of(&*engine.record(id)?).is_some();
    let new: Vec<Mount> =
        held::resolved(&fresh, &held)?.iter().map(|mount| layout::converted(mount, own_users)).collect();
    let steps = Steps { fresh, held, gone };
    bundle.write_config(&noted(&before, &steps.gone, &new)).map_err(failed("write"))?;
    pass(failpoint::MOUNT_NOTED).await?;
    let mut done = Vec::new();
    if let Err(error) = carry_out(engine, id, &steps, &new, &before, &mut done).await {
        bundle.write_config(&before).map_err(failed("write"))?;
        undo(engine, id, done).await;
        return Err(error);
    }
    pass(failpoint::MOUNT_DONE).await?;
    enter(engine, id, &steps);
    release(engine, id, &steps).await;
    Ok(())
}

/// Volumes that are not mounted any more are others' to remove. What cannot be let go of now goes with the container.
async fn release(engine: &Engine, id: &ContainerId, steps: &Steps) {
    let again = |target: &str| steps.fresh.iter().any(|fresh| fresh.target == target);
    let gone = steps.gone.iter().filter(|gone| gone.kind() == MountKind::Volume && !again(&gone.target));
    let targets: Vec<String> = gone.map(|gone| gone.target.clone()).collect();
    // None would mean all.
    if targets.is_empty() {
        return;
    }
    let request = volume::ReleaseRequest { container_id: id.to_string(), remove_anonymous: false, targets };
    if let Err(error) = within(LONG, "release volumes", engine.volumes().release(request)).await {
        tracing::warn!(container_id = %id, error = %chain(&error), "volumes were not let go of");
    }
}

/// What is wanted and not so, and what is so and not wanted.
fn difference(container: &Container) -> Result<(Vec<Wanted>, Vec<MountStatus>), Error> {
    let status = status_of(container);
    let mut wanted = mounts::plan(&container.spec.clone().unwrap_or_default(), &ImageConfig::default())?;
    let mut gone = status.mounts.clone();
    gone.retain(|mount| !mount.of_image && !wanted.iter().any(|wanted| is_so(wanted, mount)));
    wanted.retain(|wanted| !status.mounts.iter().any(|mount| is_so(wanted, mount)));
    Ok((wanted, gone))
}

fn is_so(wanted: &Wanted, mount: &MountStatus) -> bool {
    let same = match &wanted.what {
        What::Bind { source, .. } => mount.kind() == MountKind::Bind && mount.source == *source,
        What::Volume { name, subpath, .. } => {
            let named = if name.is_empty() { mount.anonymous } else { mount.name == *name };
            mount.kind() == MountKind::Volume && named && mount.subpath == *subpath
        }
        What::Tmpfs { .. } => mount.kind() == MountKind::Tmpfs,
        What::Image { reference, .. } => mount.kind() == MountKind::Image && mount.source == *reference,
    };
    same && wanted.target == mount.target && wanted.read_only == mount.read_only
}

/// Has the volumes held and filled, and the sources found.
async fn hold(
    engine: &Arc<Engine>,
    id: &ContainerId,
    container: &Container,
    fresh: &[Wanted],
    config: &Spec,
) -> Result<Held, Error> {
    let uses = held::uses(fresh);
    let volumes = if uses.is_empty() {
        volume::PrepareResponse::default()
    } else {
        let request = volume::PrepareRequest { container_id: id.to_string(), uses, again: false };
        within(LONG, "prepare the volumes", engine.volumes().prepare(request)).await?
    };
    let sources = fresh.to_vec();
    let found = tokio::task::spawn_blocking(move || source::ensure(&sources));
    found.await.map_err(|error| Error::Task { doing: "look at the host", why: error.to_string() })??;
    let options = |mount: &Mount| mount.options().clone().unwrap_or_default();
    let root = config.mounts().iter().flatten().find(|mount| mount.destination() == Path::new("/"));
    let rootfs = types::Mount { options: root.map(options).unwrap_or_default(), ..types::Mount::default() };
    let candidates = held::candidates(fresh, &volumes.mounts, true);
    copy::populate(engine, id, &container.name, held::layers(&rootfs), candidates).await?;
    Ok(Held { volumes, images: Vec::new() })
}

/// The runtime spec with other mounts.
fn noted(before: &Spec, gone: &[MountStatus], new: &[Mount]) -> Spec {
    let mut spec = before.clone();
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    for gone in gone {
        // Of two at one path the later one is the wish, and the other one the engine's own.
        if let Some(at) = mounts.iter().rposition(|mount| mount.destination() == Path::new(&gone.target)) {
            mounts.remove(at);
        }
    }
    mounts.extend(new.iter().cloned());
    spec.set_mounts(Some(mounts));
    spec
}

/// Something that was done, as what undoes it.
#[derive(Debug)]
enum Undo {
    /// It was mounted.
    Detach(String),
    /// It was taken off.
    Attach(Box<Mount>),
}

async fn carry_out(
    engine: &Arc<Engine>,
    id: &ContainerId,
    steps: &Steps,
    new: &[Mount],
    before: &Spec,
    done: &mut Vec<Undo>,
) -> Result<(), Error> {
    let going = |target: &str| steps.gone.iter().any(|gone| gone.target == target);
    let others: Vec<String> = status_of(&engine.container(id)?)
        .mounts
        .into_iter()
        .map(|mount| mount.target)
        .filter(|target| !going(target))
        .collect();
    // Inner before outer.
    let mut gone: Vec<&str> = steps.gone.iter().map(|gone| gone.target.as_str()).collect();
    gone.sort_by_key(|target| std::cmp::Reverse(target.len()));
    for target in gone {
        copy::detach(engine, id, target, others.clone()).await?;
        let mounts = before.mounts().iter().flatten();
        let old = mounts.rev().find(|mount| mount.destination() == Path::new(target));
        done.extend(old.map(|old| Undo::Attach(Box::new(old.clone()))));
    }
    for mount in new {
        copy::attach(engine, id, mount).await?;
        done.push(Undo::Detach(mount.destination().display().to_string()));
    }
    Ok(())
}

/// Puts back what was there before. What cannot be put back is told, and is right again at the next start.
async fn undo(engine: &Arc<Engine>, id: &ContainerId, done: Vec<Undo>) {
    for step in done.into_iter().rev() {
        let put_back = match &step {
            Undo::Detach(target) => copy::detach(engine, id, target, Vec::new()).await,
            Undo::Attach(mount) => copy::attach(engine, id, mount).await,
        };
        if let Err(error) = put_back {
            tracing::error!(container_id = %id, error = %chain(&error), ?step, "a mount was not put back");
        }
    }
}

fn enter(engine: &Engine, id: &ContainerId, steps: &Steps) {
    engine.store.update(id, |record| {
        let status = record.container.as_mut()?.status.get_or_insert_default();
        status.mounts.retain(|mount| !steps.gone.contains(mount));
        status.mounts.extend(held::statuses(&steps.fresh, &steps.held));
        Change::silent()
    });
}

/// Finishes what a crash cut off. A wish that cannot be made true any more is struck out.
pub async fn converge(engine: &Arc<Engine>, id: &ContainerId) {
    let _turn = engine.turn(id).await;
    let Ok(container) = engine.container(id) else { return };
    let Err(error) = apply(engine, id).await else { return };
    engine.recovered(format!("the mounts of container {id} are as before: {}", chain(&error)));
    let Ok((fresh, _)) = difference(&container) else { return };
    let mut mounts = container.spec.unwrap_or_default().mounts;
    mounts.retain(|mount| !fresh.iter().any(|fresh| is_at(mount, &fresh.target)));
    if let Err(error) = record(engine, id, &mounts) {
        tracing::error!(container_id = %id, error = %chain(&error), "the wish was not written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use davit_proto::container::ContainerStatus;

    fn bind(source: &str, target: &str) -> MountSpec {
        MountSpec {
            kind: MountKind::Bind.into(),
            source: source.into(),
            target: target.into(),
            ..MountSpec::default()
        }
    }

    fn container() -> Container {
        let spec =
            ContainerSpec { mounts: vec![bind("/a", "/x/"), bind("/b", "/y/z")], ..Default::default() };
        let plan = mounts::plan(&spec, &ImageConfig::default()).unwrap();
        let mut mounts = held::statuses(&plan, &Held::default());
        mounts.push(MountStatus { target: "/image".into(), of_image: true, ..MountStatus::default() });
        let status = ContainerStatus { mounts, ..ContainerStatus::default() };
        Container { spec: Some(spec), status: Some(status), ..Container::default() }
    }

    #[test]
    fn what_changes_is_what_differs() {
        let mut container = container();
        let spec = check(&container, &[bind("/c", "/w"), bind("/d", "/x")], &["/x".into()]).unwrap();
        container.spec = Some(spec);
        let (fresh, gone) = difference(&container).unwrap();
        assert_eq!(fresh.iter().map(|one| one.target.as_str()).collect::<Vec<_>>(), ["/w", "/x"]);
        assert_eq!(gone.iter().map(|one| one.source.as_str()).collect::<Vec<_>>(), ["/a"]);
    }

    #[test]
    fn changes_that_cannot_be_are_refused() {
        let container = container();
        for remove in ["/none", "/image", "/"] {
            assert!(check(&container, &[], &[remove.into()]).is_err(), "{remove}");
        }
        let image = MountSpec { kind: MountKind::Image.into(), ..bind("busybox", "/i") };
        for add in [bind("/c", "/x"), bind("/c", "/y"), bind("/c", "/proc"), bind("c", "/c"), image] {
            assert!(check(&container, std::slice::from_ref(&add), &[]).is_err(), "{add:?}");
        }
    }

    #[test]
    fn the_next_life_has_the_other_mounts() {
        let spec = r#"{"ociVersion":"1.2.0","mounts":[{"destination":"/"},{"destination":"/x","source":"/engine"},
            {"destination":"/x","source":"/wish"}]}"#;
        let before: Spec = serde_json::from_str(spec).unwrap();
        let gone = MountStatus { target: "/x".into(), ..MountStatus::default() };
        let new = layout::converted(&types::Mount { target: "/n".into(), ..types::Mount::default() }, false);
        let after = noted(&before, &[gone], &[new]);
        let targets: Vec<_> =
            after.mounts().iter().flatten().map(|mount| mount.destination().display().to_string()).collect();
        assert_eq!(targets, ["/", "/x", "/n"]);
    }
}
