//! From planned mounts to what a container is given, and what must be held until it is gone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use davit_dockerfile::change::joined;
use davit_dockerfile::instruction::{Mount, MountKind, Owner, Sharing};
use davit_proto::container::{EnvFile, MountKind as WireKind, MountSpec};

use super::cache::{self, Wish};
use super::lay::{Files, lay};
use super::workspace::Workspace;
use super::{Planned, Source, Workshop, describe};
use crate::client::{Agent, Client, Permissions, Secret};
use crate::error::Error;
use crate::key::Key;
use crate::tree::{Kind, Tree, resolve};

/// Where scripts are seen, outside of the root's files.
const SCRIPTS: &str = "/dev/pipes";
/// Where agents are seen that nobody said a place of.
const AGENTS: &str = "/run/buildkit/ssh_agent";

/// What a container is given.
#[derive(Debug, Default)]
pub struct Given {
    /// Mounts.
    pub mounts: Vec<MountSpec>,
    /// Variables.
    pub env: Vec<String>,
    /// Variables whose values are in files.
    pub env_files: Vec<EnvFile>,
}

/// What must stay until the container is gone. Dropping it takes the workspace away.
#[derive(Debug, Default)]
pub struct Held {
    // In this order: nobody is let into a cache before what was mounted beside it is gone.
    agents: Vec<Agent>,
    workspace: Option<Workspace>,
    caches: Vec<cache::Held>,
}

impl Held {
    /// Gives all of it back, and waits for that.
    pub async fn end(self) {
        let Self { agents, workspace, caches } = self;
        drop(agents);
        if workspace.is_some() {
            // A thread that panicked has said so.
            let _ = tokio::task::spawn_blocking(move || drop(workspace)).await;
        }
        drop(caches);
    }
}

/// A document that is run as a program.
#[derive(Debug, Clone)]
pub struct Script {
    /// Where the container sees it.
    pub target: String,
    text: String,
}

impl Script {
    /// Of a document with a name.
    pub fn new(name: &str, text: &str) -> Self {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let fits = name.chars().all(plain) && !matches!(name, "." | "..") && name.len() < 200;
        let name = if fits { name } else { "script" };
        Self { target: format!("{SCRIPTS}/{name}"), text: text.to_owned() }
    }
}

/// What else the preparation depends on.
#[derive(Debug)]
pub struct Orders<'a> {
    /// The working folder, from which relative targets lead.
    pub folder: &'a str,
    /// The container may do everything: nothing that is stored may be within its reach.
    pub insecure: bool,
    /// A script to run.
    pub script: Option<Script>,
    /// The files of the root, in which the links of targets are followed.
    pub base: Option<Arc<dyn Tree>>,
}

/// One thing that is to be made in the workspace.
#[derive(Debug)]
enum Job {
    Bind(Source),
    Secret {
        secret: Secret,
        owner: Permissions,
        variable: Option<String>,
    },
    Agent {
        id: String,
        owner: Permissions,
    },
    Script(String),
    /// It is there already.
    Cache(PathBuf),
    Tmpfs(Option<u64>),
}

/// A job, where it is seen, and whether it can be written to.
type Task = (Job, String, bool);

/// Prepares mounts.
///
/// # Errors
/// A secret or agent that is required is not there, or the disk or memory fails.
pub async fn prepare(
    workshop: &Workshop,
    client: &Arc<Client>,
    planned: Vec<Planned>,
    mut orders: Orders<'_>,
) -> Result<(Given, Held), Error> {
    let (mut tasks, mut wishes): (Vec<Task>, Vec<(Wish, String, bool)>) = (Vec::new(), Vec::new());
    if let Some(Script { target, text }) = orders.script.take() {
        tasks.push((Job::Script(text), target, true));
    }
    let mut agents = 0;
    for Planned { mount: Mount { kind, target, readonly }, source } in planned {
        let place = match target.is_empty() {
            true => String::new(),
            false => joined(orders.folder, &target),
        };
        match kind {
            MountKind::Bind { .. } => tasks.push((Job::Bind(source), place, readonly)),
            MountKind::Tmpfs { size } => tasks.push((Job::Tmpfs(size), place, readonly)),
            MountKind::Cache { id, sharing, owner, .. } => {
                let (begin, origin) = match source {
                    Source::Tree(found, id) => {
                        let mut key = Key::new(None, "cache");
                        describe(&found, &id, &mut key);
                        (Some(found), key.reference())
                    }
                    Source::None | Source::Image(..) => (None, String::new()),
                };
                wishes.push((Wish { id, origin, begin, sharing, owner: owner.into() }, place, readonly));
            }
            MountKind::Secret { id, required, variable, owner } => {
                if let Some(secret) = secret(client, &id, required).await? {
                    tasks.push((Job::Secret { secret, owner: owner.into(), variable }, place, readonly));
                }
            }
            MountKind::Ssh { id, required, owner } => {
                let place = if place.is_empty() { format!("{AGENTS}.{agents}") } else { place };
                agents += 1;
                if client.has_agent(&id) {
                    tasks.push((Job::Agent { id, owner: owner.into() }, place, false));
                } else if required {
                    let text = format!("agent {id:?} is required and was not given: build with --ssh {id}");
                    return Err(Error::Invalid(text));
                }
            }
        }
    }
    let caches = take(workshop, wishes, &mut tasks).await?;
    let (places, client) = (workshop.places.clone(), Arc::clone(client));
    let Orders { insecure, base, .. } = orders;
    let made = tokio::task::spawn_blocking(move || {
        let (given, agents) = (Given::default(), Vec::new());
        let mut making = Making { client, insecure, base, given, agents };
        let workspace = making.all(&places, tasks)?;
        let held = Held { agents: making.agents, workspace, caches };
        Ok((making.given, held))
    });
    made.await.map_err(|_| Error::Lost)?
}

async fn secret(client: &Client, id: &str, required: bool) -> Result<Option<Secret>, Error> {
    match client.has_secret(id) {
        true => client.secret(id).await.map(Some),
        false if required => Err(Error::Invalid(format!(
            "secret {id:?} is required and was not given: build with --secret id={id},src=FILE"
        ))),
        false => Ok(None),
    }
}

/// Takes caches, in an order that is the same for every step, so that no two wait for each other; what one step wants
/// twice it takes once.
async fn take(
    workshop: &Workshop,
    mut wishes: Vec<(Wish, String, bool)>,
    tasks: &mut Vec<Task>,
) -> Result<Vec<cache::Held>, Error> {
    let rank = |sharing| match sharing {
        Sharing::Locked => 0,
        Sharing::Shared => 1,
        Sharing::Private => 2,
    };
    wishes.sort_by_key(|(wish, ..)| (wish.name(), rank(wish.sharing)));
    let mut held: Vec<cache::Held> = Vec::new();
    let mut last: Option<String> = None;
    for (wish, target, readonly) in wishes {
        let (name, private) = (wish.name(), wish.sharing == Sharing::Private);
        if private || last.as_ref() != Some(&name) {
            held.push(workshop.caches.take(wish).await?);
        }
        if let Some(cache) = held.last() {
            tasks.push((Job::Cache(cache.folder.clone()), target, readonly));
        }
        last = (!private).then_some(name);
    }
    Ok(held)
}

/// What is being made, on a thread that may wait.
struct Making {
    client: Arc<Client>,
    insecure: bool,
    base: Option<Arc<dyn Tree>>,
    given: Given,
    agents: Vec<Agent>,
}

impl Making {
    fn all(
        &mut self,
        places: &super::workspace::Places,
        tasks: Vec<Task>,
    ) -> Result<Option<Workspace>, Error> {
        let mut workspace = None;
        for (job, target, readonly) in tasks {
            match job {
                Job::Tmpfs(size) => self.tmpfs(target, readonly, size)?,
                Job::Cache(folder) => self.bind(&folder, target, readonly)?,
                Job::Bind(Source::Image(image, path)) if readonly => {
                    let target = self.located(target)?;
                    let mut spec = spec(WireKind::Image, image.id, target, true);
                    spec.subpath = path.to_string_lossy().into_owned();
                    self.given.mounts.push(spec);
                }
                job => {
                    let workspace = match &mut workspace {
                        Some(workspace) => workspace,
                        none => none.insert(Workspace::new(places)?),
                    };
                    self.one(workspace, job, target, readonly)?;
                }
            }
        }
        Ok(workspace)
    }

    fn one(
        &mut self,
        workspace: &mut Workspace,
        job: Job,
        target: String,
        readonly: bool,
    ) -> Result<(), Error> {
        match job {
            Job::Bind(source) => {
                let path = self.source(workspace, &source, readonly)?;
                self.bind(&path, target, readonly)?;
            }
            Job::Secret { secret, owner, variable } => {
                let path = workspace.keep(secret.bytes(), owner)?;
                if let Some(name) = variable {
                    let path = path.display().to_string();
                    self.given.env_files.push(EnvFile { name, path });
                }
                if !target.is_empty() {
                    self.bind(&path, target, readonly)?;
                }
            }
            Job::Script(text) => {
                let owner = Permissions { mode: 0o755, uid: 0, gid: 0 };
                let path = workspace.keep(text.as_bytes(), owner)?;
                self.bind(&path, target, true)?;
            }
            Job::Agent { id, owner } => {
                let (folder, path, name) = workspace.memory()?;
                self.agents.push(Agent::listen(&self.client, &id, (folder, &name), owner)?);
                // The first is the one that programs find by themselves.
                if self.agents.len() == 1 {
                    self.given.env.push(format!("SSH_AUTH_SOCK={target}"));
                }
                self.bind(&path, target, false)?;
            }
            Job::Cache(_) | Job::Tmpfs(_) => {}
        }
        Ok(())
    }

    /// The path of what a bind shows.
    fn source(&self, workspace: &mut Workspace, source: &Source, readonly: bool) -> Result<PathBuf, Error> {
        match source {
            Source::Image(image, path) => {
                let layers: Vec<PathBuf> = image.told.layer_paths.iter().map(PathBuf::from).collect();
                Ok(workspace.overlay(&layers)?.join(path))
            }
            Source::Tree(found, _) => {
                let file = matches!(found.node.kind, Kind::File { .. });
                let own = self.insecure || (file && !readonly);
                let place = workspace.place();
                lay(found, &place, if own { Files::Own } else { Files::Linked })
                    .map_err(Error::io(format!("put together {:?}", found.asked)))?;
                if readonly || own { Ok(place) } else { workspace.overlay(&[place]) }
            }
            // Nothing at all, as a folder.
            Source::None => {
                let place = workspace.place();
                let made = std::fs::create_dir(&place);
                made.map_err(Error::io("make an empty folder"))?;
                Ok(place)
            }
        }
    }

    fn bind(&mut self, path: &Path, target: String, readonly: bool) -> Result<(), Error> {
        let (path, target) = (path.display().to_string(), self.located(target)?);
        self.given.mounts.push(spec(WireKind::Bind, path, target, readonly));
        Ok(())
    }

    fn tmpfs(&mut self, target: String, readonly: bool, size: Option<u64>) -> Result<(), Error> {
        let mut spec = spec(WireKind::Tmpfs, String::new(), self.located(target)?, readonly);
        spec.options.extend(size.map(|size| format!("size={size}")));
        self.given.mounts.push(spec);
        Ok(())
    }

    /// Where the links of the root lead: what is made there to mount on is known by this path when it is left out of the
    /// layer.
    fn located(&self, target: String) -> Result<String, Error> {
        let Some(base) = &self.base else { return Ok(target) };
        let found = resolve(base.as_ref(), Path::new(&target), true);
        let found = found.map_err(Error::io(format!("find the mount point {target}")))?;
        Ok(format!("/{}", found.display()))
    }
}

fn spec(kind: WireKind, source: String, target: String, read_only: bool) -> MountSpec {
    let mut spec = MountSpec { source, target, read_only, ..MountSpec::default() };
    spec.set_kind(kind);
    spec
}

impl From<Owner> for Permissions {
    fn from(Owner { mode, uid, gid }: Owner) -> Self {
        Self { mode, uid, gid }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_have_names_that_are_files() {
        for (name, target) in
            [("EOF", "/dev/pipes/EOF"), ("../x", "/dev/pipes/script"), ("..", "/dev/pipes/script")]
        {
            assert_eq!(Script::new(name, "").target, target);
        }
    }
}
