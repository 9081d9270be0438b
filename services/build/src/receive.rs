//! The files of a build, wherever they come from: entries and content from a client, an archive from its standard input,
//! or an address that is fetched here.
//!
//! ```text
//! client:  entries of each context … end   ─▶  needed  ─▶  content        (unchanged files do not travel)
//!          archive in pieces               ─▶  unpack, as it comes
//! address: https://…, repository           ─▶  fetch, git                  (from the engine's host)
//! ```

mod sent;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use davit_dockerfile::Ignore;
use davit_dockerfile::remote::{Remote, without_credentials};
use davit_proto::build::context_source::Source;
use davit_proto::build::{BuildOpen, BuildRequest, NamedContext, StepState};
use tonic::Streaming;

use crate::context::{Files, Held, Store};
use crate::error::Error;
use crate::fetch::{Fetched, fetch};
use crate::git;
use crate::named::{Named, Place};
use crate::progress::Progress;
use crate::stage::blocking;
use crate::tree::{Kind, Node, Tree, clean, resolve};
use crate::unpack::{Nodes, Watch, is_archive, unpack};

pub use sent::next;

/// The largest Dockerfile and ignore file.
const TEXT: u64 = 4 << 20;
const DOCKERFILE: &str = "Dockerfile";

/// What a build wants to have before it begins.
#[derive(Debug)]
pub struct Wanted {
    /// Where the main context is.
    main: Source,
    /// Contexts beside it.
    named: Vec<NamedContext>,
    /// Where the Dockerfile is, if the client does not send it.
    dockerfile: Option<String>,
}

/// What a build begins with.
#[derive(Debug)]
pub struct Received {
    /// The main context.
    pub files: Files,
    /// The others.
    pub named: Named,
    /// Name and text of the Dockerfile, if the client did not send it.
    pub dockerfile: Option<(String, Vec<u8>)>,
    /// Keeps all of it where it is.
    pub held: Held,
}

impl Wanted {
    /// What a client's wish says of it.
    pub fn of(options: &mut BuildOpen) -> Self {
        let main = options.source.take().and_then(|source| source.source);
        let main = main.unwrap_or_else(|| Source::EntriesKey(std::mem::take(&mut options.context_key)));
        let dockerfile = options.dockerfile_elsewhere.then(|| std::mem::take(&mut options.dockerfile_path));
        Self { main, named: options.contexts.clone(), dockerfile }
    }

    /// Keys of the contexts whose entries the client sends, in their order.
    fn keys(&self) -> Vec<String> {
        let named = self.named.iter().filter_map(|context| context.source.as_ref()?.source.as_ref());
        let keys = std::iter::once(&self.main).chain(named).filter_map(|source| match source {
            Source::EntriesKey(key) => Some(key.clone()),
            Source::Layout(layout) => Some(layout.entries_key.clone()),
            Source::Archive(_) | Source::Location(_) | Source::Image(_) => None,
        });
        keys.collect()
    }
}

/// Where a context comes to.
struct Intake<'a> {
    store: &'a Store,
    held: Held,
    progress: &'a Progress,
}

/// Takes in all files that a build is to have.
///
/// # Errors
/// The client breaks the order of frames, an address cannot be fetched, or what came is not what it should be.
pub async fn receive(
    frames: &mut Streaming<BuildRequest>,
    store: &Store,
    wanted: Wanted,
    progress: &Progress,
) -> Result<Received, Error> {
    let intake = Intake { store, held: store.hold().await, progress };
    let mut sent = sent::entries(frames, &intake, wanted.keys()).await?.into_iter();
    let mut next = || sent.next().ok_or(Error::Lost);
    let (mut files, mut given) = match wanted.main {
        Source::EntriesKey(_) => (next()?, None),
        Source::Archive(_) => (sent::archive(frames, &intake).await?, None),
        Source::Location(address) => intake.main(&address).await?,
        Source::Image(_) | Source::Layout(_) => {
            return Err(Error::Invalid("an image cannot be the main context".to_owned()));
        }
    };
    let mut named = Named::default();
    for NamedContext { name, source } in wanted.named {
        let place = match source.and_then(|source| source.source) {
            Some(Source::EntriesKey(_)) => Place::Files(Arc::new(next()?)),
            Some(Source::Layout(layout)) => Place::Layout(Arc::new(next()?), layout.image),
            Some(Source::Image(reference)) => Place::Image(reference),
            Some(Source::Location(address)) => Place::Files(Arc::new(intake.beside(&address).await?)),
            Some(Source::Archive(_)) | None => {
                return Err(Error::Invalid(format!("context {name:?} has no place")));
            }
        };
        named.insert(&name, place);
    }
    if let Some(path) = wanted.dockerfile {
        let own;
        (files, own) = intake.dockerfile(files, given.take(), &path).await?;
        given = Some(own);
    }
    Ok(Received { files, named, dockerfile: given, held: intake.held })
}

impl Intake<'_> {
    /// Files that are known by now.
    fn files(&self, nodes: Nodes) -> Files {
        Files::of(self.store, Arc::clone(&self.held), nodes)
    }

    /// A main context from an address; or no files, and a Dockerfile that is all there is.
    async fn main(&self, address: &str) -> Result<(Files, Option<(String, Vec<u8>)>), Error> {
        let step = self.progress.begin(&format!("[internal] load {}", without_credentials(address))).await?;
        let loaded = match self.located(address).await? {
            Located::Tree(nodes) => (self.files(nodes), None),
            Located::File(fetched) => {
                let blob = self.store.open_blob(&fetched.stored.digest);
                let text = blob
                    .and_then(|file| bounded(file, address))
                    .map_err(Error::io("read what was fetched"))?;
                if text.contains(&0) {
                    let address = without_credentials(address);
                    return Err(Error::Invalid(format!("{address} is neither an archive nor a Dockerfile")));
                }
                let name = if fetched.name.is_empty() { DOCKERFILE.to_owned() } else { fetched.name };
                (self.files(Nodes::new()), Some((name, text)))
            }
        };
        step.tell(StepState::Done).await?;
        Ok(loaded)
    }

    /// A context beside the main one from an address; a file that is no archive is the one file of it.
    async fn beside(&self, address: &str) -> Result<Files, Error> {
        let step = self.progress.begin(&format!("[internal] load {}", without_credentials(address))).await?;
        let nodes = match self.located(address).await? {
            Located::Tree(nodes) => nodes,
            Located::File(fetched) if fetched.name.is_empty() => {
                let address = without_credentials(address);
                return Err(Error::Invalid(format!("{address} is a file without a name, and no archive")));
            }
            Located::File(fetched) => Nodes::from([(PathBuf::from(&fetched.name), file(&fetched))]),
        };
        step.tell(StepState::Done).await?;
        Ok(self.files(nodes))
    }

    async fn located(&self, address: &str) -> Result<Located, Error> {
        let wrong = |why| Error::Invalid(format!("context {:?}: {why}", without_credentials(address)));
        match Remote::parse(address).map_err(wrong)? {
            None => Err(wrong("it is no address")),
            Some(Remote::Git(repository)) => {
                let commit = git::find(self.store, &repository, None).await?;
                git::checkout(self.store, &commit, false).await.map(Located::Tree)
            }
            Some(Remote::Web(address)) => {
                let fetched = fetch(self.store, &address, None).await?;
                let (store, watch, digest) =
                    (self.store.clone(), Watch::default(), fetched.stored.digest.clone());
                let watched = watch.watched();
                let unpacked = blocking(move || {
                    let open = || store.open_blob(&digest).map_err(Error::io("read what was fetched"));
                    if !is_archive(open()?) {
                        return Ok(None);
                    }
                    unpack(open()?, &store, &watched).map(Some)
                });
                let unpacked = unpacked.await;
                drop(watch);
                Ok(unpacked?.map_or(Located::File(fetched), Located::Tree))
            }
        }
    }

    /// The Dockerfile, which is in the context or at an address of its own; and the files that its ignore file leaves.
    async fn dockerfile(
        &self,
        files: Files,
        given: Option<(String, Vec<u8>)>,
        path: &str,
    ) -> Result<(Files, (String, Vec<u8>)), Error> {
        if let Some(given) = given {
            return Ok((files, given));
        }
        if let Ok(Some(Remote::Web(address))) = Remote::parse(path) {
            let fetched = fetch(self.store, &address, None).await?;
            let blob = self.store.open_blob(&fetched.stored.digest);
            let text =
                blob.and_then(|file| bounded(file, &address)).map_err(Error::io("read the Dockerfile"))?;
            let name = if fetched.name.is_empty() { DOCKERFILE.to_owned() } else { fetched.name };
            return Ok((files, (name, text)));
        }
        let path = if path.is_empty() { DOCKERFILE } else { path }.to_owned();
        blocking(move || {
            let text =
                text(&files, &path)?.ok_or_else(|| Error::NotFound(format!("{path} in the context")))?;
            let own = text_of_ignore(&files, &path)?;
            let name = Path::new(&path).file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok((files.without(&own), (name, text)))
        })
        .await
    }
}

/// What is at an address.
enum Located {
    Tree(Nodes),
    File(Fetched),
}

/// What a file is that was fetched, before anything is said of its owner.
pub fn file(fetched: &Fetched) -> Node {
    let stored = fetched.stored.clone();
    let kind = Kind::File { size: stored.size, digest: Some(stored.digest), number: None };
    // As docker has it: who fetches it is who may read it.
    Node { kind, mode: 0o600, modified: (fetched.modified(), 0), ..Node::folder(0, 0, (0, 0)) }
}

/// What stays behind, as the file beside the Dockerfile says, or else the one of the context.
fn text_of_ignore(files: &Files, dockerfile: &str) -> Result<Ignore, Error> {
    for name in [format!("{dockerfile}.dockerignore"), ".dockerignore".to_owned()] {
        if let Some(text) = text(files, &name)? {
            let text = String::from_utf8(text).map_err(|_| Error::Invalid(format!("{name} is no UTF-8")))?;
            return Ignore::parse(&text).map_err(|error| Error::Invalid(format!("{name}: {error}")));
        }
    }
    Ok(Ignore::default())
}

/// A text file of a context.
fn text(files: &Files, path: &str) -> Result<Option<Vec<u8>>, Error> {
    let failed = || Error::io(format!("read {path}"));
    let found = resolve(files, &clean(path), true).map_err(failed())?;
    match files.stat(&found).map_err(failed())?.map(|node| node.kind) {
        Some(Kind::File { .. }) => {
            files.open(&found).and_then(|file| bounded(file, path)).map(Some).map_err(failed())
        }
        _ => Ok(None),
    }
}

fn bounded(file: File, name: &str) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(TEXT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > TEXT {
        let name = without_credentials(name);
        return Err(std::io::Error::other(format!("{name} has more than {TEXT} bytes")));
    }
    Ok(bytes)
}
