//! A stage: one instruction after the other, each upon the state that those before it made.

mod elsewhere;
mod mounts;
mod run;
mod settle;
mod state;
mod transfer;

use std::sync::Arc;

use davit_dockerfile::change::Change;
use davit_dockerfile::graph::{self, Origin};
use davit_dockerfile::instruction::{Instruction, Kind, triggers};
use davit_dockerfile::{Dockerfile, Stage};
use davit_proto::build::StepState;
use tokio::task::JoinHandle;

use crate::build::{At, Build, States};
use crate::error::Error;
use crate::layer::Layer;
use crate::platform;
use crate::progress::{Step, shortened};

pub use settle::settle;
pub use state::State;

/// One stage that is built.
pub struct Follower<'a> {
    build: &'a Build,
    index: usize,
    states: &'a States,
    state: State,
    /// Steps that are told, and how many have been.
    steps: (usize, usize),
    /// The number of the last step that began; 0 before the first.
    last: u32,
    /// Removals of containers whose files are read: the next step does not wait for them.
    leaving: Vec<JoinHandle<Result<(), Error>>>,
}

impl<'a> Follower<'a> {
    /// Builds a stage upon those that it needs.
    ///
    /// # Errors
    /// A step fails.
    pub async fn follow(build: &'a Build, index: usize, states: &'a States) -> Result<State, Error> {
        let stage = &build.file.stages[index];
        let told = stage.instructions.iter().filter(|instruction| is_told(instruction)).count();
        let (state, steps) = (State::default(), (told + 1, 0));
        let mut follower = Self { build, index, states, state, steps, last: 0, leaving: Vec::new() };
        let done = follower.walk(stage).await;
        let left = follower.left().await;
        done.and(left).map(|()| follower.state)
    }

    /// Waits until what is being removed is gone.
    async fn left(&mut self) -> Result<(), Error> {
        let mut left = Ok(());
        for leaving in self.leaving.drain(..) {
            left = left.and(leaving.await.unwrap_or(Err(Error::Lost)));
        }
        left
    }

    /// All its instructions, those first that its base wants done.
    async fn walk(&mut self, stage: &Stage) -> Result<(), Error> {
        let build = self.build;
        let begun = self.begin().await;
        let waiting = begun
            .map_err(|error| build.at(At { line: stage.at.line, step: self.last }, &stage.text, error))?;
        for instruction in waiting.iter().chain(&stage.instructions) {
            let done = self.instruction(instruction).await;
            done.map_err(|error| {
                let at = At { line: instruction.at.line, step: self.last };
                build.at(at, &instruction.text, error)
            })?;
        }
        Ok(())
    }

    /// FROM: the base, and what it wants done first.
    async fn begin(&mut self) -> Result<Vec<Instruction>, Error> {
        let stage = &self.build.file.stages[self.index];
        let node = &self.build.graph.nodes[self.index];
        let name = self.step_name(&stage.text);
        self.state = match &node.base {
            Origin::Scratch => {
                let platform = node.platform.as_deref().map(platform::parse).transpose()?;
                State::scratch().of_platform(platform.as_ref().unwrap_or(&self.build.platform))
            }
            Origin::Stage(base) => self.states.get(*base)?,
            Origin::Image(context) if self.build.files_of(context).is_some() => {
                self.upon_files(&name, context).await?
            }
            Origin::Image(image) => {
                let step = self.begin_step(&name).await?;
                let (image, fetched) = self.build.image(image, node.platform.as_deref(), &step).await?;
                step.tell(if fetched { StepState::Done } else { StepState::Cached }).await?;
                State::of(Some(image))?
            }
        };
        let waiting = self.state.config.take_triggers();
        let read = triggers(&waiting);
        read.map_err(|source| Error::Dockerfile { name: "ONBUILD of the base image".to_owned(), source })
    }

    fn step_name(&mut self, text: &str) -> String {
        let file = &self.build.file;
        self.steps.1 += 1;
        let (all, at) = self.steps;
        // The only stage needs no name to be told from others.
        let title = match file.stages.as_slice() {
            [only] if only.from.name.is_none() => String::new(),
            _ => format!("{} ", graph::title(file, self.index)),
        };
        format!("[{title}{at}/{}] {}", all.max(at), shortened(text))
    }

    /// Begins a step that has a name.
    async fn begin_step(&mut self, name: &str) -> Result<Step, Error> {
        let step = self.build.progress.begin(name).await?;
        self.last = step.number();
        Ok(step)
    }

    /// Whether nothing of this stage may be what was done before.
    fn is_anew(&self) -> bool {
        let options = &self.build.options;
        options.no_cache || names(&options.no_cache_filter, &self.build.file, self.index)
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

    /// Whether a step was done before; the state is what it made then.
    async fn was_done(&mut self, text: &str, reference: &str) -> Result<bool, Error> {
        if self.is_anew() {
            return Ok(false);
        }
        let Some(image) = self.build.engine.image(reference).await? else { return Ok(false) };
        self.state.stepped(text, image)?;
        Ok(true)
    }

    async fn commit(&mut self, text: String, reference: String, layer: Layer) -> Result<(), Error> {
        let mut open = self.state.open(text.clone(), reference.clone());
        open.created_at = self.build.epoch.stamp();
        let layer = layer.not_after(self.build.epoch.limit());
        self.build.engine.commit(open, Some(Arc::new(layer))).await?;
        self.made(&text, &reference).await
    }

    /// Goes on upon what a step has left just now.
    async fn made(&mut self, text: &str, reference: &str) -> Result<(), Error> {
        let image = self.build.engine.image(reference).await?.ok_or(Error::Lost)?;
        self.state.stepped(text, image)
    }
}

/// Whether one of some words names a stage, by its name or its number.
fn names(words: &[String], file: &Dockerfile, stage: usize) -> bool {
    let name = file.stages.get(stage).and_then(Stage::name);
    words.iter().any(|word| word.parse() == Ok(stage) || name.as_deref() == Some(&word.to_ascii_lowercase()))
}

/// How many steps a stage will tell of, unless its base wants something done first.
pub fn told(build: &Build, stage: usize) -> usize {
    let Some(instructions) = build.file.stages.get(stage).map(|stage| &stage.instructions) else { return 0 };
    let fetched = matches!(build.graph.nodes.get(stage).map(|node| &node.base), Some(Origin::Image(_)));
    instructions.iter().filter(|instruction| is_told(instruction)).count() + usize::from(fetched)
}

/// Whether an instruction is a step that people are told of.
fn is_told(instruction: &Instruction) -> bool {
    matches!(instruction.kind, Kind::Run(_) | Kind::Transfer(_)) || instruction.name() == "WORKDIR"
}

/// Runs what waits for the disk where it may wait.
pub async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(call).await.map_err(|_| Error::Lost)?
}
