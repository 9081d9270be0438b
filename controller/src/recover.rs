//! What a start of the controller finds, and what it makes of it. One table over {record?, bundle?, shim?}:
//!
//! | record | bundle | shim's folder | what is done |
//! |---|---|---|---|
//! | being made | – | – | half-made: released |
//! | being removed | – | – | the removal is finished |
//! | else | yes | yes | adopted: the shim is asked, its process decides whether it lives |
//! | else | yes | no | its last exit is recorded; it goes if it was to go with its end |
//! | else | no | no | it was in the trash already: the removal is finished |
//! | else | no | yes | adopted: somebody took the folder, the container still runs |
//! | none | with its record | – | the record is entered, then as above |
//! | none | without | no | half-made: released |
//! | none | marked as prepared ahead | – | the same: nobody had asked for it |
//! | none | without | yes | reported: never destroy what is not understood |
//! | being removed or not, or none | in the trash | – | it is no more: the removal is finished |
//!
//! Shims are asked in parallel, each with its own limits, so that a stuck one delays nobody. The API is served a
//! moment later: by then each container is as its shim wrote down last, if the kernel says that this shim lives, and
//! else *unknown* until it is known. A boot id that changed needs no row of its own:
//! of another boot's processes the kernel knows none, so all of them are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use davit_proto::container::Phase;
use davit_proto::id::ContainerId;
use davit_proto::status::chain;
use davit_proto::store::ContainerRecord;
use davit_proto::{image, network, volume};
use tokio::task::JoinSet;

use crate::container::bundle::Bundle;
use crate::container::release::{self, How, UNDO, VOLUMES};
use crate::container::{converge, freeze, journal, live, mount, publish, start};
use crate::engine::Engine;
use crate::error::Error;
use crate::events;
use crate::revive::{self, Occasion};
use crate::shim::{LONG, within};
use crate::store::{self, Adopted, Change};
use crate::supervise::{self, Seen};

/// How long the API waits for the first words of shims, and for what is finished or undone.
const PATIENCE: Duration = Duration::from_millis(400);
/// And how long for shims that live beyond doubt: where there are few, all have answered by then.
const GLANCE: Duration = Duration::from_millis(30);

/// What lies on disk.
#[derive(Debug, Default)]
struct Ground {
    /// Bundles by id.
    bundles: BTreeSet<ContainerId>,
    /// Folders of shims.
    shims: BTreeSet<ContainerId>,
    /// Bundles that were made before anybody asked.
    ahead: BTreeSet<ContainerId>,
    /// What is in the trash, and whether its volumes go too.
    trash: BTreeMap<ContainerId, bool>,
    /// Everything in the trash, by path.
    rubbish: Vec<PathBuf>,
    /// What no davit made.
    strangers: Vec<PathBuf>,
}

impl Ground {
    fn folder(&self, id: &ContainerId) -> Folder {
        match (self.ahead.contains(id), self.bundles.contains(id), self.trash.contains_key(id)) {
            (true, _, _) => Folder::Ahead,
            (false, true, _) => Folder::Bundle,
            (false, false, true) => Folder::Trash,
            (false, false, false) => Folder::Nowhere,
        }
    }
}

/// What is done with one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Ask its shim.
    Adopt,
    /// Record how it ended, if that is news.
    Settle,
    /// It never was: release it.
    Undo,
    /// It is no more: finish its removal.
    Finish,
    /// Leave it and say so.
    Report,
}

/// Where a container's folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Folder {
    /// Where it belongs.
    Bundle,
    /// There too, made before anybody asked for a container.
    Ahead,
    /// In the trash: the container is no more.
    Trash,
    Nowhere,
}

/// The table.
fn decide(record: Option<Phase>, folder: Folder, shim: bool) -> Verdict {
    match (record, folder, shim) {
        (Some(Phase::Creating | Phase::Unspecified), _, _)
        | (None, Folder::Bundle, false)
        | (None, Folder::Ahead, _) => Verdict::Undo,
        (Some(Phase::Removing), _, _) | (_, Folder::Trash, _) | (Some(_), Folder::Nowhere, false) => {
            Verdict::Finish
        }
        (Some(_), _, true) => Verdict::Adopt,
        (Some(_), Folder::Bundle | Folder::Ahead, false) => Verdict::Settle,
        (None, _, true) => Verdict::Report,
        // In no list, so nobody asks.
        (None, Folder::Nowhere, false) => Verdict::Report,
    }
}

/// Finds out what is true, and finishes or undoes what was cut off. Answers when the API can be served; what takes
/// longer goes on beside it.
///
/// # Errors
/// When the folders cannot be read.
pub async fn recover(engine: &Arc<Engine>, rebuilt: Option<String>) -> Result<(), Error> {
    let config = engine.config.clone();
    let read =
        tokio::task::spawn_blocking(move || read_ground(&config.bundles(), &config.shims(), &config.trash()));
    let ground =
        read.await.map_err(|error| Error::Task { doing: "read the folders", why: error.to_string() })?;
    let ground = ground.map_err(Error::io("read the folders of containers"))?;
    let was_rebuilt = rebuilt.is_some();
    let fresh = was_rebuilt && ground.bundles.is_empty();
    if let Some(told) = rebuilt.filter(|_| !fresh) {
        engine.recovered(told);
    }
    for stranger in &ground.strangers {
        engine.recovered(format!("{} is nothing of davit's and was left alone", stranger.display()));
    }
    enter_bundles(engine, &ground, was_rebuilt);
    journal::catch_up_together(engine, ground.bundles.iter());
    let trash = ground.trash.clone();
    let rubbish = ground.rubbish.clone();
    let Begun { mut tasks, mut alive } = judge(engine, &ground);
    let settled = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(PATIENCE, settled).await.is_err() {
        engine.recovered("some shims did not answer at once; they are asked on".to_owned());
    }
    let heard = async { while alive.join_next().await.is_some() {} };
    // Those who did not answer yet are waited for by whoever wants something of them.
    let _ = tokio::time::timeout(GLANCE, heard).await;
    let engine = engine.clone();
    tokio::spawn(async move {
        while tasks.join_next().await.is_some() {}
        while alive.join_next().await.is_some() {}
        freeze::thaw_left(&engine, ground.bundles.iter()).await;
        start_by_policy(&engine).await;
        empty_trash(&engine, trash, rubbish).await;
        sweep(&engine).await;
    });
    Ok(())
}

/// Enters the records that only bundles have.
fn enter_bundles(engine: &Engine, ground: &Ground, rebuilt: bool) {
    let mut entered = 0_usize;
    for id in &ground.bundles {
        let bundle = Bundle::new(engine.config.bundle(id));
        let record = match bundle.read_spec() {
            Ok(Some(record)) if store::record_id(&record).as_ref() == Ok(id) => record,
            Ok(None) => continue,
            Ok(Some(_)) => {
                engine.recovered(format!("{} is of another container", bundle.file("spec.json").display()));
                continue;
            }
            Err(error) => {
                let path = bundle.file("spec.json");
                engine.recovered(format!("{} cannot be read: {error}", path.display()));
                continue;
            }
        };
        match engine.store.adopt(record.clone(), unheard(engine, &record, rebuilt)) {
            None => {}
            Some(Adopted::Entered) => entered += 1,
            Some(Adopted::NameLost { name, loser }) => {
                entered += 1;
                engine.recovered(format!(
                    "two containers were called {name:?}; {loser} is called {} now",
                    loser.short()
                ));
            }
        }
    }
    if entered > 0 {
        engine.recovered(format!("{entered} records were entered from their bundles"));
    }
}

/// What the world has not heard of a record that only its bundle has whole: the engine was killed between writing the
/// bundle and the store. After the loss of the store all watchers begin again, so there is nothing to be told.
fn unheard(engine: &Engine, record: &ContainerRecord, rebuilt: bool) -> Change {
    let made =
        |record: &ContainerRecord| !matches!(store::phase(record), Phase::Creating | Phase::Unspecified);
    let known = store::record_id(record).ok().and_then(|id| engine.store.get(&id));
    let told = known.is_some_and(|known| made(&known));
    match &record.container {
        Some(container) if made(record) && !told && !rebuilt => {
            let event = events::of_container(container, "create", []);
            let change = Change { events: vec![event], at: record.written_at, ..Change::default() };
            change.explained("was created", "")
        }
        _ => Change::default(),
    }
}

/// What was begun.
#[derive(Default)]
struct Begun {
    /// Before the API is served, if it does not take too long.
    tasks: JoinSet<()>,
    /// For containers whose shims live.
    alive: JoinSet<()>,
}

/// Looks up each container in the table, and begins what it says.
fn judge(engine: &Arc<Engine>, ground: &Ground) -> Begun {
    let mut all: BTreeSet<ContainerId> = ground.bundles.union(&ground.shims).cloned().collect();
    all.extend(ground.trash.keys().cloned());
    all.extend(engine.store.all().records.iter().filter_map(|record| store::record_id(record).ok()));
    let mut begun = Begun::default();
    let Begun { tasks, alive } = &mut begun;
    for id in all {
        let record = engine.store.get(&id);
        let phase = record.as_deref().map(store::phase);
        let (folder, shim) = (ground.folder(&id), ground.shims.contains(&id));
        // A spec that is there and cannot be read is no sign of a half-made container.
        let unreadable = phase.is_none() && engine.config.bundle(&id).join("spec.json").exists();
        let verdict = if unreadable { Verdict::Report } else { decide(phase, folder, shim) };
        let volumes = ground.trash.get(&id).copied().unwrap_or(false)
            || record.is_some_and(|record| record.remove_volumes);
        match verdict {
            Verdict::Adopt => {
                let (lives, known) = supervise::adopt(engine, &id);
                let (converging, adopted) = (engine.clone(), id.clone());
                let tasks = if lives { &mut *alive } else { &mut *tasks };
                tasks.spawn(async move {
                    // A follower that ended has said all it had to say.
                    let _ = known.await;
                    go_on(&converging, &adopted).await;
                    publish::converge(&converging, &adopted).await;
                    mount::converge(&converging, &adopted).await;
                });
            }
            Verdict::Settle => {
                let end = supervise::record_end(engine, &id);
                tasks.spawn(go_with_its_end(engine.clone(), id, end));
            }
            Verdict::Undo => {
                // Nobody had asked for it, so nobody is told, and nobody waits.
                if folder == Folder::Ahead {
                    tokio::spawn(finish(engine.clone(), id, UNDO));
                    continue;
                }
                engine.recovered(format!("container {id} was half made and is released"));
                tasks.spawn(finish(engine.clone(), id, UNDO));
            }
            Verdict::Finish => {
                // One without a record is gone for all who look.
                if phase.is_none() {
                    tokio::spawn(finish(engine.clone(), id, How { volumes, durable: false, told: false }));
                    continue;
                }
                engine.recovered(format!("the removal of container {id} was cut off and is finished"));
                tasks.spawn(finish(engine.clone(), id, How { volumes, durable: false, told: true }));
            }
            Verdict::Report => {
                engine.recovered(format!("container {id} has no readable record and was left alone"));
            }
        }
    }
    begun
}

/// What was being changed of a container that lives, or begun.
async fn go_on(engine: &Arc<Engine>, id: &ContainerId) {
    let _turn = engine.turn(id).await;
    if engine.shim(id).is_err() || engine.store.get(id).is_none() {
        return;
    }
    if let Err(error) = start::forget_cut_off(engine, id).await {
        engine.recovered(format!("what container {id} has was not released yet: {}", chain(&error)));
        supervise::later(engine, id);
        return;
    }
    if let Err(error) = converge::converge(engine, id).await {
        tracing::warn!(container_id = %id, error = %chain(&error), "its networks are not as wanted yet");
        converge::again(engine, id);
    }
}

/// A container that was to be removed with its end, and ended while nobody was there to do it.
async fn go_with_its_end(engine: Arc<Engine>, id: ContainerId, end: Seen) {
    let turn = engine.turn(&id).await;
    let Some(record) = engine.store.get(&id).filter(|_| !engine.has_shim(&id)) else { return };
    let auto_remove =
        record.container.as_ref().and_then(|c| c.spec.as_ref()).is_some_and(|spec| spec.auto_remove);
    if auto_remove
        && !live::is_live(store::phase(&record))
        && let Err(error) = supervise::clear(&engine, &id, &record).await
    {
        engine.recovered(format!("container {id} was not removed yet: {}", chain(&error)));
        supervise::later(&engine, &id);
    }
    drop(turn);
    if end == Seen::CutOff && !engine.facts.rebooted {
        revive::after_a_cut(&engine, &id);
    }
}

async fn finish(engine: Arc<Engine>, id: ContainerId, how: How) {
    let _turn = engine.turn(&id).await;
    if let Err(error) = release::release(&engine, &id, how).await {
        engine.recovered(format!("container {id} was not released yet: {}", chain(&error)));
        supervise::later(&engine, &id);
    }
}

/// Starts what the policies say: after a restart of the host, and where an engine was killed before it could.
async fn start_by_policy(engine: &Arc<Engine>) {
    let occasion = if engine.facts.rebooted { Occasion::Reboot } else { Occasion::CutOff };
    revive::at_rest(engine, occasion).await;
    // Only now: had this engine been killed before, the next one would do it.
    if let Err(error) = engine.facts.remember_boot(&engine.config.run) {
        engine.recovered(format!("the boot was not remembered: {error}"));
    }
}

/// Ends what removed containers still hold, then deletes their files.
async fn empty_trash(engine: &Arc<Engine>, trash: BTreeMap<ContainerId, bool>, rubbish: Vec<PathBuf>) {
    for (id, volumes) in trash {
        let held = volumes && engine.store.get(&id).is_none();
        if held && let Err(error) = release::release_volumes(engine, &id, true).await {
            engine.recovered(format!("volumes of container {id} were not released: {}", chain(&error)));
        }
    }
    for path in rubbish {
        // One after the other: nobody waits for it.
        if let Err(error) = tokio::task::spawn_blocking(move || release::empty(&path)).await {
            tracing::error!(%error, "failed to empty the trash");
        }
    }
}

/// Whoever a service holds anything for, and who has neither record, bundle nor shim, is released. A container that
/// has no shim has no namespace, so it needs no addresses either.
async fn sweep(engine: &Arc<Engine>) {
    let swept = tokio::try_join!(sweep_networks(engine), sweep_volumes(engine), sweep_images(engine));
    if let Err(error) = swept {
        engine.recovered(format!("the services' holders were not swept: {}", chain(&error)));
    }
}

fn is_known(engine: &Engine, id: &ContainerId) -> bool {
    engine.store.get(id).is_some()
        || engine.has_shim(id)
        || engine.config.bundle(id).exists()
        || engine.config.shim_dir(id).exists()
}

fn ids(texts: Vec<String>) -> impl Iterator<Item = ContainerId> {
    texts.into_iter().filter_map(|text| text.parse().ok())
}

async fn sweep_networks(engine: &Arc<Engine>) -> Result<(), Error> {
    let request = network::ListHoldersRequest {};
    let held = within(LONG, "list who holds addresses", engine.networks().list_holders(request)).await?;
    for id in ids(held.container_ids) {
        let _turn = engine.turn(&id).await;
        if !engine.has_shim(&id) && !engine.config.shim_dir(&id).exists() {
            release::release_network(engine, &id).await?;
        }
    }
    Ok(())
}

async fn sweep_volumes(engine: &Arc<Engine>) -> Result<(), Error> {
    let request = volume::ListHoldersRequest {};
    let held = within(LONG, "list who uses volumes", engine.volumes().list_holders(request)).await?;
    for id in ids(held.container_ids) {
        let _turn = engine.turn(&id).await;
        if !is_known(engine, &id) {
            release::release_volumes(engine, &id, false).await?;
        }
    }
    Ok(())
}

async fn sweep_images(engine: &Arc<Engine>) -> Result<(), Error> {
    let request = image::ListHoldersRequest {};
    let held = within(LONG, "list who uses images", engine.images().list_holders(request)).await?;
    for id in ids(held.container_ids) {
        let _turn = engine.turn(&id).await;
        if !is_known(engine, &id) {
            release::release_image(engine, &id).await?;
        }
    }
    Ok(())
}

fn read_ground(bundles: &Path, shims: &Path, trash: &Path) -> io::Result<Ground> {
    let mut ground = Ground::default();
    for (folder, set) in [(bundles, &mut ground.bundles), (shims, &mut ground.shims)] {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            match name_of(&path).parse() {
                Ok(id) => {
                    set.insert(id);
                }
                Err(_) => ground.strangers.push(path),
            }
        }
    }
    for id in &ground.bundles {
        if Bundle::new(bundles.join(id.as_str())).is_ahead()? {
            ground.ahead.insert(id.clone());
        }
    }
    for entry in std::fs::read_dir(trash)? {
        let path = entry?.path();
        let name = name_of(&path);
        let id = name.get(..64).and_then(|id| id.parse::<ContainerId>().ok());
        if let Some(id) = id {
            let volumes = name.contains(VOLUMES);
            *ground.trash.entry(id).or_default() |= volumes;
        }
        ground.rubbish.push(path);
    }
    Ok(ground)
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table() {
        use Folder::{Ahead, Bundle, Nowhere, Trash};
        use Verdict::{Adopt, Finish, Report, Settle, Undo};
        let rows = [
            (Some(Phase::Creating), Bundle, true, Undo),
            (Some(Phase::Creating), Nowhere, false, Undo),
            (Some(Phase::Creating), Ahead, true, Undo),
            (Some(Phase::Removing), Bundle, true, Finish),
            (Some(Phase::Removing), Nowhere, false, Finish),
            (Some(Phase::Running), Bundle, true, Adopt),
            (Some(Phase::Running), Bundle, false, Settle),
            (Some(Phase::Running), Nowhere, true, Adopt),
            (Some(Phase::Running), Trash, true, Finish),
            (Some(Phase::Exited), Bundle, true, Adopt),
            (Some(Phase::Exited), Bundle, false, Settle),
            (Some(Phase::Exited), Trash, false, Finish),
            (Some(Phase::Created), Nowhere, false, Finish),
            (None, Bundle, false, Undo),
            (None, Bundle, true, Report),
            (None, Nowhere, true, Report),
            (None, Ahead, true, Undo),
            (None, Ahead, false, Undo),
            (None, Trash, true, Finish),
            (None, Trash, false, Finish),
        ];
        for (record, folder, shim, verdict) in rows {
            assert_eq!(decide(record, folder, shim), verdict, "{record:?} {folder:?} {shim}");
        }
    }

    #[test]
    fn only_ids_are_taken_for_containers() {
        let root = tempfile::tempdir().unwrap();
        let folder = |name: &str| root.path().join(name);
        let (one, two) = ("1".repeat(64), "2".repeat(64));
        for path in [
            folder("c").join(&one),
            folder("c/notes"),
            folder("s").join(&two),
            folder("t").join(format!("{one}.volumes.1")),
            folder("t").join(&two),
            folder("t/x"),
        ] {
            std::fs::create_dir_all(path).unwrap();
        }
        let ground = read_ground(&folder("c"), &folder("s"), &folder("t")).unwrap();
        let id = |text: &str| text.parse::<ContainerId>().unwrap();
        assert_eq!(ground.bundles, BTreeSet::from([id(&one)]));
        assert_eq!(ground.shims, BTreeSet::from([id(&two)]));
        assert_eq!(ground.trash, BTreeMap::from([(id(&one), true), (id(&two), false)]));
        assert_eq!(ground.strangers, [folder("c/notes")]);
        assert_eq!(ground.rubbish.len(), 3);
    }
}
