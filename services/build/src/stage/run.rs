//! RUN in a stage: known from before, or a container and a commit of what it changed.

use davit_dockerfile::instruction::{Instruction, Program, Run};
use davit_dockerfile::scope::Args;
use davit_proto::build::StepState;
use davit_proto::container::CommitRequest as ContainerCommit;

use super::Follower;
use crate::entitlement;
use crate::error::Error;
use crate::run::{self, Around};

impl Follower<'_> {
    pub(super) async fn run(&mut self, run: &Run, instruction: &Instruction) -> Result<(), Error> {
        let step = self.step_name(&instruction.text);
        let step = self.begin_step(&step).await?;
        entitlement::check(run, &self.build.options)?;
        let planned = self.mounts(run, instruction, &step).await?;
        let state = self.state.clone();
        let argv = run::argv(run, &state.config);
        let around = Around {
            config: &state.config,
            args: state.args.environment(&|name| state.config.variable(name)),
            proxies: Args::proxies(&self.build.global),
            network: &self.build.options.network,
            extra_hosts: &self.build.options.extra_hosts,
            limits: self.build.options.limits.as_ref(),
        };
        let mut key = state.key("RUN", self.build.epoch);
        run::describe(run, &argv, &around, &mut key);
        planned.iter().for_each(|mount| mount.describe(&mut key));
        let reference = key.reference();
        let text = created_by(run, &argv);
        let image = match &state.image {
            Some(image) => image.id.clone(),
            None => {
                return Err(Error::Invalid("there is nothing that could run in an empty image".to_owned()));
            }
        };
        if self.was_done(&text, &reference).await? {
            return step.tell(StepState::Cached).await;
        }
        if !planned.is_empty() {
            // A cache that the command before still has would be another one for this one.
            self.left().await?;
        }
        let (given, held) = self.prepare(run, planned, around.folder()).await?;
        let spec = run::spec(run, &image, &argv, &around, given)?;
        let container = self.build.engine.create(spec, held).await?;
        let exit = container.run(step.number(), &self.build.progress).await?;
        if let Err(error) = run::judge(&argv, &exit) {
            container.remove().await?;
            return Err(error);
        }
        let request = ContainerCommit {
            reference: reference.clone(),
            author: self.state.author.clone(),
            config: self.state.config_bytes(),
            created_by: text.clone(),
            created_at: self.build.epoch.stamp(),
            not_after: self.build.epoch.stamp(),
            ..ContainerCommit::default()
        };
        container.commit(request).await?;
        self.leaving.push(tokio::spawn(container.remove()));
        self.made(&text, &reference).await?;
        step.tell(StepState::Done).await
    }
}

/// What the history says: a script as it is, for its file is gone.
fn created_by(run: &Run, argv: &[String]) -> String {
    match &run.program {
        Program::Script { name, text } => format!("RUN <<{name}\n{text}{name}"),
        Program::Exec(_) | Program::Shell(_) => format!("RUN {}", argv.join(" ")),
    }
}
