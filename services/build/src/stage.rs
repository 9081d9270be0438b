//! A stage: one instruction after the other, each upon the state that those before it made.

use std::path::Path;
use std::sync::Arc;

use davit_dockerfile::change::{Change, Config};
use davit_dockerfile::graph::{self, Origin};
use davit_dockerfile::instruction::{Instruction, Kind, Run, Transfer, triggers};
use davit_dockerfile::scope::Args;
use davit_proto::build::StepState;
use davit_proto::container::CommitRequest as ContainerCommit;
use davit_proto::image::CommitOpen;
use serde_json::{Map, Value};

use crate::build::{Build, States};
use crate::engine::Image;
use crate::error::Error;
use crate::key::Key;
use crate::layer::Layer;
use crate::progress::shortened;
use crate::run::{self, Around};
use crate::transfer::{self, Found};
use crate::tree::{Node, Tree, clean};
use crate::view::View;

/// What a stage has come to.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The image whose files are its files; none for no files at all.
    pub image: Option<Image>,
    /// Its config.
    pub config: Config,
    /// What was said since that image was made, and made no layer.
    pub pending: Vec<String>,
    /// Arguments.
    args: Args,
    /// Its author.
    author: String,
}

impl State {
    /// Begins upon an image.
    pub fn of(image: Option<Image>) -> Result<Self, Error> {
        let config = match &image {
            Some(image) => config(&image.told.config)?,
            None => Map::new(),
        };
        Ok(Self { image, config: Config::new(config), ..Self::default() })
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.config.variable(name).or_else(|| self.args.variable(name))
    }

    /// Its files; none when it has none.
    pub fn files(&self) -> Result<Option<Arc<dyn Tree>>, Error> {
        let Some(image) = &self.image else { return Ok(None) };
        let view = View::open(&image.told.layer_paths).map_err(Error::io("open the layers of the image"))?;
        Ok(Some(Arc::new(view)))
    }

    /// Begins the name of a step upon it: all that its image will have.
    fn key(&self, kind: &str) -> Key {
        let mut key = Key::new(self.image.as_ref().map(|image| image.id.as_str()), kind);
        key.add(Value::Object(self.config.map().clone()).to_string().as_bytes());
        key.add(self.author.as_bytes());
        self.pending.iter().for_each(|text| key.add(text.as_bytes()));
        key
    }

    fn config_bytes(&self) -> Vec<u8> {
        Value::Object(self.config.map().clone()).to_string().into_bytes()
    }

    fn open(&mut self, created_by: String, reference: String) -> CommitOpen {
        CommitOpen {
            base: self.image.as_ref().map(|image| image.id.clone()).unwrap_or_default(),
            config: self.config_bytes().into(),
            author: self.author.clone(),
            created_by,
            reference,
            earlier: std::mem::take(&mut self.pending),
            ..CommitOpen::default()
        }
    }
}

/// The object "config" of an image's document.
fn config(document: &[u8]) -> Result<Map<String, Value>, Error> {
    let wrong = || Error::Invalid("the image's configuration is no JSON object".to_owned());
    let mut document: Map<String, Value> = serde_json::from_slice(document).map_err(|_| wrong())?;
    match document.remove("config") {
        Some(Value::Object(config)) => Ok(config),
        Some(Value::Null) | None => Ok(Map::new()),
        Some(_) => Err(wrong()),
    }
}

/// One stage that is built.
pub struct Follower<'a> {
    build: &'a Build,
    index: usize,
    states: &'a States,
    state: State,
    /// Steps that are told, and how many have been.
    steps: (usize, usize),
}

impl<'a> Follower<'a> {
    /// Builds a stage upon those that it needs.
    ///
    /// # Errors
    /// A step fails.
    pub async fn follow(build: &'a Build, index: usize, states: &'a States) -> Result<State, Error> {
        let stage = &build.file.stages[index];
        let told = stage.instructions.iter().filter(|instruction| is_told(instruction)).count();
        let mut follower = Self { build, index, states, state: State::default(), steps: (told + 1, 0) };
        let begun = follower.begin().await;
        let waiting = begun.map_err(|error| build.at(stage.at.line, &stage.text, error))?;
        for instruction in waiting.iter().chain(&stage.instructions) {
            let done = follower.instruction(instruction).await;
            done.map_err(|error| build.at(instruction.at.line, &instruction.text, error))?;
        }
        Ok(follower.state)
    }

    /// FROM: the base, and what it wants done first.
    async fn begin(&mut self) -> Result<Vec<Instruction>, Error> {
        let stage = &self.build.file.stages[self.index];
        let node = &self.build.graph.nodes[self.index];
        let step = self.step_name(&stage.text);
        self.state = match &node.base {
            Origin::Scratch => State::default(),
            Origin::Stage(base) => self.states.get(*base)?,
            Origin::Image(name) => {
                let step = self.build.progress.begin(&step).await?;
                let (image, fetched) = self.build.image(name, node.platform.as_deref()).await?;
                step.tell(if fetched { StepState::Done } else { StepState::Cached }).await?;
                State::of(Some(image))?
            }
        };
        let waiting = self.state.config.take_triggers();
        let read = triggers(&waiting);
        read.map_err(|source| Error::Dockerfile { name: "ONBUILD of the base image".to_owned(), source })
    }

    fn step_name(&mut self, text: &str) -> String {
        let title = graph::title(&self.build.file, self.index);
        self.steps.1 += 1;
        let (all, at) = self.steps;
        format!("[{title} {at}/{}] {}", all.max(at), shortened(text))
    }

    async fn instruction(&mut self, instruction: &Instruction) -> Result<(), Error> {
        match &instruction.kind {
            Kind::From(_) => Ok(()),
            Kind::Arg(args) => {
                for arg in args {
                    let before = self.state.clone();
                    let declared =
                        self.state.args.declare(arg, &self.build.global, &|name| before.variable(name));
                    declared.map_err(|source| self.build.wrong(source))?;
                    self.state.pending.push(format!("ARG {}", arg.name.text()));
                }
                Ok(())
            }
            Kind::Maintainer(name) => {
                let state = &self.state;
                let name = davit_dockerfile::expand::word(name, &|name| state.variable(name));
                self.state.author = name.map_err(|source| self.build.wrong(source))?;
                self.state.pending.push(format!("MAINTAINER {}", self.state.author));
                Ok(())
            }
            Kind::Change(change) => self.change(change, instruction).await,
            Kind::Run(run) => self.run(run, instruction).await,
            Kind::Transfer(transfer) => self.transfer(transfer, instruction).await,
        }
    }

    async fn change(&mut self, change: &Change, instruction: &Instruction) -> Result<(), Error> {
        let state = &self.state;
        let setting =
            change.expand(&|name| state.variable(name)).map_err(|source| self.build.wrong(source))?;
        let applied = self.state.config.apply(&setting);
        applied.map_err(|problem| Error::Invalid(problem.to_string()))?;
        let text = setting.to_string();
        if !is_told(instruction) {
            self.state.pending.push(text);
            return Ok(());
        }
        self.workdir(text).await
    }

    /// WORKDIR: the folder is made where it is not there.
    async fn workdir(&mut self, text: String) -> Result<(), Error> {
        let name = self.step_name(&text);
        let step = self.build.progress.begin(&name).await?;
        let key = self.state.key(&text);
        let reference = key.reference();
        if self.was_done(&reference).await? {
            return step.tell(StepState::Cached).await;
        }
        let folder = clean(self.state.config.text("WorkingDir"));
        let base = self.state.files()?;
        let now = self.build.now;
        let layer = blocking(move || missing_folder(base, &folder, now)).await?;
        match layer {
            None => self.state.pending.push(text),
            Some(layer) => self.commit(text, reference, layer).await?,
        }
        step.tell(StepState::Done).await
    }

    async fn run(&mut self, run: &Run, instruction: &Instruction) -> Result<(), Error> {
        let step = self.step_name(&instruction.text);
        let step = self.build.progress.begin(&step).await?;
        let state = &self.state;
        let mounts = run.mounts(&|name| state.variable(name)).map_err(|source| self.build.wrong(source))?;
        let argv = run::argv(run, &state.config)?;
        let around = Around {
            config: &state.config,
            args: state.args.environment(&|name| state.config.variable(name)),
            proxies: Args::proxies(&self.build.global),
            network: &self.build.options.network,
            extra_hosts: &self.build.options.extra_hosts,
            mounts,
        };
        let mut key = state.key("RUN");
        run::describe(run, &argv, &around, &mut key);
        let reference = key.reference();
        if !self.build.options.no_cache
            && let Some(image) = self.build.engine.image(&reference).await?
        {
            self.state.image = Some(image);
            self.state.pending.clear();
            return step.tell(StepState::Cached).await;
        }
        let image = match &state.image {
            Some(image) => image.id.clone(),
            None => {
                return Err(Error::Invalid("there is nothing that could run in an empty image".to_owned()));
            }
        };
        let spec = run::spec(run, &image, &argv, &around)?;
        let container = self.build.engine.create(spec).await?;
        let exit = container.run(step.number(), &self.build.progress).await?;
        if let Err(error) = run::judge(&argv, &exit) {
            container.remove().await?;
            step.tell(StepState::Failed).await?;
            return Err(error);
        }
        let request = ContainerCommit {
            reference: reference.clone(),
            author: self.state.author.clone(),
            config: self.state.config_bytes(),
            created_by: format!("RUN {}", argv.join(" ")),
            earlier: std::mem::take(&mut self.state.pending),
            ..ContainerCommit::default()
        };
        container.commit(request).await?;
        container.remove().await?;
        self.state.image = self.build.engine.image(&reference).await?;
        step.tell(StepState::Done).await
    }

    async fn transfer(&mut self, transfer: &Transfer, instruction: &Instruction) -> Result<(), Error> {
        let step = self.step_name(&instruction.text);
        let step = self.build.progress.begin(&step).await?;
        let (tree, origin) = self.source(transfer).await?;
        let state = &self.state;
        let wanted =
            transfer.expand(&|name| state.variable(name)).map_err(|source| self.build.wrong(source))?;
        let (transfer, folder) = (transfer.clone(), state.config.text("WorkingDir").to_owned());
        let found = blocking(move || transfer::find(&transfer, wanted, &tree, &folder)).await?;
        let mut key = state.key(instruction.name());
        found.describe(&mut key, &origin);
        let reference = key.reference();
        if self.was_done(&reference).await? {
            return step.tell(StepState::Cached).await;
        }
        let (base, now) = (self.state.files()?, self.build.now);
        let layer = blocking(move || lay(&found, base, now)).await?;
        if layer.is_empty() {
            self.state.pending.push(instruction.text.clone());
        } else {
            self.commit(instruction.text.clone(), reference, layer).await?;
        }
        step.tell(StepState::Done).await
    }

    /// The files that a transfer is from, and what stands for them in a step's name.
    async fn source(&self, transfer: &Transfer) -> Result<(Arc<dyn Tree>, String), Error> {
        let Some(word) = &transfer.from else {
            return Ok((Arc::clone(&self.build.context) as Arc<dyn Tree>, String::new()));
        };
        let origin =
            graph::origin(&self.build.file, word, self.index).map_err(|source| self.build.wrong(source))?;
        let state = match origin {
            Origin::Scratch => State::default(),
            Origin::Stage(stage) => self.states.get(stage)?,
            Origin::Image(name) => State::of(Some(self.build.image(&name, None).await?.0))?,
        };
        let id = state.image.as_ref().map(|image| image.id.clone()).unwrap_or_default();
        let empty: Arc<dyn Tree> = Arc::new(View::open(&[]).map_err(Error::io("open an empty image"))?);
        Ok((state.files()?.unwrap_or(empty), id))
    }

    /// Whether a step was done before; the state is what it made then.
    async fn was_done(&mut self, reference: &str) -> Result<bool, Error> {
        if self.build.options.no_cache {
            return Ok(false);
        }
        let Some(image) = self.build.engine.image(reference).await? else { return Ok(false) };
        self.state.image = Some(image);
        self.state.pending.clear();
        Ok(true)
    }

    async fn commit(&mut self, text: String, reference: String, layer: Layer) -> Result<(), Error> {
        let open = self.state.open(text, reference.clone());
        self.build.engine.commit(open, Some(Arc::new(layer))).await?;
        self.state.image = self.build.engine.image(&reference).await?;
        Ok(())
    }
}

/// What was said after the last layer becomes an image of its own.
///
/// # Errors
/// The engine refuses.
pub async fn settle(build: &Build, mut state: State) -> Result<String, Error> {
    match &state.image {
        Some(image) if state.pending.is_empty() => return Ok(image.id.clone()),
        _ => {}
    }
    let Some(last) = state.pending.pop() else {
        return Err(Error::Invalid("the image would hold nothing and say nothing".to_owned()));
    };
    let created = state.image.as_ref().and_then(|image| image.told.image.as_ref()?.created_at);
    // With its first name at once: what is cut off here leaves no image that nobody asked for.
    let name = build.options.tags.first().cloned().unwrap_or_default();
    let mut open = state.open(last, name);
    // The time of what it is based on: said again, it is the same image again.
    open.created_at = created;
    build.engine.commit(open, None).await
}

/// Whether an instruction is a step that people are told of.
fn is_told(instruction: &Instruction) -> bool {
    matches!(instruction.kind, Kind::Run(_) | Kind::Transfer(_)) || instruction.name() == "WORKDIR"
}

fn missing_folder(
    base: Option<Arc<dyn Tree>>,
    folder: &Path,
    now: (i64, u32),
) -> Result<Option<Layer>, Error> {
    let mut layer = Layer::new(base, Node::folder(0, 0, now));
    let there = layer.resolve(folder, true)?;
    if there.as_os_str().is_empty() || layer.stat(&there)?.is_some_and(|node| node.is_dir()) {
        return Ok(None);
    }
    layer.make_folder(folder)?;
    Ok(Some(layer))
}

fn lay(found: &Found, base: Option<Arc<dyn Tree>>, now: (i64, u32)) -> Result<Layer, Error> {
    found.layer(base, now)
}

/// Runs what waits for the disk where it may wait.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(call).await.map_err(|_| Error::Lost)?
}
