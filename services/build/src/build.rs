//! A build: the stages that are needed, those that do not need each other at the same time.

use std::collections::BTreeMap;
use std::sync::Arc;

use davit_dockerfile::Dockerfile;
use davit_dockerfile::change;
use davit_dockerfile::graph::Graph;
use davit_dockerfile::instruction::{Instruction, Kind};
use davit_dockerfile::scope::{Given, Global, Platform};
use davit_proto::build::BuildOpen;
use davit_proto::build::build_response::Event;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::context::{Files, Held, Store};
use crate::engine::{Engine, Image};
use crate::entitlement;
use crate::epoch::Epoch;
use crate::error::Error;
use crate::lint;
use crate::mount::Workshop;
use crate::named::{self, Named, Place};
use crate::output;
use crate::platform;
use crate::progress::{Progress, Step, shortened};
use crate::receive::Received;
use crate::stage::{Follower, State, told};
use crate::steps::Steps;

/// All that the steps of a build share.
#[derive(Debug)]
pub struct Build {
    /// The Dockerfile.
    pub file: Dockerfile,
    /// Its stages.
    pub graph: Graph,
    /// Arguments before the first of them.
    pub global: Global,
    /// What the client wants.
    pub options: BuildOpen,
    /// The engine.
    pub engine: Engine,
    /// Where files of contexts are, and what is fetched.
    pub store: Store,
    /// The context.
    pub context: Arc<Files>,
    /// Contexts beside it.
    pub named: Named,
    /// The platform that is built for.
    pub platform: Platform,
    /// Keeps the files of contexts where they are.
    pub held: Held,
    /// The way to the client.
    pub progress: Progress,
    /// When all of it is said to happen.
    pub epoch: Epoch,
    /// The steps that it asked for.
    pub steps: Arc<Steps>,
    /// What the client is asked for while it goes on.
    pub client: Arc<Client>,
    /// What mounts are made of.
    pub workshop: Workshop,
}

/// What the stages have come to, each once it is there.
#[derive(Debug)]
pub struct States(BTreeMap<usize, watch::Receiver<Option<State>>>);

impl States {
    /// A stage that is there.
    pub fn get(&self, stage: usize) -> Result<State, Error> {
        let state = self.0.get(&stage).and_then(|state| state.borrow().clone());
        state.ok_or_else(|| Error::Invalid(format!("stage {stage} is not built for this one")))
    }

    /// Waits until a stage is there.
    async fn wait(&self, stage: usize) -> Result<(), Error> {
        let Some(mut state) = self.0.get(&stage).cloned() else { return Err(Error::Lost) };
        state.wait_for(Option::is_some).await.map(drop).map_err(|_| Error::Cancelled)
    }
}

/// Where something went wrong.
#[derive(Debug, Clone, Copy)]
pub struct At {
    /// The line of the Dockerfile.
    pub line: usize,
    /// The number of the step; 0 when none had begun.
    pub step: u32,
}

/// Whom a build is for, and what it has to work with beside the engine.
#[derive(Debug)]
pub struct Session {
    /// The way to the client.
    pub progress: Progress,
    /// What the client is asked for.
    pub client: Client,
    /// What mounts are made of.
    pub workshop: Workshop,
    /// Where files of contexts are.
    pub store: Store,
}

/// What was read of a client's wish, before any file came.
#[derive(Debug)]
pub struct Plan {
    file: Dockerfile,
    graph: Graph,
    global: Global,
    options: BuildOpen,
    epoch: Epoch,
    platform: Platform,
}

impl Plan {
    /// Reads the Dockerfile.
    ///
    /// # Errors
    /// It is wrong.
    pub fn read(mut options: BuildOpen) -> Result<Self, Error> {
        let name = options.dockerfile_name.clone();
        let wrong = |source| Error::Dockerfile { name: name.clone(), source };
        let mut file = Dockerfile::parse_bytes(&options.dockerfile).map_err(wrong)?;
        options.dockerfile = bytes::Bytes::new();
        let platform = platform::parse(&options.platform)?;
        platform::check(&platform)?;
        named::check(&options.contexts)?;
        named::replace(&mut file, &options.contexts);
        let given = Given {
            args: options.build_args.clone().into_iter().collect(),
            build: platform::host(),
            target: platform.clone(),
            stage: options.target.clone(),
        };
        let global = Global::new(&file.args, &given).map_err(wrong)?;
        let target = Some(options.target.as_str()).filter(|target| !target.is_empty());
        let graph = Graph::new(&file, &global, target).map_err(wrong)?;
        check_entitlements(&file, &graph, &options)?;
        label(&mut file, graph.target, &options)?;
        let epoch = Epoch::of(&options.build_args)?;
        Ok(Self { file, graph, global, options, epoch, platform })
    }

    /// Tells what is probably not meant.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn warn(&self, progress: &Progress) -> Result<(), Error> {
        for finding in lint::findings(&self.file, &self.options) {
            progress.tell(Event::Finding(finding)).await?;
        }
        if let Some(syntax) = &self.file.directives.syntax {
            tracing::debug!(syntax, "a syntax directive is not followed: there is one reader here");
        }
        Ok(())
    }

    /// Builds it.
    ///
    /// # Errors
    /// A step fails, or the client is gone.
    pub async fn build(self, engine: Engine, received: Received, session: Session) -> Result<(), Error> {
        let Session { progress, client, workshop, store } = session;
        // A name that cannot be is refused before hours of work, not behind them.
        for tag in &self.options.tags {
            let named = tag.rsplit('/').next().is_some_and(|name| name.contains(':'));
            // With a tag it can be no image's number.
            engine.image(&if named { tag.clone() } else { format!("{tag}:latest") }).await?;
        }
        self.warn(&progress).await?;
        let Self { file, graph, global, options, epoch, platform } = self;
        let Received { files, mut named, held, .. } = received;
        named.load(&engine, &progress).await?;
        let context = Arc::new(files);
        let client = Arc::new(client);
        let steps = Arc::new(Steps::read(&engine, &options.cache_from, progress.clone()).await?);
        let engine = engine.with(Arc::clone(&steps));
        let build = Build {
            file,
            graph,
            global,
            options,
            engine,
            store,
            context,
            named,
            platform,
            held,
            progress,
            client,
            workshop,
            epoch,
            steps,
        };
        let build = Arc::new(build);
        build.plan().await?;
        let state = stages(&build).await?;
        output::finish(&build, state).await
    }
}

/// Refuses commands that may not have what they want before anything is done.
fn check_entitlements(file: &Dockerfile, graph: &Graph, options: &BuildOpen) -> Result<(), Error> {
    entitlement::check_words(options)?;
    for instruction in graph.order.iter().flat_map(|stage| &file.stages[*stage].instructions) {
        let Kind::Run(run) = &instruction.kind else { continue };
        entitlement::check(run, options).map_err(|source| Error::Step {
            name: options.dockerfile_name.clone(),
            line: instruction.at.line,
            step: 0,
            text: shortened(&instruction.text),
            source: Box::new(source),
        })?;
    }
    Ok(())
}

/// Labels of the client are one more instruction of the stage that is wanted.
fn label(file: &mut Dockerfile, target: usize, options: &BuildOpen) -> Result<(), Error> {
    let mut labels: Vec<(&String, &String)> = options.labels.iter().collect();
    labels.sort();
    for (name, value) in labels {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\"'\"'"));
        let text = format!("LABEL {}={}", quoted(name), quoted(value));
        let changes = change::parse(&text);
        let changes =
            changes.map_err(|error| Error::Invalid(format!("label {name:?}: {}", error.problem)))?;
        let stage = file.stages.get_mut(target).ok_or(Error::Lost)?;
        stage.instructions.extend(changes.into_iter().map(|change| Instruction {
            at: change.at,
            last_line: change.at.line,
            text: text.clone(),
            kind: Kind::Change(change),
        }));
    }
    Ok(())
}

/// Builds the stages that are needed, and answers with the one that is wanted.
async fn stages(build: &Arc<Build>) -> Result<State, Error> {
    let mut senders = BTreeMap::new();
    let mut receivers = BTreeMap::new();
    for stage in &build.graph.order {
        let (sender, receiver) = watch::channel(None);
        senders.insert(*stage, sender);
        receivers.insert(*stage, receiver);
    }
    let states = Arc::new(States(receivers));
    let mut running = JoinSet::new();
    for (stage, sender) in senders {
        let (build, states) = (Arc::clone(build), Arc::clone(&states));
        running.spawn(async move {
            for need in &build.graph.nodes[stage].needs {
                states.wait(*need).await?;
            }
            let state = Follower::follow(&build, stage, &states).await?;
            sender.send_replace(Some(state));
            Ok::<(), Error>(())
        });
    }
    let mut failed = None;
    while let Some(ended) = running.join_next().await {
        match ended.unwrap_or(Err(Error::Lost)) {
            Ok(()) => {}
            // Those that waited for one that failed have nothing to say about it.
            Err(Error::Cancelled) => drop(failed.get_or_insert(Error::Cancelled)),
            Err(error) => {
                running.shutdown().await;
                failed = Some(error);
            }
        }
    }
    match failed {
        Some(error) => Err(error),
        None => states.get(build.graph.target),
    }
}

impl Build {
    /// Tells how many steps there will be: those of the stages, what came before them and what comes after.
    async fn plan(&self) -> Result<(), Error> {
        let steps: usize = self.graph.order.iter().map(|stage| told(self, *stage)).sum();
        self.progress.plan(steps + 1).await
    }

    /// The files of a context beside the main one; none when no context of files has this name.
    pub fn files_of(&self, name: &str) -> Option<&Arc<Files>> {
        match self.named.get(name) {
            Some(Place::Files(files)) => Some(files),
            Some(Place::Image(_) | Place::Layout(..)) | None => None,
        }
    }

    /// An error of the Dockerfile.
    pub fn wrong(&self, source: davit_dockerfile::Error) -> Error {
        Error::Dockerfile { name: self.options.dockerfile_name.clone(), source }
    }

    /// An error of an instruction, with its line.
    pub fn at(&self, at: At, text: &str, error: Error) -> Error {
        match error {
            Error::Dockerfile { .. } | Error::Cancelled | Error::Step { .. } => error,
            error => Error::Step {
                name: self.options.dockerfile_name.clone(),
                line: at.line,
                step: at.step,
                text: shortened(text),
                source: Box::new(error),
            },
        }
    }

    /// An image that is needed: from here, or from its registry; and whether it was fetched. A context of its name comes
    /// before it.
    ///
    /// # Errors
    /// It is nowhere, or for another platform.
    pub async fn image(
        &self,
        name: &str,
        platform: Option<&str>,
        step: &Step,
    ) -> Result<(Image, bool), Error> {
        let name = match self.named.get(name) {
            Some(Place::Image(other)) => other,
            Some(Place::Files(_) | Place::Layout(..)) => {
                return Err(Error::Invalid(format!("context {name:?} is no image")));
            }
            None => name,
        };
        let wanted = match platform {
            Some(platform) => platform::parse(platform)?,
            None => self.platform.clone(),
        };
        // An image by id is what it is.
        let exact = name.starts_with("sha256:");
        if (!self.options.pull || exact)
            && let Some(image) = self.engine.image(name).await?
            && (exact || is_for(&image, &wanted))
        {
            return Ok((image, false));
        }
        let id = self.engine.pull(name, &wanted, step).await?;
        let image = self.engine.image(&id).await?.ok_or_else(|| Error::NotFound(name.to_owned()))?;
        Ok((image, true))
    }
}

/// Whether an image is for a platform; one that does not say is for any.
fn is_for(image: &Image, wanted: &Platform) -> bool {
    let Some(platform) = image.told.image.as_ref().and_then(|image| image.platform.as_ref()) else {
        return true;
    };
    let same_variant =
        wanted.variant.is_empty() || platform.variant.is_empty() || platform.variant == wanted.variant;
    platform.architecture.is_empty() || (platform.architecture == wanted.architecture && same_variant)
}
