//! The mounts of a RUN: where their files come from, and what is held while the command runs.

use std::sync::Arc;

use davit_dockerfile::graph::{self, Origin as Named};
use davit_dockerfile::instruction::{Instruction, Mount, MountKind, Run, Security};
use davit_dockerfile::word::Word;

use super::{Follower, State, blocking};
use crate::error::Error;
use crate::mount::{self, Given, Held, Orders, Origin, Planned};
use crate::progress::Step;
use crate::run;
use crate::tree::Tree;
use crate::view::View;

impl Follower<'_> {
    /// Finds what the mounts of a command show.
    pub(super) async fn mounts(
        &self,
        run: &Run,
        instruction: &Instruction,
        step: &Step,
    ) -> Result<Vec<Planned>, Error> {
        let state = &self.state;
        let mounts = run.mounts(&|name| state.variable(name)).map_err(|source| self.build.wrong(source))?;
        let mut planned = Vec::new();
        for mount in mounts {
            let origin = self.origin(&mount, instruction, step).await?;
            planned.push(blocking(move || Planned::new(mount, origin)).await?);
        }
        Ok(planned)
    }

    /// Where the files of a mount are from; none for one that has none.
    async fn origin(
        &self,
        mount: &Mount,
        instruction: &Instruction,
        step: &Step,
    ) -> Result<Option<Origin>, Error> {
        let from = match &mount.kind {
            MountKind::Bind { from, .. } => from.as_deref(),
            MountKind::Cache { from: Some(from), .. } => Some(from.as_str()),
            _ => return Ok(None),
        };
        let Some(from) = from else {
            let context = Arc::clone(&self.build.context);
            return Ok(Some(Origin { tree: context, image: None }));
        };
        let word = Word::made(from, instruction.at, '\\');
        let named = graph::origin(&self.build.file, &word, self.index);
        let named = named.map_err(|source| self.build.wrong(source))?;
        if let Named::Image(name) = &named
            && let Some(files) = self.build.files_of(name)
        {
            return Ok(Some(Origin { tree: Arc::clone(files) as Arc<dyn Tree>, image: None }));
        }
        let image = match named {
            Named::Scratch => None,
            Named::Stage(stage) => self.states.get(stage)?.image,
            Named::Image(name) => Some(self.build.image(&name, None, step).await?.0),
        };
        let empty = || View::open(&[]).map_err(Error::io("open an empty image"));
        let tree = match State::of(image.clone())?.files()? {
            Some(files) => files,
            None => Arc::new(empty()?),
        };
        Ok(Some(Origin { tree, image }))
    }

    /// Makes the mounts for a container.
    pub(super) async fn prepare(
        &self,
        run: &Run,
        planned: Vec<Planned>,
        folder: &str,
    ) -> Result<(Given, Held), Error> {
        let insecure = run.security == Security::Insecure;
        let base = self.state.files()?;
        let orders = Orders { folder, insecure, script: run::script(run), base };
        mount::prepare(&self.build.workshop, &self.build.client, planned, orders).await
    }
}
